"""The record of a run: its result, written once and never edited."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from advanced_optimizers.experiments.records import checks
from advanced_optimizers.experiments.records.config import BaseConfig, config_from

STATUSES = ("completed", "diverged")
# Guessing costs ln(classes); a run that ends at this share of it, or above, has learned nothing.
_UNLEARNT = 0.98
# Records from before ``num_classes`` was kept are all of data with ten classes.
_CLASSES = 10
# Studies share records, and each asks for its own: how many are kept as they were read and checked, some 20 kB each.
_KEPT = 4096


class RecordError(RuntimeError):
    """A record or a checkpoint is damaged; the message names the file and says what to do."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The result of one run. Written once, never edited.

    Attributes:
        config: The configuration that was run.
        status: ``completed``, or ``diverged`` when the loss stopped being finite.
        environment: Versions, commit, device, threads, data checksum, start time.
        curves: One list per metric, one value per epoch, or per whatever the run's kind counts. Accuracies and errors
            are fractions in [0, 1]; ``seconds`` (wall clock) and ``cpu_seconds`` (of the process) are those of
            training, without evaluation.
        final: The last value of each curve.
        total_seconds: Wall-clock seconds of training and evaluation, summed over interruptions.
        peak_memory_bytes: Peak memory of the process, or of the accelerator if one was used.
    """

    config: BaseConfig
    status: str
    environment: dict[str, Any]
    curves: dict[str, list[float | None]]
    final: dict[str, float | None]
    total_seconds: float
    peak_memory_bytes: int

    @property
    def run_id(self) -> str:
        """The configuration's id."""
        return self.config.run_id

    @property
    def guessing(self) -> float:
        """The accuracy of guessing among as many classes as there are."""
        return 1 / self.environment.get("num_classes", _CLASSES)

    @property
    def unlearnt(self) -> bool:
        """Whether the last training loss is that of guessing, at least 98 % of ln(classes), or not finite.

        A rate that is far too small, or an optimizer that waits, leaves no other trace: the loss stays finite. Some
        methods report another loss than the cross-entropy, so the training accuracy must be less than twice that of
        guessing as well.
        """
        if "train_loss" not in self.final:  # a run of a kind that trains nothing
            return False
        classes = self.environment.get("num_classes", _CLASSES)
        loss, accuracy = self.final["train_loss"], self.final.get("train_accuracy")
        guessing = accuracy is None or accuracy < 2 / classes
        return loss is None or (guessing and loss >= _UNLEARNT * math.log(classes))

    def outcome(self) -> dict[str, Any]:
        """The part that the same configuration reproduces bit for bit on one machine: all except time and memory."""
        curves = {
            name: checks.finite_or_null(values)
            for name, values in self.curves.items()
            if not name.endswith("seconds")  # seconds, cpu_seconds, search_seconds, ...
        }
        return {"run_id": self.run_id, "status": self.status, "curves": curves}

    def to_json(self) -> str:
        """The record as JSON, with a checksum of its content; values that are not finite become null."""
        own = {known.name: getattr(self, known.name) for known in fields(self)}
        content = checks.finite_or_null({"run_id": self.run_id, **own, "config": self.config.content})
        content["checksum"] = checks.content_checksum(content)
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    @staticmethod
    @lru_cache(maxsize=_KEPT)
    def from_json(text: str, listed: str | None = None) -> RunRecord:
        """Reads :meth:`to_json` back; the same text is the same record.

        Args:
            text: The record as JSON.
            listed: The SHA-256 of the text in a manifest: a record from before records had checksums needs one.

        Raises:
            ValueError: The text is not JSON, lacks a field or has an impossible one, is not what was once written, or
                has an id that is not its configuration's.
        """
        content = checks.strict_json(text)
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
        missing = {"run_id", *(f.name for f in fields(RunRecord))} - content.keys()
        if missing:
            raise ValueError(f"it lacks {sorted(missing)}")
        checks.check_source(text, content, listed)
        rest = {name: value for name, value in content.items() if name not in ("run_id", "checksum")}
        try:
            record = RunRecord(**{**rest, "config": config_from(content["config"])})
        except (TypeError, OverflowError) as error:
            raise ValueError(str(error)) from error
        record.check()
        if record.run_id != content["run_id"]:
            raise ValueError(
                f"its run_id {content['run_id']} is not that of its configuration, {record.run_id}: it was edited"
            )
        return record

    def check(self) -> None:
        """Checks that the fields can be a run's, and agree with each other.

        Raises:
            ValueError: They do not; the message says which.
        """
        if self.status not in STATUSES:
            raise ValueError(f"its status is {self.status!r} instead of {' or '.join(STATUSES)}")
        checks.check_environment(self.environment)
        checks.check_curves(self.curves, self.config.points)
        checks.check_end(self.curves, self.final, self.status, self.config.points)
        checks.check_spent(self.total_seconds, self.peak_memory_bytes)
