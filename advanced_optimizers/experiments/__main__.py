"""The command line: ``advanced-optimizers``, or ``python -m advanced_optimizers.experiments``.

Each command imports what it needs, so that ``--help`` does not wait for torch and pandas.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from advanced_optimizers import __version__
from advanced_optimizers.experiments.compare.command import add_options
from advanced_optimizers.experiments.records.choices import ENGINES, PROFILES
from advanced_optimizers.experiments.records.paths import (
    ProjectError,
    output_root,
    project_root,
    run_store,
    this_project,
)

_INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended (128 + SIGINT)
_TERMINATED = 143  # and for one that was told to end (128 + SIGTERM)
_READER_GONE = 141  # and for one whose output nobody reads any more (128 + SIGPIPE)
_WIDEST = 100  # columns of text, in a terminal however wide


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status."""
    try:
        try:
            options = _parser().parse_args(arguments)
            with _sigterm_as_interrupt():
                return _run_command(options)
        finally:
            print(end="", flush=True)  # so that a closed pipe is noticed here and not when Python exits
    except BrokenPipeError:  # as in `advanced-optimizers list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python's own flush at exit then succeeds
        return _READER_GONE
    except KeyboardInterrupt as interrupt:
        terminated = isinstance(interrupt, _Terminated)
        print(": ".join(("terminated" if terminated else "interrupted", *map(str, interrupt.args))), file=sys.stderr)
        return _TERMINATED if terminated else _INTERRUPTED


class _Terminated(KeyboardInterrupt):
    """SIGTERM: like Ctrl-C, it ends what the command has started."""


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # others cannot set handlers, and get no signals
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_command(options: argparse.Namespace) -> int:
    try:
        if find_spec("numpy") is None:  # before torch is loaded, which would warn of it in words of its own
            raise ModuleNotFoundError(name="numpy")
        _check_folder(options)
        _load_topics(options.topic)
        status: int = options.command(options)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in {"", "advanced_optimizers", *sys.stdlib_module_names}:
            raise
        return _fail(f"{missing} is not installed: pip install 'advanced-optimizers[{options.extras}]'")
    except BrokenPipeError:
        raise
    except _expected_errors() as error:
        if getattr(options, "debug", False):
            raise
        return _fail(error)
    return status


def _check_folder(options: argparse.Namespace) -> None:
    """Raises a ProjectError where the full profile would be another project's, unless that has studies of its own."""
    if getattr(options, "profile", None) != "full" or options.topic:
        return
    try:
        this_project()
    except ProjectError as error:
        raise ProjectError(f"{error}, or use --profile quick, or --topic FILE for studies of your own") from error


def _load_topics(files: Sequence[str]) -> None:
    if files:
        from advanced_optimizers.experiments.studies.registry import load_topic_file

        for file in files:
            load_topic_file(file)


def _fail(message: object) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


def _expected_errors() -> tuple[type[Exception], ...]:
    """The errors that are explained by their message alone."""
    from advanced_optimizers.experiments.data.datasets import DataError
    from advanced_optimizers.experiments.records.record import RecordError
    from advanced_optimizers.experiments.studies.retraining import RetrainingError
    from advanced_optimizers.experiments.studies.running import StudyError
    from advanced_optimizers.experiments.studies.study import MissingRunsError

    # An OSError names the file that could not be read or written, for example because the disk is full.
    return ValueError, OSError, ProjectError, DataError, RecordError, StudyError, RetrainingError, MissingRunsError


# --- Commands --------------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    from advanced_optimizers.experiments.records.record import RecordError
    from advanced_optimizers.experiments.studies.registry import STUDIES
    from advanced_optimizers.experiments.studies.running import recorded_configs
    from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

    studies = [study for _, study in sorted(STUDIES.items())]
    choices = dict.fromkeys(name for study in studies for name in study.datasets)
    if options.dataset is not None:
        studies = [study.on(options.dataset) for study in studies if options.dataset in study.datasets]
        if not studies:
            return _fail(f"dataset must be one of {', '.join(choices)}, got {options.dataset!r}")
    wide = max(len(study.name) for study in studies)
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    problems: list[str] = []
    print("Studies")
    for (_, title), profiles in groupby(studies, key=lambda study: (study.name, study.title)):
        for study in profiles:
            try:
                recorded = f"{len(recorded_configs(study, run_store(study.profile))):3} runs recorded"
            except RecordError as error:
                recorded = "a damaged record"
                problems.append(str(error))
            tasks = ", ".join(task.name for task in study.tasks)
            print(f"  {study.name:{wide}} {study.profile:5} {recorded}  {tasks}")
        print(textwrap.fill(title, width, initial_indent=" " * 4, subsequent_indent=" " * 4), end="\n\n")
    if choices and options.dataset is None:
        print(f"Datasets to choose from with --dataset, where a study names the first: {', '.join(choices)}\n")

    print("Algorithms")
    wide = max(map(len, ALGORITHMS))
    for name, algorithm in ALGORITHMS.items():
        print(f"  {name:{wide}} {algorithm.label}")
    return _fail("\n".join(problems)) if problems else 0


