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
# # Regularization: what does each technique do, and does it do what the lecture says?
#
# A network that has learned its training images by heart may fail on new ones. Regularization is what is done against
# it: penalties on the weights, dropout, augmentation. Normalization is often named with it. This notebook takes each
# technique apart with PyTorch's and scikit-learn's own classes, and then compares them on handwritten digits.
#
# With a loss $L$ and weights $w$:
#
# $$L(w) + \tfrac{\lambda}{2} \lVert w \rVert_2^2 \ \ (\text{L2}), \qquad L(w) + \lambda \lVert w \rVert_1 \ \ (\text{L1}),
# \qquad \lVert w_j \rVert_2 \le c \ \ (\text{max-norm}).$$
#
# Dropout ([arXiv 1207.0580](https://arxiv.org/abs/1207.0580)) sets activations to zero at random in training. Batch
# normalization ([arXiv 1502.03167](https://arxiv.org/abs/1502.03167)) gives each feature of a batch mean 0 and variance 1.
#
# [Section 9 of the report](../coursework_report.md#9-results-the-lectures-toolbox) has the same table of statements,
# and [section A.8](../coursework_report_appendices.md#a8-the-lectures-toolbox) the verdicts on those that
# need training runs.
#
# **What does not match.** We have not heard the lecture: the source is an automatic summary of it. Where its wording is
# wrong, the mistake may be the summary's, and the table says so. The networks are small.
#
# **Time.** With the recorded runs, under a minute on two CPU cores; training everything again takes about half an hour.
# The `quick` profile trains on small digits, and takes about a minute.
#
# Cells that begin with **Try this** are made to be changed: nothing else depends on them.

# %% tags=["parameters"]
import os

# "full": the recorded runs on MNIST; "quick": small runs on the digits
PROFILE = os.environ.get("PROFILE", "full")
# train every run again instead of loading its record
RETRAIN = os.environ.get("RETRAIN") == "1"
# runs at a time, one thread each; a quick run is too short to be worth a process
JOBS = (os.cpu_count() or 1) if PROFILE == "full" else 1

# %% [markdown]
# ## Using them
#
# Dropout is a layer, and decoupled weight decay an argument of AdamW. `model.eval()` before testing turns dropout off:

# %%
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from advanced_optimizers.experiments.data import digits_batches

torch.manual_seed(0)
train, test = digits_batches(batch_size=64, seed=0)
layers = nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10)
model = nn.Sequential(nn.Flatten(), *layers)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
for _ in range(5):
    for batch in train:
        optimizer.zero_grad()
        cross_entropy(model(batch.images), batch.labels).backward()
        optimizer.step()
model.eval()
accuracy = (model(test.images).argmax(1) == test.labels).float().mean()
print(f"test accuracy {accuracy:.0%}")

# %% [markdown]
# ## A penalty is a prior
#
# *Regularization is prior knowledge.* Suppose $y = w x + \text{noise}$ with noise of variance 1, and believe before
# seeing any data that $w$ is near zero: normally distributed with variance $1 / (\lambda n)$, or Laplace distributed with
# scale $1 / (\lambda n)$. Then the most probable $w$ is that of ridge regression, or of the lasso. Below, the first is
# searched for numerically, and the second is a closed form.

# %%
from advanced_optimizers.experiments.demonstrations.priors import (
    l1_by,
    one_weight,
    selected,
)
from advanced_optimizers.experiments.report.display import show_drawing
from advanced_optimizers.experiments.report.figures.line_plots import Panel, line_panels

strengths = [0.05 * k for k in range(1, 21)]
found = {kind: [one_weight(kind, s) for s in strengths] for kind in ("l2", "l1")}
panels = [
    Panel(
        title=title,
        series={
            "most probable": (strengths, [f.most_probable for f in found[kind]]),
            "penalized": (strengths, [f.penalized for f in found[kind]]),
        },
        points=["most probable"],
        xlabel="Strength of the penalty",
        ylabel="Weight",
    )
    for kind, title in (("l2", "L2, normal prior"), ("l1", "L1, Laplace prior"))
]

# %%
show_drawing(line_panels(*panels), "most probable and penalized weight by strength")
gap = max(abs(f.most_probable - f.penalized) for fits in found.values() for f in fits)
print(f"largest difference {gap:.0e}")
assert gap < 1e-6

# %% [markdown]
# The pictures differ in one thing. L2 shrinks the weight and never reaches zero. L1 pulls with the same force at any
# size, and from some strength on the weight *is* zero.

# %% [markdown]
# ## Which penalty selects features?
#
# *Restricting the weights leads to a selection of features.* A logistic regression has 50 features, five of which
# matter, and 200 samples. scikit-learn solves it with both penalties:

# %%
for inverse in (0.05, 0.2, 1.0):
    l1, l2 = selected("l1", inverse), selected("l2", inverse)
    print(f"C = {inverse:<4g}  L1 keeps {l1[0]:2} ({l1[1]} of 5 true), L2 {l2[0]}")
    assert l1[0] < 50 == l2[0]

