"""The published FER: flipping error reduction, a loss that remembers each training sample's correct predictions.

Deng, Xiao, Long, Zhang: Reducing Flipping Errors in Deep Neural Networks, AAAI 2022, arXiv 2203.08390.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from advanced_optimizers._checks import check_integer, check_process_group, check_range, count_processes
from advanced_optimizers.fer_optimizer.processes import gather_integers, gather_rows

__all__ = ["FlippingErrorReduction"]


class FlippingErrorReduction(nn.Module):
    r"""The paper's FER: a loss that keeps each training sample close to its own past correct predictions.

    For sample :math:`i` of a batch of :math:`B`, with logits :math:`z_i`, label :math:`y_i`, epoch :math:`e` of
    :math:`E` and temperature :math:`T`, if :math:`e >` ``init_epochs`` (until then the loss is plain cross-entropy):

    .. math::
        L = \frac1B \Big[ a_e \sum_{i \in A} CE(z_i, y_i)
            - b_e T^2 \sum_{i \in A} \sum_c q_{ic} \log \mathrm{softmax}(z_i / T)_c
            + \sum_{i \notin A} CE(z_i, y_i) \Big]

    with :math:`b_e = (e / E)(1 - \gamma)` and :math:`a_e = 1 - b_e`, where :math:`A` is the set of samples that have
    been classified correctly at least once (:math:`s_i = 1`). After the loss, if :math:`e \ge` ``init_epochs``, for
    each sample that is now classified correctly:

    .. math::
        s_i = 1, \quad w_i = 1 - e^{-\mu\, \mathrm{softmax}(z_i)_{y_i}}, \quad
        q_i \leftarrow (1 - w_i)\, q_i + w_i\, \mathrm{softmax}(z_i / T)

    :math:`q` starts at zero, so it is not a distribution at first; its mass approaches 1 while a sample stays correct.
    In ``eval`` mode the loss is plain cross-entropy and nothing is remembered, so call ``eval()`` before a validation.

    A sample whose logits are not all finite (or overflow when divided by :math:`T`) gets plain cross-entropy, and its
    :math:`q` and :math:`s` stay as they are: the loss is as infinite or NaN as cross-entropy is, so that a
    ``GradScaler`` sees it and skips the step, and nothing of that reaches later epochs.

    When several processes train together (``torch.distributed``), each training-mode call exchanges the predictions to
    remember, so every process has the memory of all samples, as one process with the whole batch would. It does not
    matter which process gets which sample, nor whether ``DistributedDataParallel`` wraps the criterion along with the
    model and copies the buffers of rank 0 to all.

    Args:
        num_samples: Size of the training set; the indices run from 0 to ``num_samples - 1``.
        num_classes: Number of classes :math:`C`. The memory takes ``num_samples * (4 C + 1)`` bytes, and during
            training 8 bytes more per sample.
        total_epochs: :math:`E`, in epochs.
        temperature: :math:`T > 0`. Default 5.
        gamma: Smallest weight of the cross-entropy, in [0, 1]; 1 is plain cross-entropy. Default 0.1.
        mu: :math:`\mu \ge 0`, how fast :math:`q` follows the current prediction. The authors use 0.3 to 1.0.
        init_epochs: Epochs of plain cross-entropy at the start. Predictions are remembered from the last of them on,
            as in the authors' code; with 0, from the first epoch on. Default 1.
        process_group: The processes that train the same model on parts of each batch. They exchange their predictions,
            so all of them call the loss equally often in ``train`` mode, in the same epoch. Default None: all processes
            if ``torch.distributed`` is initialized. Give the data-parallel group if other processes hold other parts of
            the model, and a group of its own to each training that runs independently.

    Attributes:
        remembered: :math:`q`, float32 (num_samples, num_classes), a buffer, so it is part of ``state_dict``.
        ever_correct: :math:`s`, bool (num_samples,), a buffer.
        epoch: The epoch set by :meth:`set_epoch`, int64 scalar, a buffer; 0, which counts as 1, until it is set.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of range; in ``forward``, a label or an index is out of range or a shape is wrong;
            the processes differ in epoch or sizes; a loaded state is that of other sizes or is not finite.

    Warns:
        UserWarning: ``init_epochs`` leaves no epoch to the second term. In ``train`` mode, once each: the epoch was
            never set; gradients are disabled, or a sample comes with two labels in one epoch, as in a validation
            without ``eval()``; logits are not finite although the cross-entropy is, as with classes masked by minus
            infinity; the memory of one process group of several was overwritten between two calls.

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
        None known for finite logits in one process; the exchange and what happens to non-finite logits are ours.
        "Correct" means that the label has the largest logit, so labels must be class indices; for mixed or smoothed
        labels the loss is not defined.

    Limitations:
        If a sample occurs twice in one batch, one of the two is remembered; this includes the samples that a
        ``DistributedSampler`` repeats to fill the last batch.
        Logits that mask a class by minus infinity are never remembered: mask with a large negative number instead.
        If ``DistributedDataParallel`` wraps the criterion, it copies the memory in every step, which
        ``broadcast_buffers=False`` saves without a change of results; its ``join`` does not know of the exchange, so
        each process needs the same number of batches. In ``nn.DataParallel`` the criterion must stay outside the
        wrapped module, because replicas lose what they remember.
    """

    remembered: Tensor
    ever_correct: Tensor
    epoch: Tensor
    _labels: Tensor  # the labels that came in this epoch, -1 for those samples that did not

    def __init__(
        self,
        num_samples: int,
        num_classes: int,
        total_epochs: int,
        temperature: float = 5.0,
        gamma: float = 0.1,
        mu: float = 1.0,
        init_epochs: int = 1,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        num_samples = check_integer("num_samples", num_samples, low=1)
        num_classes = check_integer("num_classes", num_classes, low=2)
        self.total_epochs = check_integer("total_epochs", total_epochs, low=1)
        self.temperature = check_range("temperature", temperature, low=0.0, open_low=True, open_high=True)
        self.gamma = check_range("gamma", gamma, low=0.0, high=1.0)
        self.mu = check_range("mu", mu, low=0.0, open_high=True)
        self.init_epochs = check_integer("init_epochs", init_epochs, low=0)
        self.process_group = check_process_group(process_group)
        if self.init_epochs >= self.total_epochs:
            warnings.warn(
                f"the loss is plain cross-entropy to the end: init_epochs = {self.init_epochs} is not smaller than "
                f"total_epochs = {self.total_epochs}",
                stacklevel=2,
            )
        self.register_buffer("remembered", torch.zeros(num_samples, num_classes))
        self.register_buffer("ever_correct", torch.zeros(num_samples, dtype=torch.bool))
        self.register_buffer("epoch", torch.tensor(0))
        self.register_buffer("_labels", torch.full((num_samples,), -1), persistent=False)
        self._warned: set[str] = set()
        self._written: tuple[Tensor, Tensor] | None = None  # the last samples and their rows, if others have a memory

    def set_epoch(self, epoch: int) -> None:
        """Sets the current epoch, from 1 to ``total_epochs``; the weights of the two terms depend on it."""
        epoch = check_integer("epoch", epoch, low=1)
        if epoch > self.total_epochs:
            raise ValueError(
                f"epoch must be <= total_epochs = {self.total_epochs}, got {epoch}: epochs are counted from 1"
            )
        if epoch != int(self.epoch):
            self._labels.fill_(-1)
        self.epoch.fill_(epoch)

    def weights(self) -> tuple[float, float]:
        """The weights (cross-entropy, remembered predictions) of the current epoch; they sum to 1."""
        kd_weight = self._current_epoch() / self.total_epochs * (1.0 - self.gamma)
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
        usable = self._is_usable(logits.detach())
        self._warn_of_misuse(ce.detach(), usable, labels, indices)
        loss = ce.mean() if self._current_epoch() <= self.init_epochs else self._loss(logits, ce, indices, usable)
        self._remember(logits.detach(), labels, indices, usable)
        return loss

    def _current_epoch(self) -> int:
        return max(int(self.epoch), 1)

    def _is_usable(self, logits: Tensor) -> Tensor:
        """Which rows have finite logits, also after they were divided by the temperature in the memory's precision."""
        return (logits.to(self.remembered.dtype).abs().amax(dim=1) / self.temperature).isfinite()  # amax keeps NaN

    def _loss(self, logits: Tensor, ce: Tensor, indices: Tensor, usable: Tensor) -> Tensor:
        ce_weight, kd_weight = self.weights()
        T = self.temperature
        kd = -(T * T) * (self.remembered[indices] * F.log_softmax(logits / T, dim=1)).sum(dim=1)
        return torch.where(self.ever_correct[indices] & usable, ce_weight * ce + kd_weight * kd, ce).mean()

    @torch.no_grad()
    def _remember(self, logits: Tensor, labels: Tensor, indices: Tensor, usable: Tensor) -> None:
        correct = usable & (logits.argmax(dim=1) == labels)
        if self._current_epoch() < self.init_epochs:
            correct = torch.zeros_like(correct)  # no return here: the other processes wait in the exchange
        i, z, y = self._of_all_processes(indices[correct], logits[correct].to(self.remembered.dtype), labels[correct])
        p = F.softmax(z, dim=1).gather(1, y[:, None])
        w = 1.0 - torch.exp(-self.mu * p)
        self.remembered[i] = (1.0 - w) * self.remembered[i] + w * F.softmax(z / self.temperature, dim=1)
        self.ever_correct[i] = True
        if count_processes(self.process_group) < count_processes():
            self._written = i, self._rows(i)

    def _rows(self, indices: Tensor) -> Tensor:
        return self.remembered[indices.to(self.remembered.device)].float().cpu()

    def _of_all_processes(self, i: Tensor, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if count_processes(self.process_group) == 1:
            return i, z, y
        num_samples, num_classes = self.remembered.shape
        own = {"num_samples": num_samples, "num_classes": num_classes, "epoch": int(self.epoch), "rows": len(i)}
        everyones = gather_integers(own, i.device, self.process_group)
        counts = everyones.pop("rows")
        for name, values in everyones.items():
            if len(set(values)) > 1:
                raise ValueError(
                    f"{name} must be the same in all processes, got {values}: call set_epoch in each of them, and give "
                    "each training that runs independently a process_group of its own"
                )
        pairs = gather_rows(torch.stack((i, y), dim=1), counts, self.process_group)
        return pairs[:, 0], gather_rows(z, counts, self.process_group), pairs[:, 1]

    # ---- what is wrong is told ----------------------------------------------------------------------------------

    def _warn_of_misuse(self, ce: Tensor, usable: Tensor, labels: Tensor, indices: Tensor) -> None:
        if int(self.epoch) == 0:
            self._warn_once(
                "epoch",
                "the epoch was never set and counts as 1, so the loss stays (nearly) plain cross-entropy: call "
                "set_epoch(epoch) at the start of each epoch, counted from 1",
            )
        if not torch.is_grad_enabled():
            self._warn_once(
                "gradients",
                "called in train mode with gradients disabled, and what it sees enters its memory: if this is a "
                "validation, call eval() on the criterion before it and train() after it",
            )
        if not usable.all() and ce[~usable].isfinite().any():
            self._warn_once(
                "logits",
                "some logits are not finite, or overflow when divided by the temperature, although their cross-entropy "
                "is finite: these samples get plain cross-entropy and are not remembered. To mask a class, use a large "
                "negative number instead of minus infinity",
            )
        if self._written is not None and not self._rows(self._written[0]).equal(self._written[1]):
            self._warn_once(
                "memory",
                "the memory changed between two training calls, as it does when DistributedDataParallel wraps the "
                "criterion and copies the memory of rank 0 over that of another process_group: give the criterion the "
                "same group as DistributedDataParallel, or the latter broadcast_buffers=False",
            )
        differs = self._has_two_labels(labels, indices)
        if differs.any():
            self._warn_once(
                "labels",
                f"sample {int(indices[differs][0])} came with two labels in one epoch, so its index does not say which "
                "sample of the training set it is: if this is a validation, call eval() on the criterion before it and "
                "train() after it; if not, check the indices",
            )

    def _has_two_labels(self, labels: Tensor, indices: Tensor) -> Tensor:
        """Which samples came with another label earlier in this epoch, or come with two in this batch."""
        earlier = self._labels[indices]
        self._labels[indices] = labels
        return ((earlier >= 0) & (earlier != labels)) | (self._labels[indices] != labels)

    def _warn_once(self, about: str, text: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            warnings.warn(f"FlippingErrorReduction: {text}", stacklevel=6)  # through forward and nn.Module's two calls

    def _check_batch(self, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        num_samples, num_classes = self.remembered.shape
        for name, value in (("logits", logits), ("labels", labels), ("indices", indices)):
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} must be a tensor, got {value!r}")
            if value.device != self.remembered.device:
                raise ValueError(
                    f"{name} must be on {self.remembered.device}, where the criterion is, got a tensor on "
                    f"{value.device}: move the one or the other with to()"
                )
        if logits.dim() != 2 or logits.shape[1] != num_classes:
            raise ValueError(f"logits must have shape (batch, {num_classes}), got {tuple(logits.shape)}")
        if not logits.is_floating_point():
            raise ValueError(f"logits must be floating-point numbers, got {logits.dtype}")
        batch = len(logits)
        if batch == 0:
            raise ValueError(f"logits must hold at least one sample, got shape {tuple(logits.shape)}")
        for name, value, count in (("labels", labels, num_classes), ("indices", indices, num_samples)):
            if value.shape != (batch,) or value.dtype != torch.int64:
                raise ValueError(
                    f"{name} must be int64 of shape ({batch},), got {value.dtype} of shape {tuple(value.shape)}"
                )
            low, high = int(value.min()), int(value.max())
            if low < 0 or high >= count:
                raise ValueError(f"{name} must be in [0, {count - 1}], got values from {low} to {high}")

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("remembered", "ever_correct", "epoch"):
            if prefix + name in state_dict:  # torch tells of keys that are missing
                self._check_saved(name, state_dict[prefix + name])
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._labels.fill_(-1)
        self._written = None

    def _check_saved(self, name: str, saved: Tensor) -> None:
        own = getattr(self, name)
        if not isinstance(saved, Tensor):
            raise TypeError(f"{name} must be a tensor, got {saved!r}")
        if saved.shape != own.shape:
            raise ValueError(
                f"{name} must have shape {tuple(own.shape)}, got {tuple(saved.shape)}: the state is that of another "
                "number of samples or classes"
            )
        if saved.dtype != own.dtype and not (saved.is_floating_point() and own.is_floating_point()):
            raise ValueError(f"{name} must be {own.dtype}, got {saved.dtype}")
        if not saved.isfinite().all():
            bad = saved.isfinite().all(dim=1).logical_not().nonzero().flatten().tolist()
            raise ValueError(
                f"{name} must be finite, but {len(bad)} samples are not, among them {bad[:3]}: non-finite logits "
                "entered the memory. To go on, set their rows to zero, and to False in ever_correct"
            )
        if name == "epoch" and not 0 <= int(saved) <= self.total_epochs:
            raise ValueError(f"epoch must be from 0 to total_epochs = {self.total_epochs}, got {int(saved)}")

    def extra_repr(self) -> str:
        """The hyperparameters, as ``repr`` shows them."""
        num_samples, num_classes = self.remembered.shape
        return (
            f"num_samples={num_samples}, num_classes={num_classes}, total_epochs={self.total_epochs}, "
            f"temperature={self.temperature}, gamma={self.gamma}, mu={self.mu}, init_epochs={self.init_epochs}"
        )
