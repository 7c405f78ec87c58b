"""How models are trained: models, learners, algorithms, and the one training loop."""
