# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: -kernelspec,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
# ---

# %% [markdown]
# # Two modalities: what brings images and captions together?
#
# A model that sees an image and a text can know what neither says alone: whether they belong together. There are
# several ways to make one score of two inputs, and a loss of its own for pairs, that of CLIP (Radford et al., *Learning
# Transferable Visual Models From Natural Language Supervision*, ICML 2021,
# [arXiv 2103.00020](https://arxiv.org/abs/2103.00020)). Cross-modal attention is the Multimodal Transformer's (Tsai et
# al., ACL 2019, [arXiv 1906.00295](https://arxiv.org/abs/1906.00295)).
#
# **Formulas.** With the encodings $i = f(\text{image})$ and $t = g(\text{text})$ and networks $m, a, b$, the score is
#
# $$\underbrace{m([\text{image}; \text{text}])}_ {\text{early}}, \quad
# \underbrace{m([i; t])}_ {\text{concatenation}}, \quad
# \underbrace{a(i) + b(t)}_ {\text{late}}, \quad
# \underbrace{\langle U i, V t \rangle}_ {\text{product}}, \quad
# \underbrace{m([i'; t'])}_ {\text{cross-attention}},$$
#
# where in the last one the tokens of each have attended to those of the other,
#
# $$X' = X + \mathrm{softmax}\Big(\frac{X W_q (Y W_k)^\top}{\sqrt{d_h}}\Big) Y W_v W_o$$
#
# (and a feed-forward network, each with a normalization). The contrastive loss of a batch of $n$ pairs with scaled
# cosines $s_{jk} = e^{\tau} \cos(U i_j, V t_k)$ asks which of the $n$ texts belongs to image $j$, and the other way around:
#
# $$L = -\frac{1}{2n} \sum_j \Big( \log \frac{e^{s_{jj}}}{\sum_k e^{s_{jk}}} +
# \log \frac{e^{s_{jj}}}{\sum_k e^{s_{kj}}} \Big).$$
#
# [Section 11.3 of the report](../coursework_report_automl.md#113-two-modalities) discusses the results.
#
# **What does not match.** The text that names these methods takes features of large networks, 2,048 of an image and 768 of
# a text. Here MNIST's images get generated captions of four words, and the encoders are small. Captions in a batch that
# are right for several images are not counted as wrong in the contrastive loss; CLIP counts them.
#
# **Time.** With the recorded runs, under a minute on two CPU cores. Training everything again takes about ten minutes.
# The `quick` profile trains on small digits that need no download, and takes under a minute.

# %% tags=["parameters"]
import os

# "full": the recorded runs on MNIST; "quick": small runs on the digits
PROFILE = os.environ.get("PROFILE", "full")
# train every run again instead of loading its record
RETRAIN = os.environ.get("RETRAIN") == "1"
# runs at a time, one thread each; a quick run is too short to be worth a process
JOBS = (os.cpu_count() or 1) if PROFILE == "full" else 1

# %% [markdown]
# ## Captions
#
# A caption has four words: the digit, and whether the image is in the lower, middle or upper third of all images by
# slant, mass and width, measured from the moments of its pixels.

# %%
import torch
from torch.nn.functional import one_hot

from advanced_optimizers.experiments.data import load
from advanced_optimizers.experiments.data.captions import Captioner
from advanced_optimizers.experiments.report.display import show_drawing
from advanced_optimizers.experiments.report.figures.picture_plots import picture_grid

digits = load("digits")
captioner = Captioner.of(digits.images, digits.num_classes)
captions = captioner.describe(digits.images, digits.labels)
grid = picture_grid(digits.images, digits.labels, per_class=1)
show_drawing(grid, "one image of each digit")
for digit in range(5):
    first = (digits.labels == digit).nonzero()[0, 0]
    print(captioner.text(captions[first]))

# %% [markdown]
# ## Using it
#
# A model is told how to bring its two inputs together; with `fusion="cosine"` it learns embeddings by the contrastive
# loss. Images that share a caption are right for each other, so `same` takes them out of the wrong answers.

# %%
from advanced_optimizers.automl import VisionLanguageModel, recall_at

torch.manual_seed(0)
pixels, words = digits.images.flatten(1) / 255.0, one_hot(captions).float()
model = VisionLanguageModel(64, captioner.vocabulary, 64, fusion="cosine")
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(300):
    batch = torch.randint(len(pixels), (128,))
    same = (captions[batch][:, None] == captions[batch]).all(2)
    optimizer.zero_grad()
    model.contrastive_loss(pixels[batch], words[batch], same).backward()
    optimizer.step()

# %% [markdown]
# Now every test image looks for its caption among all that occur:

