"""The results of a study of any kind: its recorded runs, and its verdicts, tables and figures by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from advanced_optimizers.experiments.evidence.comparisons import Measurements, RunData, Verdict
from advanced_optimizers.experiments.records.config import BaseConfig
from advanced_optimizers.experiments.records.frames import curves_frame, records_frame
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.figures import plots
from advanced_optimizers.experiments.report.tables import table_files
from advanced_optimizers.experiments.studies.registry import decide_claims
from advanced_optimizers.experiments.studies.study import BaseStudy

_AnyStudy = TypeVar("_AnyStudy", bound=BaseStudy)


@dataclass(frozen=True)
class StudyFigure:
    """A figure of a study that is not drawn yet.

    Attributes:
        caption: What it shows, in a few words; also its alternative text.
        draw: Draws it.
        run_ids: The runs that it shows.
        sources: Other files that it shows, relative to the project's root.
        note: What its marks and bands mean, and n, in sentences.
    """

    caption: str
    draw: Callable[[], Figure]
    run_ids: tuple[str, ...]
    sources: tuple[str, ...] = ()
    note: str = ""

    @property
    def full_caption(self) -> str:
        """Caption and note, as they stand under the figure."""
        return f"{self.caption[0].upper()}{self.caption[1:]}. {self.note}".rstrip()


class RecordedStudy(Generic[_AnyStudy]):
    """A study's recorded runs and what follows from them; everything is read on first use.

    Args:
        study: The study.
        root: The folder that holds ``results/``.
    """

    def __init__(self, study: _AnyStudy, root: Path) -> None:
        self.study = study
        self.root = root
        self.store = RunStore(root / "results" / "runs")

    @cached_property
    def expected(self) -> Sequence[BaseConfig]:
        """Every run that the study is based on; until tuning is finished, without those that depend on it."""
        return self.study.known_configs(self.store)

    @cached_property
    def missing(self) -> list[BaseConfig]:
        """The expected runs that have no record."""
        return [config for config in self.expected if not self.store.has(config)]

    @cached_property
    def records(self) -> list[RunRecord]:
        """The recorded runs of the comparison, without the tuning trials.

        Raises:
            RecordError: A record is damaged.
        """
        final = [config for config in self.expected if config.split != "validation"]
        return [record for config in final if (record := self.store.load(config)) is not None]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per run of the comparison."""
        return records_frame(self.records)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row per run of the comparison and epoch."""
        return curves_frame(self.records)

    @property
    def measurements(self) -> Measurements | None:
        """What was measured in addition to the runs."""
        return None

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdict on each of the study's claims, by the claim's key."""
        return decide_claims(self.study.name, RunData(self.frame, self.measurements))

    @property
    def loaded(self) -> str:
        """How many of the expected runs are recorded, and when and on what, in one line.

        A second line names the datasets whose runs were trained on different data.
        """
        total = len(self.expected)
        line = f"{total - len(self.missing)} of {total} runs loaded"
        if not self.records:
            return line
        environments = [record.environment for record in self.records]
        dates = sorted(str(environment["started_at"])[:10] for environment in environments)
        when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        machines = sorted({f"{e['device_name']}, torch {e['torch']}, {e['threads']} thread(s)" for e in environments})
        return f"{line}, recorded {when} on {'; '.join(machines)}{_mixed_data(self.records)}"

    @property
    def protocol(self) -> pd.DataFrame:
        """How long and on what the study trains, one row per task."""
        raise NotImplementedError

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """The study's tables by file name; without runs, only those that need none."""
        raise NotImplementedError

    @property
    def figures(self) -> Mapping[str, StudyFigure]:
        """The study's figures by file name, without those whose runs are missing."""
        raise NotImplementedError

    def figure(self, name: str) -> Path:
        """Draws one of the figures into ``figures/``, with the list of its runs next to it, and returns the path."""
        kept = self.figures[name]
        return plots.save_figure(kept.draw(), self.root / "figures" / f"{name}.png", kept.run_ids, kept.sources)

    def write(self) -> list[Path]:
        """Writes all tables into ``results/tables`` and draws all figures into ``figures/``; returns the files."""
        written = table_files.write_tables(self.tables, self.root / "results" / "tables")
        return [*written, *(self.figure(name) for name in self.figures)]


def _mixed_data(records: Iterable[RunRecord]) -> str:
    """A line if runs on one dataset name different checksums of their data; otherwise nothing."""
    checksums: dict[tuple[str, float, str], set[Any]] = {}
    for record in records:
        config = record.config
        part = (", ".join(config.datasets), getattr(config, "data_fraction", 1.0), config.split)
        checksums.setdefault(part, set()).add(record.environment.get("data_checksum"))
    mixed = sorted({dataset for (dataset, _, _), found in checksums.items() if len(found) > 1})
    if not mixed:
        return ""
    return f"\nnot comparable: runs on {', '.join(mixed)} were trained on different data (see their data_checksum)"
