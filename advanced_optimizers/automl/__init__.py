"""The advanced AutoML topics: each a published method, in a module or a folder of its own.

The names are imported on first use, since some modules need optional packages: importing this package imports none of
them. Where one is missing, the error names the extra that installs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "DARTS",
    "ENAS",
    "MAML",
    "CellNetwork",
    "Controller",
    "CrossModalAttention",
    "ElasticWeightConsolidation",
    "Genotype",
    "MatchingNetworks",
    "MetaSGD",
    "MixedOperation",
    "NASBench201",
    "ProgressiveNeuralNetwork",
    "ProgressiveNeuralnetwork",
    "PrototypicalNetworks",
    "Prototypicalnetworks",
    "Reinforce",
    "ReplayBuffer",
    "Reptile",
    "SearchNetwork",
    "VisionLanguageModel",
    "architecture_gradient",
    "contrastive_loss",
    "recall_at",
    "retrain",
    "search_architecture",
    "search_table",
    "train_enas",
]

# The modules, and which of the names each has.
_HOMES: dict[str, tuple[str, ...]] = {
    "architecture_search": (
        "DARTS",
        "ENAS",
        "CellNetwork",
        "Controller",
        "Genotype",
        "MixedOperation",
        "NASBench201",
        "Reinforce",
        "SearchNetwork",
        "architecture_gradient",
        "retrain",
        "search_architecture",
        "search_table",
        "train_enas",
    ),
    "continual": (
        "ElasticWeightConsolidation",
        "ProgressiveNeuralNetwork",
        "ProgressiveNeuralnetwork",
        "ReplayBuffer",
    ),
    "meta_learning": (
        "MAML",
        "MatchingNetworks",
        "MetaSGD",
        "PrototypicalNetworks",
        "Prototypicalnetworks",
        "Reptile",
    ),
    "multimodal": (
        "CrossModalAttention",
        "VisionLanguageModel",
        "contrastive_loss",
        "recall_at",
    ),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            globals()[name] = value = getattr(import_module(f"{__name__}.{home}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
