"""Gradient correction of all tensors of a device at once: the number of operations does not depend on theirs.

Of a tensor whose rows are sharded over processes, each handles its own; what the predictors see of the rows, three
numbers each, goes to all processes, so all predict the same for the whole tensor.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advanced_optimizers._flat import State
from advanced_optimizers._rounding import Noise
from advanced_optimizers._sharded import local
from advanced_optimizers.gradient_correction.history import move_products
from advanced_optimizers.gradient_correction.mixing import combine, make_safe
from advanced_optimizers.gradient_correction.parts import Parts
from advanced_optimizers.gradient_correction.predictor import (
    Batch,
    Predictor,
    Theta,
    as_theta,
    batch_of,
    of_rows,
    predict,
    unit_rows,
)
from advanced_optimizers.gradient_correction.training import Learned, compared, trained

# How many rows of zeros may be added to handle tensors together on one device.
FEW = 2**17


def buckets(params: Sequence[Tensor], few: int) -> list[list[Tensor]]:
    """Tensors to be handled together, for which all get as many rows as the largest; equally large ones always are.

    Args:
        params: The tensors.
        few: How many rows of zeros may be added to each bucket.
    """
    found: list[list[Tensor]] = []
    left = 0
    largest_first = sorted(params, key=lambda p: -p.shape[0])
    for rows, of_size in itertools.groupby(largest_first, key=lambda p: p.shape[0]):
        equal = list(of_size)
        zeros = len(equal) * (found[-1][0].shape[0] - rows) if found else 0
        if not found or zeros > left:
            found.append([])
            zeros, left = 0, few
        found[-1] += equal
        left -= zeros
    return found


class Settings(NamedTuple):
    """A group's hyperparameters: the predictors with their strengths, and the others."""

    predictors: list[tuple[Predictor, float]]
    decay: float
    min_cosine: float
    lr: float
    every: int


def settings_of(group: Mapping[str, Any], predictors: list[tuple[Predictor, float]]) -> Settings:
    """The settings of a parameter group whose tensors have these predictors."""
    return Settings(
        predictors, *(group[name] for name in ("history_decay", "min_cosine", "predictor_lr", "train_every"))
    )


def corrected_rows(
    theta: Mapping[str, Theta], rows: Tensor, batch: Batch, settings: Settings, also: Tensor | None = None
) -> Tensor:
    """The corrected gradients as mixes of rows, (T, C, 2), at unit length.

    Args:
        theta: The predictors' parameters.
        rows: (3, T, C), the inner products of rows of :func:`unit_rows`.
        batch: Of the tensors.
        settings: The hyperparameters.
        also: (T, 1), false where the gradient is to stay as it is.
    """
    mixes, basis, *_ = predicted = predict(theta, rows, batch)
    mix = combine(mixes, [strength for _, strength in settings.predictors], basis)
    return of_rows(make_safe(mix, basis, settings.min_cosine, also), predicted)


