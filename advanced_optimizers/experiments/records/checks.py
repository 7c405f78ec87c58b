"""What a record must be to be believed. Each check raises a ValueError whose message says what is wrong."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

Curves = Mapping[str, list[float | None]]

# The fields of an environment that a record must have, and their types; a record may have more.
_TEXT, _OR_NONE = (str,), (type(None),)
ENVIRONMENT: dict[str, tuple[type, ...]] = {
    "package_version": _TEXT,
    "git_commit": (*_TEXT, *_OR_NONE),  # None outside of git
    "git_dirty": (bool, *_OR_NONE),
    "python": _TEXT,
    "torch": _TEXT,
    "device": _TEXT,
    "device_name": _TEXT,
    "threads": (int,),
    "data_checksum": _TEXT,
    "started_at": _TEXT,
    "finished_at": _TEXT,
}
# Those that records have since they keep them.
_LATER: dict[str, tuple[type, ...]] = {
    **{name: _TEXT for name in ("blas", "numpy", "numpy_blas", "cpu_capability")},
    "num_classes": (int,),
}


def strict_json(text: str) -> Any:
    """Reads JSON in which no object has a key twice, and every number is finite.

    Raises:
        ValueError: It is something else, or nested too deeply to be read.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def finite_or_null(value: Any) -> Any:
    """The value with None in place of every number in it that is not finite, as JSON has it."""
    if isinstance(value, dict):
        return {key: finite_or_null(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite_or_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def content_checksum(content: Mapping[str, Any]) -> str:
    """The SHA-256 of a record's content, as canonical JSON, without the field ``checksum`` itself."""
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def text_checksum(text: str) -> str:
    """The SHA-256 of a file's text, whatever its line ends."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


def check_source(text: str, content: Mapping[str, Any], listed: str | None) -> None:
    """Checks that a record is what was once written.

    Args:
        text: The record's JSON.
        content: What it says. Its ``checksum`` decides, if it has one.
        listed: The checksum of the text in a manifest, which decides otherwise.
    """
    if "checksum" in content:
        if content["checksum"] != content_checksum(content):
            raise ValueError("its content is not that of its checksum: it was edited")
    elif listed is None:
        raise ValueError(
            "it has no checksum, and no manifest lists it; if it is as it was recorded by a version without checksums, "
            "the command `adopt` lists it"
        )
    elif listed != text_checksum(text):
        raise ValueError("its content is not what the manifest lists: it was edited")


def check_environment(environment: Any) -> None:
    """Checks that an environment has all its fields."""
    if not isinstance(environment, dict):
        raise ValueError("its field 'environment' is not an object")
    for name in ENVIRONMENT:
        if name not in environment:
            raise ValueError(f"its environment lacks {name!r}")
    for name, types in (ENVIRONMENT | _LATER).items():
        if name in environment and type(environment[name]) not in types:
            raise ValueError(f"its environment has {environment[name]!r} as {name!r}")


def check_curves(curves: Any, epochs: int) -> int:
    """Checks the curves of a run of so many epochs, finished or not; returns how many epochs they have."""
    if not isinstance(curves, dict) or not curves:
        raise ValueError("its field 'curves' is not an object with curves")
    for name, values in curves.items():
        if not isinstance(values, list):
            raise ValueError(f"the curve {name!r} is not a list")
        if not all(value is None or (type(value) is float and math.isfinite(value)) for value in values):
            raise ValueError(f"the curve {name!r} has a value that is not a finite decimal number")
        _check_range(name, values)
    lengths = {len(values) for values in curves.values()}
    if len(lengths) > 1:
        raise ValueError("its curves differ in length")
    (length,) = lengths
    if not 1 <= length <= epochs:
        raise ValueError(f"its curves have {length} values, for a run of {epochs} epochs")
    return length


def check_end(curves: Curves, final: Any, status: str, epochs: int) -> None:
    """Checks that ``final`` has the last value of each curve, and that the run ended where its status says."""
    if not isinstance(final, dict):
        raise ValueError("its field 'final' is not an object")
    last = {name: values[-1] for name, values in curves.items()}
    wrong = sorted(n for n in {*final, *last} if n not in final or n not in last or not _same(final[n], last[n]))
    if wrong:
        raise ValueError(f"its field 'final' is not the end of its curves ({', '.join(wrong)}): it was edited")
    length = len(next(iter(curves.values())))
    if status == "completed" and length != epochs:
        raise ValueError(f"its curves have {length} values, for a completed run of {epochs} epochs")
    if "train_loss" in last and (last["train_loss"] is None) != (status == "diverged"):
        raise ValueError(f"its status is {status!r} and its last training loss {last['train_loss']}")


def check_spent(total_seconds: Any, peak_memory_bytes: Any) -> None:
    """Checks the time and the memory that a run took."""
    if type(total_seconds) is not float or not 0.0 <= total_seconds < math.inf:
        raise ValueError(f"its total_seconds are {total_seconds!r}")
    if type(peak_memory_bytes) is not int or peak_memory_bytes < 0:
        raise ValueError(f"its peak_memory_bytes are {peak_memory_bytes!r}")


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and value == other


def _check_range(name: str, values: list[float | None]) -> None:
    """Accuracies are fractions, and time does not run backward."""
    known = [value for value in values if value is not None]
    if name.endswith("_accuracy") and not all(0.0 <= value <= 1.0 for value in known):
        raise ValueError(f"the curve {name!r} has a value outside [0, 1]")
    if (name == "seconds" or name.endswith("_seconds")) and not all(value >= 0.0 for value in known):
        raise ValueError(f"the curve {name!r} has a value below 0")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has the key {next(n for n in names if names.count(n) > 1)!r} twice")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
