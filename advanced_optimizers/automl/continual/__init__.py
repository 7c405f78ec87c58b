"""Learning tasks one after the other, and what becomes of the earlier ones.

- :class:`ElasticWeightConsolidation`: weights that mattered to earlier tasks are held by a quadratic penalty.
- :class:`ProgressiveNeuralNetwork` (also ``ProgressiveNeuralnetwork``): a new column per task; earlier ones are frozen.
- :class:`ReplayBuffer`: some samples of earlier tasks, to train on again.
"""

from advanced_optimizers.automl.continual.consolidation import ElasticWeightConsolidation
from advanced_optimizers.automl.continual.progressive import ProgressiveNeuralNetwork, ProgressiveNeuralnetwork
from advanced_optimizers.automl.continual.replay import ReplayBuffer

__all__ = ["ElasticWeightConsolidation", "ProgressiveNeuralNetwork", "ProgressiveNeuralnetwork", "ReplayBuffer"]
