"""The coordinate check: do activations keep their size, during training, as the model gets wider?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from advanced_optimizers._checks import check_integer, check_iterable, check_range
from advanced_optimizers.zero_shot_transfer.settings import takes_parameters

__all__ = ["CoordinateGrowth", "CoordinateRow", "coordinate_check", "coordinate_growth"]


class CoordinateRow(NamedTuple):
    """The size of one module's output in one forward pass; a list of rows makes a data frame.

    Attributes:
        width: The model's width.
        seed: Which repetition.
        step: The forward pass, counted from 1; at step 1 the model is untrained.
        module: The module's name; ``name[0]`` and so on if it returns several tensors.
        size: The statistic, by default the mean absolute value.
    """

    width: int
    seed: int
    step: int
    module: str
    size: float


class CoordinateGrowth(NamedTuple):
    """How one module's output grows with width at one step: as ``width ** exponent``."""

    step: int
    module: str
    exponent: float


def mean_absolute(x: Tensor) -> Tensor:
    """Returns the mean of the absolute values."""
    return x.abs().mean()


def coordinate_check(
    models: Mapping[int, Callable[[], nn.Module]],
    batch: tuple[Any, Tensor],
    optimizer: Callable[[nn.Module], Optimizer],
    *,
    loss: Callable[[Any, Tensor], Tensor] = F.cross_entropy,
    steps: int = 3,
    seeds: int = 1,
    statistic: Callable[[Tensor], Tensor] = mean_absolute,
    modules: Callable[[str], bool] | None = None,
) -> list[CoordinateRow]:
    """Trains a model of each width for a few steps on one batch and records the size of every module's output.

    In a correct parametrization the sizes are the same at all widths, or settle as width grows;
    :func:`coordinate_growth` turns them into exponents. Choose a large learning rate, so that the effect of training
    shows next to the initial values. At step 1 only, outputs (and the logits of attention) shrink as
    ``1 / sqrt(width)``, unless the readout (and the query) start at zero.

    Args:
        models: Width -> a function that makes the model, with its base shapes set. It is called after seeding.
        batch: Inputs and targets, the same at every step. A tuple of inputs is passed as several arguments.
        optimizer: Makes the optimizer of a model.
        loss: ``loss(output, targets)``.
        steps: Number of forward passes, >= 1; the first one sees the untrained model.
        seeds: Number of repetitions, each with its own seed, >= 1.
        statistic: What to record of a tensor: a function that returns a tensor of one element, such as the standard
            deviation or the root mean square.
        modules: Which modules to record, by name. Default: all except the model itself.

    Returns:
        One row for each width, seed, step and recorded tensor. The global random state is left as it was.

    Raises:
        TypeError: ``steps`` or ``seeds`` is not an integer, ``batch`` is not a pair, or something is not a function.
        ValueError: ``models`` is empty, a number is out of range, or ``statistic`` returns more than one element.

    References:
        Yang et al., arXiv 2203.03466, appendix D.1 (recalled); the ``mup`` package's ``coord_check``.
    """
    _check_models(models)
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise TypeError(f"batch must be a pair (inputs, targets), got {batch!r}")
    for name, function in (("optimizer", optimizer), ("loss", loss), ("statistic", statistic), ("modules", modules)):
        if function is not None or name != "modules":
            _check_function(name, function)
    if takes_parameters(optimizer):
        raise TypeError(f"optimizer must be a function of the model, such as MuAdam, got {optimizer!r}")
    steps, seeds = check_integer("steps", steps, 1), check_integer("seeds", seeds, 1)
    rows: list[CoordinateRow] = []
    inputs, targets = batch
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.random.fork_rng():
        for seed in range(seeds):
            for width, make in models.items():
                torch.manual_seed(seed)
                model = make()
                if not isinstance(model, nn.Module):
                    raise TypeError(f"models[{width}] must return an nn.Module, got {model!r}")
                trained = optimizer(model.train())
                if not isinstance(trained, Optimizer):
                    raise TypeError(f"optimizer must return a torch.optim.Optimizer, got {trained!r}")
                for step in range(1, steps + 1):
                    sizes = _measured_forward(model, arguments, statistic, modules)
                    value = loss(sizes.output, targets)
                    rows += [CoordinateRow(width, seed, step, name, size) for name, size in sizes.recorded]
                    trained.zero_grad()
                    value.backward()
                    trained.step()
    return rows