# %% [markdown]
# *Add `l1 * p.abs().sum()` to the loss*, one often reads. Then torch differentiates $|w|$, and a step jumps across zero
# instead of stopping there. A **proximal** step stops: after each gradient step of the rest, every weight moves by
# $\eta \lambda$ toward zero, and not beyond (`torch.nn.functional.softshrink`).

# %%
descent, adam = torch.optim.SGD, torch.optim.Adam
methods = {
    "gradient descent": l1_by(descent, steps=1500),
    "Adam": l1_by(adam, lr=0.01, steps=1500),
    "proximal": l1_by(descent, steps=1500, proximal=True),
}
for name, zeros in methods.items():
    print(f"{name:16} exactly zero: {zeros.exact:2} of 50, below 0.01: {zeros.small:2}")
    assert (zeros.exact > 20) == (name == "proximal")

# %% [markdown]
# **Try this.** How strong must the penalty be to lose a true feature? How many steps does the proximal method need?

# %%
strength, steps = 0.05, 300

zeros = l1_by(descent, strength=strength, steps=steps, proximal=True)
print(f"exactly zero: {zeros.exact} of 50")

# %% [markdown]
# ## Normalization
#
# *Subtract the mean and divide by the variance.* By the standard deviation: only then do all features have the same
# size. The condition number says how much steeper the loss is in its steepest direction than in its flattest; gradient
# descent needs about as many steps.

# %%
from advanced_optimizers.experiments.demonstrations.scaling import (
    accuracy_by_scale,
    condition_numbers,
    rescale_one_feature,
)

numbers = condition_numbers()
for name, number in numbers.items():
    print(f"{name:21} condition number {number:11,.0f}")
assert numbers["/ standard deviation"] < 1000 < 100_000 < numbers["/ variance"]

# %% [markdown]
# *Useful for regularized linear regression and for PCA.* Multiply one feature by 1,000, as if meters became millimeters.
# Least squares does not care. Ridge regression does, since the penalty is on the weights. The first axis of a PCA
# becomes that feature.

# %%
change = rescale_one_feature()
print("change of a prediction, in standard deviations:")
print(f"least squares: {change.least_squares:.0e}")
print(f"ridge:         {change.ridge:.0e}")
print(f"PCA:           the feature makes up {change.first_axis:.2%} of the first axis")
assert change.least_squares < 1e-9 < 1e-3 < change.ridge

# %% [markdown]
# *Prevents overfitting.* It changes the scale of the inputs, and with it the speed of training. The gap between the
# accuracy on training images and on test images is another matter:

# %%
source, count = ("mnist", 5000) if PROFILE == "full" else ("digits", 1438)
for name, fit in accuracy_by_scale(source, count).items():
    print(f"{name:13} training {fit.train:.1%}, test {fit.test:.1%} after 3 epochs")
    assert abs(fit.train - fit.test) < 0.06

# %% [markdown]
# ## Batch normalization
#
# *The model's inputs get mean 0 and variance 1.* The inputs of a layer in the middle of the network do, before a scale
# and a shift that are learned. In training the layer uses the batch's own mean and (biased) variance; in evaluation it
# uses moving averages, of the unbiased variance. torch's `momentum=0.1` is the weight of the *new* value.

# %%
from advanced_optimizers.experiments.demonstrations.layers import (
    batch_norm_by_hand,
    dropout_moments,
    ensemble,
    geometric_mean_error,
    project,
    trained_with_dropout,
)

torch.manual_seed(0)
batch, norm = 3 * torch.randn(16, 4) + 2, nn.BatchNorm1d(4)
output, by_hand = norm(batch), batch_norm_by_hand(batch)
torch.testing.assert_close(output, by_hand.output)
torch.testing.assert_close(norm.running_mean, by_hand.running_mean)
torch.testing.assert_close(norm.running_var, by_hand.running_var)
first, remembered = float(batch[:, 0].var()), float(norm.running_var[0])
print(f"variance of the first feature {first:.2f}, remembered {remembered:.2f}")

# %% [markdown]
# Three ways in which it fails. A batch of one image has no variance, and is refused. After five steps the moving averages
# are still near their start of 0 and 1, so evaluation is wrong. And in training the output for an image depends on which
# others are in the batch.

# %%
try:
    norm(batch[:1])
except ValueError as error:
    print(str(error).split(",")[0])
for _ in range(4):
    norm(batch)
early = norm.eval()(batch).detach()
mean, deviation = float(early.mean()), float(early.std())
print(f"evaluation after 5 steps: mean {mean:+.2f}, standard deviation {deviation:.2f}")
norm.train()
apart = float((norm(batch[:8])[0] - norm(batch)[0]).detach().abs().max())
print(f"the same image in another batch: {apart:.2f} apart")
assert abs(mean) > 0.01
assert apart > 0.01

# %% [markdown]
# ## Max-norm
#
# *The norm of the weights can be limited.* After each step, the incoming weights of every unit that have become longer
# than $c$ are shortened to $c$. `torch.renorm` does that; `torch.nn.utils.weight_norm` does something else, it splits a
# weight into a length and a direction. An L2 penalty with Adam is not weight decay either: AdamW's is decoupled.

