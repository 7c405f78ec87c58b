"""Which class reads the results of which kind of study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from advanced_optimizers.experiments.report.results.grid_results import GridResults
from advanced_optimizers.experiments.report.results.kind_results import KindResults
from advanced_optimizers.experiments.report.results.rate_results import RateResults
from advanced_optimizers.experiments.report.results.recorded import RecordedStudy
from advanced_optimizers.experiments.report.results.referee_results import RefereeResults
from advanced_optimizers.experiments.report.results.study_results import StudyResults
from advanced_optimizers.experiments.report.results.sweep_results import SweepResults
from advanced_optimizers.experiments.report.results.variant_results import (
    MovedRangesResults,
    RetuningResults,
    TrialLengthResults,
    UntunedResults,
)
from advanced_optimizers.experiments.studies.grid import GridStudy
from advanced_optimizers.experiments.studies.kind_study import KindStudy
from advanced_optimizers.experiments.studies.rate_sweep import RateSweep
from advanced_optimizers.experiments.studies.referee import Referee
from advanced_optimizers.experiments.studies.study import BaseStudy, Study
from advanced_optimizers.experiments.studies.sweep import WidthSweep
from advanced_optimizers.experiments.studies.variants import MovedRanges, Retuning, TrialLength, Untuned

# The class for the results of each kind of study; a new kind needs a row here, before the kinds that it is made from.
RESULTS: dict[type[BaseStudy], type[RecordedStudy[Any]]] = {
    GridStudy: GridResults,
    Study: StudyResults,
    WidthSweep: SweepResults,
    Retuning: RetuningResults,
    TrialLength: TrialLengthResults,
    Untuned: UntunedResults,
    MovedRanges: MovedRangesResults,
    Referee: RefereeResults,
    RateSweep: RateResults,
    KindStudy: KindResults,
}


def results_of(study: BaseStudy, root: Path) -> RecordedStudy[Any]:
    """The recorded runs of a study and what follows from them.

    Args:
        study: The study.
        root: The folder that holds ``results/`` and ``figures/``.

    Raises:
        TypeError: Nothing shows studies of this kind.
    """
    for kind, results in RESULTS.items():
        if isinstance(study, kind):
            return results(study, root)
    raise TypeError(
        f"the study {study.name} is a {type(study).__name__}, and report.results.RESULTS has no results for that kind"
    )