def _run(options: argparse.Namespace) -> int:
    from advanced_optimizers.experiments.studies.registry import get_study
    from advanced_optimizers.experiments.studies.running import Workers, run_study

    study = get_study(options.study, options.profile, options.dataset)
    workers = Workers(options.jobs, options.engine, options.device)
    outcome = run_study(study, run_store(options.profile), workers, retrain=options.retrain)
    print(f"{study.name} ({study.profile}): {outcome.loaded} runs loaded, {outcome.trained} trained")
    return 0


def _show(options: argparse.Namespace) -> int:
    from advanced_optimizers.experiments.report.lookup import Wanted, describe_runs
    from advanced_optimizers.experiments.report.results.results import results_of
    from advanced_optimizers.experiments.studies.registry import get_study

    study = get_study(options.study, options.profile, options.dataset)
    results = results_of(study, output_root(options.profile))
    wanted = Wanted(**{name: getattr(options, name) for name in Wanted.__dataclass_fields__})
    if wanted.anything:
        print("\n".join(describe_runs(results, wanted, lambda run_id: _again(options.topic, study.arguments, run_id))))
        return 0
    print(results.loaded)
    if study.dataset is not None:
        print(f"no claim is decided on {study.dataset}: the study's claims are about the datasets that it names")
    if options.profile == "quick":  # the full profile's figures belong to the report, which draws them
        for path in results.write():
            print(f"written: {path.relative_to(project_root())}")
    for name, table in results.tables.items():
        print(f"\n{name}\n{table.to_string(index=False)}")
    return 0


def _again(topics: Sequence[str], study: str, run_id: str) -> str:
    """The command that trains a run again and compares it with its record."""
    loaded = "".join(f"--topic {shlex.quote(file)} " for file in topics)
    return f"{_program()} {loaded}reproduce {study} --only {run_id}"


def _reproduce(options: argparse.Namespace) -> int:
    from advanced_optimizers.experiments.studies.registry import get_study
    from advanced_optimizers.experiments.studies.reproducing import reproduce, summary
    from advanced_optimizers.experiments.studies.running import Workers

    study = get_study(options.study, options.profile, options.dataset)
    workers = Workers(options.jobs, options.engine, options.device)
    reproductions = reproduce(study, run_store(options.profile), workers, options.only)
    for reproduction in reproductions:
        print(reproduction)
    print(summary(reproductions))
    return 0 if all(reproduction.judgment in ("identical", "within") for reproduction in reproductions) else 1


def _compare(options: argparse.Namespace) -> int:
    from advanced_optimizers.experiments.compare.command import run

    return run(options)


def _notebooks(options: argparse.Namespace) -> int:
    from advanced_optimizers.experiments.report.notebooks import NotebookError, run_notebooks

    try:
        run_notebooks(options.profile)
    except NotebookError as error:
        return _fail(error)
    return 0


def _report(options: argparse.Namespace) -> int:
    from advanced_optimizers.experiments.report.report import run_report

    problems = run_report(this_project(), check=options.check)
    for problem in problems:
        print(problem, file=sys.stderr)
    if options.check and not problems:
        print("the report and the README agree with the records")
    return 1 if problems else 0


def _adopt(options: argparse.Namespace) -> int:
    import_module("advanced_optimizers.experiments.studies")  # where the kinds of records come from

    path = run_store(options.profile).update_manifest(adopt=True)
    print(f"written: {path.relative_to(project_root())}")
    return 0


# --- Options ---------------------------------------------------------------------------------------------------------

_PROFILE_HELP = "quick: small digits, in minutes; full: MNIST and CIFAR-10, in hours (default: quick)"
_EXAMPLES = """\
examples:
  {prog} list
  {prog} compare mine.py:Mine
  {prog} run STUDY
  {prog} show STUDY --profile full --task TASK --algorithm ALGORITHM --seed 0
  {prog} reproduce STUDY --profile full --only RUN_ID

`{prog} COMMAND --help` describes the options of a command.
"""


