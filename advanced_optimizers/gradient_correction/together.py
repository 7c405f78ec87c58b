"""Gradient correction of all tensors of a device at once: the number of operations does not depend on theirs.

Of a tensor whose rows are sharded over processes, each handles its own; what the predictors see of the rows, three
numbers each, goes to all processes, so all predict the same for the whole tensor.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from advanced_optimizers._flat import Layout, State
from advanced_optimizers._sharded import like, local, shards_of
from advanced_optimizers.gradient_correction.history import unit_rows, with_former_memory
from advanced_optimizers.gradient_correction.predictor import (
    KEYS,
    Mix,
    Padding,
    Predictor,
    PredictorState,
    combine,
    ratio,
    unchanged,
)
from advanced_optimizers.gradient_correction.training import compared, trained

# The largest block of a row, and how many rows of zeros may be added where they are more than three quarters.
BLOCK, FEW = 64, 2**17


def buckets(params: Sequence[Tensor]) -> list[list[Tensor]]:
    """Tensors to be handled together: with so unequally many rows that most would be zeros, they are not."""
    found: list[list[Tensor]] = []
    for p in sorted(params, key=lambda p: -p.shape[0]):
        rows = sum(q.shape[0] for q in [*found[-1], p]) if found else 0
        if not found or (len(found[-1]) + 1) * found[-1][0].shape[0] > max(4 * rows, FEW):
            found.append([])
        found[-1].append(p)
    return found


class Settings(NamedTuple):
    """A group's hyperparameters: the predictors with their strengths, and the others."""

    predictors: list[tuple[Predictor, float]]
    decay: float
    min_cosine: float
    lr: float
    every: int


class Part:
    """Gradients, memories and kept gradients of tensors whose rows have blocks of one size.

    Args:
        params: The parameters.
        block: That size.
        dtype: The precision of their gradients.
    """

    def __init__(self, params: list[Tensor], block: int, dtype: torch.dtype) -> None:
        self.params = params
        parts = [local(p) for p in params]
        self.rows = [max(part.shape[0], 1) for part in parts]  # a process without any has one that is empty
        self.layout = Layout(parts, self.rows, block)
        wide = torch.promote_types(dtype, torch.float32)
        self.work, self.memory, self.last = self.layout.zeros(wide, 3).unbind()
        self.narrow = None if dtype == wide else self.layout.zeros(dtype)
        self.gradients = self.layout.views(self.work)
        self.memories, self.lasts, self.corrected = (
            [like(p, view) for p, view in zip(params, self.layout.views(buffer), strict=True)]
            for buffer in (self.memory, self.last, self.work if self.narrow is None else self.narrow)
        )

    def squares(self, buffer: Tensor) -> Tensor:
        """(1, rows), the squared lengths of the rows."""
        return self.layout.sums(torch.linalg.vector_norm(buffer, dim=1).square_()[None])


