"""Checkpoints of runs in progress: bound to the run, data and software that they continue, and verified when loaded.

A file holds a SHA-256 of the rest, a line of JSON with what the checkpoint is bound to, and what ``torch.save`` wrote.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from advanced_optimizers.experiments.records.record import RecordError
from advanced_optimizers.experiments.records.writing import write_atomically

_DIGEST_LENGTH = 64  # SHA-256 in hexadecimal


def save_checkpoint(path: Path, state: dict[str, Any], binding: Mapping[str, Any]) -> None:
    """Writes a state of tensors and plain values, replacing an older one.

    Args:
        path: The file.
        state: The state.
        binding: What must be the same when the run goes on, as JSON scalars by name.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = json.dumps(dict(binding)).encode() + b"\n" + buffer.getvalue()
    write_atomically(path, hashlib.sha256(content).hexdigest().encode() + content)


def load_checkpoint(path: Path, device: torch.device, binding: Mapping[str, Any]) -> dict[str, Any] | None:
    """Reads what :func:`save_checkpoint` wrote.

    Args:
        path: The file.
        device: Where the tensors go.
        binding: What the run is now. If the checkpoint is bound to something else, a warning names the difference.

    Returns:
        The state; None if there is no checkpoint, or if it is bound to something else.

    Raises:
        RecordError: The file is damaged; the message names it.
    """
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise damaged_checkpoint(path, error.strerror or str(error)) from error
    digest, content = whole[:_DIGEST_LENGTH], whole[_DIGEST_LENGTH:]
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise damaged_checkpoint(path, "its checksum is wrong")
    line, _, saved = content.partition(b"\n")
    different = _differences(line, binding)
    if different:
        warnings.warn(f"the checkpoint {path} is not used, the run starts over: {different}", stacklevel=2)
        return None
    try:
        state = torch.load(io.BytesIO(saved), weights_only=True, map_location=device)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError):
        # Not from the error: it advises to load the file without a check.
        raise damaged_checkpoint(path, "it holds something else than tensors and plain values") from None
    if not isinstance(state, dict):
        raise damaged_checkpoint(path, "it holds no state")
    return state


def damaged_checkpoint(path: Path, reason: str) -> RecordError:
    """The error for a checkpoint that cannot be used."""
    return RecordError(
        f"the checkpoint {path} is damaged: {reason}. Delete it and run the study again: this run will start from its "
        "first epoch, and the other runs are untouched"
    )


def _differences(line: bytes, binding: Mapping[str, Any]) -> str:
    """What a checkpoint is bound to and the run is not, in words; empty if they agree."""
    try:
        saved = json.loads(line)
    except ValueError:  # written before checkpoints were bound to anything
        saved = None
    if not isinstance(saved, dict):
        return "it does not say which run, data and code it continues"
    names = [*binding, *(name for name in saved if name not in binding)]
    return ", ".join(
        f"{name} was {saved.get(name)!r} and is {binding.get(name)!r}"
        for name in names
        if saved.get(name) != binding.get(name)
    )
