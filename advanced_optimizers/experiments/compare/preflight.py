"""What is found out about an algorithm before anything is trained: twenty steps on one batch, and what they show.

Whoever notices only after hours that a hyperparameter is never read, that some tensors stand still, or that weights
were evaluated at the wrong point, has compared something else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from advanced_optimizers._base import build_optimizer
from advanced_optimizers.experiments.compare.bench import STEPS, Bench, relative_cost, steps
from advanced_optimizers.experiments.compare.code import CompareError
from advanced_optimizers.experiments.compare.own import OwnOptimizer, parameters_of
from advanced_optimizers.experiments.compare.spaces import middle
from advanced_optimizers.experiments.records.config import Hyperparameters
from advanced_optimizers.experiments.studies.contender import EXTRA
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, build_learner
from advanced_optimizers.experiments.training.learners import BackpropLearner, Learner

_FROM_ZERO = 0.1  # what a hyperparameter of 0 is changed to


@dataclass(frozen=True)
class Preflight:
    """What twenty steps of an algorithm on one batch showed.

    Attributes:
        losses: The first and the last of their training losses.
        seconds: Of one step, with its forward and backward passes.
        batches: Steps of an epoch.
        cost: The same, divided by AdamW's.
        warnings: What may be wrong, in sentences.
        notes: What was found out and is dealt with, in a few words each.
    """

    losses: tuple[float, float]
    seconds: float
    batches: int
    cost: float
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Preflight:
        """Reads ``dataclasses.asdict`` of one back from JSON, which has lists for tuples."""
        values: dict[str, Any] = {k: tuple(own) if isinstance(own, list) else own for k, own in content.items()}
        return Preflight(**values)

    @property
    def words(self) -> str:
        """In one line."""
        first, last = self.losses
        cost = f"ok: {STEPS} steps, loss {first:.2f} -> {last:.2f}, step {self.cost:.1f}x AdamW's"
        return "; ".join((cost, *self.notes))


def check_packages(algorithms: tuple[str, ...]) -> None:
    """Raises a CompareError if an algorithm of the table needs a package that is not installed."""
    for name in algorithms:
        package = ALGORITHMS[name].package
        if package is not None and find_spec(package) is None:
            raise CompareError(
                f"{name} needs the package {package}, which is not installed: "
                f"pip install 'advanced-optimizers[{EXTRA}]'"
            )


def preflight(algorithm: str, bench: Bench, own: OwnOptimizer | None = None) -> Preflight:
    """Takes twenty steps and more, and says what they show.

    Args:
        algorithm: A name in the table of algorithms.
        bench: What it is tried on.
        own: The user's optimizer, if it is one; its further arguments are tried, too.

    Raises:
        CompareError: It cannot be compared like this.
    """
    row, shown = ALGORITHMS[algorithm], ALGORITHMS[algorithm].label
    values: Hyperparameters = {name: middle(space) for name, space in row.search_space.items()}
    model = bench.model()
    before = [p.detach().clone() for p in model.parameters()]
    learner = _built(bench, algorithm, values, model)
    losses, seconds = steps(learner, bench.batch, shown)
    if not all(map(math.isfinite, losses)):
        raise CompareError(
            f"the loss of {shown} is not finite after {len(losses)} steps at {row.rate} = {values[row.rate]:.3g}, the "
            f"middle of its range: give a lower one, such as --space {row.rate}="
            f"{row.search_space[row.rate].low / 32:.0e}..{row.search_space[row.rate].high / 32:.0e}"
        )
    frozen = own is not None and bool(own.code.setting("ALLOW_FROZEN"))
    warnings = [] if frozen else list(_standing(shown, model, before))
    warnings += _idle(algorithm, bench, values, own)
    notes = []
    if callable(getattr(getattr(learner, "optimizer", None), "train", None)):
        notes.append("switches train()/eval(): handled")
    if row.passes > 1:
        notes.append(f"{row.passes} passes per step: trains 1/{row.passes} of the epochs")
    if row.schedule is not None:
        notes.append(f"schedule: {row.schedule}")
    return Preflight(
        losses=(losses[0], losses[-1]),
        seconds=seconds,
        batches=bench.batches,
        cost=relative_cost(_built(bench, algorithm, values, bench.model()), _adamw(bench, algorithm), bench.batch),
        warnings=tuple(warnings),
        notes=tuple(notes),
    )


def _built(bench: Bench, algorithm: str, values: Hyperparameters, model: nn.Module) -> Learner:
    try:
        return build_learner(bench.setting(algorithm, values, model))
    except CompareError:
        raise
    except (ValueError, TypeError) as error:
        raise CompareError(f"{ALGORITHMS[algorithm].label} cannot be built: {error}") from error


def _adamw(bench: Bench, algorithm: str) -> Learner:
    """What everyone can compare a cost with, under the algorithm's schedule."""
    model = bench.model()
    optimizer = build_optimizer(torch.optim.AdamW, model.parameters(), lr=1e-3)
    return BackpropLearner(bench.setting(algorithm, {}, model), optimizer)


