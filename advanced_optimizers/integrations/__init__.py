"""What other people's training loops need in order to run this package's algorithms, one module per framework.

- ``lightning.py``: a callback for Lightning's Trainer.
- ``transformers.py``: a callback for Hugging Face's Trainer, and a classifier with the flipping loss inside.
- ``timm.py``: the optimizers under timm's names.
- ``data.py``: :class:`IndexedDataset`, which gives each sample its index.

A framework is imported by its own module alone. Accelerate and Opacus need nothing: they take an optimizer as it is.
"""

from advanced_optimizers.integrations.data import IndexedDataset

__all__ = ["IndexedDataset"]
