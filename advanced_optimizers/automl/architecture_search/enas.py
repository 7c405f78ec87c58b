"""Search by a controller over shared weights (ENAS)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_integer, check_range
from advanced_optimizers.automl.architecture_search.controller import Controller, Reinforce
from advanced_optimizers.automl.architecture_search.genotype import Genotype
from advanced_optimizers.automl.architecture_search.loaders import Loader, check_loaders, endless, images_and_labels
from advanced_optimizers.automl.architecture_search.networks import SearchNetwork, Shape
from advanced_optimizers.automl.architecture_search.operations import check_operations
from advanced_optimizers.automl.architecture_search.search import weight_step


class ENAS(nn.Module):
    r"""A controller that chooses one operation per edge of a cell, and one set of weights that all cells share.

    An architecture is a list of indices of operations, one per edge. Training alternates between the shared weights, on
    training batches with one sampled architecture each, and the controller, by REINFORCE with the accuracy on one
    validation batch as reward; :func:`train_enas` does both.

    Args:
        num_nodes: Nodes of a cell, >= 1. In a chain, that is the number of choices.
        num_ops: Number of candidate operations, >= 2.
        shape: The frame around the cells.
        operations: Names of the candidates; None for the first ``num_ops`` of :data:`.OPERATIONS`. With ``none`` among
            them the controller chooses which edges exist, too.
        wiring: ``chain``, as in the source text, or ``dense``, with a choice for each pair of nodes.
        uniform: Whether the controller stays uniform: the control that shows what it has learned.
        tanh_constant: See :class:`.Controller`.

    Attributes:
        controller: The LSTM: two layers of 32 units.
        controller_output: Its linear layer, (choices times operations) rows.
        ops: The shared operations, a ``ModuleList`` with a ``ModuleList`` per cell and edge.

    Example:
        >>> import torch
        >>> from advanced_optimizers.automl import ENAS
        >>> model = ENAS(num_nodes=3)
        >>> architecture = model.sample_architecture()
        >>> len(architecture), model(torch.randn(2, 3, 8, 8), architecture).shape
        (3, torch.Size([2, 10]))

    References:
        Pham, Guan, Zoph, Le, Dean: Efficient Neural Architecture Search via Parameter Sharing. ICML 2018, arXiv
        1802.03268, sections 2.2 and 2.4.

    Departures from the paper: the wiring is given, where the published micro controller chooses two inputs per node;
    each choice has its own logits; the child is a network of :class:`.SearchNetwork`'s cells. The constants that the
    official code adds to the logits of separable convolutions are left out: they are a result put in by hand.

    Limitations: the shared weights rank cells poorly (Yu et al., arXiv 1902.08142), whatever the controller does.
    """

    def __init__(
        self,
        num_nodes: int = 5,
        num_ops: int = 8,
        *,
        shape: Shape = Shape(channels=64, num_cells=1),  # noqa: B008  (it is immutable)
        operations: Iterable[str] | None = None,
        wiring: str = "chain",
        uniform: bool = False,
        tanh_constant: float = math.inf,
    ) -> None:
        super().__init__()
        check_integer("num_nodes", num_nodes, low=1)
        names = check_operations(operations, num_ops)
        self.network = SearchNetwork(shape, num_nodes=num_nodes, operations=names, wiring=wiring)
        self.network.alpha.requires_grad_(False)  # the controller takes its place
        self.policy = Controller(len(self.network.edges), len(names), tanh_constant=tanh_constant)
        self.uniform = uniform
        if uniform:
            nn.init.zeros_(self.policy.output.weight)
            nn.init.zeros_(self.policy.output.bias)

    @property
    def controller(self) -> nn.LSTM:
        """The controller's recurrent part."""
        return self.policy.lstm

    @property
    def controller_output(self) -> nn.Linear:
        """The controller's output layer."""
        return self.policy.output

    @property
    def ops(self) -> nn.ModuleList:
        """The shared operations, per cell and edge."""
        return nn.ModuleList(mixed.ops for cell in self.network.cells for mixed in cell.mixed)  # type: ignore[union-attr]

    @torch.no_grad()
    def sample_architecture(self, *, generator: torch.Generator | None = None) -> list[int]:
        """Draws an architecture from the controller: the index of an operation for each edge."""
        return self.policy.sample(generator=generator).choices[0].tolist()

    def weights_of(self, architecture: Sequence[int]) -> Tensor:
        """One-hot weights of an architecture, shape (edges, operations).

        Raises:
            ValueError: It has the wrong length, or an index that does not exist; the message names its position.
        """
        edges, names = self.network.edges, self.network.operations
        if len(architecture) != len(edges):
            raise ValueError(f"architecture must have {len(edges)} entries, one per edge, got {len(architecture)}")
        for position, index in enumerate(architecture):
            if not 0 <= index < len(names):
                raise ValueError(
                    f"architecture must hold indices from 0 to {len(names) - 1}, got {index} at position {position}"
                )
        weights = torch.zeros(len(edges), len(names), device=self.network.alpha.device)
        weights[range(len(edges)), list(architecture)] = 1.0
        return weights

    def genotype_of(self, architecture: Sequence[int]) -> Genotype:
        """The architecture as a cell that can be trained from scratch."""
        self.weights_of(architecture)  # checks it
        return Genotype(self.network.edges, tuple(self.network.operations[index] for index in architecture))

    def forward(self, images: Tensor, architecture: Sequence[int] | None = None) -> Tensor:
        """Images (B, input_channels, H, W) -> logits (B, num_classes), with the shared weights of an architecture.

        Args:
            images: The batch.
            architecture: Indices of operations; None to draw one from the controller.
        """
        chosen = self.sample_architecture() if architecture is None else architecture
        return self.network(images, self.weights_of(chosen))

    @torch.no_grad()
    def reward(self, architecture: Sequence[int], images: Tensor, labels: Tensor) -> float:
        """Accuracy in [0, 1] of an architecture with the shared weights, on one batch."""
        return float((self(images, architecture).argmax(1) == labels).float().mean())

    def derive(self, val_batch: Sequence[Tensor], samples: int = 10) -> list[int]:
        """The best of some sampled architectures by their rewards on one validation batch; train it from scratch.

        Args:
            val_batch: Images and labels.
            samples: How many to draw, >= 1.
        """
        images, labels = images_and_labels(val_batch, self.network.alpha.device)
        drawn = [self.sample_architecture() for _ in range(check_integer("samples", samples, low=1))]
        return max(drawn, key=lambda architecture: self.reward(architecture, images, labels))