# %%
own = captioner.describe(digits.test_images, digits.test_labels)
known, number = own.unique(dim=0, return_inverse=True)
with torch.no_grad():
    images = digits.test_images.flatten(1) / 255.0
    scores = model.similarities(images, one_hot(known, captioner.vocabulary).float())
relevant = one_hot(number).bool()
for k in (1, 5, 10):
    share = recall_at(scores, k, relevant=relevant)
    print(f"recall at {k:2} of {len(known)}: {share:.0%}")
print("looked for:", captioner.text(own[0]))
print("found:     ", captioner.text(known[scores[0].argmax()]))

# %% [markdown]
# ## A trap: which axis is the batch?
#
# torch's attention takes (length, batch, features) unless it is told otherwise. Where both modalities are equally long,
# nothing fails with (batch, length, features): the samples of the batch attend to each other.

# %%
from advanced_optimizers.automl import CrossModalAttention

first, second = torch.randn(4, 5, 16), torch.randn(4, 5, 16)
changed = second.clone()
changed[3] += 1.0
for batch_first in (False, True):
    attention = CrossModalAttention(16, batch_first=batch_first)
    moved = attention(first, changed)[0] - attention(first, second)[0]
    print(f"batch_first={batch_first}: sample 0 moves by {moved[0].abs().max():.2f}")

# %% [markdown]
# ## The study
#
# There are three tasks. In **matching**, half of the images have another image's caption, and the question is which. An
# image alone says nothing about that, nor does a caption alone, nor the sum of what each says: over all pairs, each looks
# the same in right and wrong ones, so the best additive model is constant. In **parity**, the image is noisy, and the
# word for the digit is drawn at random in half of the captions. Is the digit odd? Here evidence adds up. In
# **retrieval**, an image looks for its caption; the test accuracy is then recall at 1.
#
# All models have as many parameters, and each takes the best of three learning rates by held-out training images. As
# controls, there are models that see one modality only, a concatenation that trains four times as long (a step of
# attention takes that much longer), and contrastive training on captions that were dealt at random.

# %%
from advanced_optimizers.experiments.report.display import (
    open_study,
    show_figure,
    show_protocol,
    show_table,
)

ends = ("", "-images", "-parity", "-retrieval")
matching, images, parity, retrieval = (
    open_study(f"multimodal{end}", PROFILE, retrain=RETRAIN, jobs=JOBS) for end in ends
)

# %%
show_protocol(matching)

# %% [markdown]
# ## Matching
#
# About half of the pairs are right, and who says nothing else has learned nothing.

# %%
show_figure(matching, "multimodal-test-accuracy")

# %% [markdown]
# Differences from concatenation, paired by seed:

# %%
show_figure(matching, "multimodal-test-accuracy-differences")

# %% [markdown]
# The same models, tested with noise on the images, and with one word of each caption missing. They were not trained for
# either.

# %%
show_table(matching, "multimodal-metrics")

# %% [markdown]
# With fewer images, and as many steps:

# %%
show_table(images, "multimodal-images-test-accuracy")

# %%
show_figure(images, "multimodal-images-test-accuracy-differences")

# %% [markdown]
# ## Parity
#
# Here late fusion has what it needs: each modality alone is right in about three of four cases.

# %%
show_figure(parity, "multimodal-parity-test-accuracy")

# %%
show_figure(parity, "multimodal-parity-test-accuracy-differences")

# %% [markdown]
# ## Retrieval
#
# Test accuracy is recall at 1. A product and a concatenation that were trained on pairs can score all captions, too.

# %%
show_figure(retrieval, "multimodal-retrieval-test-accuracy")

# %% [markdown]
# With five and with ten tries, for captions that are rarer or more common among the training images than the median
# image's, and for the digit alone:

# %%
show_table(retrieval, "multimodal-retrieval-metrics")

# %% [markdown]
# ## Verdicts
#
# V1 to V3 and X1 are the text's claims; the others are our questions. Each is decided by a rule that was fixed before the
# runs; [appendix B of the report](../coursework_report_appendices.md#appendix-b-rules) states the rules. They need the runs of the
# `full` profile.

# %%
show_table(matching, "multimodal-claims")

# %%
show_table(images, "multimodal-images-claims")

# %%
show_table(parity, "multimodal-parity-claims")

# %%
show_table(retrieval, "multimodal-retrieval-claims")

# %% [markdown]
# ## Limitations
#
# - Images of 14 x 14 pixels, captions of four generated words, models of 58,000 parameters, 600 steps: what holds here
#   need not hold for photographs and sentences.
# - An image's tokens are four vectors that a network makes of all its pixels, not patches.
# - Attention sees the tokens one by one, the other ways see their mean; of these captions, the mean loses nothing.
# - Recall at 1 of a model that was trained on pairs depends on how many wrong captions a step shows it. Here it is one per
#   image, against 127 in the contrastive loss.
