"""The record of a run: its result, written once and never edited."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from advanced_optimizers.experiments.records.config import RunConfig

STATUSES = ("completed", "diverged")


class RecordError(RuntimeError):
    """A record or a checkpoint is damaged; the message names the file and says what to do."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The result of one run. Written once, never edited.

    Attributes:
        config: The configuration that was run.
        status: ``completed``, or ``diverged`` when the loss stopped being finite.
        environment: Versions, commit, device, threads, data checksum, start time.
        curves: One list per metric, one value per epoch. Accuracies and errors are fractions in [0, 1]; ``seconds``
            (wall clock) and ``cpu_seconds`` (of the process) are those of training, without evaluation.
        final: The last epoch's value of each curve.
        total_seconds: Wall-clock seconds of training and evaluation, summed over interruptions.
        peak_memory_bytes: Peak memory of the process, or of the accelerator if one was used.
    """

    config: RunConfig
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

    def outcome(self) -> dict[str, Any]:
        """The part that the same configuration reproduces bit for bit on one machine: all except time and memory."""
        timing = {"seconds", "cpu_seconds", "evaluation_seconds"}
        curves = {name: _finite(values) for name, values in self.curves.items() if name not in timing}
        return {"run_id": self.run_id, "status": self.status, "curves": curves}

    def to_json(self) -> str:
        """The record as JSON; values that are not finite become null."""
        return json.dumps(_finite({"run_id": self.run_id, **asdict(self)}), indent=1, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str) -> RunRecord:
        """Reads :meth:`to_json` back.

        Raises:
            ValueError: The text is not JSON, lacks a field, or has an id that is not its configuration's.
        """
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
        missing = {"run_id", *(f.name for f in fields(RunRecord))} - content.keys()
        if missing:
            raise ValueError(f"it lacks {sorted(missing)}")
        run_id = content.pop("run_id")
        try:
            record = RunRecord(**{**content, "config": RunConfig(**content["config"])})
        except TypeError as error:
            raise ValueError(str(error)) from error
        _check_content(record)
        if record.run_id != run_id:
            raise ValueError(f"its run_id {run_id} is not that of its configuration, {record.run_id}: it was edited")
        return record


def _check_content(record: RunRecord) -> None:
    if record.status not in STATUSES:
        raise ValueError(f"its status is {record.status!r} instead of {' or '.join(STATUSES)}")
    for name, value in (("curves", record.curves), ("final", record.final)):
        if not isinstance(value, dict):
            raise ValueError(f"its field {name!r} is not an object")
    if not all(isinstance(values, list) for values in record.curves.values()):
        raise ValueError("a curve is not a list")
    if len({len(values) for values in record.curves.values()}) > 1:
        raise ValueError("its curves differ in length")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
