r"""Stochastic rounding to bfloat16, for averages of past gradients: they move by less than its precision.

An average with a horizon of H steps moves by about 1/H of what enters, and bfloat16's neighbors are 1/256 to 1/128 of a
number apart, so rounding to the nearest would hold it where it is. Here a number becomes one of its two neighbors, with
the probabilities that make it right on average.

The error that this adds to the average does not grow. A step adds a variance of :math:`f (1 - f)` squared spacings
where the number is the fraction :math:`f` of the way to its neighbor: 1/6 on average, where gradients are noisy. The
average forgets all but :math:`(1 - 1/H)^2` of it at each later step, which leaves :math:`1/6 \,/\, (1 - (1 - 1/H)^2)
\approx H / 12`. With a spacing of :math:`2^{-7.5}` of a number (in the root mean square over numbers of all sizes) the
relative error is :math:`\varepsilon = \sqrt{H / 12} \cdot 2^{-7.5}`: 5% of each number at H = 1000, 16% at 10,000. Of
what does not change, it is about a spacing.

Errors of different numbers are independent in pairs. So they multiply a cosine with the average by
:math:`1 - \varepsilon^2 / 2`, 0.999 at H = 1000, and add a standard deviation of at most :math:`\varepsilon / \sqrt n`
for tensors of :math:`n` numbers.

The random numbers are a function of element and step rather than those of a ``torch.Generator``: nothing disturbs the
user's generators, a resumed run needs one number to go on as if it had not been interrupted, processes that have copies
of a tensor round them alike, and a CUDA graph draws new ones at each replay without being told of a generator.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advanced_optimizers._building import is_dense
from advanced_optimizers._checks import check_integer, check_range
from advanced_optimizers._flat import BLOCK, owners
from advanced_optimizers._sharded import local, shards_of

__all__ = [
    "BlockNoise",
    "Noise",
    "Rounded",
    "Steps",
    "check_number",
    "check_rounding",
    "check_state_dtype",
    "round_stochastically",
]

# Of a multiplicative generator modulo 2^64, from Steele and Vigna, "Computationally easy, spectrally good multipliers
# for congruential pseudorandom number generators" (2022); here as a signed number.
MULTIPLIER = 0xF1357AEA2E62A9C5 - 2**64
# How many rows are rounded at once on the CPU, so that they stay in its cache.
ROWS = 16


def check_state_dtype(value: object) -> torch.dtype | None:
    """Raises an error that says what is possible unless ``value`` is None or ``torch.bfloat16``."""
    if value is None:
        return None
    if value is torch.bfloat16:
        return torch.bfloat16
    wanted = "state_dtype must be None or torch.bfloat16"
    if not isinstance(value, torch.dtype):
        raise TypeError(f"{wanted}, got {value!r}")
    why = ": float16 has no numbers below 6e-8 or above 65504, and gradients do" if value is torch.float16 else ""
    raise ValueError(f"{wanted}, got {value}{why}; None keeps float32, or float64 for float64 gradients")


def check_number(name: str, value: Any) -> int:
    """Raises an error that names the argument unless ``value`` can be :attr:`Steps.number`."""
    number = check_integer(name, value, low=-(2**63))
    check_range(name, number, high=2**63 - 1)
    if number % 2 == 0:
        raise ValueError(f"{name} must be odd, as every one that was saved is, got {value!r}")
    return number


def check_rounding(state: dict[str, Any], dtype: torch.dtype | None) -> None:
    """Checks what the loaded state of a parameter says of its rounding; takes it out where nothing is rounded."""
    if "rounding" in state:
        check_number("rounding", state["rounding"])
    if dtype is None:
        state.pop("rounding", None)


def round_stochastically(numbers: Tensor, noise: Tensor) -> None:
    """Makes each number one of its two neighbors in bfloat16, on average itself; what bfloat16 has stays as it is.

    Infinity and NaN stay what they are.

    Args:
        numbers: Float32, changed in place; then ``to(torch.bfloat16)`` changes nothing more. Finite ones must not be
            beyond bfloat16's largest, 3.39e38, one of whose neighbors is infinity; an average of smaller ones is not.
        noise: Int32 of the same shape, uniform from 0 to 65535.
    """
    # Bits count up with the magnitude, for either sign, and bfloat16 has the upper half of them.
    numbers.view(torch.int32).add_(noise).bitwise_and_(-0x10000)


class Steps:
    """What tells the steps of an optimizer from one another: a power of the generator's multiplier on each device.

    The state of every parameter has it as ``"rounding"``, one tensor for all on a device: so it is in a checkpoint
    however the optimizer is nested or its state is read.

    Args:
        number: The power at which it starts; :attr:`number` of one that is continued.
    """

    def __init__(self, number: int = 1) -> None:
        self._number = number
        self._on: dict[torch.device, Tensor] = {}

    @classmethod
    def of(cls, state: Mapping[Any, Any]) -> Steps:
        """Those that go on where state was saved, which has been loaded; none is noise from the first step on."""
        states = {p: each for p, each in state.items() if isinstance(each, dict) and "rounding" in each}
        steps = cls(int(next(iter(states.values()))["rounding"])) if states else cls()
        for p, each in states.items():
            each["rounding"] = steps.on(p.device)
        return steps

    @property
    def number(self) -> int:
        """The power now, to be saved; waits for the device."""
        return int(next(iter(self._on.values()))) if self._on else self._number

    def on(self, device: torch.device) -> Tensor:
        """(1,), the power where it is used; the same tensor every time."""
        if device not in self._on:
            self._on[device] = torch.tensor([self.number], device=device)
        return self._on[device]

    def advance(self) -> None:
        """Begins the next step; does not wait."""
        for power in self._on.values():
            power.mul_(MULTIPLIER)


class Noise:
    """Random numbers for the elements of tensors on one device, others in each step.

    A tensor's elements, in the order of its memory, are in rows of :data:`BLOCK`. A number for each row and one for
    each column are joined by exclusive or: the numbers of any two elements are independent, as if each had been drawn,
    for little more than one pass. Row and column have a key each; their numbers are the upper bits of ``key * power``.

    Attributes:
        power: What tells the step, (1,).

    Args:
        params: The tensors; of a sharded one, this process's part.
        order: All tensors of the optimizer: where one stands among them tells its keys from others'.
        steps: The optimizer's.
    """

    def __init__(self, params: Sequence[Tensor], order: Sequence[Tensor], steps: Steps) -> None:
        places = {p: place for place, p in enumerate(order, start=1)}
        parts = [local(p) for p in params]
        rows = [max(1, -(-part.numel() // BLOCK)) for part in parts]
        keys = [_keys(places[p], _part(p), count) for p, count in zip(params, rows, strict=True)]
        self.power = steps.on(parts[0].device)
        self._keys = torch.cat([_keys(0, 0, BLOCK), *keys]).to(self.power.device)
        self._numbers = torch.zeros_like(self._keys, dtype=torch.int32)
        self._columns, self._rows = self._numbers.split([BLOCK, sum(rows)])
        self._rows = self._rows.unsqueeze(1)
        self._apart = dict(zip(params, self._rows.split(rows), strict=True))
        self._first = dict(zip(params, itertools.accumulate(rows, initial=0), strict=False))  # each tensor's first row

    def __contains__(self, p: Tensor) -> bool:
        return p in self._apart

    def draw(self) -> None:
        """Draws the numbers of this step, which stay until the next call."""
        torch.bitwise_and(torch.bitwise_right_shift(self._keys * self.power, 48), 0xFFFF, out=self._numbers)

    def of_all(self) -> Tensor:
        """(blocks, block), those of a :class:`Layout` of the tensors; the caller's to write to."""
        return self._columns ^ self._rows

    def in_blocks(self, params: Sequence[Tensor], counts: Tensor, block: int) -> BlockNoise:
        """The same numbers for some of the tensors where they lie in smaller blocks.

        Args:
            params: These tensors, one after the other.
            counts: (tensors,), how many blocks each has.
            block: The numbers of a block, which divides :data:`BLOCK`.
        """
        tensor, in_row = owners(counts), BLOCK // block
        within = torch.arange(len(tensor)) - (counts.cumsum(0) - counts)[tensor]
        row = torch.tensor([self._first[p] for p in params])[tensor] + within // in_row
        column, row = (each.to(self.power.device, torch.int32) for each in (within % in_row, row))
        return BlockNoise(self._columns.view(in_row, block), self._rows, column, row)

    def of(self, p: Tensor) -> Iterator[Tensor]:
        """Those of one tensor in the order of its memory, (elements,) in pieces of a size that its device likes."""
        rows, left = self._apart[p], local(p).numel()
        for some in rows.split(ROWS if p.device.type == "cpu" else len(rows)):
            piece = (self._columns[:left] ^ some).view(-1)[:left]
            yield piece
            left -= len(piece)