# %%
weight = nn.Linear(20, 30).weight.detach() * 5
for largest in (1, 2, 4):
    norms = project(weight, largest).norm(dim=1)
    untouched = int((norms < largest - 1e-4).sum())
    print(f"c = {largest}: longest {float(norms.max()):.2f}, {untouched} of 30 kept")
    assert float(norms.max()) < largest + 1e-4

# %% [markdown]
# ## Dropout
#
# *It renormalizes on going from training to test, to preserve the distribution.* torch divides by $1 - p$ in *training*,
# and does nothing at test. The mean is preserved. The distribution is not: at $p = \tfrac12$, the mean square doubles.

# %%
moments = dropout_moments(p=0.5)
for mode, (mean, square) in moments.items():
    print(f"{mode:11} mean {mean:.3f}, mean square {square:.3f}")
assert abs(moments["training"][0] - moments["without"][0]) < 0.02
assert abs(moments["training"][1] / moments["without"][1] - 2) < 0.05

# %% [markdown]
# *It trains an ensemble.* Every mask is a network, and evaluation uses one network in the place of all. If only a linear
# layer and the softmax follow the mask, this one **is** the normalized geometric mean over all masks, exactly:

# %%
print(f"256 masks against evaluation: {geometric_mean_error():.0e} apart")
assert geometric_mean_error() < 1e-12

# %% [markdown]
# The mean of the probabilities, which an ensemble would use, is something else. nll is the mean negative log-likelihood:
# lower is better, and it punishes a confident mistake.

# %%
source, count = ("mnist", 1000) if PROFILE == "full" else ("digits", 300)
predictions = ensemble(*trained_with_dropout(source, count))
for name, (accuracy, nll) in predictions.items():
    print(f"{name:22} accuracy {accuracy:.1%}, nll {nll:.3f}")
assert predictions["mean of 100"].nll < predictions["one mask"].nll

# %% [markdown]
# ## Activations
#
# *Sigmoid, tanh, ReLU and conditional ELU.* There is no conditional ELU; leaky ReLU or ELU will have been said. Right are
# the derivatives: where they are near zero, nothing is learned.

# %%
x = torch.linspace(-4, 4, 161, requires_grad=True)
functions = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "ReLU": nn.functional.relu,
    "leaky ReLU": nn.functional.leaky_relu,
    "ELU": nn.functional.elu,
}
values = {name: (x.detach(), f(x).detach()) for name, f in functions.items()}
slopes = {}
for name, function in functions.items():
    slopes[name] = (x.detach(), torch.autograd.grad(function(x).sum(), x)[0])
left = Panel(title="Activations", series=values, xlabel="Input", ylabel="Output")
right = Panel(title="Derivatives", series=slopes, xlabel="Input", ylabel="Slope")
show_drawing(line_panels(left, right), "five activation functions and their slopes")

# %% [markdown]
# ## Augmentation
#
# *It helps, and too much of it hurts.* Each image is moved anew in every epoch. A shift by up to two pixels leaves a
# digit what it is. Turned around, a 6 is a 9: the label is wrong. A low test accuracy together with a high training loss
# means that the network could not fit what it was shown; with a low one, that it has fitted the wrong thing.
#
# In the `quick` profile an image has 8 x 8 pixels, so that a shift by one pixel is already a large one.

# %%
from advanced_optimizers.experiments.report.display import (
    open_study,
    show_figure,
    show_protocol,
    show_statements,
    show_table,
)

augmentation = open_study("lecture-augmentation", PROFILE, retrain=RETRAIN, jobs=JOBS)
show_protocol(augmentation)

# %%
show_figure(augmentation, "lecture-augmentation-test-accuracy")

# %%
show_table(augmentation, "lecture-augmentation-train-loss")

# %% [markdown]
# ## Side by side
#
# Each technique with a tuned learning rate and a tuned strength, on few images and on more. Weights below 0.001 are
# called small; by autograd, none is exactly zero.

# %%
few = open_study("lecture-regularizers-300", PROFILE, retrain=RETRAIN, jobs=JOBS)
show_figure(few, "lecture-regularizers-300-test-accuracy-differences")

# %%
show_table(few, "lecture-regularizers-300-small-weights")

# %%
more = open_study("lecture-regularizers", PROFILE, retrain=RETRAIN, jobs=JOBS)
show_figure(more, "lecture-regularizers-test-accuracy-differences")

# %% [markdown]
# ## Every statement and its word
#
# Statements 16 and up are those of this notebook, and the first fifteen those of `00_classic_optimizers`. Where training
# runs decide, the rules were fixed before them.

# %%
show_statements("lecture_statements", PROFILE)

# %% [markdown]
# ## Limitations
#
# - The networks have one hidden layer. Batch normalization and dropout were made for deeper ones.
# - Strengths were tuned on a validation set that is larger than the training set, which nobody has in practice.
# - The claims about augmentation are about shifts, rotations and reflections of digits, and about training of this length.
