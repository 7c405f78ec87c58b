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
# # Differential privacy: what does it cost, and which part of it?
#
# Who sees a trained model, or the gradients on the way, can learn something about the samples that it was trained on.
# Differential privacy bounds how much: with or without any one sample, everything that comes out has almost the same
# distribution. DP-SGD (Abadi et al., *Deep Learning with Differential Privacy*, CCS 2016,
# [arXiv 1607.00133](https://arxiv.org/abs/1607.00133)) trains a network that way.
#
# **Formulas.** A mechanism is $(\varepsilon, \delta)$-private if for all data $D, D'$ that differ in one sample and all
# sets $S$ of results $P(M(D) \in S) \le e^\varepsilon P(M(D') \in S) + \delta$. If one sample changes $f$ by at most
# $\Delta$ in norm, then $f(D) + N(0, \sigma^2 I)$ is, exactly for
# $\delta \ge \delta(\varepsilon, \sigma / \Delta)$ (Balle and Wang, ICML 2018,
# [arXiv 1805.06530](https://arxiv.org/abs/1805.06530)),
#
# $$\delta(\varepsilon, s) = \Phi\Big(\frac{1}{2s} - \varepsilon s\Big) - e^\varepsilon
# \Phi\Big(-\frac{1}{2s} - \varepsilon s\Big).$$
#
# DP-SGD draws each of the $n$ samples with probability $q$, clips the gradient of each over all parameters, and adds
# noise to the sum:
#
# $$g_t = \frac{1}{q n} \Big( \sum_{i \in B_t} \nabla \ell_i \min\Big(1, \frac{C}{\lVert \nabla \ell_i \rVert}\Big) +
# N(0, \sigma^2 C^2 I) \Big).$$
#
# An accountant says what $T$ such steps cost together.
# [Section 11.5 of the report](../coursework_report_automl.md#115-differential-privacy) discusses the results.
#
# **What does not match.** The noise comes from an ordinary generator with a seed that is recorded, so that runs repeat;
# whoever knows the seed can subtract it. Real use needs a secret one. Tuning on the data costs privacy, too, which no
# $\varepsilon$ below includes.
#
# **Time.** With the recorded runs, under a minute on two CPU cores. Training everything again takes about half an hour.
# The `quick` profile trains on small digits that need no download, and takes about a minute.

# %% tags=["parameters"]
import os

# "full": the recorded runs on MNIST; "quick": small runs on the digits
PROFILE = os.environ.get("PROFILE", "full")
# train every run again instead of loading its record
RETRAIN = os.environ.get("RETRAIN") == "1"
# runs at a time, one thread each; a quick run is too short to be worth a process
JOBS = (os.cpu_count() or 1) if PROFILE == "full" else 1

# %% [markdown]
# ## How much noise?
#
# The well-known formula, $\sigma = \Delta \sqrt{2 \ln(1.25 / \delta)} / \varepsilon$, is proved for $\varepsilon < 1$. There
# it asks for more noise than needed; beyond about 8 it asks for too little. `DifferentialPrivacy` uses the exact
# mechanism, and refuses the formula where it is not proved.

# %%
import math

import torch

from advanced_optimizers.automl import (
    DifferentialPrivacy,
    gaussian_delta,
    gaussian_noise,
)
from advanced_optimizers.experiments.report.display import show_drawing
from advanced_optimizers.experiments.report.figures.line_plots import Panel, line_panels

DELTA = 1e-5
epsilons = torch.logspace(-1, 1.5, 60).tolist()
classical = [math.sqrt(2 * math.log(1.25 / DELTA)) / e for e in epsilons]
exact = [gaussian_noise(e, DELTA) for e in epsilons]
deltas = [gaussian_delta(e, s) for e, s in zip(epsilons, classical, strict=True)]

