"""How a model is trained: models, learners, algorithms, and the one training loop."""

from advanced_optimizers.experiments.training.loop import train
from advanced_optimizers.experiments.training.seeding import seed_everything

__all__ = ["seed_everything", "train"]