def _check_models(models: Mapping[int, Callable[[], nn.Module]]) -> None:
    if not isinstance(models, Mapping):
        raise TypeError(f"models must map widths to functions that make a model, got {models!r}")
    if not models:
        raise ValueError("models must map at least one width to a function that makes a model, got none")
    for width, make in models.items():
        check_range("a width in models", width, 0.0, open_low=True, open_high=True)
        if isinstance(make, nn.Module):
            raise TypeError(f"models[{width}] must be a function that makes a model, got a model: {make!r}")
        _check_function(f"models[{width}]", make)


def _check_function(name: str, function: object) -> None:
    if not callable(function):
        raise TypeError(f"{name} must be a function, got {function!r}")


def coordinate_growth(rows: Sequence[CoordinateRow]) -> list[CoordinateGrowth]:
    """Returns for each module and step the exponent of its output's growth with width: 0 is flat, 0.5 a square root.

    The exponent is the slope of the least-squares line through ``log(size)`` over ``log(width)``; the sizes of all
    seeds are averaged first. Sizes that are zero at some width (a readout that starts at zero) have no exponent and are
    left out. If a size is infinite or not a number, because training diverged, the exponent is ``inf``.

    Args:
        rows: From :func:`coordinate_check`, with at least two widths.

    Raises:
        TypeError: ``rows`` contains something else.
        ValueError: There are fewer than two widths.
    """
    rows = check_iterable("rows", rows, "rows of coordinate_check")
    for row in rows:
        if not all(hasattr(row, field) for field in ("width", "step", "module", "size")):
            raise TypeError(f"rows must contain rows of coordinate_check, got {row!r}")
    if len({row.width for row in rows}) < 2:
        raise ValueError(f"rows must have at least two widths, got {sorted({row.width for row in rows})}")
    sizes: dict[tuple[int, str], dict[int, list[float]]] = {}
    for row in rows:
        sizes.setdefault((row.step, row.module), {}).setdefault(row.width, []).append(row.size)
    growth = []
    for (step, module), by_width in sizes.items():
        means = {width: sum(values) / len(values) for width, values in by_width.items()}
        if all(mean > 0 or math.isnan(mean) for mean in means.values()) and len(means) > 1:
            growth.append(CoordinateGrowth(step, module, _slope(means)))
    return growth


def _slope(sizes: Mapping[int, float]) -> float:
    if not all(math.isfinite(size) for size in sizes.values()):
        return math.inf
    x, y = [math.log(width) for width in sizes], [math.log(size) for size in sizes.values()]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    across = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return across / sum((a - x_mean) ** 2 for a in x)


class _ForwardPass(NamedTuple):
    output: Any
    recorded: list[tuple[str, float]]


def _measured_forward(
    model: nn.Module,
    arguments: tuple[Any, ...],
    statistic: Callable[[Tensor], Tensor],
    modules: Callable[[str], bool] | None,
) -> _ForwardPass:
    recorded: list[tuple[str, float]] = []

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        @torch.no_grad()
        def record(module: nn.Module, inputs: Any, output: Any) -> None:
            recorded.extend((key, _as_number(statistic(x))) for key, x in _tensors(name, output))

        return record

    wanted = modules or bool  # the model itself has the empty name
    handles = [m.register_forward_hook(hook_for(name)) for name, m in model.named_modules() if wanted(name)]
    try:
        return _ForwardPass(model(*arguments), recorded)
    finally:
        for handle in handles:
            handle.remove()


def _as_number(value: Any) -> float:
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"statistic must return one element, got a tensor of shape {tuple(value.shape)}")
    return float(value)


def _tensors(name: str, output: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(output, Tensor):
        yield name, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from _tensors(f"{name}[{key}]", value)
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for i, value in enumerate(output):
            yield from _tensors(f"{name}[{i}]", value)
