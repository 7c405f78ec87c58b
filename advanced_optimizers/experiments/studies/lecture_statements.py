"""The lecture's statements, one by one, with the word that each gets or the claims that decide it.

The source is an automatic summary. ``garbled`` marks what its wording gets wrong and the lecturer need not have said.
"""

from __future__ import annotations

from advanced_optimizers.experiments.evidence.statement import Statement
from advanced_optimizers.experiments.studies.topic import Topic

_OPTIMIZERS = (
    Statement(
        key="1",
        text="Momentum and Nesterov make gradient descent more stable, more efficient, faster.",
        finding="In a narrow valley they need half the steps. At the same small rate they move ten times as far, which "
        "is another question than both at their best rates: the two claims are decided separately.",
        claims=("lecture-momentum-tuned", "lecture-momentum-same-rate"),
        shown="00, the valley; the study",
    ),
    Statement(
        key="2",
        text="With momentum, the ball rolls over small bumps.",
        finding="On our bumpy bowl it does, and gradient descent sticks. Bumps twice as high stop both.",
        word="supported with a limit",
        shown="00, bumps",
    ),
    Statement(
        key="3",
        text="Nesterov first moves by inertia and then takes the gradient.",
        finding="True of the formula. torch keeps the moved point itself as the parameter, so it takes the gradient "
        "where it stands; the two agree to rounding until the rate changes.",
        word="supported with a limit",
        shown="00, Nesterov in torch",
    ),
    Statement(
        key="4",
        text="Nesterov avoids an unstable gradient and local minima.",
        finding="Nothing in it avoids minima. It damps: on curvature h it multiplies the momentum by 1 - lr h. Its "
        "largest stable rate is lower than that of plain momentum.",
        word="imprecise",
        shown="00, Nesterov in torch",
    ),
    Statement(
        key="5",
        text="Adagrad automatically selects features for each parameter.",
        finding="It chooses a step size for each parameter. Rare features get larger steps, and none is removed.",
        word="wrong",
        shown="00, adaptive rates",
        garbled=True,
    ),
    Statement(
        key="6",
        text="Adagrad's cache grows for ever, which RMSprop and Adadelta repair.",
        finding="Under steady noise Adagrad's step falls as one over the root of the steps; RMSprop's stays.",
        word="supported",
        shown="00, adaptive rates",
    ),
    Statement(
        key="7",
        text="Adagrad, Adadelta and RMSprop are good, too.",
        finding="Only a comparison at tuned rates says so: torch's default rates differ by a factor of a thousand.",
        claims=("lecture-adaptive-good",),
        shown="00, the study",
    ),
    Statement(
        key="8",
        text="Exponential smoothing takes the last values into account.",
        finding="All of them, with weights that halve every ln 2 / -ln beta steps; the start needs a correction.",
        word="supported",
        shown="00, smoothing",
    ),
    Statement(
        key="9",
        text="Adam is momentum plus RMSprop; the name means adaptive momentum.",
        finding="It is, with a correction for the start, and the name means adaptive moment estimation.",
        word="imprecise",
        shown="00, smoothing",
        garbled=True,
    ),
    Statement(
        key="10",
        text="For Adam 3e-4 is good (Karpathy): 3e-4 for large tasks, 3e-2 for small ones.",
        finding="The rate comes from a tweet, a joke as far as we know. What each rate loses is measured task by task.",
        claims=("lecture-adam-large", "lecture-adam-small"),
        shown="00, Adam's rate",
    ),
    Statement(
        key="11",
        text="The easier the task, the larger the learning rate.",
        finding="Size, depth, batch size and noise move the best rate, too: a correlation over tasks shows no cause.",
        claims=("lecture-easier-larger",),
        shown="00, Adam's rate",
    ),
    Statement(
        key="12",
        text="For classification, take 3e-4.",
        finding="All of our tasks are classification: one rate would have to serve all of them.",
        claims=("lecture-adam-classification",),
        shown="00, Adam's rate",
    ),
    Statement(
        key="13",
        text="Lower the rate by 2 or by 10 every fifty operations; that may lower the loss.",
        finding="Epochs are meant, not operations. In the epoch after the first drop the loss is lower. In the end it "
        "is higher: once every image is fitted, the noise is gone without a drop, and a small rate only takes longer.",
        claims=("lecture-decay-better", "lecture-decay-loss"),
        shown="00, decay",
        garbled=True,
    ),
    Statement(
        key="14",
        text="The gradients of mini-batches are noisy.",
        finding="Their variance is S^2 / B, times 1 - B / N because a batch has no sample twice. One step on a small "
        "last batch can cost ten points of accuracy.",
        word="supported",
        shown="00, noise",
    ),
    Statement(
        key="15",
        text="Watch the training and the validation curves.",
        finding="Validation loss and accuracy need not agree: the loss can rise while the accuracy stays.",
        word="supported",
        shown="00, two curves",
    ),
)

