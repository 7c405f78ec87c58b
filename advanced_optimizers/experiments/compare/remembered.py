"""Comparisons that were asked for before: the same question about the same files has its answer at once.

Importing torch and its friends takes longer than reading an answer, so this module imports none of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parents[2]
_FOLDER = ".asked"


def ask(question: Mapping[str, Any], out: str | None) -> dict[str, Any] | None:
    """The answer to a question, if all files that it depends on are as they were; otherwise None.

    Args:
        question: The options of the command.
        out: The folder of results, if it was given.
    """
    try:
        kept = json.loads(_place(question, out).read_text(encoding="utf-8"))
        same = kept["state"] == _state(kept["files"], kept["folders"])
        return kept["answer"] if same else None
    except (OSError, ValueError, KeyError, TypeError):  # none, or of another version
        return None


def remember(
    question: Mapping[str, Any],
    out: str | None,
    answer: Mapping[str, Any],
    *,
    files: Iterable[Path],
    folders: list[Path],
) -> None:
    """Keeps an answer.

    Args:
        question: See :func:`ask`.
        out: See :func:`ask`.
        answer: What is kept, as JSON.
        files: The files that it depends on, and those that were written.
        folders: The folders of records and data that it depends on.
    """
    from advanced_optimizers.experiments.records.writing import write_atomically

    of = {"files": sorted(map(str, files)), "folders": sorted(map(str, folders))}
    content = {**of, "state": _state(of["files"], of["folders"]), "answer": dict(answer)}
    write_atomically(_place(question, out), json.dumps(content) + "\n")


def _place(question: Mapping[str, Any], out: str | None) -> Path:
    key = hashlib.sha256(json.dumps(dict(question), sort_keys=True, default=str).encode()).hexdigest()[:16]
    return Path(out or "compare") / _FOLDER / f"{key}.json"


def _state(files: Iterable[str], folders: Iterable[str]) -> str:
    """A hash of names, sizes and times of the files, of all files in the folders, and of this package."""
    inside = (path for folder in folders for path in sorted(Path(folder).rglob("*")) if path.is_file())
    everything = (*map(Path, files), *inside, *sorted(_PACKAGE.rglob("*.py")))
    stated = [(str(path), (known := path.stat()).st_size, known.st_mtime_ns) for path in everything]
    return hashlib.sha256(json.dumps(stated).encode()).hexdigest()