def train_enas(
    model: ENAS,
    train_loader: Loader,
    val_loader: Loader,
    epochs: int,
    *,
    controller_steps: int = 30,
    samples: int = 10,
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    clip: float = 5.0,
    controller_lr: float = 0.0035,
    decay: float = 0.99,
    entropy_weight: float = 1e-4,
    on_epoch: Callable[[int, float], None] | None = None,
) -> ENAS:
    """Trains shared weights and controller in turn: an epoch of the weights, then some steps of the controller.

    Args:
        model: What is trained, in place.
        train_loader: Batches (images, labels) for the weights; one architecture is drawn for each.
        val_loader: Batches for the controller, of other samples.
        epochs: >= 1; published: 150.
        controller_steps: Steps of the controller per epoch, >= 1; a uniform one makes none.
        samples: Architectures per step, each on the step's validation batch, >= 1.
        lr: The weights' first rate; it falls to zero along half a cosine, without the published restarts.
        momentum: The weights'.
        weight_decay: The weights'.
        clip: Largest norm of the weights' gradient, > 0.
        controller_lr: See :class:`.Reinforce`.
        decay: See :class:`.Reinforce`.
        entropy_weight: See :class:`.Reinforce`.
        on_epoch: Called after each epoch with its number (from 1) and the mean reward of the controller's steps, NaN
            if it is uniform.

    Raises:
        ValueError: A value is out of range, a loader is empty, both overlap, or a loss or reward is not finite.
    """
    check_integer("epochs", epochs, low=1)
    check_integer("controller_steps", controller_steps, low=1)
    check_range("lr", lr, low=0.0, high=math.inf, open_low=True, open_high=True)
    check_loaders(train_loader, val_loader)
    network, device = model.network, model.network.alpha.device
    optimizer = torch.optim.SGD(network.shared, lr=lr, momentum=momentum, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    reinforce = Reinforce(model.policy, lr=controller_lr, decay=decay, entropy_weight=entropy_weight)
    val_batches = endless(val_loader)
    for epoch in range(1, epochs + 1):
        for batch in train_loader:
            weights = model.weights_of(model.sample_architecture())
            weight_step(network, optimizer, images_and_labels(batch, device), clip=clip, weights=weights)
        schedule.step()
        rewards = []
        for _ in range(0 if model.uniform else controller_steps):
            images, labels = images_and_labels(next(val_batches), device)
            reward = partial(model.reward, images=images, labels=labels)
            rewards.append(reinforce.step(reward, samples))
        if on_epoch is not None:
            on_epoch(epoch, sum(rewards) / len(rewards) if rewards else math.nan)
    return model
