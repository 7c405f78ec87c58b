"""What a user asks for, made ready: names become rows of the tables, and all that can be known before training is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from advanced_optimizers.experiments.compare.code import Code, CompareError, code_of, read_code
from advanced_optimizers.experiments.compare.comparison import Facts
from advanced_optimizers.experiments.compare.flights import Flights
from advanced_optimizers.experiments.compare.images import own_data
from advanced_optimizers.experiments.compare.own import OwnContender, OwnData, OwnModel, OwnOptimizer, own_optimizer
from advanced_optimizers.experiments.compare.preflight import check_packages
from advanced_optimizers.experiments.compare.protocol import (
    Plan,
    Protocol,
    find_algorithm,
    find_task,
    make_protocol,
    names,
    task_words,
    untuned_values,
)
from advanced_optimizers.experiments.compare.spaces import parse_fixed, parse_spaces
from advanced_optimizers.experiments.records.config import Hyperparameters
from advanced_optimizers.experiments.records.paths import ProjectError, this_project
from advanced_optimizers.experiments.records.store import LayeredStore, RunStore
from advanced_optimizers.experiments.studies.contender import Contender
from advanced_optimizers.experiments.studies.referee import Referee
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.training.algorithms import Range

Say = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for; see the options of the command. ``None`` is the task's own protocol.

    Attributes:
        contenders: Names of algorithms, ``file.py:Name``, classes, factories, or rows of contenders.
        against: Names of anchors; by default those of the task.
        task: The task's name, or its dataset's.
        model: ``file.py:build``, or a function ``build(image_shape, num_classes)``.
        data: A folder of images, ``file.py:make``, or a function that returns two datasets.
        spaces: Ranges of the user's optimizers, such as ``lr=1e-4..1e-1``.
        fixed: Their fixed hyperparameters, such as ``weight_decay=0.01``.
        schedule: Their schedule.
        budget: Trials per tuning.
        studies: Tunings per algorithm.
        seeds: Runs per tuning.
        epochs: Epochs of every run.
        margin: In points of accuracy.
        verdict: Whether a verdict is wanted.
        device: Where each run trains.
        out: The folder of results.
    """

    contenders: Sequence[Any]
    against: Sequence[str] | None = None
    task: str | None = None
    model: Any = None
    data: Any = None
    spaces: Sequence[str] = ()
    fixed: Sequence[str] = ()
    schedule: str | None = None
    budget: int | None = None
    studies: int | None = None
    seeds: int | None = None
    epochs: int | None = None
    margin: float | None = None
    verdict: bool = True
    device: str = "cpu"
    out: str | Path | None = None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A comparison that can begin.

    Attributes:
        plan: Who is compared with whom, and how.
        setups: What makes the user's code and data known to a process.
        facts: What was found out.
        out: The folder of results.
        files: The user's files.
        store: The records: new ones go to ``out``, those of the project are read.
    """

    plan: Plan
    setups: tuple[Callable[[], object], ...]
    facts: Facts
    out: Path
    files: tuple[Path, ...]
    store: LayeredStore = field(repr=False)


def prepare(request: Request, say: Say = lambda line: None) -> Prepared:
    """Reads the user's code and data, checks and tries everything, and makes the plan.

    Args:
        request: What is asked for.
        say: Called with each line that a user should read.

    Raises:
        CompareError: Something cannot be compared; the message says what, and the way out.
    """
    asked = _read(request, say)
    flights = Flights(asked.out / "preflight.json", asked.task, request.device)
    asked = replace(
        asked, found=tuple(flights.with_needs(one) if isinstance(one, OwnOptimizer) else one for one in asked.found)
    )
    for setup in asked.setups:
        setup()
    plan = Plan(
        protocol=asked.protocol,
        contenders=asked.contenders,
        anchors=asked.anchors,
        ranges=_ranges(asked.stated, (*asked.anchors, *asked.contenders)),
        untuned=asked.untuned,
    )
    say(_title(plan))
    own = {one.name: one for one in asked.found if isinstance(one, OwnOptimizer)}
    facts = Facts(
        preflights={name: flights.of(name, own.get(name)) for name in plan.algorithms},
        sources={file: text for code in asked.codes for file, text in code.texts.items()},
        said=tuple(line for one in asked.setups for line in getattr(one, "said", ())),
    )
    flights.write()
    _tell(facts, say)
    files = tuple(path for code in asked.codes for path in code.paths)
    return Prepared(plan=plan, setups=asked.setups, facts=facts, out=asked.out, files=files, store=_store(asked.out))


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What a request stands for: algorithms by name, and the user's code as rows of the tables."""

    stated: Referee
    anchors: tuple[str, ...]
    found: tuple[str | OwnOptimizer | OwnContender, ...]
    task: Task
    model: OwnModel | None
    data: OwnData | None
    protocol: Protocol
    out: Path

    @property
    def contenders(self) -> tuple[str, ...]:
        """Their names in the table of algorithms."""
        return tuple(dict.fromkeys(one if isinstance(one, str) else one.name for one in self.found))

    @property
    def setups(self) -> tuple[OwnOptimizer | OwnContender | OwnModel | OwnData, ...]:
        """What has to become known to a process."""
        every = (*self.found, self.model, self.data)
        return tuple(one for one in every if one is not None and not isinstance(one, str))

    @property
    def untuned(self) -> dict[str, Hyperparameters]:
        """By algorithm, the values of its constructor, as far as they are known."""
        own = {one.name: one.untuned for one in self.found if not isinstance(one, str)}
        known = {**untuned_values(), **own}
        return {name: known[name] for name in (*self.anchors, *self.contenders) if known.get(name)}

    @property
    def codes(self) -> list[Code]:
        """The user's code."""
        return [one.code for one in self.setups if one.code is not None]