class BlockNoise(NamedTuple):
    """The numbers of :class:`Noise` for tensors in smaller blocks.

    Attributes:
        columns: (BLOCK / block, block), those of the columns.
        rows: (rows, 1), those of the rows.
        column: (blocks,), the place of each block among the columns.
        row: (blocks,), its row.
    """

    columns: Tensor
    rows: Tensor
    column: Tensor
    row: Tensor

    def of_all(self) -> Tensor:
        """(blocks, block), those of this step; the caller's to write to."""
        return self.columns.index_select(0, self.column).bitwise_xor_(self.rows.index_select(0, self.row))


class Rounded:
    """State in bfloat16 of tensors that are handled one by one: widened to be read, rounded to be written.

    Args:
        steps: The optimizer's.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._noise: dict[torch.device, Noise] = {}
        self._scratch = torch.empty(0)

    def begin_step(self, params: Sequence[Tensor], order: Sequence[Tensor]) -> None:
        """Draws the noise of a step for parameters out of all those of the optimizer."""
        for device in {p.device for p in params}:
            noise = self._noise.get(device)
            if noise is None or not all(p in noise for p in params if p.device == device):
                noise = self._noise[device] = Noise([p for p in order if p.device == device], order, self._steps)
            noise.draw()

    def read(self, kept: Tensor, dtype: torch.dtype) -> Tensor:
        """What is kept, in a wider precision, to be changed at will; on the CPU until the next call.

        There the place for it stays, because getting fresh pages from the system costs more than filling them.
        """
        if kept.device.type != "cpu" or not is_dense(kept):
            return kept.to(dtype)
        if self._scratch.dtype != dtype or self._scratch.numel() < kept.numel():
            self._scratch = torch.empty(kept.numel(), dtype=dtype)
        return self._scratch.as_strided(kept.shape, kept.stride()).copy_(kept)

    def keep(self, state: dict[str, Any], name: str, numbers: Tensor, p: Tensor) -> None:
        """Keeps numbers of a parameter, which may be overwritten, in its state, with what a resumed run needs."""
        if name not in state:
            state[name] = torch.empty_like(p, dtype=torch.bfloat16)
        state["rounding"] = self._steps.on(p.device)
        self.write(state[name], numbers, p)

    def write(self, kept: Tensor, numbers: Tensor, p: Tensor) -> None:
        """Keeps numbers of a parameter, which may be overwritten."""
        if numbers.dtype != torch.float32 or numbers.stride() != kept.stride():
            numbers = torch.empty_like(kept, dtype=torch.float32).copy_(numbers)
        in_order = numbers.as_strided((numbers.numel(),), (1,))
        for noise in self._noise[p.device].of(p):
            round_stochastically(in_order[: len(noise)], noise)
            in_order = in_order[len(noise) :]
        kept.copy_(numbers)


def _keys(place: int, part: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed((part << 32) + place)
    return torch.randint(-(2**63), 2**63 - 1, (count,), generator=generator) | 1


def _part(p: Tensor) -> int:
    shards = shards_of(p)
    return 0 if shards is None else shards.part
