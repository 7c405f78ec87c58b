"""How a model is trained: models, learners, algorithms, and the one training loop."""
