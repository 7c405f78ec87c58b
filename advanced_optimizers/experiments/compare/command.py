"""The command ``compare``: its options, what it prints, and its exit status.

It imports what it needs when it runs, so that ``--help`` does not wait for torch.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

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
    from advanced_optimizers.experiments.compare import run as running
    from advanced_optimizers.experiments.compare.request import Request, prepare

    quiet = options.json
    say: Callable[[str], object] = (lambda line: None) if quiet else print
    if options.pages:
        return _reopened(options, say)
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
            stream=None if quiet else sys.stdout,
            say=say,
            command=command,
        )
    except KeyboardInterrupt as interrupt:
        told = f"{interrupt.args[0]}: {command}" if interrupt.args else f"go on with: {command}"
        interrupt.args = (told,)
        raise
    written = running.write(comparison, prepared.out)
    return _end(options, comparison, written, command)


def _reopened(options: argparse.Namespace, say: Callable[[str], object]) -> int:
    """Shows a page again, or merges several into a new one."""
    from advanced_optimizers.experiments.compare.archive import merged
    from advanced_optimizers.experiments.compare.run import write

    comparison = merged(options.pages)
    if len(options.pages) == 1 and options.out is None:
        return _end(options, comparison, [], "")
    out = Path(options.out or "compare/merged")
    return _end(options, comparison, write(comparison, out), "")


def _end(options: argparse.Namespace, comparison: Comparison, written: Sequence[Path], command: str) -> int:
    from advanced_optimizers.experiments.compare.words import worst

    if options.json:
        print(comparison.to_json(), end="")
    else:
        print(comparison.summary)
        if written:
            page, *others = written
            size = page.stat().st_size // 1000
            print(f"wrote    {page} ({size} kB, one file), {', '.join(path.name for path in others if path.exists())}")
        if command:
            print(f"repeat   {command}")
    return FAILED if options.fail_if and worst(comparison, (options.fail_if,)) else 0


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
