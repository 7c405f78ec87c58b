"""Which generated blocks are figures and tables with a number, and the captions of tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from advanced_optimizers._checks import check_known
from advanced_optimizers.experiments.evidence.metrics import METRICS
from advanced_optimizers.experiments.report.documents.numbering import Numbered
from advanced_optimizers.experiments.studies.registry import TOPICS

# Captions of blocks that are figures or tables, by key. A study's tables have captions by the end of their names, see
# below; a figure and a generated file have their own.
_BLOCKS: Mapping[str, str] = {
    "verdict-counts": "Verdicts by group of claims.",
    "headlines": "The main claim about each method, and its verdict.",
    "search-spaces": "Hyperparameters that were searched, and their ranges.",
    "trial-lengths": "Lengths of tuning trials and runs.",
    "protocol": "How long and on what is trained.",
    "edges": "Choices at the edge of their range.",
    "statements": "Every statement, its word, and what was found.",
    "gains": "What each topic brings over its baseline, and what it needs.",
    "claims": "Claims, verdicts and evidence",
    "differences": "Differences between algorithms",
    "shared-sentences": "Sentences that several rules share.",
    "rules": "Rules",
    "changed-rules": "Claims whose rule was changed, and the two verdicts.",
    "former-rules": "The rules as they were.",
    "spaces": "Search spaces, defaults and schedules.",
    "remade": "The source's table, remade.",
    "conclusions": "The source's conclusions, and the verdicts on them.",
    "file": "",
    "figure": "",
    "table": "",
}
# What the tables of a study hold, by the end of their names.
_TABLES: Mapping[str, str] = {
    "overhead": "Seconds per epoch, and their ratio to the base's",
    "hyperparameters": "What tuning chose",
    "ranges": "What tuning chose, and from which ranges",
    "epochs": "Epochs to a fixed test accuracy",
    "stated": "What the source states, and what was found here",
    "claims": "Claims and verdicts",
    "accuracy": "Test accuracy",
    "metrics": "Everything that is compared",
    "choices": "What is chosen, and what it leads to",
    "verdicts": "Differences to each anchor, and verdicts",
    "tunability": "How much tuning it takes",
    "robustness": "What a changed setting changes",
    "scatter": "How much tunings scatter, and seeds",
    "outcomes": "Outcomes by seeds and by tunings",
    "seconds": "Ratios of the seconds per epoch",
    "best": "The best learning rate of each task",
    "optima": "The best learning rate by width",
    "starts": "How far the best rate moves, by the width that the move is counted from",
    "shifts": "How far the best rate moves between every two widths",
    "cost": "What tuning at a narrow width saves, and what it costs",
}


def place_of(key: str, arguments: Mapping[str, str]) -> Numbered | None:
    """Kind and name of a block that is a figure or a table; None for any other."""
    if key not in _BLOCKS:
        return None
    if key == "figure":
        return key, arguments.get("name", "")
    if "path" in arguments:
        return "table", Path(arguments["path"]).stem
    scope = next((arguments[name].split(",")[0] for name in ("topics", "topic", "study") if name in arguments), "")
    return "table", arguments.get("name") or "-".join(filter(None, (key, scope)))


def caption_of(key: str, arguments: Mapping[str, str]) -> str:
    """The caption of a table; empty for what has one in its text.

    Raises:
        ValueError: No caption is known for this kind of table.
    """
    if "topics" in arguments:
        return f"{_BLOCKS[key]}: {TOPICS[arguments['topics'].split(',')[0]].title}."
    if key == "differences":
        return f"{_BLOCKS[key]} (study `{arguments['study']}`)."
    if key != "table":
        return _BLOCKS[key]
    study, kind = arguments["study"], arguments["name"].removeprefix(f"{arguments['study']}-")
    metric = METRICS.get(kind.replace("-", "_"))
    words = (
        f"{metric.name[0].upper()}{metric.name[1:]}" if metric else _TABLES[check_known("kind of table", kind, _TABLES)]
    )
    return f"{words} (study `{study}`)."
