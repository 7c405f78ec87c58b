"""The results of a study of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from advanced_optimizers.experiments.report.recorded import RecordedStudy
from advanced_optimizers.experiments.report.study_results import StudyResults
from advanced_optimizers.experiments.report.sweep_results import SweepResults
from advanced_optimizers.experiments.studies.study import BaseStudy, Study
from advanced_optimizers.experiments.studies.sweep import WidthSweep

# What shows a kind of study; a kind that is added gets its row here.
RESULTS: dict[type[BaseStudy], type[RecordedStudy[Any]]] = {Study: StudyResults, WidthSweep: SweepResults}


def results_of(study: BaseStudy, root: Path) -> RecordedStudy[Any]:
    """The recorded runs of a study and what follows from them.

    Args:
        study: The study.
        root: The folder that holds ``results/`` and ``figures/``.
    """
    return RESULTS[type(study)](study, root)