def _program() -> str:
    """The command line's own name, as it was called."""
    installed = Path(sys.argv[0]).stem == "advanced-optimizers"
    return "advanced-optimizers" if installed else "python -m advanced_optimizers.experiments"


def _parser() -> argparse.ArgumentParser:
    prog = _program()
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train the studies, reproduce recorded runs, and write the report.",
        epilog=_EXAMPLES.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=f"advanced-optimizers {__version__}")
    parser.add_argument(
        "--topic",
        action="append",
        default=[],
        metavar="FILE",
        help="a Python file with your own TOPIC; repeatable",
    )
    parser.set_defaults(command=lambda _: _explain(parser))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(command=command, extras="experiments")
        return added

    listing = add("list", _list, "list the studies, how many of their runs are recorded, and the algorithms")
    listing.add_argument("--dataset", metavar="NAME", help="only the studies with this choice, trained on it")
    run = add("run", _run, "train the runs of a study that have no record")
    run.add_argument("--retrain", action="store_true", help="train all of them again and replace their records")
    show = add(
        "show", _show, "print a study's tables and verdicts, or the runs behind a number: values, files, command"
    )
    _add_filters(show)
    again = add("reproduce", _reproduce, "train recorded runs again and compare each with its record")
    again.add_argument(
        "--only", nargs="+", default=[], metavar="RUN_ID", help="ids of runs, or their first characters (default: all)"
    )
    for command in (run, show, again):
        _add_study(command)
    for command in (run, again):
        _add_workers(command)
    notebooks = add("notebooks", _notebooks, "execute every notebook from top to bottom")
    notebooks.add_argument("--profile", choices=PROFILES, default="quick", help=_PROFILE_HELP)
    notebooks.set_defaults(extras="experiments,notebooks")
    report = add("report", _report, "fill the generated parts of the README and the report, in both languages")
    report.add_argument("--check", action="store_true", help="change nothing; fail if they differ from the records")
    add_options(
        add(
            "compare", _compare, "put an optimizer of your own to the test, on your own network and images if you like"
        ),
        prog,
    )
    adopt = add("adopt", _adopt, "list records of a version without checksums in the manifest, as they are")
    adopt.add_argument("--profile", choices=PROFILES, default="quick", help=_PROFILE_HELP)
    return parser


def _explain(parser: argparse.ArgumentParser) -> int:
    parser.print_help(sys.stderr)
    parser.exit(2)


def _add_study(command: argparse.ArgumentParser) -> None:
    command.add_argument("study", help="name of a study; `list` shows them all")
    command.add_argument("--profile", choices=PROFILES, default="quick", help=_PROFILE_HELP)
    command.add_argument(
        "--dataset",
        metavar="NAME",
        help="in the full profile, train on this dataset where the study offers a choice, such as cifar10 for "
        "cifar10-jpeg; with its own records, and without verdicts",
    )


def _add_filters(command: argparse.ArgumentParser) -> None:
    filters = command.add_argument_group("runs", "with any of these, the runs that fit all of them are shown")
    filters.add_argument("--task", help="dataset and model, such as mnist-mlp")
    filters.add_argument("--algorithm", help="name of an algorithm; `list` shows them all")
    filters.add_argument(
        "--noise", type=float, metavar="FRACTION", help="fraction of wrong training labels, such as 0.2"
    )
    filters.add_argument("--seed", type=int, help="seed of the run")
    filters.add_argument("--metric", help="what to print, such as test_accuracy (default: what the study compares)")
    filters.add_argument("--trials", action="store_true", help="the tuning trials instead of the comparison's runs")
    filters.add_argument("--only", nargs="+", default=(), metavar="RUN_ID", help="ids, or their first characters")


def _add_workers(command: argparse.ArgumentParser) -> None:
    jobs = os.cpu_count() or 1
    command.add_argument(
        "--jobs", type=int, default=jobs, metavar="N", help=f"runs at a time, one thread each (default here: {jobs})"
    )
    command.add_argument(
        "--engine", choices=ENGINES, default="loky", help="loky: this machine; ray, dask: a cluster (default: loky)"
    )
    command.add_argument("--device", default="cpu", help="where each run trains, such as cpu or cuda (default: cpu)")


if __name__ == "__main__":
    sys.exit(main())
