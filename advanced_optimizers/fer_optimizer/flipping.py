"""The published FER: flipping error reduction, which is a loss, and the flipping errors that it is meant to reduce.

Deng, Xiao, Long, Zhang: Reducing Flipping Errors in Deep Neural Networks, AAAI 2022, arXiv 2203.08390.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advanced_optimizers._checks import check_integer, check_range

__all__ = ["FlippingErrorReduction", "FlippingErrors", "FlippingTracker"]


class FlippingErrorReduction(nn.Module):
    r"""The paper's FER: a loss that keeps each training sample close to its own past correct predictions.

    For sample :math:`i` of a batch of :math:`B`, with logits :math:`z_i`, label :math:`y_i`, epoch :math:`e` of
    :math:`E` and temperature :math:`T`, if :math:`e >` ``init_epochs`` (until then the loss is plain cross-entropy):

    .. math::
        L = \frac1B \Big[ a_e \sum_{i \in A} CE(z_i, y_i)
            - b_e T^2 \sum_{i \in A} \sum_c q_{ic} \log \mathrm{softmax}(z_i / T)_c
            + \sum_{i \notin A} CE(z_i, y_i) \Big]

    with :math:`b_e = (e / E)(1 - \gamma)` and :math:`a_e = 1 - b_e`, where :math:`A` is the set of samples that have
    been classified correctly at least once (:math:`s_i = 1`). After the loss, for each sample that is now classified
    correctly:

    .. math::
        s_i = 1, \quad w_i = 1 - e^{-\mu\, \mathrm{softmax}(z_i)_{y_i}}, \quad
        q_i \leftarrow (1 - w_i)\, q_i + w_i\, \mathrm{softmax}(z_i / T)

    :math:`q` starts at zero, so it is not a distribution at first; its mass approaches 1 while a sample stays correct.
    In ``eval`` mode the loss is plain cross-entropy and nothing is remembered.

    Args:
        num_samples: Size of the training set; the indices run from 0 to ``num_samples - 1``.
        num_classes: Number of classes :math:`C`. The state takes ``num_samples * (4 C + 1)`` bytes.
        total_epochs: :math:`E`, in epochs.
        temperature: :math:`T > 0`. Default 5.
        gamma: Smallest weight of the cross-entropy, in [0, 1]; 1 is plain cross-entropy. Default 0.1.
        mu: :math:`\mu \ge 0`, how fast :math:`q` follows the current prediction. The authors use 0.3 to 1.0.
        init_epochs: Epochs of plain cross-entropy at the start, during which the state is already recorded. Default 1.

    Attributes:
        remembered: :math:`q`, float32 (num_samples, num_classes), a buffer, so it is part of ``state_dict``.
        ever_correct: :math:`s`, bool (num_samples,), a buffer.
        epoch: The epoch set by :meth:`set_epoch`, int64 scalar, a buffer.

    Raises:
        ValueError: A value is out of range; in ``forward``, a label or an index is out of range or a shape is wrong.

    Example:
        >>> import torch
        >>> from advanced_optimizers import FlippingErrorReduction
        >>> criterion = FlippingErrorReduction(num_samples=8, num_classes=3, total_epochs=10)
        >>> criterion.set_epoch(1)
        >>> loss = criterion(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]), torch.tensor([5, 1, 0, 7]))

    References:
        Deng, Xiao, Long, Zhang: Reducing Flipping Errors in Deep Neural Networks, AAAI 2022, arXiv 2203.08390.
        The formulas follow the authors' released code (Xiang-Deng-DL/FER at e16489f), which we read for this purpose.

    Departures from the paper:
        None known in the loss. "Correct" means that the label has the largest logit, so labels must be class indices;
        for mixed or smoothed labels the loss is not defined.

    Limitations:
        If a sample occurs twice in one batch, one of the two is remembered.
        The state has one row per sample on one device: in data-parallel training the same process must see the same
        samples, or the rows must be gathered.
    """

    remembered: Tensor
    ever_correct: Tensor
    epoch: Tensor

    def __init__(
        self,
        num_samples: int,
        num_classes: int,
        total_epochs: int,
        temperature: float = 5.0,
        gamma: float = 0.1,
        mu: float = 1.0,
        init_epochs: int = 1,
    ) -> None:
        super().__init__()
        check_integer("num_samples", num_samples, low=1)
        check_integer("num_classes", num_classes, low=2)
        check_integer("total_epochs", total_epochs, low=1)
        check_range("temperature", temperature, low=0.0, open_low=True)
        check_range("gamma", gamma, low=0.0, high=1.0)
        check_range("mu", mu, low=0.0)
        check_integer("init_epochs", init_epochs, low=0)
        self.total_epochs = total_epochs
        self.temperature = temperature
        self.gamma = gamma
        self.mu = mu
        self.init_epochs = init_epochs
        self.register_buffer("remembered", torch.zeros(num_samples, num_classes))
        self.register_buffer("ever_correct", torch.zeros(num_samples, dtype=torch.bool))
        self.register_buffer("epoch", torch.tensor(1))

    def set_epoch(self, epoch: int) -> None:
        """Sets the current epoch, from 1 to ``total_epochs``; the weights of the two terms depend on it."""
        check_integer("epoch", epoch, low=1)
        if epoch > self.total_epochs:
            raise ValueError(
                f"epoch must be <= total_epochs = {self.total_epochs}, got {epoch}: epochs are counted from 1"
            )
        self.epoch.fill_(epoch)

    def weights(self) -> tuple[float, float]:
        """The weights (cross-entropy, remembered predictions) of the current epoch; they sum to 1."""
        kd_weight = int(self.epoch) / self.total_epochs * (1.0 - self.gamma)
        return 1.0 - kd_weight, kd_weight

    def forward(self, logits: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        """The loss of one batch; in ``train`` mode it also updates what is remembered.

        Args:
            logits: (B, num_classes), any floating precision.
            labels: (B,) int64, from 0 to ``num_classes - 1``.
            indices: (B,) int64, the samples' positions in the training set.

        Returns:
            The scalar loss, averaged over the batch.
        """
        self._check_batch(logits, labels, indices)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        ce = F.cross_entropy(logits, labels, reduction="none")
        if not self.training:
            return ce.mean()
        loss = ce.mean() if int(self.epoch) <= self.init_epochs else self._loss(logits, ce, indices)
        self._remember(logits.detach(), labels, indices)
        return loss

    def _loss(self, logits: Tensor, ce: Tensor, indices: Tensor) -> Tensor:
        ce_weight, kd_weight = self.weights()
        T = self.temperature
        kd = -(T * T) * (self.remembered[indices] * F.log_softmax(logits / T, dim=1)).sum(dim=1)
        return torch.where(self.ever_correct[indices], ce_weight * ce + kd_weight * kd, ce).mean()

    @torch.no_grad()
    def _remember(self, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        correct = logits.argmax(dim=1) == labels
        i, z, y = indices[correct], logits[correct].to(self.remembered.dtype), labels[correct]
        p = F.softmax(z, dim=1).gather(1, y[:, None])
        w = 1.0 - torch.exp(-self.mu * p)
        self.remembered[i] = (1.0 - w) * self.remembered[i] + w * F.softmax(z / self.temperature, dim=1)
        self.ever_correct[i] = True

    def _check_batch(self, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        num_samples, num_classes = self.remembered.shape
        batch = len(logits)
        if logits.shape != (batch, num_classes):
            raise ValueError(f"logits must have shape (batch, {num_classes}), got {tuple(logits.shape)}")
        for name, value, count in (("labels", labels, num_classes), ("indices", indices, num_samples)):
            if value.shape != (batch,) or value.dtype != torch.int64:
                raise ValueError(
                    f"{name} must be int64 of shape ({batch},), got {value.dtype} of shape {tuple(value.shape)}"
                )
            low, high = (int(value.min()), int(value.max())) if batch else (0, 0)
            if low < 0 or high >= count:
                raise ValueError(f"{name} must be in [0, {count - 1}], got values from {low} to {high}")

    def extra_repr(self) -> str:
        """The hyperparameters, as ``repr`` shows them."""
        num_samples, num_classes = self.remembered.shape
        return (
            f"num_samples={num_samples}, num_classes={num_classes}, total_epochs={self.total_epochs}, "
            f"temperature={self.temperature}, gamma={self.gamma}, mu={self.mu}, init_epochs={self.init_epochs}"
        )


class FlippingErrors(NamedTuple):
    """Flipping errors after an epoch.

    Attributes:
        wrongly_flipped: WFS, the number of samples that are wrong now and were right at the end of an earlier epoch.
        relative: RFE, their share of the samples that are wrong now, in [0, 1]; nan if none is wrong.
        absolute: Their share of all samples, in [0, 1].
    """

    wrongly_flipped: int
    relative: float
    absolute: float


class FlippingTracker:
    """Counts flipping errors over a fixed set of samples, epoch by epoch (Deng et al., AAAI 2022, section 1).

    Args:
        num_samples: Size of the set, usually the test set.

    Example:
        >>> import torch
        >>> from advanced_optimizers import FlippingTracker
        >>> tracker = FlippingTracker(3)
        >>> tracker.update(torch.tensor([True, True, False])).wrongly_flipped
        0
        >>> tracker.update(torch.tensor([False, True, False]))
        FlippingErrors(wrongly_flipped=1, relative=0.5, absolute=0.3333333333333333)
    """

    def __init__(self, num_samples: int) -> None:
        check_integer("num_samples", num_samples, low=1)
        self.ever_correct = torch.zeros(num_samples, dtype=torch.bool)

    def update(self, correct: Tensor) -> FlippingErrors:
        """Returns the flipping errors at the end of an epoch.

        Args:
            correct: Which samples are classified correctly now, (num_samples,) bool, in the same order every time.
        """
        if correct.shape != self.ever_correct.shape or correct.dtype != torch.bool:
            raise ValueError(
                f"correct must be bool of shape {tuple(self.ever_correct.shape)}, "
                f"got {correct.dtype} of shape {tuple(correct.shape)}"
            )
        correct = correct.cpu()
        flipped = int((self.ever_correct & ~correct).sum())
        wrong = int((~correct).sum())
        self.ever_correct |= correct
        return FlippingErrors(flipped, flipped / wrong if wrong else math.nan, flipped / len(correct))

    def state_dict(self) -> dict[str, Tensor]:
        """Which samples have ever been classified correctly."""
        return {"ever_correct": self.ever_correct.clone()}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Restores what :meth:`state_dict` returned."""
        saved = state_dict["ever_correct"]
        if saved.shape != self.ever_correct.shape:
            raise ValueError(
                f"ever_correct must have shape {tuple(self.ever_correct.shape)}, got {tuple(saved.shape)}: "
                "the state is that of another number of samples"
            )
        self.ever_correct = saved.clone()
