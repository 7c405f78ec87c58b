"""What a user asks for, made ready: names become rows of the tables, and all that can be known before training is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from advanced_optimizers.experiments.compare.bench import Bench
from advanced_optimizers.experiments.compare.code import Code, CompareError, code_of, read_code
from advanced_optimizers.experiments.compare.comparison import Facts
from advanced_optimizers.experiments.compare.images import own_data
from advanced_optimizers.experiments.compare.needs import with_needs
from advanced_optimizers.experiments.compare.own import OwnContender, OwnModel, OwnOptimizer, own_optimizer
from advanced_optimizers.experiments.compare.preflight import Preflight, check_packages, preflight
from advanced_optimizers.experiments.compare.protocol import (
    Plan,
    find_algorithm,
    find_task,
    make_protocol,
    names,
)
from advanced_optimizers.experiments.compare.spaces import parse_fixed, parse_spaces
from advanced_optimizers.experiments.records.paths import ProjectError, this_project
from advanced_optimizers.experiments.records.store import LayeredStore, RunStore
from advanced_optimizers.experiments.records.writing import write_if_changed
from advanced_optimizers.experiments.studies.contender import Contender
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

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
    stated = find_task(request.task)
    anchors = tuple(map(find_algorithm, request.against or stated.anchors[::-1]))  # the adaptive one first
    if not request.contenders:
        raise CompareError("nothing is compared: give the name of an algorithm, or mine.py:Mine")
    found = [_contender(thing, anchors[0], request) for thing in request.contenders]
    if (request.spaces or request.fixed or request.schedule) and all(isinstance(one, str) for one in found):
        raise CompareError("--space, --fixed and --schedule are for your own optimizer, and none is compared")
    task, model, images = _task(request, stated.tasks[0])
    short = [one if isinstance(one, str) else one.label for one in found]
    out = Path(request.out or Path("compare") / re.sub(r"[^\w.+-]+", "-", f"{'-'.join(short)}-{task.name}".lower()))
    data = None if images is None else own_data(images, out / "data")
    if data is not None:
        task = replace(task, dataset=data.name)
    for known in (model, data):
        if known is not None:
            known()
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
    chosen = tuple(dict.fromkeys(one if isinstance(one, str) else one.name for one in found))
    if judged := [name for name in chosen if name in anchors]:
        raise CompareError(f"{judged[0]} would be compared with itself: leave it out of one of the two")
    check_packages((*anchors, *(name for name in chosen if name in ALGORITHMS)))
    flights = _Flights(out / "preflight.json", task, request.device)
    own = [flights.with_needs(one) if isinstance(one, OwnOptimizer) else one for one in found]
    setups = tuple(one for one in (*own, model, data) if one is not None and not isinstance(one, str))
    for setup in setups:
        setup()
    plan = Plan(protocol=protocol, contenders=chosen, anchors=anchors, ranges=_ranges(stated, anchors, chosen))
    say(_title(plan))
    codes = [one.code for one in setups if one.code is not None]
    if codes:
        say(f"           it executes {', '.join(sorted({file for code in codes for file in code.texts}))}")
    by_name = {one.name: one for one in own if isinstance(one, OwnOptimizer)}
    results = {name: flights.of(name, by_name.get(name)) for name in plan.algorithms}
    flights.write()
    said = [line for one in setups for line in getattr(one, "said", ())]
    for name in plan.algorithms:
        say(f"preflight  {names([name])[name]}  {results[name].words}")
        for warning in results[name].warnings:
            say(f"           warning: {warning}")
    for line in said:
        say(f"           {line}")
    facts = Facts(
        preflights=results,
        sources={file: text for code in codes for file, text in code.texts.items()},
        said=tuple(said),
    )
    files = tuple(path for code in codes for path in code.paths)
    return Prepared(plan=plan, setups=setups, facts=facts, out=out, files=files, store=_store(out))


def _contender(thing: Any, baseline: str, request: Request) -> str | OwnOptimizer | OwnContender:
    if isinstance(thing, Contender):
        return OwnContender(thing, baseline)
    if isinstance(thing, str) and ".py" not in thing:
        return find_algorithm(thing)
    return own_optimizer(
        _code(thing, "Mine"),
        baseline,
        spaces=parse_spaces(request.spaces),
        fixed=parse_fixed(request.fixed),
        schedule=request.schedule,
    )


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


def _task(request: Request, stated: Task) -> tuple[Task, OwnModel | None, Any]:
    """The task, with the user's model and length, and the user's data, a folder or code, if they are given."""
    task, model = stated, None
    if request.model is not None:
        model = OwnModel(_code(request.model, "build"))
        task = replace(task, model=model.name, width=1.0)
    if request.epochs is not None:
        task = replace(task, epochs=request.epochs)
    if isinstance(request.data, str | Path) and not str(request.data).rpartition(":")[0].endswith(".py"):
        return task, model, Path(request.data)
    return task, model, None if request.data is None else _code(request.data, "make")


def _ranges(stated: Any, anchors: Sequence[str], contenders: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    """The ranges that the project's own comparison on the task has for some algorithms."""
    own = stated.variants[stated.tunings[0]].ranges
    return {name: ranges for (_, name), ranges in own.items() if name in (*anchors, *contenders)}


