"""Architecture search: by gradient (DARTS), by a controller with shared weights (ENAS), and on a table.

- ``operations.py``: the candidates. ``mixed.py``: all of them at once, weighted; :class:`DARTS` is one such edge.
- ``genotype.py``: a cell as a value. ``networks.py``: networks of cells, searched and fixed.
- ``bilevel.py``: the gradient of the architecture. ``search.py``: the search by gradient, and training from scratch.
- ``controller.py``: the controller and REINFORCE. ``enas.py``: the search with shared weights.
- ``table.py``: NAS-Bench-201. ``strategies.py``: searches that ask for the values of cells.
- ``loaders.py``: what they ask of their data.
"""

from advanced_optimizers.automl.architecture_search.bilevel import architecture_gradient
from advanced_optimizers.automl.architecture_search.controller import Controller, Reinforce, policy_loss
from advanced_optimizers.automl.architecture_search.enas import ENAS, train_enas
from advanced_optimizers.automl.architecture_search.genotype import Genotype, discretize, edges_of
from advanced_optimizers.automl.architecture_search.mixed import DARTS, MixedOperation
from advanced_optimizers.automl.architecture_search.networks import CellNetwork, SearchNetwork, Shape
from advanced_optimizers.automl.architecture_search.operations import OPERATIONS
from advanced_optimizers.automl.architecture_search.search import accuracy, retrain, search_architecture, training
from advanced_optimizers.automl.architecture_search.strategies import STRATEGIES, Space, search_table
from advanced_optimizers.automl.architecture_search.table import NASBench201

__all__ = [
    "DARTS",
    "ENAS",
    "OPERATIONS",
    "STRATEGIES",
    "CellNetwork",
    "Controller",
    "Genotype",
    "MixedOperation",
    "NASBench201",
    "Reinforce",
    "SearchNetwork",
    "Shape",
    "Space",
    "accuracy",
    "architecture_gradient",
    "discretize",
    "edges_of",
    "policy_loss",
    "retrain",
    "search_architecture",
    "search_table",
    "train_enas",
    "training",
]