# %%
noise = {"classical formula": (epsilons, classical), "exact": (epsilons, exact)}
axes = {"xlabel": "Epsilon", "log_x": True, "log_y": True}
ratio = "Noise / sensitivity"
show_drawing(
    line_panels(
        Panel(title="Noise at a delta of 1e-5", series=noise, ylabel=ratio, **axes),
        Panel(
            title="Delta of the classical formula (the line: what it promises)",
            series={"delta": (epsilons, deltas)},
            ylabel="Delta",
            marked=[DELTA],
            **axes,
        ),
    ),
    "noise by epsilon, and the delta that the classical formula really has",
)

# %%
import textwrap

try:
    DifferentialPrivacy(epsilon=3.0, mechanism="classical")
except ValueError as error:
    print(textwrap.fill(str(error), 80))

# %% [markdown]
# ## Using it
#
# Each call of `add_noise` is private by itself, and calls add up: nobody may stop counting.

# %%
privacy = DifferentialPrivacy(epsilon=1.0, delta=DELTA)
gradient = privacy.clip_gradients(torch.randn(100), max_norm=1.0)
for _ in range(100):
    noisy = privacy.add_noise(gradient, sensitivity=1.0)
    if privacy.releases in (1, 10, 100):
        print(f"{privacy.releases:3} calls: epsilon {privacy.spent():.2f}")

# %% [markdown]
# So training sets the noise for all steps at once. `train_private` is DP-SGD on Opacus, in its ghost mode.

# %%
from advanced_optimizers.automl import noise_multiplier_for, train_private
from advanced_optimizers.experiments.data import load

digits = load("digits")
images, labels = digits.images.flatten(1) / 255 - 0.5, digits.labels
torch.manual_seed(0)
first, last = torch.nn.Linear(64, 32), torch.nn.Linear(32, 10)
model = torch.nn.Sequential(first, torch.nn.Tanh(), last)
optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
sigma = noise_multiplier_for(3.0, DELTA, sample_rate=0.1, steps=50)
cost = train_private(
    model,
    optimizer,
    images,
    labels,
    noise_multiplier=sigma,
    batch_size=len(images) // 10 + 1,
    steps=50,
)
outputs = model(digits.test_images.flatten(1) / 255 - 0.5)
accuracy = (outputs.argmax(1) == digits.test_labels).float().mean()
print(cost)
print(f"epsilon {cost.epsilon(DELTA):.2f}, test accuracy {accuracy:.0%}")

# %% [markdown]
# ## Data that never leave the client
#
# Federated learning keeps the data where they are, and sends gradients or models. For a network whose first layer is
# linear, $\partial L / \partial W = (\partial L / \partial b) x^\top$: the gradient of one image **is** the image.
# Clipping only scales it. With noise there is nothing to see. Below, the upper row is what the server makes of each
# client's gradient, the middle row of the clipped one, and the last row of the clipped one with noise.

# %%
from advanced_optimizers.automl import invert_gradient, per_sample_gradients
from advanced_optimizers.experiments.report.figures.picture_plots import picture_grid

chosen = torch.tensor([(labels == digit).nonzero()[0, 0] for digit in range(10)])
gradients = per_sample_gradients(model, images[chosen], labels[chosen])


def recovered(change) -> torch.Tensor:
    """What the server makes of each client's gradient after a change, as images."""
    sent = [change([g[i] for g in gradients]) for i in range(10)]
    guesses = [invert_gradient(weight, bias) for weight, bias, *_ in sent]
    pixels = (torch.stack(guesses) + 0.5).clamp(0, 1) * 255
    return pixels.view(10, 8, 8, 1).to(torch.uint8)


changes = {
    "as sent": lambda g: g,
    "clipped": privacy.clip_gradients,
    "clipped, with noise": lambda g: privacy.add_noise(privacy.clip_gradients(g)),
}
for words, change in changes.items():
    drawn = picture_grid(recovered(change), torch.arange(10), per_class=1)
    show_drawing(drawn, f"images recovered from gradients: {words}")