def _title(plan: Plan) -> str:
    shown, protocol = names(plan.algorithms), plan.protocol
    contenders = ", ".join(
        f"{shown[name]} ({name.removeprefix('user:')})" if ":" in name else name for name in plan.contenders
    )
    width = f", width {protocol.task.width:g}" if protocol.task.width != 1 else ""
    return (
        f"compare    {contenders}  against {', '.join(plan.anchors)}   task {protocol.task.name}{width}, "
        f"{protocol.task.epochs} epochs"
    )


def _store(out: Path) -> LayeredStore:
    """New records go to ``out``; those of the project are found where the command is called inside it."""
    try:
        recorded = [RunStore(this_project() / "results" / "runs")]
    except ProjectError:
        recorded = []
    return LayeredStore(out / "runs", recorded)


class _Flights:
    """The preflights of a comparison, kept in a file: none is made twice."""

    def __init__(self, file: Path, task: Task, device: str) -> None:
        self.file, self.task, self.device = file, task, device
        try:
            self.kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.kept = {}
        self._bench: Bench | None = None

    @property
    def bench(self) -> Bench:
        """What algorithms are tried on; made when it is first needed."""
        if self._bench is None:
            self._bench = Bench(self.task, self.device)
            self._bench.check_model()
        return self._bench

    def with_needs(self, own: OwnOptimizer) -> OwnOptimizer:
        """See :func:`.needs.with_needs`."""
        key = self._key("needs", own.name, own)
        if key not in self.kept:
            found = with_needs(own, self.bench)
            self.kept[key] = {name: getattr(found, name) for name in ("closure", "passes", "schedule")}
        return replace(own, **self.kept[key])

    def of(self, name: str, own: OwnOptimizer | None) -> Preflight:
        """See :func:`.preflight.preflight`."""
        key = self._key("flight", name, own)
        if key not in self.kept:
            self.kept[key] = asdict(preflight(name, self.bench, own))
        kept = {field: tuple(value) if isinstance(value, list) else value for field, value in self.kept[key].items()}
        return Preflight(**kept)

    def write(self) -> None:
        """Keeps what was found."""
        write_if_changed(self.file, json.dumps(self.kept, indent=1, sort_keys=True) + "\n")

    def _key(self, kind: str, name: str, own: OwnOptimizer | None) -> str:
        stated = "" if own is None else repr((own.space, own.fixed, own.schedule))
        return f"{kind} {name} {hashlib.sha256(f'{self.task!r} {stated}'.encode()).hexdigest()[:8]}"


def missing(plan: Plan, store: RunStore) -> tuple[int, int]:
    """How many runs a plan has, and how many of them are not recorded as far as that can be known."""
    total = sum(sum(plan.count(name)) for name in plan.algorithms)
    return total, total - sum(len(found) for found in plan.recorded(store).values())
