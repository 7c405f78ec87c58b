"""Federations whose server clips what clients send and adds noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from advanced_optimizers.automl.federated import FederatedAveraging, make_clients, split_iid
from advanced_optimizers.automl.privacy import PrivacyCost, private_average
from advanced_optimizers.experiments.records.config import KindConfig
from advanced_optimizers.experiments.studies.privacy_runs import build, epsilon_of, read_sets
from advanced_optimizers.experiments.studies.topic import Topic

# So long a norm that nothing is clipped.
UNCLIPPED = 1e9


@dataclass(frozen=True, kw_only=True)
class PrivateFederation(KindConfig):
    """DP-FedAvg: in each round, each client takes part with the same probability, and trains for one epoch.

    Attributes:
        dataset: A key of ``data.DATASETS``.
        clients: Clients, among whom the training images are dealt at random.
        clipped: Whether updates are clipped to the hyperparameter ``max_norm``.
        noise_multiplier: The noise's deviation divided by ``max_norm``, in the sum over the clients of a round.
        sample_rate: The probability with which a client takes part.
        rounds: Rounds.
        batch_size: Images per step of a client.
    """

    kind = "private-federation"

    dataset: str = "mnist"
    clients: int = 100
    clipped: bool = False
    noise_multiplier: float = 0.0
    sample_rate: float = 0.1
    rounds: int = 10
    batch_size: int = 10

    @property
    def task(self) -> str:
        """Dataset and clients."""
        return f"{self.dataset}-{self.clients}-clients"

    @property
    def points(self) -> int:
        """It is measured after each round."""
        return self.rounds

    @property
    def extent(self) -> str:
        """Rounds and clients."""
        return f"{self.rounds} rounds, {self.clients} clients"

    @property
    def datasets(self) -> tuple[str, ...]:
        """The one dataset."""
        return (self.dataset,)

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """Trains, and measures after each round."""
        sets, generator = read_sets(self.dataset, 0, False, self.seed), torch.Generator().manual_seed(self.seed)
        model = build("mlp", sets.images.shape[-1], sets.num_classes)
        parts = split_iid(len(sets.images), self.clients, seed=self.seed)
        clients = make_clients(sets.images, sets.labels, parts, batch_size=self.batch_size)
        federation = FederatedAveraging(model, clients, lr=float(self.hyperparameters["lr"]), seed=self.seed)
        for number in range(1, self.rounds + 1):
            drawn = (torch.rand(self.clients, generator=generator) < self.sample_rate).nonzero()[:, 0].tolist()
            trained = [federation.train_client(clients[index], 1) for index in drawn]
            federation.rounds += 1
            private_average(
                model,
                trained,
                max_norm=float(self.hyperparameters["max_norm"]) if self.clipped else UNCLIPPED,
                noise_multiplier=self.noise_multiplier,
                expected_clients=self.sample_rate * self.clients,
                generator=generator,
            )
            with torch.no_grad():
                outputs = model(sets.test_images)
            yield {
                "test_accuracy": float((outputs.argmax(dim=1) == sets.test_labels).float().mean()),
                "test_loss": float(cross_entropy(outputs, sets.test_labels)),
                "epsilon": epsilon_of(PrivacyCost(self.noise_multiplier, self.sample_rate, number)),
            }


# Its algorithms, studies and claims are those of ``privacy``.
TOPIC = Topic(title="Runs of private federations", algorithms={})
