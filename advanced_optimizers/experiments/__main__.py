"""The command line: python -m advanced_optimizers.experiments {list,run,reproduce,notebooks,report}."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from advanced_optimizers.experiments.data.datasets import DataError
from advanced_optimizers.experiments.records.paths import PROFILES, project_root, run_store
from advanced_optimizers.experiments.records.record import RecordError
from advanced_optimizers.experiments.studies.registry import STUDIES, get_study
from advanced_optimizers.experiments.studies.running import (
    ENGINES,
    StudyError,
    Workers,
    recorded_configs,
    reproduce,
    run_study,
)
from advanced_optimizers.experiments.studies.study import MissingRunsError
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options)
    except (ValueError, DataError, RecordError, StudyError, MissingRunsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status


def _list(options: argparse.Namespace) -> int:
    print("Studies")
    wide = max(len(name) for name, _ in STUDIES)
    for (name, profile), study in sorted(STUDIES.items()):
        store = run_store(profile)
        tasks = ", ".join(task.name for task in study.tasks)
        recorded = len(recorded_configs(study, store))
        print(f"  {name:{wide}} {profile:6} {recorded:4} runs recorded  {tasks}\n{'':{wide + 9}} {study.title}")
    print("\nAlgorithms")
    wide = max(map(len, ALGORITHMS))
    for name, algorithm in ALGORITHMS.items():
        print(f"  {name:{wide}} {algorithm.label}")
    return 0


def _run(options: argparse.Namespace) -> int:
    study = get_study(options.study, options.profile)
    workers = Workers(options.jobs, options.engine, options.device)
    outcome = run_study(study, run_store(options.profile), workers, retrain=options.retrain)
    print(f"{study.name} ({study.profile}): {outcome.loaded} runs loaded, {outcome.trained} trained")
    return 0


def _reproduce(options: argparse.Namespace) -> int:
    study = get_study(options.study, options.profile)
    workers = Workers(options.jobs, options.engine, options.device)
    reproductions = reproduce(study, run_store(options.profile), workers, options.only)
    for reproduction in reproductions:
        print(reproduction)
    same = sum(reproduction.identical for reproduction in reproductions)
    print(f"{same} of {len(reproductions)} runs came back bit for bit")
    return 0 if same == len(reproductions) else 1


def _notebooks(options: argparse.Namespace) -> int:
    from advanced_optimizers.experiments.report.notebooks import NotebookError, run_notebooks

    try:
        run_notebooks(options.profile)
    except NotebookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _report(options: argparse.Namespace) -> int:
    from advanced_optimizers.experiments.report.report import run_report

    problems = run_report(project_root(), check=options.check)
    for problem in problems:
        print(problem, file=sys.stderr)
    if options.check and not problems:
        print("the report and the README agree with the records")
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m advanced_optimizers.experiments", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="the studies and the algorithms")
    listing.set_defaults(command=_list)

    run = commands.add_parser("run", help="train the runs of a study that have no record")
    run.add_argument("--retrain", action="store_true", help="train all of them again and replace their records")
    run.set_defaults(command=_run)

    again = commands.add_parser("reproduce", help="train recorded runs again and compare, run by run")
    again.add_argument("--only", nargs="+", default=[], metavar="RUN_ID", help="beginnings of run ids; default: all")
    again.set_defaults(command=_reproduce)

    for command in (run, again):
        command.add_argument("study", help="such as fer; see list")
        command.add_argument("--profile", choices=PROFILES, default="quick", help="default: quick")
        jobs = os.cpu_count() or 1
        command.add_argument("--jobs", type=int, default=jobs, help=f"runs at a time, one thread each; default {jobs}")
        command.add_argument("--engine", choices=ENGINES, default="loky", help="this machine, or a cluster")
        command.add_argument("--device", default="cpu", help="where each run trains; default: cpu")

    notebooks = commands.add_parser("notebooks", help="execute every notebook from top to bottom")
    notebooks.add_argument("--profile", choices=PROFILES, default="quick", help="default: quick")
    notebooks.set_defaults(command=_notebooks)

    report = commands.add_parser("report", help="fill the generated parts of README.md and coursework_report.md")
    report.add_argument("--check", action="store_true", help="change nothing; fail when they differ from the records")
    report.set_defaults(command=_report)
    return parser


if __name__ == "__main__":
    sys.exit(main())