class Together:
    """What gradient correction keeps of tensors on one device, in few buffers.

    ``state[p]`` has views of them. A tensor without a gradient is passed over. A gradient that is not finite changes
    nothing but the count of steps; what was then said too much in ``state[p]`` is taken back by :meth:`settle`.

    Args:
        params: The parameters, with at least two rows each; all are whole, or all are sharded in the same way.
        state: The optimizer's; what is there is taken over.
        dtype: The precision of the gradients.
        predictors: Those that correct them.
    """

    def __init__(
        self,
        params: list[Tensor],
        state: MutableMapping[Tensor, dict[str, Any]],
        dtype: torch.dtype,
        predictors: list[Predictor],
    ) -> None:
        of_block: dict[int, list[Tensor]] = {}
        for p in params:
            length = p.numel() // p.shape[0]
            of_block.setdefault(min(BLOCK, length & -length), []).append(p)  # the largest power of two that divides it
        self._parts = [Part(of_params, block, dtype) for block, of_params in of_block.items()]
        self.params = [p for part in self._parts for p in part.params]
        self._strides = [p.stride() for p in self.params]
        self._memories = [memory for part in self._parts for memory in part.memories]
        self._lasts = [last for part in self._parts for last in part.lasts]
        wide, device = self._memories[0].dtype, params[0].device
        counts = torch.tensor([p.shape[0] for p in self.params])
        self._padding = _padding(counts, wide, device)
        self._shards = shards_of(params[0])
        own = counts if self._shards is None else torch.tensor([local(p).shape[0] for p in self.params])
        before = torch.zeros_like(own) if self._shards is None else self._shards.before(own.to(device)).cpu()
        self._padded_from, self._rows_from = (index.to(device) for index in _places(int(counts.max()), own, before))
        shape = (len(counts), int(counts.max()))
        self._products = torch.zeros(3, *shape, dtype=wide, device=device)
        self._mix = torch.zeros(2, *shape, dtype=wide, device=device)
        self._mixes = [self._mix[:, i, :rows] for i, rows in enumerate(counts.tolist())]
        self._learned = {predictor.name: self._initial(predictor, wide, device) for predictor in predictors}
        self._seen = torch.zeros(len(counts), dtype=torch.int64)
        states = self._states = [state[p] for p in self.params]
        has_mix, known = self._take_over(states), ["memory" in each for each in states]
        self._steps_seen: list[int] = self._seen.tolist()
        for i, each in enumerate(states):
            self._share(i, each)
            if has_mix[i]:
                self._share_kept(i, each)
            elif "last" in each:
                each["last"] = self._lasts[i]
        self._known, self._kept = (torch.tensor(each, device=device)[:, None] for each in (known, has_mix))
        self._waits = has_mix

    def _initial(self, predictor: Predictor, dtype: torch.dtype, device: torch.device) -> PredictorState:
        values = predictor.initial_values(dtype, device).repeat(len(self.params), 1, 1)
        return PredictorState(values, values.new_zeros(len(values), 1))

    # ---- the state of each parameter -----------------------------------------------------------------------------

    def _take_over(self, states: list[dict[str, Any]]) -> list[bool]:
        """Copies what is in the parameters' states into the buffers; whose mix waits for the next gradient."""
        for i, state in enumerate(states):
            rows = self.params[i].shape[0]
            for name, into in (
                ("memory", self._memories[i]),
                ("last", self._lasts[i]),
                ("products", self._products[:, i, :rows]),
                ("mix", self._mixes[i]),
                ("seen", self._seen[i]),
                *((name, learned.values[i]) for name, learned in self._learned.items()),
                *((f"{name}_steps", learned.steps[i]) for name, learned in self._learned.items()),
            ):
                if name in state:
                    local(into).copy_(local(state[name]))
        return ["mix" in state for state in states]

    def _share(self, i: int, state: dict[str, Any]) -> None:
        state["memory"], state["seen"] = self._memories[i], self._seen[i]
        state["products"] = self._products[:, i, : self.params[i].shape[0]]
        for name, (values, steps) in self._learned.items():
            state[name], state[f"{name}_steps"] = values[i], steps[i]

    def has_changed(self, state: State) -> bool:
        """Whether a parameter has another layout, or its memory was replaced, as loading and copying do."""
        return any(
            p.stride() != stride or state.get(p, {}).get("memory") is not memory
            for p, stride, memory in zip(self.params, self._strides, self._memories, strict=True)
        )

    def settle(self, state: State) -> None:
        """Makes the parameters' states those of tensors that are handled one by one; waits for the device."""
        known, kept = self._known[:, 0].tolist(), self._kept[:, 0].tolist()
        for i, p in enumerate(self.params):
            own = state.get(p, {})
            if own.get("memory") is not self._memories[i]:
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
        for part in self._parts:
            here = [(view, grads[p]) for view, p in zip(part.gradients, part.params, strict=True) if p in grads]
            if here:
                torch._foreach_copy_([view for view, _ in here], [local(grad) for _, grad in here])
        present = [p in grads for p in self.params]
        is_here = None if all(present) else torch.tensor(present, device=self._known.device)[:, None]
        due = self._count(present, settings.every)
        products, valid, measured = self._remember_and_train(is_here, settings)
        mix, of_memory = self._mixed(products, valid, settings)
        waiting = self._keep(mix, valid, due)
        self._kept = waiting if is_here is None else torch.where(is_here, waiting, self._kept)
        self._say_what_waits(due, present)
        self._apply(mix.gradient, of_memory)
        views = [view for part in self._parts for view in part.corrected]
        return {p: view for p, view in zip(self.params, views, strict=True) if p in grads}, measured

    def _count(self, present: list[bool], every: int) -> list[bool]:
        """Counts the step, and says at which tensors it is to be kept for training."""
        self._seen.add_(1 if all(present) else torch.tensor(present))
        self._steps_seen = [seen + here for seen, here in zip(self._steps_seen, present, strict=True)]
        pairs = zip(self._steps_seen, present, strict=True)
        return [here and seen > 1 and (seen + 1) % every == 0 for seen, here in pairs]

    def _remember_and_train(self, is_here: Tensor | None, settings: Settings) -> tuple[Tensor, Tensor, Tensor | None]:
        """Adds the gradients to their memories.

        Returns:
            The products (3, T, C), whether a tensor is corrected (T, 1), and the measurements of the training.
        """
        decay = settings.decay
        gg = self._padded([part.squares(part.work) for part in self._parts])
        squared = gg.sum(dim=1, keepdim=True)
        finite = squared <= torch.finfo(gg.dtype).max
        if is_here is not None:
            finite &= is_here
        rates = torch.where(self._known, 1.0 - decay, torch.ones_like(squared)) * finite
        for part, of_rows in zip(self._parts, self._of_rows(rates.expand_as(gg)[None]), strict=True):
            (rate,) = part.layout.spread(of_rows)
            part.memory.lerp_(torch.where(rate > 0.0, part.work, part.memory), rate)
        mm = self._padded([part.squares(part.memory) for part in self._parts])
        former = self._products.clone()
        gm = with_former_memory(gg, former[2], mm, decay)
        valid = finite & self._known
        following = torch.stack([gg, decay * gm + (1.0 - decay) * gg, mm])
        first = torch.where(finite, gg, former)
        self._products.copy_(torch.where(valid, following, first))
        self._known.logical_or_(finite)
        measured = None
        if any(self._waits):
            length = torch.where(valid & self._kept, squared.sqrt(), 0.0)
            inner = [part.layout.sums((part.work * part.last).sum(dim=1)[None]) for part in self._parts]
            comparison = compared(former, self._mix, length, self._padded(inner), gm, self._padding)
            new, measured = trained(comparison, self._learned, [each for each, _ in settings.predictors], settings.lr)
            for name, state in new.items():
                self._learned[name].values.copy_(state.values)
                self._learned[name].steps.copy_(state.steps)
            measured = measured.masked_fill(~(valid & self._kept), torch.nan)
        return self._products, valid, measured

    def _mixed(self, products: Tensor, valid: Tensor, settings: Settings) -> tuple[Mix, Tensor]:
        """The corrected gradients as a mix at unit length, and the coefficients of the memories themselves."""
        rows, g, m = unit_rows(products, self._padding)
        predictions = [
            (strength, predictor(self._learned[predictor.name].values[:, 0], rows))
            for predictor, strength in settings.predictors
        ]
        mix = combine(predictions, rows, settings.min_cosine)
        mix = Mix(*(torch.where(valid, new, old) for new, old in zip(mix, unchanged(rows), strict=True)))
        return mix, ratio(g, m) * mix.memory

    def _keep(self, mix: Mix, valid: Tensor, due: list[bool]) -> Tensor:
        """Keeps the step for training where it is due; returns where there is something to train on, (T, 1)."""
        if not any(due):
            return torch.zeros_like(valid)
        if all(due):
            for part in self._parts:
                part.last.copy_(part.work)
            self._mix.copy_(torch.stack(mix))
            return valid
        views = [view for part in self._parts for view in part.gradients]
        some = [(local(last), view) for last, view, now in zip(self._lasts, views, due, strict=True) if now]
        torch._foreach_copy_([last for last, _ in some], [view for _, view in some])
        is_due = torch.tensor(due, device=valid.device)[:, None]
        self._mix.copy_(torch.where(is_due, torch.stack(mix), self._mix))
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
        state["mix"], state["last"] = self._mixes[i], self._lasts[i]

    def _apply(self, of_gradient: Tensor, of_memory: Tensor) -> None:
        for part, of_rows in zip(self._parts, self._of_rows(torch.stack([of_gradient, of_memory])), strict=True):
            a, b = part.layout.spread(of_rows)
            part.work.mul_(a).addcmul_(part.memory, b)
            if part.narrow is not None:
                part.narrow.copy_(part.work)

    # ---- rows of all tensors, one after the other, and padded to equally many ------------------------------------

    def _padded(self, of_parts: list[Tensor]) -> Tensor:
        """(T, C), of all rows, from (1, rows) of each part, of this process's rows."""
        padded = F.pad(torch.cat(of_parts, dim=1)[0], (0, 1))[self._padded_from]
        if self._shards is not None:
            self._shards.add_up(padded)
        return padded

    def _of_rows(self, padded: Tensor) -> tuple[Tensor, ...]:
        """(k, rows) of each part, of this process's rows, from (k, T, C)."""
        return padded.flatten(1)[:, self._rows_from].split([sum(part.rows) for part in self._parts], dim=1)