def _read(request: Request, say: Say) -> _Asked:
    """Reads everything that a request names; the user's files are executed here for the first time."""
    stated = find_task(request.task)
    if not request.contenders:
        raise CompareError("nothing is compared: give the name of an algorithm, or mine.py:Mine")
    things = [_named(thing) for thing in request.contenders]
    named = [thing for thing in things if isinstance(thing, str)]
    given = tuple(map(find_algorithm, request.against or ()))
    # Of the project's anchors the adaptive one comes first: it is what most would use.
    anchors = given or tuple(name for name in stated.anchors[::-1] if name not in named)
    if both := [name for name in named if name in anchors] or ([] if anchors else named):
        raise CompareError(f"{both[0]} would be compared with itself: leave it out, or name others with --against")
    check_packages((*anchors, *named))
    if (request.spaces or request.fixed or request.schedule) and len(named) == len(things):
        raise CompareError("--space, --fixed and --schedule are for your own optimizer, and none is compared")
    model = None if request.model is None else OwnModel(_code(request.model, "build"))
    images = request.data
    if images is not None:
        images = Path(images) if _is_folder(images) else _code(images, "make")
    codes = [one for one in (*things, model and model.code, images) if isinstance(one, Code)]
    if codes:
        say(f"compare    executes {', '.join(sorted({file for code in codes for file in code.texts}))}")
    found = tuple(_contender(thing, anchors[0], request) for thing in things)
    task = _task(request, stated.tasks[0], model)
    out = Path(request.out) if request.out else Path("compare") / _folder(found, task, images)
    data = None if images is None else own_data(images, out / "data")
    if data is not None:
        task = replace(task, dataset=data.name)
    protocol = make_protocol(
        stated,
        task=task,
        test_images=None if data is None else data.test_images,
        budget=request.budget,
        studies=request.studies,
        seeds=request.seeds,
        margin=None if request.margin is None else request.margin / 100,
        verdict=request.verdict,
    )
    for known in (model, data):
        if known is not None:
            known()
    return _Asked(
        stated=stated, anchors=anchors, found=found, task=task, model=model, data=data, protocol=protocol, out=out
    )


