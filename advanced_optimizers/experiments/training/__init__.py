"""How a model is trained: models, learners, algorithms, and the one training loop."""

from advanced_optimizers.experiments.training.loop import seed_everything, train

__all__ = ["seed_everything", "train"]
