"""The tuning trials of a study as they are recorded, and what follows from them for every comparison."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pandas as pd

from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.evidence.tunings import expected_best, score
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.figures import tuning_plots
from advanced_optimizers.experiments.report.results.recorded import StudyFigure
from advanced_optimizers.experiments.report.tables import tuning_tables
from advanced_optimizers.experiments.report.tables.tuning_tables import Tuning
from advanced_optimizers.experiments.studies.study import MissingRunsError, Study


def finished_tunings(study: Study, store: RunStore) -> list[Tuning]:
    """The tunings of a study whose trials are all recorded and of which not all diverged."""
    found = []
    for task in study.tasks:
        for algorithm in study.algorithms_on(task):
            if algorithm in study.tuned_as or algorithm in study.untuned:
                continue
            with suppress(MissingRunsError):
                trials = study.trial_records(store, task, algorithm)
                if any(trial.status == "completed" for trial in trials):
                    tried = [config.hyperparameters for config in study.trial_configs(task, algorithm)]
                    space = study.search_space(task, algorithm)
                    found.append(Tuning(task.name, algorithm, space, trials, tried, study.tie))
    return found


def expected_frame(tunings: list[Tuning]) -> pd.DataFrame:
    """The expected lowest validation error after each number of trials, one row per tuning and number."""
    return pd.DataFrame(
        {"task": t.task, "algorithm": t.algorithm, "trials": k, "error": 1 - best}
        for t in tunings
        for k, best in enumerate(expected_best([score(trial) for trial in t.trials]), start=1)
    )


def tuning_tables_of(study: Study, store: RunStore) -> dict[str, pd.DataFrame]:
    """The table of a study's chosen values and their ranges, by file name."""
    tunings = finished_tunings(study, store)
    if not tunings:
        return {}
    return {f"{study.name}-ranges": tuning_tables.ranges_table(tunings, labels=labels())}


def tuning_figures_of(study: Study, store: RunStore) -> dict[str, StudyFigure]:
    """The figure of a study's expected best trial by the number of trials, by file name."""
    tunings = finished_tunings(study, store)
    if not tunings:
        return {}
    run_ids = tuple(trial.run_id for tuning in tunings for trial in tuning.trials)
    return {
        f"{study.name}-trials": StudyFigure(
            f"expected lowest validation error by the number of trials ({len(run_ids)} trials)",
            partial(tuning_plots.expected_error, expected_frame(tunings), labels=labels(), algorithms=study.algorithms),
            run_ids,
            note="The mean over all choices of that many of the recorded trials, without replacement; a trial that "
            "diverged counts as guessing. The scale is logarithmic.",
        )
    }
