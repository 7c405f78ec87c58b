"""An optimizer's step over ResNet-18's parameters, compared with its base, its peers and the speed of memory."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

import advanced_optimizers
from advanced_optimizers import (
    ConvolutionalSGD,
    ConvolutionalSGDv2,
    FEROptimizer,
    GradientCorrectionOptimizer,
    LocalLossConvSGD,
)
from advanced_optimizers._base import GradientTransform
from advanced_optimizers.experiments.training.models import build_model
from advanced_optimizers.zero_shot_transfer import MuAdam, MuSGD, set_base_shapes
from benchmarks.memory import AllocationTrace, state_bytes
from benchmarks.result import Result, Rows, environment_of, number_of_threads
from benchmarks.timing import (
    COPY,
    FLOAT_BYTES,
    IN_PLACE,
    Spread,
    Timed,
    bandwidth,
    block_means,
    interleaved,
    memory_passes,
    ratios,
    spread,
    timed,
)

REFERENCE = "Adam, for loop"
# What is measured of others, by package.
PEERS = {"pytorch_optimizer": ("Lookahead", "OrthoGrad"), "schedulefree": ("AdamW, schedule-free",)}
# A repeat is the mean of five steps, because Lookahead moves its slow weights at every fifth step.
STEPS_PER_REPEAT = 5
UNLIKE_STEPS = 8

# Words (float32 numbers) that a formula must move for each parameter, if every tensor of it is read and written once:
#
#                  reads                 writes               words
#   SGD momentum   g, p, buffer          p, buffer                5
#   Adam           g, p, m, v            p, m, v                  7
#   schedule-free  g, p, z, v            p, z, v                  7
#   FER            g, memory             memory, g'               4  and the base reads g' instead of g
#   Correction     g, memory             memory, g'           4.5  with another g written and read at every fourth step
#   Convolutional  g                     g'                       2  and the base reads g' instead of g, as below
#   v2             g, signal             signal, g'               4
#   OrthoGrad      g, p                  g'                       3  and the base reads g' instead of g
#   Lookahead      p, slow               p, slow              4 / 5  every fifth step
#   MuSGD, MuAdam  their base's, in several parameter groups
SGD_WORDS, ADAM_WORDS = 5.0, 7.0
# Gradient transforms: what the table calls them, and their words on top of the base's. Every exported transform is
# measured; one that is not listed here has no floor to be compared with.
TRANSFORMS: dict[type[GradientTransform], tuple[str, float]] = {
    FEROptimizer: ("FER", 4.0),
    GradientCorrectionOptimizer: ("Correction", 4.5),
    ConvolutionalSGD: ("ConvolutionalSGD", 2.0),
    LocalLossConvSGD: ("LocalLossConvSGD", 2.0),
    ConvolutionalSGDv2: ("ConvolutionalSGDv2", 4.0),
}
# The sizes of kernels and the steps between two that they learn from, of which the convolutional optimizers' costs are
# made: each over the SGD that is theirs.
CONVOLUTIONS: dict[str, tuple[float, Callable[..., Any]]] = {
    "ConvolutionalSGD, 5 taps": (2.0, partial(ConvolutionalSGD, kernel_size=5)),
    "LocalLossConvSGD, 5 taps, every 4th": (2.0, partial(LocalLossConvSGD, kernel_size=5, kernel_every=4)),
    "ConvolutionalSGDv2, 5 taps, fixed": (2.0, partial(ConvolutionalSGDv2, kernel_size=5, kernel_lr=0.0)),
    "ConvolutionalSGDv2, 5 taps, every 10th": (4.0, partial(ConvolutionalSGDv2, kernel_size=5, kernel_every=10)),
    "ConvolutionalSGDv2, 5 taps, every 4th": (4.0, partial(ConvolutionalSGDv2, kernel_size=5, kernel_every=4)),
}
ORTHOGRAD_WORDS, LOOKAHEAD_WORDS = 3.0, 4.0 / 5.0

_SGD_SETTINGS: dict[str, Any] = {"lr": 1e-3, "momentum": 0.9, "fused": True}


@dataclass(frozen=True)
class Contender:
    """One row of the table.

    Attributes:
        name: Its name in the table.
        base: The contender that is its base optimizer; None for a base.
        words: How many numbers its formula must move for each parameter and step; None where they were not counted.
        build: Makes it for a list of parameters.
        compiled: Whether its step is compiled; what memory it takes is not known then.
    """

    name: str
    base: str | None
    words: float | None
    build: Callable[[list[nn.Parameter]], Any]
    compiled: bool = False


class Memory(NamedTuple):
    """Memory in units of one buffer that is as large as all gradients together: one float32 number per parameter.

    Attributes:
        state: What a checkpoint holds.
        scratch: What else is held between steps.
        transient: What a step allocates and frees again.
    """

    state: float
    scratch: float
    transient: float


def run(quick: bool, device: str = "cpu") -> Result:
    """Times the contenders in turns; the quick profile has a narrow ResNet-18, which says nothing of the real one.

    An accelerator takes a repeat's steps one after the other before it is waited for, as in training.

    Args:
        quick: Whether to take seconds.
        device: Where the parameters are: ``cpu`` or ``cuda``.
    """
    width, repeats = (0.125, 2) if quick else (1.0, 20)
    shapes = [p.shape for p in build_model("resnet18", (3, 32, 32), 10, width).parameters()]
    parameters = sum(shape.numel() for shape in shapes)
    on_cpu = device == "cpu"
    contenders = available_contenders() if on_cpu else [*available_contenders(), *compiled_contenders()]
    traced = shapes[: len(shapes) // 4] if quick else shapes
    memory = {c.name: None if c.compiled else measure_memory(c, traced, device) for c in contenders}
    at_once = 1 if on_cpu else STEPS_PER_REPEAT
    work = {c.name: prepared(c, shapes, device).step for c in contenders} | memory_passes(parameters, device)
    turns: dict[str, Timed] = {name: timed(partial(_several, at_once, each, device)) for name, each in work.items()}
    seconds = interleaved(turns, repeats * STEPS_PER_REPEAT // at_once)
    seconds = {name: [value / at_once for value in values] for name, values in seconds.items()}
    means = {name: block_means(values, STEPS_PER_REPEAT // at_once) for name, values in seconds.items()}
    speeds = {name: bandwidth(parameters, spread(seconds[name]).median) for name in (COPY, IN_PLACE)}
    measurements = [
        {
            **_times(c, means),
            "words_per_parameter": c.words,
            "floor_seconds": None if c.words is None else floor_seconds(c.words, parameters, max(speeds.values())),
            "memory_buffers": found._asdict() if (found := memory[c.name]) else None,
            "bandwidth_bytes_per_second": speeds,
            "parameters": parameters,
            "tensors": len(shapes),
        }
        for c in contenders
    ]
    return Result(
        name="optimizer_step" if on_cpu else f"optimizer_step_{device}",
        caption=_caption(len(shapes), parameters, repeats, speeds, device),
        rows=_rows(measurements),
        measurements=measurements,
        environment=environment_of(device),
    )


def _several(count: int, work: Callable[[], object], device: str) -> None:
    for _ in range(count):
        work()
    if device != "cpu":
        torch.accelerator.synchronize()


def available_contenders() -> list[Contender]:
    """Returns all contenders whose package is installed; prints which peers are not."""
    own = [
        Contender("SGD momentum, fused", None, SGD_WORDS, lambda p: SGD(p, **_SGD_SETTINGS)),
        Contender(REFERENCE, None, ADAM_WORDS, lambda p: Adam(p, foreach=False)),
        Contender("Adam, foreach", None, ADAM_WORDS, lambda p: Adam(p, foreach=True)),
        Contender("Adam, fused", None, ADAM_WORDS, lambda p: Adam(p, fused=True)),
        *(row for transform in exported_transforms() for row in _transform_rows(transform)),
        *(_convolution_row(name, words, build) for name, (words, build) in CONVOLUTIONS.items()),
        Contender(
            "MuSGD momentum, fused", "SGD momentum, fused", SGD_WORDS, lambda p: MuSGD(mu_model(p), **_SGD_SETTINGS)
        ),
        Contender("MuAdam, fused", "Adam, fused", ADAM_WORDS, lambda p: MuAdam(mu_model(p), fused=True)),
    ]
    return [*own, *(contender for package in PEERS for contender in _peers(package))]


def _peers(package: str) -> list[Contender]:
    names = " and ".join(PEERS[package])
    if importlib.util.find_spec(package) is None:
        left_out = f"{names} {'are' if len(PEERS[package]) > 1 else 'is'} left out"
        print(f"{left_out}: {package} is not installed; install the extra 'peers' to get it\n")
        return []
    if package == "schedulefree":
        return [Contender(names, None, ADAM_WORDS, _schedule_free)]
    from pytorch_optimizer import Lookahead, OrthoGrad

    return [
        Contender(
            "Lookahead over Adam",
            "Adam, fused",
            ADAM_WORDS + LOOKAHEAD_WORDS,
            lambda p: Lookahead(Adam(p, fused=True), k=STEPS_PER_REPEAT),
        ),
        Contender(
            "OrthoGrad over Adam",
            "Adam, fused",
            ADAM_WORDS + ORTHOGRAD_WORDS,
            lambda p: OrthoGrad(Adam(p, fused=True)),
        ),
    ]


def _schedule_free(params: list[nn.Parameter]) -> Any:
    optimizer = importlib.import_module("schedulefree").AdamWScheduleFree(params)
    optimizer.train()
    return optimizer


def compiled_contenders() -> list[Contender]:
    """Returns Adam with its step compiled, and FER over Adam with what :meth:`.FEROptimizer.compile` compiles of it."""
    (fer,) = (c for c in available_contenders() if c.name == "FER over Adam")
    return [
        Contender("Adam, compiled", None, ADAM_WORDS, _compiled_adam, compiled=True),
        replace(fer, name=f"{fer.name}, compiled", build=partial(_compiled, fer.build), compiled=True),
    ]


def _compiled_adam(params: list[nn.Parameter]) -> Adam:
    optimizer = Adam(params)
    optimizer.step = torch.compile(optimizer.step)  # type: ignore[method-assign]
    return optimizer


def _compiled(build: Callable[[list[nn.Parameter]], Any], params: list[nn.Parameter]) -> Any:
    optimizer = build(params)
    optimizer.compile()
    return optimizer


def exported_transforms() -> list[type[GradientTransform]]:
    """Returns the package's public gradient transforms, in the order of their names."""
    public = (getattr(advanced_optimizers, name) for name in advanced_optimizers.__all__)
    return [kind for kind in public if isinstance(kind, type) and issubclass(kind, GradientTransform)]


