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
# # Continual learning: what does a network keep of earlier tasks?
#
# A network that learns one task after the other forgets the earlier ones. Elastic weight consolidation (Kirkpatrick et
# al., *Overcoming catastrophic forgetting in neural networks*, PNAS 2017,
# [arXiv 1612.00796](https://arxiv.org/abs/1612.00796)) holds each weight by a spring that is as stiff as the weight
# mattered. A progressive network (Rusu et al., 2016, [arXiv 1606.04671](https://arxiv.org/abs/1606.04671)) freezes what
# it has, and grows a new column for each task. Replay keeps some samples, and trains on them again.
#
# **Formulas.** With the weights $\theta^*_t$ at the end of task $t$, EWC minimizes
#
# $$L(\theta) = L_{new}(\theta) + \sum_t \frac\lambda2 \sum_i F_{t,i} (\theta_i - \theta^{\ast} _ {t,i})^2, \qquad
# F_{t,i} = \mathbb E_x \mathbb E_{y \sim p(y \mid x, \theta^{\ast}_t)}
# \Big( \frac{\partial \log p(y \mid x, \theta^{\ast}_t)}{\partial \theta_i} \Big)^2 .$$
#
# The labels in the Fisher information $F$ are the *model's own*, and the square is taken *per sample*. Layer $i$ of column
# $k$ of a progressive network is
#
# $$h_i^{(k)} = f \Big( W_i^{(k)} h_{i-1}^{(k)} + \sum_{j < k} U_i^{(k:j)} h_{i-1}^{(j)} \Big).$$
#
# [Section 11.6 of the report](../coursework_report_automl.md#116-continual-learning) discusses the results.
#
# **What does not match.** Kirkpatrick et al. learn ten permutations with networks and a number of epochs that they tune;
# here there are three, on images of half the side, with three epochs each. Rusu et al. learn games; here it is pairs of
# digits. Both papers were recalled, not read again.
#
# **Time.** With the recorded runs, under a minute on two CPU cores. Training everything again takes about a quarter of an
# hour. The `quick` profile trains on small digits that need no download, and takes under a minute.

# %% tags=["parameters"]
import os

# "full": the recorded runs on MNIST; "quick": small runs on the digits
PROFILE = os.environ.get("PROFILE", "full")
# train every run again instead of loading its record
RETRAIN = os.environ.get("RETRAIN") == "1"
# runs at a time, one thread each; a quick run is too short to be worth a process
JOBS = (os.cpu_count() or 1) if PROFILE == "full" else 1

# %% [markdown]
# ## Using it
#
# Two tasks: the digits, and the digits with their pixels in another order. Training is an ordinary loop; a penalty is
# something that is done to the loss.

# %%
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from advanced_optimizers.experiments.data import digits_batches

train, test = digits_batches(batch_size=64, seed=0)


def learn(model, pixels, penalized=lambda loss: loss):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for batch in (batch for _ in range(10) for batch in train):
        optimizer.zero_grad()
        output = model(batch.images.flatten(1)[:, pixels])
        penalized(cross_entropy(output, batch.labels)).backward()
        optimizer.step()


# %% [markdown]
# After the first task, `compute_fisher_information` keeps what mattered; from then on, `ewc_loss` adds the penalty.

# %%
from copy import deepcopy

from advanced_optimizers.automl import ElasticWeightConsolidation

torch.manual_seed(0)
layers = nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)
first, second = torch.arange(64), torch.randperm(64)
model = nn.Sequential(*layers)
learn(model, first)
fine_tuned = deepcopy(model)
learn(fine_tuned, second)
ewc = ElasticWeightConsolidation(model, lambda_ewc=100)
flat = [(batch.images.flatten(1), batch.labels) for batch in train]
ewc.compute_fisher_information(flat, max_samples=300)
learn(model, second, ewc.ewc_loss)
for name, net in (("fine-tuning", fine_tuned), ("EWC", model)):
    for pixels, task in ((first, "old"), (second, "new")):
        right = net(test.images.flatten(1)[:, pixels]).argmax(1) == test.labels
        print(f"{name}, {task} task: {right.float().mean():.0%}")

# %% [markdown]
# **A trap: the size of the loader's batches.** Many programs square the gradient of a batch, which is a mean. That is
# smaller by about the batch size, so $\lambda$ means something else whenever the loader changes. Here the square is taken
# per sample:

# %%
images, labels = (torch.cat(parts) for parts in zip(*flat, strict=True))
for size in (1, 10, 100):
    batches = list(zip(images[:200].split(size), labels[:200].split(size), strict=True))
    squares = 0.0
    for x, y in batches:
        loss = cross_entropy(model(x), y)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        squares += sum(float(g.square().sum()) for g in gradients) / len(batches)
    ours = ElasticWeightConsolidation(model, fisher="empirical")
    ours.compute_fisher_information(batches)
    trace = sum(float(f.sum()) for f in ours.fisher_information.values())
    print(f"batches of {size:3}: per sample {trace:.3f}, per batch {squares:.3f}")