def _places(width: int, own: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Where padded rows come from, (T, C), and where this process's rows, one after the other, are in the padded ones.

    Args:
        width: C.
        own: (T,), how many rows of each tensor this process has.
        before: (T,), how many of its rows are those of earlier processes.
    """
    held = own.clamp(min=1)  # an empty row where there is none, which nothing comes from
    first = held.cumsum(0) - held
    column = torch.arange(width) - before[:, None]
    padded = torch.where((column >= 0) & (column < own[:, None]), first[:, None] + column, int(held.sum()))
    tensor = torch.arange(len(own)).repeat_interleave(held)
    start = torch.where(own > 0, before, 0)
    return padded, tensor * width + (start - first)[tensor] + torch.arange(len(tensor))


def _padding(counts: Tensor, dtype: torch.dtype, device: torch.device) -> Padding:
    """The blocks of rows that are averaged into keys, as ``adaptive_avg_pool1d`` divides each tensor's rows."""
    width = int(counts.max())
    rows, keys = counts[:, None], counts.clamp(max=KEYS)[:, None]
    key = torch.arange(min(width, KEYS))
    start, end = key * rows // keys, -(-(key + 1) * rows // keys)
    sizes = torch.where(key < keys, end - start, 0)
    within = torch.arange(int(sizes.max()))
    blocks = torch.where(within < sizes[..., None], start[..., None] + within, width)
    return Padding(rows.to(device, dtype), blocks.to(device), sizes[..., None].to(device))
