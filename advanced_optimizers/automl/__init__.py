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
    "Client",
    "ClientLeftOutWarning",
    "Controller",
    "CrossModalAttention",
    "DifferentialPrivacy",
    "ElasticWeightConsolidation",
    "FederatedAveraging",
    "Genotype",
    "MatchingNetworks",
    "MetaSGD",
    "MixedOperation",
    "NASBench201",
    "NoClientFinishedError",
    "PrivacyCost",
    "ProgressiveNeuralNetwork",
    "ProgressiveNeuralnetwork",
    "PrototypicalNetworks",
    "Prototypicalnetworks",
    "QuantumLayer",
    "Reinforce",
    "ReplayBuffer",
    "Reptile",
    "Round",
    "SearchNetwork",
    "VisionLanguageModel",
    "architecture_gradient",
    "clip_per_sample",
    "contrastive_loss",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_noise",
    "gradient_variance",
    "invert_gradient",
    "make_clients",
    "membership_auc",
    "noise_multiplier_for",
    "per_sample_gradients",
    "private_average",
    "quantum_neural_network",
    "recall_at",
    "retrain",
    "search_architecture",
    "search_table",
    "split_dirichlet",
    "split_iid",
    "split_shards",
    "train_enas",
    "train_private",
    "train_quantum_model",
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
    "federated": (
        "Client",
        "ClientLeftOutWarning",
        "FederatedAveraging",
        "NoClientFinishedError",
        "Round",
        "make_clients",
        "split_dirichlet",
        "split_iid",
        "split_shards",
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
    "privacy": (
        "DifferentialPrivacy",
        "PrivacyCost",
        "clip_per_sample",
        "gaussian_delta",
        "gaussian_epsilon",
        "gaussian_noise",
        "invert_gradient",
        "membership_auc",
        "noise_multiplier_for",
        "per_sample_gradients",
        "private_average",
        "train_private",
    ),
    "quantum": (
        "QuantumLayer",
        "dev",
        "gradient_variance",
        "qnode",
        "quantum_neural_network",
        "train_quantum_model",
    ),
}
# Not in ``__all__``: PennyLane makes them, and whoever imports all names need not have it.
_MADE_BY_OPTIONAL_PACKAGES = ("dev", "qnode")


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            globals()[name] = value = getattr(import_module(f"{__name__}.{home}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MADE_BY_OPTIONAL_PACKAGES})