# %% [markdown]
# ## The study
#
# A network of 64 units with tanh, and the convolutional one of Opacus's own example, also with tanh, take 500 steps of
# SGD with $q = 0.01$ (five epochs). The learning rate and $C$ are the best of six pairs at $\varepsilon = 3$, by 10,000
# training images that are held out; the rate without privacy is the best of six, too. Everything else takes over one or
# the other. As controls, there are both halves of DP-SGD alone (clipping without noise, and the same noise without
# clipping, which has no guarantee), and training without privacy on fewer images.

# %%
from advanced_optimizers.experiments.report.display import (
    open_study,
    show_figure,
    show_protocol,
    show_table,
)

training, clients, calls, inversion, sensitivity = (
    open_study(f"privacy{end}", PROFILE, retrain=RETRAIN, jobs=JOBS)
    for end in ("", "-clients", "-calls", "-inversion", "-sensitivity")
)

# %%
show_protocol(training)

# %%
show_figure(training, "privacy-against-epsilon")

# %% [markdown]
# What is recorded is $\sigma$, $q$ and the steps; $\varepsilon$ follows from them by an accountant (here Opacus's, by
# Renyi divergences), and a better accountant may find a smaller one. The last column is an attack: how well a threshold
# on the loss tells images that were trained on from test images.

# %%
show_table(training, "privacy-metrics")

# %% [markdown]
# Differences from training without privacy, paired by seed:

# %%
show_figure(training, "privacy-test-accuracy-differences")

# %% [markdown]
# The convolutional network, at $\varepsilon = 3$ and without privacy:

# %%
convolutional = open_study("privacy-cnn", PROFILE, retrain=RETRAIN, jobs=JOBS)

# %%
show_table(convolutional, "privacy-cnn-metrics")

# %% [markdown]
# ## What the text does
#
# The text clips the gradient of the batch, tensor by tensor, and adds noise in each step. One image among forty is an
# outlier here; by how much does what is released change when an image is left out? Noise that is measured by the norm
# that is clipped to needs at most 1.

# %%
show_table(sensitivity, "privacy-sensitivity-sensitivity")

# %% [markdown]
# And with the noise of $\varepsilon = 1$ in each of 100 steps on all samples:

# %%
show_table(calls, "privacy-calls-metrics")

# %% [markdown]
# ## What a server sees
#
# 200 clients with one image each, or with ten. The control guesses the mean image.

# %%
show_table(inversion, "privacy-inversion-metrics")

# %% [markdown]
# ## Privacy of whole clients
#
# DP-FedAvg clips what a client sends and adds noise to the mean. With a hundred clients, ten of which take part in a
# round, the noise of each of 50,890 parameters is a tenth of the norm that a whole update may have.

# %%
show_table(clients, "privacy-clients-metrics")

# %% [markdown]
# ## Verdicts
#
# D1, D2 and F1 are the text's claims; the others are our questions. Each is decided by a rule that was fixed before the
# runs; [appendix B of the report](../coursework_report_appendices.md#appendix-b-rules) states the rules. They need the
# runs of the `full` profile.

# %%
show_table(training, "privacy-claims")

# %%
show_table(convolutional, "privacy-cnn-claims")

# %%
show_table(sensitivity, "privacy-sensitivity-claims")

# %%
show_table(calls, "privacy-calls-claims")

# %%
show_table(inversion, "privacy-inversion-claims")

# %%
show_table(clients, "privacy-clients-claims")

# %% [markdown]
# ## Limitations
#
# - Small networks on MNIST, five epochs. With more epochs and larger batches, private training comes nearer.
# - The rate and $C$ are tuned at $\varepsilon = 3$ only; other $\varepsilon$ might do better with their own.
# - The attack by the loss is weak. That it finds nothing is not a guarantee; $\varepsilon$ is.
# - The inversion is for a linear first layer and one image. For batches there are stronger attacks, by optimization.
# - DP-FedAvg is made for thousands of clients, and a hundred is what fits here. Its rate and norm are not tuned.