# ---- tensors that stand still ---------------------------------------------------------------------------------------


def _standing(shown: str, model: nn.Module, before: list[Tensor]) -> Iterator[str]:
    """Warns of tensors that no gradient reaches; raises a CompareError for the others that did not move."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    starts = {id(p): start for p, start in zip(model.parameters(), before, strict=True)}
    standing = [(name, p) for name, p in named if torch.equal(p.detach(), starts[id(p)])]
    unreached = [name for name, p in standing if p.grad is None or not p.grad.any()]
    skipped = [name for name, _ in standing if name not in unreached]
    if skipped:
        raise CompareError(
            f"{shown}.step() did not move {len(skipped)} of {len(named)} tensors ({', '.join(skipped)}) in {STEPS} "
            "steps; if it leaves them on purpose, set ALLOW_FROZEN = True in its file"
        )
    if unreached:
        yield f"no gradient reaches {', '.join(unreached)} of the network"


# ---- hyperparameters that nobody reads ------------------------------------------------------------------------------


def _idle(algorithm: str, bench: Bench, values: Hyperparameters, own: OwnOptimizer | None) -> Iterator[str]:
    """Warns of arguments that change nothing; raises a CompareError for those that are tuned or were given."""
    row, shown = ALGORITHMS[algorithm], ALGORITHMS[algorithm].label
    allowed = () if own is None else own.code.setting("ALLOW_IDLE") or ()
    given = {**row.fixed, **values}
    base = _weights(bench, _run_of(algorithm, bench, values), shown)
    for name, value in given.items():
        if name in allowed or isinstance(value, str):
            continue
        found = _changes(bench, algorithm, values, name, value, base)
        if found is not None and not found[1]:
            raise CompareError(
                f"{name} of {shown} changes nothing: {STEPS} steps with {value:.4g} and with {found[0]:.4g} give the "
                f"same weights, bit for bit; is it read at all? If it acts later, set ALLOW_IDLE = ({name!r},)"
            )
    if own is None:
        return
    for name, default in _further_arguments(own, {*given, *allowed}).items():
        other = _doubled(default)

        def build(model: nn.Module, name: str = name, other: Any = other) -> Learner:
            return own.build(bench.setting(algorithm, values, model), **{name: other})

        with suppress(CompareError):
            if torch.equal(_weights(bench, build, shown), base):
                yield (
                    f"{name} = {default!r} of {shown} changes nothing: {STEPS} steps with {other!r} give the same "
                    "weights, bit for bit; is it read at all?"
                )


def _changes(
    bench: Bench, algorithm: str, values: Hyperparameters, name: str, value: float, base: Tensor
) -> tuple[float, bool] | None:
    """Another value of a hyperparameter, and whether it changes the weights; None if no other value is accepted."""
    others = [not value] if isinstance(value, bool) else [_doubled(value), value / 2 or _FROM_ZERO]
    for other in others:
        with suppress(CompareError):
            other = type(value)(other) if isinstance(value, int) and other == int(other) else other
            found = _weights(bench, _run_of(algorithm, bench, {**values, name: other}), name)
            return other, not torch.equal(found, base)
    return None


def _doubled(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(part / 2 for part in value)  # momenta
    return 2 * value or (1 if isinstance(value, int) else _FROM_ZERO)


def _further_arguments(own: OwnOptimizer, known: set[str]) -> Mapping[str, Any]:
    """The numbers among the arguments that have defaults and are neither tuned nor given."""

    def is_number(value: Any) -> bool:
        parts = value if isinstance(value, tuple) and value else (value,)
        return all(isinstance(part, float | int) and not isinstance(part, bool) for part in parts)

    names = list(parameters_of(own.code.load(), own.code).values())[1:]
    return {p.name: p.default for p in names if p.name not in known and is_number(p.default)}


def _run_of(algorithm: str, bench: Bench, values: Hyperparameters) -> Callable[[nn.Module], Learner]:
    return lambda model: _built(bench, algorithm, values, model)


def _weights(bench: Bench, make: Callable[[nn.Module], Learner], shown: str) -> Tensor:
    """All weights after twenty steps in double precision, in one row.

    Raises:
        CompareError: The optimizer refuses a value, or fails.
    """
    model = bench.model(torch.float64)
    learner = make(model)
    steps(learner, bench.small_batch(), shown)
    learner.state_dict()  # moves an optimizer with modes to the point that is evaluated
    return torch.cat([p.detach().flatten().double() for p in model.parameters()])