def _transform_rows(transform: type[Any]) -> list[Contender]:
    """Returns a transform with its defaults over SGD and over Adam."""
    name, own = TRANSFORMS.get(transform, (transform.__name__, None))
    sgd, adam = (None if own is None else base + own for base in (SGD_WORDS, ADAM_WORDS))
    return [
        Contender(f"{name} over SGD", "SGD momentum, fused", sgd, lambda p: _over(transform, p, SGD, _SGD_SETTINGS)),
        Contender(f"{name} over Adam", "Adam, fused", adam, lambda p: _over(transform, p, Adam, {"lr": 1e-3})),
    ]


def _over(transform: Callable[..., Any], p: list[nn.Parameter], base: type[Any], settings: dict[str, Any]) -> Any:
    return transform(p, base_optimizer=base, base_optimizer_kwargs=settings)


def _convolution_row(name: str, words: float, build: Callable[..., Any]) -> Contender:
    return Contender(name, "SGD momentum, fused", SGD_WORDS + words, lambda p: _over(build, p, SGD, _SGD_SETTINGS))


def mu_model(params: list[nn.Parameter]) -> nn.Module:
    """Returns the parameters as a muP model whose base has half its width, so that there are several learning rates."""
    base = {str(i): [size // 2 if size % 8 == 0 else size for size in p.shape] for i, p in enumerate(params)}
    return set_base_shapes(nn.ParameterList(params), base, rescale_params=False)


def floor_seconds(words: float, parameters: int, bytes_per_second: float) -> float:
    """Returns the seconds that it takes to move the formula's numbers at the full speed of the memory."""
    return words * FLOAT_BYTES * parameters / bytes_per_second


def prepared(contender: Contender, shapes: Iterable[torch.Size], device: str = "cpu") -> Any:
    """Returns the optimizer after steps with gradients that differ from one another.

    FER corrects a gradient that disagrees with its memory, as nearly every gradient of a small batch does. If the
    gradients were the same from the start, they would all agree with it and FER would skip the correction; and gradient
    correction would have nothing to learn.
    """
    params, *gradients = _random(shapes, device)
    optimizer = contender.build(params)
    _step_unlike(optimizer, params, gradients)
    return optimizer


def measure_memory(contender: Contender, shapes: Iterable[torch.Size], device: str = "cpu") -> Memory:
    """Counts what the optimizer holds after its first steps, and what else further steps take."""
    params, *gradients = _random(shapes, device)
    buffer = sum(p.numel() for p in params) * FLOAT_BYTES
    with AllocationTrace() as trace:
        optimizer = contender.build(params)
        _step_unlike(optimizer, params, gradients)
        held = trace.peak = trace.live
        for _ in range(STEPS_PER_REPEAT):
            optimizer.step()
        transient = trace.peak - held
    state = state_bytes(optimizer)
    # Rounded to a thousandth of a buffer, so that tensors of one number, such as step counters, do not show.
    return Memory(*(round(size / buffer, 3) + 0.0 for size in (state, held - state, transient)))


def _random(shapes: Iterable[torch.Size], device: str) -> tuple[list[nn.Parameter], list[Tensor], list[Tensor]]:
    """Returns parameters and two sets of gradients, the same for every contender."""
    generator = torch.Generator().manual_seed(0)
    params, first, second = ([torch.randn(s, generator=generator).to(device) for s in shapes] for _ in range(3))
    return [nn.Parameter(p) for p in params], first, second


def _step_unlike(optimizer: Any, params: Iterable[nn.Parameter], gradients: list[list[Tensor]]) -> None:
    """Steps with alternating gradients, until a correction that learns at every fourth step has learned."""
    for _ in range(UNLIKE_STEPS // len(gradients)):
        for each in gradients:
            _give(params, each)
            optimizer.step()


def _give(params: Iterable[nn.Parameter], gradients: Iterable[Tensor]) -> None:
    for p, gradient in zip(params, gradients, strict=True):
        p.grad = gradient


def _times(contender: Contender, means: dict[str, list[float]]) -> dict[str, Any]:
    own = means[contender.name]
    return {
        "optimizer": contender.name,
        "base": contender.base,
        "seconds": own,
        "median_seconds": spread(own).median,
        "ratio_to_reference": spread(ratios(own, means[REFERENCE]))._asdict(),
        "ratio_to_base": spread(ratios(own, means[contender.base]))._asdict() if contender.base else None,
    }


def _caption(tensors: int, parameters: int, repeats: int, speeds: dict[str, float], device: str) -> str:
    threads = number_of_threads(torch.get_num_threads())
    machine = threads if device == "cpu" else torch.cuda.get_device_name(device)
    moved = ", ".join(f"{name} {speed / 1e9:.0f} GB/s" for name, speed in speeds.items())
    return (
        f"Optimizer step: {tensors} tensors of ResNet-18, {parameters / 1e6:.1f} M parameters, "
        f"{machine}, "
        f"median of {repeats} repeats of {STEPS_PER_REPEAT} steps, all contenders in turn. Ratios: to {REFERENCE} "
        "(with quartiles) and to the contender's own base, repeat by repeat. Floor: the bytes that the formula must "
        f"move at the faster of the measured bandwidths ({moved}). Memory in buffers as large as all gradients: state "
        "as saved, scratch kept between steps, and what a step takes and gives back; parameters and gradients are not "
        "counted."
    )


def _rows(measurements: list[dict[str, Any]]) -> Rows:
    rows = []
    for m in measurements:
        to_reference, to_base = Spread(**m["ratio_to_reference"]), m["ratio_to_base"]
        rows.append(
            {
                "Optimizer": m["optimizer"],
                "ms": f"{m['median_seconds'] * 1e3:.2f}",
                f"x {REFERENCE}": f"{to_reference.median:.2f} ({to_reference.low:.2f}-{to_reference.high:.2f})",
                "x own base": f"{to_base['median']:.2f}" if to_base else "",
                "Floor, ms": f"{m['floor_seconds'] * 1e3:.2f}" if m["floor_seconds"] else "",
                "x floor": f"{m['median_seconds'] / m['floor_seconds']:.2f}" if m["floor_seconds"] else "",
                **{
                    name.capitalize(): f"{m['memory_buffers'][name]:.2f}" if m["memory_buffers"] else ""
                    for name in Memory._fields
                },
            }
        )
    return rows
