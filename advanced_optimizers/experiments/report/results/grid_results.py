"""The results of a comparison that is tuned on a grid of learning rates: also its accuracy by rate, for every arm."""

from __future__ import annotations

from functools import cached_property, partial

import pandas as pd

from advanced_optimizers.experiments.evidence.labels import label, labels
from advanced_optimizers.experiments.evidence.metrics import noise_words
from advanced_optimizers.experiments.evidence.rates import rate_points
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.report.figures import notes, rate_plots
from advanced_optimizers.experiments.report.results.recorded import StudyFigure
from advanced_optimizers.experiments.report.results.study_results import StudyResults
from advanced_optimizers.experiments.studies.grid import GridStudy


class GridResults(StudyResults):
    """The recorded runs of a comparison whose learning rates are tuned on a grid, and what follows from them."""

    study: GridStudy

    @property
    def protocol(self) -> pd.DataFrame:
        """How long and on what the study trains, and its grid, one row per task."""
        (noise,), rates = self.study.label_noises, self.study.rates
        return pd.DataFrame(
            {
                "Task": label(task.name),
                "Training images": f"{100 * task.data_fraction:.3g} %",
                "Epochs": task.epochs,
                "Batch size": task.batch_size,
                "Labels": noise_words(noise),
                "Seeds": len(self.study.seeds),
                "Tuning, for each algorithm": f"{len(rates)} constant rates from {rates[0]:g} to {rates[-1]:g}, one "
                f"trial of {task.tuning_epochs} epochs each, on held-out images with the same noise",
            }
            for task in self.study.tasks
        )

    @cached_property
    def figures(self) -> dict[str, StudyFigure]:
        """The study's figures by file name, with that of its tuning trials by learning rate."""
        trials = [record for config in self.study.tuning_configs() if (record := self.store.load(config)) is not None]
        if not trials:
            return super().figures
        points = rate_points(records_frame(trials))
        draw = partial(rate_plots.error_by_rate, labels=labels(), algorithms=self.study.algorithms)
        (noise,) = self.study.label_noises
        figure = StudyFigure(
            f"validation error by learning rate, {noise_words(noise)} ({len(points)} trials)",
            partial(draw, points, quantity="Validation error"),
            tuple(points["run_id"]),
            note=notes.error_by_rate(points),
        )
        return {**super().figures, f"{self.study.name}-rates": figure}