def _named(thing: Any) -> str | Contender | Code:
    """The name of an algorithm of the table, a row that a user made, or a user's code."""
    if isinstance(thing, Contender):
        return thing
    return find_algorithm(thing) if isinstance(thing, str) and ".py" not in thing else _code(thing, "Mine")


def _contender(thing: str | Contender | Code, baseline: str, request: Request) -> str | OwnOptimizer | OwnContender:
    if isinstance(thing, str):
        return thing
    if isinstance(thing, Contender):
        return OwnContender(thing, baseline)
    return own_optimizer(
        thing,
        baseline,
        spaces=parse_spaces(request.spaces),
        fixed=parse_fixed(request.fixed),
        schedule=request.schedule,
    )


def _is_folder(images: Any) -> bool:
    return isinstance(images, str | Path) and not str(images).rpartition(":")[0].endswith(".py")


def _folder(found: Sequence[Any], task: Task, images: Any) -> str:
    """The default folder of results: who is compared, and on what."""
    short = [one if isinstance(one, str) else one.label for one in found]
    dataset = task.dataset if images is None else images.resolve().name if isinstance(images, Path) else images.name
    model = task.model.removeprefix("user:").partition("@")[0]
    return re.sub(r"[^\w.+-]+", "-", "-".join((*short, dataset, model)).lower())


def _code(thing: Any, example: str) -> Code:
    """What ``file.py:Name``, a class or a function stands for."""
    if not isinstance(thing, str):
        return code_of(thing)
    place, colon, name = thing.rpartition(":")
    if not colon or not place.endswith(".py"):
        raise CompareError(
            f"{thing} names no object: give the file and a name in it, as {thing or 'mine.py'}:{example}"
        )
    return read_code(place, name)


def _task(request: Request, stated: Task, model: OwnModel | None) -> Task:
    """The task with the user's model and length."""
    task = stated if model is None else replace(stated, model=model.name, width=1.0)
    return task if request.epochs is None else replace(task, epochs=request.epochs)


def _ranges(stated: Referee, algorithms: Sequence[str]) -> Mapping[str, Mapping[str, Range]]:
    """The ranges that the project's own comparison on the task has for some algorithms."""
    own = stated.variants[stated.tunings[0]].ranges
    return {name: ranges for (_, name), ranges in own.items() if name in algorithms}


def _tell(facts: Facts, say: Say) -> None:
    shown = names(list(facts.preflights))
    for name, flight in facts.preflights.items():
        say(f"preflight  {shown[name]}  {flight.words}")
        for warning in flight.warnings:
            say(f"           warning: {warning}")
    for line in facts.said:
        say(f"           {line}")


def _title(plan: Plan) -> str:
    shown, protocol = names(plan.algorithms), plan.protocol
    contenders = ", ".join(
        f"{shown[name]} ({name.removeprefix('user:')})" if ":" in name else name for name in plan.contenders
    )
    width = f", width {protocol.task.width:g}" if protocol.task.width != 1 else ""
    return (
        f"compare    {contenders}  against {', '.join(plan.anchors)}   task {task_words(protocol.task.name)}{width}, "
        f"{protocol.task.epochs} epochs"
    )


def _store(out: Path) -> LayeredStore:
    """New records go to ``out``; those of the project are found where the command is called inside it."""
    try:
        recorded = [RunStore(this_project() / "results" / "runs")]
    except ProjectError:
        recorded = []
    return LayeredStore(out / "runs", recorded)


def missing(plan: Plan, store: RunStore) -> tuple[int, int]:
    """How many runs a plan has, and how many of them are not recorded as far as that can be known."""
    total = sum(sum(plan.count(name)) for name in plan.algorithms)
    return total, total - sum(len(found) for found in plan.recorded(store).values())