_REGULARIZATION = (
    Statement(
        key="16",
        text="Regularization is prior knowledge; L1 and L2 are priors.",
        finding="Ridge and lasso are the most probable weights under a Gaussian and a Laplace prior, exactly. Dropout "
        "and augmentation are not priors on weights in this sense.",
        word="supported with a limit",
        shown="07, priors",
    ),
    Statement(
        key="17",
        text="Restricting the weights selects features.",
        finding="L1 does: most weights are exactly zero. L2 makes all of them smaller and none zero.",
        word="supported with a limit",
        shown="07, zeros",
    ),
    Statement(
        key="17b",
        text="(Not in the summary, but common.) L1 is a term of the loss: automatic differentiation does the rest.",
        finding="Then no weight becomes exactly zero. A proximal step (soft threshold) makes zeros.",
        word="imprecise",
        shown="07, zeros",
    ),
    Statement(
        key="18",
        text="To normalize, subtract the mean and divide by the variance.",
        finding="By the standard deviation. Dividing by the variance leaves a condition number of about 5e5 where the "
        "standard deviation leaves 5e2.",
        word="wrong",
        shown="07, normalization",
        garbled=True,
    ),
    Statement(
        key="19",
        text="Normalization is useful for logistic regression, for regularized linear regression, and for PCA.",
        finding="Without a penalty the solution does not depend on it, but gradient descent's speed does.",
        word="supported",
        shown="07, normalization",
    ),
    Statement(
        key="20",
        text="Normalization prevents overfitting.",
        finding="It improves the condition number, hence speed. That is not the gap between training and test.",
        word="imprecise",
        shown="07, normalization",
    ),
    Statement(
        key="21",
        text="Batch normalization gives the model's inputs mean 0 and variance 1, with moving averages.",
        finding="The inputs of a layer within the network, before its scale and shift. Training uses the batch, the "
        "moving averages are for evaluation, and one sample's output depends on the others.",
        word="imprecise",
        shown="07, batch normalization",
    ),
    Statement(
        key="22",
        text="The norm of the weights can be limited.",
        finding="By projecting after each step, which is not torch's weight_norm, a reparametrization.",
        word="supported",
        shown="07, max-norm",
    ),
    Statement(
        key="23",
        text="Dropout renormalizes on going from training to test, to preserve the distribution.",
        finding="torch scales in training and does nothing at test. The mean is preserved and the distribution is not.",
        word="imprecise",
        shown="07, dropout",
    ),
    Statement(
        key="24",
        text="Dropout trains an ensemble.",
        finding="The scaled network is the ensemble's normalized geometric mean exactly if only a linear layer and the "
        "softmax follow the mask, and approximately in deeper networks.",
        word="supported with a limit",
        shown="07, dropout",
    ),
    Statement(
        key="24b",
        text="The story of the workers who can each only do a part: co-adaptation.",
        finding="An image for why dropout might work, without a prediction.",
        word="not testable",
        shown="",
    ),
    Statement(
        key="25",
        text="Augmentation helps, and too much of it hurts.",
        finding="Too much is what changes the label (a 6 turned around is a 9) or what the network cannot fit in time.",
        claims=("lecture-augmentation-helps", "lecture-augmentation-too-much"),
        shown="07, augmentation",
    ),
    Statement(
        key="26",
        text="Augmentation is used in 90 % of cases; if you do not know what to take, take Adam.",
        finding="No source is given for the share, and the advice is an opinion.",
        word="not testable",
        shown="",
    ),
    Statement(
        key="27",
        text="Activations: sigmoid, tanh, ReLU and conditional ELU.",
        finding="There is no conditional ELU: leaky ReLU or ELU will have been said.",
        word="imprecise",
        shown="07, activations",
        garbled=True,
    ),
    Statement(
        key="REG",
        text="Regularization reduces overfitting.",
        finding="Five regularizers against none, each with a tuned strength, with few and with more images.",
        claims=("lecture-regularizers-few", "lecture-regularizers-many"),
        shown="07, the study",
    ),
)

TOPIC = Topic(title="Lecture: statements", algorithms={}, statements=(*_OPTIMIZERS, *_REGULARIZATION))
