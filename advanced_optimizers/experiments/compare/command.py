"""The command ``compare``: its options, what it prints, and its exit status.

It imports what it needs when it runs, so that ``--help`` does not wait for torch.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advanced_optimizers.experiments.compare.remembered import ask, remember
from advanced_optimizers.experiments.records.choices import ENGINES

if TYPE_CHECKING:
    from advanced_optimizers.experiments.compare.comparison import Comparison

FAILED = 3  # the exit status if a verdict is one of those of --fail-if
_EXAMPLES = """\
examples:
  {prog} compare mine.py:Mine
  {prog} compare mine.py:Mine --task mnist-mlp --against adamw,sgd
  {prog} compare lion mine.py:make --space lr=1e-4..1e-1 --space beta=0.8..0.99:linear --fixed weight_decay=0.01
  {prog} compare mine.py:Mine --model net.py:build --data photos/ --epochs 10 --margin 1
  {prog} compare --from compare/mine-digits-mlp/index.html
"""
# Options that several calls of the same comparison may change.
_NOT_REPEATED = ("jobs", "engine", "json", "dry_run", "debug", "fail_if")


def add_options(command: argparse.ArgumentParser, prog: str) -> None:
    """Adds the options of the command to its parser."""
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.set_defaults(program=prog)
    command.epilog = _EXAMPLES.format(prog=prog)
    jobs = os.cpu_count() or 1
    add = command.add_argument
    add("contenders", nargs="*", metavar="OPTIMIZER", help="mine.py:Mine, or the name of an algorithm; `list` has them")
    add("--against", metavar="NAMES", help="what they are compared with, such as adamw,sgd (default: both)")
    add("--task", help="such as digits, mnist-mlp or cifar10-jpeg-convnet (default: digits, where nothing is decided)")
    add("--model", metavar="FILE:NAME", help="your network: a function build(image_shape, num_classes)")
    add("--data", metavar="FOLDER", help="your images: {train,test}/<class>/*.png, or FILE:NAME of two datasets")
    add("--epochs", type=int, metavar="N", help="epochs of every run (default: the task's)")
    add("--budget", type=int, metavar="N", help="tuning trials per study (default: 8)")
    add("--studies", type=int, metavar="N", help="how often each optimizer is tuned (default: 4)")
    add("--seeds", type=int, metavar="N", help="runs per study (default: 3)")
    add("--space", action="append", default=[], metavar="NAME=LO..HI", help="a range of yours, log; or :linear, :int")
    add(
        "--fixed", action="append", default=[], metavar="NAME=VALUE", help="a hyperparameter of yours that is not tuned"
    )
    add("--schedule", choices=("one-cycle", "cosine", "constant", "own"), help="the schedule of yours")
    add("--margin", type=float, metavar="POINTS", help="the largest difference in accuracy that does not matter")
    add("--no-verdict", action="store_true", help="train even where the test images are too few for a verdict")
    add("--jobs", type=int, default=jobs, metavar="N", help=f"runs at a time (default here: {jobs})")
    add("--engine", choices=ENGINES, default="loky", help="loky: this machine; ray, dask: a cluster")
    add("--device", default="cpu", help="where each run trains, such as cpu or cuda (default: cpu)")
    add("--out", metavar="FOLDER", help="where results go (default: compare/<optimizers>-<task>)")
    add("--from", dest="pages", nargs="+", metavar="PAGE", help="reopen a page; several are merged")
    add("--dry-run", action="store_true", help="check and plan, and train nothing")
    add("--json", action="store_true", help="print the comparison as JSON, and nothing else")
    add("--fail-if", choices=("worse", "better", "undecided", "invalid"), help=f"exit with {FAILED} at this verdict")
    add("--debug", action="store_true", help="show where in the code an error comes from")


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    if options.pages:
        return _reopened(options)
    question = {name: value for name, value in vars(options).items() if name not in (*_NOT_REPEATED, "command")}
    known = None if options.dry_run else ask(question, options.out)
    if known is not None:
        print(known["json"] if options.json else f"recorded   nothing has changed since then\n{known['text']}", end="")
        return FAILED if options.fail_if in known["verdicts"] else 0
    return _compared(options, question)


def _compared(options: argparse.Namespace, question: Mapping[str, Any]) -> int:
    from advanced_optimizers.experiments.compare import run as running
    from advanced_optimizers.experiments.compare.request import Request, prepare

    say: Callable[[str], object] = (lambda line: None) if options.json else partial(print, flush=True)
    given = {field.name for field in fields(Request)} & vars(options).keys()
    request = Request(
        **{name: getattr(options, name) for name in given - {"against"}},
        against=options.against.split(",") if options.against else None,
        spaces=options.space,
        verdict=not options.no_verdict,
    )
    prepared = prepare(request, say)
    if options.dry_run:
        say(running.plan_line(prepared, options.jobs))
        return 0
    command = repeated(options)
    try:
        comparison = running.train(
            prepared,
            jobs=options.jobs,
            engine=options.engine,
            device=options.device,
            stream=None if options.json else sys.stdout,
            say=say,
            command=command,
        )
    except KeyboardInterrupt as interrupt:
        told = str(interrupt.args[0]).replace("the same command goes on", "go on with") if interrupt.args else "go on"
        interrupt.args = (f"{told}: {command}",)
        raise
    written = [path for path in running.write(comparison, prepared.out) if path.exists()]
    answer = {
        "text": _end(comparison, written, command),
        "json": comparison.to_json(),
        "verdicts": sorted({ruling.verdict for ruling in comparison.judged}),
    }
    folders = [prepared.out / "runs", *([Path(options.data)] if options.data and Path(options.data).is_dir() else [])]
    remember(question, options.out, answer, files=[*written, *prepared.files], folders=folders)
    print(answer["json"] if options.json else answer["text"], end="")
    return FAILED if options.fail_if in answer["verdicts"] else 0


def _reopened(options: argparse.Namespace) -> int:
    """Shows a page again, or merges several into a new one."""
    from advanced_optimizers.experiments.compare.archive import merged
    from advanced_optimizers.experiments.compare.run import write

    comparison = merged(options.pages)
    out = options.out or ("compare/merged" if len(options.pages) > 1 else None)
    written = [path for path in write(comparison, Path(out)) if path.exists()] if out else []
    print(comparison.to_json() if options.json else _end(comparison, written, comparison.facts.command), end="")
    return FAILED if options.fail_if in {ruling.verdict for ruling in comparison.judged} else 0


def _end(comparison: Comparison, written: Sequence[Path], command: str) -> str:
    """What is printed at the end."""
    lines = [comparison.summary]
    if written:
        page, *others = written
        size = page.stat().st_size // 1000
        lines.append(f"wrote    {page} ({size} kB, one file), {', '.join(path.name for path in others)}")
    if command:
        lines.append(f"repeat   {command}")
    return "\n".join(lines) + "\n"


def repeated(options: argparse.Namespace) -> str:
    """The command that repeats the comparison, or goes on with it."""
    words = [*options.program.split(), "compare", *options.contenders]
    for name, value in sorted(vars(options).items()):
        if name in _NOT_REPEATED or name in ("contenders", "command", "extras", "topic", "pages", "program"):
            continue
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif isinstance(value, list):
            words += [word for item in value for word in (option, item)]
        elif value not in (None, False) and (name, value) != ("device", "cpu"):
            words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)
