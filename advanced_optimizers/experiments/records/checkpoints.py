"""Checkpoints of runs in progress: written atomically, and verified before they are loaded."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from advanced_optimizers.experiments.records.record import RecordError

_DIGEST_LENGTH = 64  # SHA-256 in hexadecimal, stored before the content


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes a state of tensors and plain values, replacing an older one."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(hashlib.sha256(content).hexdigest().encode() + content)
    os.replace(temporary, path)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Reads what :func:`save_checkpoint` wrote.

    Raises:
        RecordError: The file is damaged; the message names it.
    """
    whole = path.read_bytes()
    digest, content = whole[:_DIGEST_LENGTH], whole[_DIGEST_LENGTH:]
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise RecordError(
            f"the checkpoint {path} is damaged: its checksum is wrong. Delete it and run the study again: this run "
            "will start from its first epoch, and the other runs are untouched"
        )
    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True, map_location=device)
    return state