class Together:
    """What gradient correction keeps of tensors on one device, in few buffers.

    ``state[p]`` has views of them. A tensor without a gradient is passed over. A gradient that is not finite changes
    nothing but the count of steps; what was then said too much in ``state[p]`` is taken back by :meth:`settle`.

    Args:
        params: The parameters, with at least two rows each; all are whole, or all are sharded in the same way.
        state: The optimizer's; what is there is taken over.
        dtype: The precision of the gradients.
        predictors: Those that correct them.
        noise: What memories in bfloat16 are rounded with; None keeps them in float32 or better.
    """

    def __init__(
        self,
        params: list[Tensor],
        state: MutableMapping[Tensor, dict[str, Any]],
        dtype: torch.dtype,
        predictors: list[Predictor],
        noise: Noise | None = None,
    ) -> None:
        self._noise = noise
        self._parts = Parts(params, dtype, noise)
        self.params = self._parts.params
        self._strides = [p.stride() for p in self.params]
        self._predictors = predictors
        # The squared length of a gradient that is finite, and stays so in what the memory is rounded from.
        self._largest = torch.finfo(self._parts.dtype if noise is None else torch.float32).max
        counts, dtype, device = self._parts.counts, self._parts.dtype, self._parts.device
        self._batch = batch_of(counts, dtype, device)
        shape = (len(counts), int(counts.max()))
        self._products = torch.zeros(3, *shape, dtype=dtype, device=device)
        self._mix = torch.zeros(2, *shape, dtype=dtype, device=device)
        self._mixes = [self._mix[:, i, :rows] for i, rows in enumerate(counts.tolist())]
        initial = torch.cat([predictor.initial_values(dtype, device) for predictor in predictors], dim=1)
        values = initial.repeat(len(counts), 1, 1)
        self._learned = Learned(values, values.new_zeros(len(counts), len(predictors)))
        self._theta = as_theta(values[:, 0], predictors)
        self._of_each = self._learned.of_each(predictors)
        self._seen = torch.zeros(len(counts), dtype=torch.int64)
        states = self._states = [state[p] for p in self.params]
        has_mix, known = self._take_over(states), ["memory" in each for each in states]
        self._steps_seen: list[int] = self._seen.tolist()
        for i, each in enumerate(states):
            self._share(i, each)
            if has_mix[i]:
                self._share_kept(i, each)
            elif "last" in each:
                each["last"] = self._parts.lasts[i]
        self._known, self._kept = (torch.tensor(each, device=device)[:, None] for each in (known, has_mix))
        self._nothing = torch.zeros_like(self._kept)
        self._waits = has_mix

    # ---- the state of each parameter -----------------------------------------------------------------------------

    def _take_over(self, states: list[dict[str, Any]]) -> list[bool]:
        """Copies what is in the parameters' states into the buffers; whose mix waits for the next gradient."""
        for i, state in enumerate(states):
            rows = self.params[i].shape[0]
            for name, into in (
                ("memory", self._parts.memories[i]),
                ("last", self._parts.lasts[i]),
                ("products", self._products[:, i, :rows]),
                ("mix", self._mixes[i]),
                ("seen", self._seen[i]),
                *((name, values[i]) for name, (values, _) in self._of_each.items()),
                *((f"{name}_steps", steps[i]) for name, (_, steps) in self._of_each.items()),
            ):
                if name in state:
                    local(into).copy_(local(state[name]))
        return ["mix" in state for state in states]

    def _share(self, i: int, state: dict[str, Any]) -> None:
        state["memory"], state["seen"] = self._parts.memories[i], self._seen[i]
        state["products"] = self._products[:, i, : self.params[i].shape[0]]
        for name, (values, steps) in self._of_each.items():
            state[name], state[f"{name}_steps"] = values[i], steps[i]
        if self._noise is not None:
            state["rounding"] = self._noise.power

    def has_changed(self, state: State) -> bool:
        """Whether a parameter has another layout, or its memory was replaced, as loading and copying do."""
        return any(
            p.stride() != stride or state.get(p, {}).get("memory") is not memory
            for p, stride, memory in zip(self.params, self._strides, self._parts.memories, strict=True)
        )

    def settle(self, state: State) -> None:
        """Makes the parameters' states those of tensors that are handled one by one; waits for the device."""
        known, kept = self._known[:, 0].tolist(), self._kept[:, 0].tolist()
        for i, p in enumerate(self.params):
            own = state.get(p, {})
            if own.get("memory") is not self._parts.memories[i]:
                continue  # it was replaced, and so is not ours
            if not known[i]:
                for name in [name for name in own if name != "base"]:
                    del own[name]
                continue
            self._share(i, own)
            if not kept[i]:
                own.pop("mix", None)

    # ---- one step ------------------------------------------------------------------------------------------------

    def step(self, grads: dict[Tensor, Tensor], settings: Settings) -> tuple[dict[Tensor, Tensor], Tensor | None]:
        """Corrects gradients, by parameter, of all parameters or some; and trains the predictors where it is time.

        Returns:
            The corrected gradients by parameter, and the measurements (T, 6) of a step with training.
        """
        self._parts.take(grads)
        if self._noise is not None:
            self._noise.draw()
        present = [p in grads for p in self.params]
        is_here = None if all(present) else torch.tensor(present, device=self._known.device)[:, None]
        due = self._count(present, settings.every)
        products, inner = self._parts.products(with_last=any(self._waits))
        squared = products[0].sum(dim=1, keepdim=True)
        finite = squared <= self._largest
        if is_here is not None:
            finite &= is_here
        valid = finite & self._known
        measured = None if inner is None else self._train(inner, squared, valid, settings)
        rate = finite.to(squared.dtype).masked_fill_(valid, 1.0 - settings.decay)
        self._remember(products, rate, finite)
        rows, lengths, inverse = unit_rows(self._products)
        mix = corrected_rows(self._theta, rows, self._batch, settings, valid)
        waiting = self._keep(mix, valid, due)
        self._kept = waiting if is_here is None else torch.where(is_here, waiting, self._kept)
        of_gradient, of_memory = mix.unbind(dim=2)
        self._parts.move(torch.cat([of_gradient, of_memory * (lengths[0] * inverse[1]), rate], dim=1))
        self._say_what_waits(due, present)
        return {p: view for p, view in zip(self.params, self._parts.corrected, strict=True) if p in grads}, measured

    def _count(self, present: list[bool], every: int) -> list[bool]:
        """Counts the step, and says at which tensors it is to be kept for training."""
        self._seen.add_(1 if all(present) else torch.tensor(present))
        self._steps_seen = [seen + here for seen, here in zip(self._steps_seen, present, strict=True)]
        pairs = zip(self._steps_seen, present, strict=True)
        return [here and seen > 1 and (seen + 1) % every == 0 for seen, here in pairs]

    def _remember(self, products: Tensor, rate: Tensor, finite: Tensor) -> None:
        """Makes inner products those with the memory after it moved by m + r (g - m), and keeps them.

        Args:
            products: (3, T, C), those with the memory before, which are overwritten.
            rate: (T, 1), r.
            finite: (T, 1), which tensors have a gradient that counts.
        """
        move_products(products, rate)
        torch.where(finite, products, self._products, out=self._products)
        self._known.logical_or_(finite)

    def _train(self, inner: Tensor, squared: Tensor, valid: Tensor, settings: Settings) -> Tensor:
        """Trains the predictors on this step's gradients; returns the measurements (T, 6).

        Args:
            inner: (2, T, C), the inner products of the gradients' rows with those of the last gradient and the memory.
            squared: (T, 1), the squared lengths of the gradients.
            valid: (T, 1), which of them are those of a further step.
            settings: The hyperparameters.
        """
        nothing = ~(valid & self._kept)
        comparison = compared(self._products, self._mix, squared.masked_fill(nothing, 0.0), inner)
        measured = trained(comparison, self._learned, self._theta, self._predictors, self._batch, settings.lr)
        return measured.masked_fill_(nothing, torch.nan)

    def _keep(self, mix: Tensor, valid: Tensor, due: list[bool]) -> Tensor:
        """Keeps the step for training where it is due; returns where there is something to train on, (T, 1)."""
        if not any(due):
            return self._nothing
        self._parts.keep(due)
        coefficients = mix.permute(2, 0, 1)
        if all(due):
            self._mix.copy_(coefficients)
            return valid
        is_due = torch.tensor(due, device=valid.device)[:, None]
        self._mix.copy_(torch.where(is_due, coefficients, self._mix))
        return valid & is_due

    def _say_what_waits(self, due: list[bool], present: list[bool]) -> None:
        """Puts into the states what was kept for training, as far as that is known without the device."""
        for i, (now, here) in enumerate(zip(due, present, strict=True)):
            if here and self._waits[i] and not now:
                self._states[i].pop("mix", None)
            if now:
                self._share_kept(i, self._states[i])
        self._waits = [now if here else was for now, here, was in zip(due, present, self._waits, strict=True)]

    def _share_kept(self, i: int, state: dict[str, Any]) -> None:
        state["mix"], state["last"] = self._mixes[i], self._parts.lasts[i]