# %% [markdown]
# With plain gradient descent, the penalty alone diverges once $\eta \lambda \max_i F_i \ge 2$. The class knows the limit, and
# says so when training runs into it:

# %%
import textwrap

print(f"the learning rate must be below {ewc.max_stable_lr:.2f} with lambda = 100")
ewc.lambda_ewc = 1e5
weight, zero = model[0].weight, torch.tensor(0.0)
try:
    for _ in range(200):
        (gradient,) = torch.autograd.grad(ewc.ewc_loss(zero), weight)
        with torch.no_grad():
            weight -= 0.1 * gradient
except RuntimeError as error:
    print(textwrap.fill(str(error), 80))

# %% [markdown]
# A progressive network asks which column to use. What earlier columns compute stays the same, bit for bit:

# %%
from advanced_optimizers.automl import ProgressiveNeuralNetwork

torch.manual_seed(0)
net = ProgressiveNeuralNetwork(64, hidden_dim=32, output_dim=10)
before = net(images, 0)
net.add_column(64, hidden_dim=32, output_dim=10)
optimizer = torch.optim.Adam(net.trainable_parameters(), lr=1e-2)
for _ in range(100):
    optimizer.zero_grad()
    cross_entropy(net(images[:, second], 1), labels).backward()
    optimizer.step()
right = net(images[:, second], 1).argmax(1) == labels
print(f"new task, training images: {right.float().mean():.0%}")
print("column 0 is what it was:", net(images, 0).equal(before))

# %% [markdown]
# ## The study
#
# Three **permuted** tasks: MNIST, and twice MNIST with its pixels in another order. All runs of a seed share the images, the
# orders, the first task and the batches; Adam starts afresh for each task. Every penalty takes the best of the same five
# strengths, $\lambda = 10, \dots, 10^5$, by a trial of two tasks on held-out training images.
#
# Three controls say whether it is the Fisher information that helps: the same numbers at other weights of the same tensor
# (**shuffled**), a plain distance from the earlier weights (**L2**), and **squared batch means**, which is the mistake above. Joint
# training on all tasks at once is what can be had.

# %%
from advanced_optimizers.experiments.report.display import (
    open_study,
    show_figure,
    show_protocol,
    show_table,
)

ends = ("", "-strengths", "-split", "-transfer")
permuted, strengths, split, transfer = (
    open_study(f"continual{end}", PROFILE, retrain=RETRAIN, jobs=JOBS) for end in ends
)

# %%
show_protocol(permuted)

# %% [markdown]
# ## What becomes of the first task
#
# The second task begins after the third epoch, the third one after the sixth (in the quick profile, after the fourth and
# the eighth).

# %%
show_figure(permuted, "continual-task1")

# %%
show_table(permuted, "continual-metrics")

# %% [markdown]
# Average accuracy over all tasks at the end, as a difference from fine-tuning, paired by seed:

# %%
show_figure(permuted, "continual-test-accuracy-differences")

# %% [markdown]
# ## Old against new
#
# With two tasks and one strength after the other, from $\lambda = 10$ (where a curve begins, on the right) to $10^5$: what is kept
# of the old task by what is learned of the new one. The better penalty is the one whose curve is further to the upper right.

# %%
show_figure(strengths, "continual-strengths-old-tasks-by-new-tasks")

# %% [markdown]
# ## Two digits after the other
#
# The same images in three forms. The task is *known*, so that only its two outputs compete; tasks *share* two outputs; or
# there is an output *by class*, and nobody says which task it is.

# %%
show_table(split, "continual-split-test-accuracy")

# %%
show_figure(split, "continual-split-test-accuracy-differences")

# %% [markdown]
# ## A last task with few images
#
# Four pairs of digits with some 4,000 images each, and a fifth with 10 to 1,000. Does a progressive network learn the fifth
# from what it knows? The controls are its last column alone, and the same network with earlier columns that were never
# trained.

# %%
show_figure(transfer, "continual-transfer-by-size")

# %%
show_table(transfer, "continual-transfer-test-accuracy")

# %% [markdown]
# What became of the first four tasks:

# %%
show_table(transfer, "continual-transfer-old-accuracy")

# %%
show_table(transfer, "continual-transfer-old-changed")

# %% [markdown]
# ## Verdicts
#
# C1 to C4, R1 and R2 are the text's claims; the others are our questions. Each is decided by a rule that was fixed before
# the runs; [appendix B of the report](../coursework_report_appendices.md#appendix-b-rules) states the rules. They need the runs of
# the `full` profile.

# %%
show_table(permuted, "continual-claims")

# %%
show_table(split, "continual-split-claims")

# %%
show_table(transfer, "continual-transfer-claims")

# %% [markdown]
# ## Limitations
#
# - Three permutations and five pairs of digits, small networks, three epochs per task. Longer sequences forget more, and
#   with each task EWC has one more penalty to satisfy.
# - Strengths are powers of ten, and chosen by a single trial of two tasks.
# - Progressive networks and the split with known tasks are told which task an image belongs to.
# - Replay keeps images, which may not be allowed; none of the other methods does.
# - The diagonal of the Fisher information knows nothing of how weights act together.
