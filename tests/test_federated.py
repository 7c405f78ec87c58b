"""Federated averaging: equality with the slow twin and with plain SGD, what an average is, what a client costs."""

from __future__ import annotations

import copy
import math
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from advanced_optimizers.automl import (
    Client,
    ClientLeftOutWarning,
    FederatedAveraging,
    NoClientFinishedError,
    make_clients,
    split_dirichlet,
    split_iid,
    split_shards,
)
from advanced_optimizers.automl.federated.local import seed_of
from advanced_optimizers.experiments.studies.engines import make_engine
from tests.reference import federated as reference

FEATURES, CLASSES = 5, 3


def samples(rng: torch.Generator, n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return torch.randn(n, FEATURES, generator=rng, dtype=dtype), torch.randint(CLASSES, (n,), generator=rng)


def loaded(rng: torch.Generator, *batches: int, dtype: torch.dtype = torch.float32) -> Client:
    """A client whose batches, of these sizes, are in the same order in each epoch."""
    x, y = samples(rng, sum(batches), dtype)
    return Client(x, list(zip(x.split(list(batches)), y.split(list(batches)), strict=True)))


def linear(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(FEATURES, CLASSES, bias=False, dtype=dtype)


def normalized() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, CLASSES))


def states(*models: nn.Module) -> list[dict[str, Tensor]]:
    return [{name: tensor.clone() for name, tensor in model.state_dict().items()} for model in models]


def failing(error: Exception) -> Client:
    def batches() -> Iterator[Any]:
        raise error
        yield

    class Loader:
        def __iter__(self) -> Iterator[Any]:
            return batches()

    return Client(range(7), Loader())


# ---- what a round is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mu", "weighting"), [(0.0, "size"), (0.5, "size"), (0.0, "uniform")])
def test_rounds_are_the_loop(rng: torch.Generator, mu: float, weighting: str) -> None:
    clients = [loaded(rng, *sizes, dtype=torch.float64) for sizes in ((4, 4, 2), (3, 3), (5,))]
    model = linear(torch.float64)
    w = model.weight.detach().numpy().T.copy()  # type: ignore[union-attr,operator]
    federation = FederatedAveraging(model, clients, lr=0.3, proximal_mu=mu, weighting=weighting)
    weights = [len(client.data) if weighting == "size" else 1 for client in clients]
    batches = [[(x.numpy(), y.numpy()) for x, y in client.data_loader] for client in clients]
    for _ in range(3):
        federation.federated_round(num_epochs=2)
        w = reference.server_round(w, batches, 2, 0.3, mu, weights)
    assert_close(model.weight.detach().numpy().T, w, atol=1e-12, rtol=1e-10)  # type: ignore[union-attr,operator]


def test_one_client_is_plain_sgd_bit_for_bit(rng: torch.Generator) -> None:
    x, y = samples(rng, 50)
    client = make_clients(x, y, [torch.arange(50)], batch_size=8)[0]
    model = normalized()
    own = copy.deepcopy(model)
    FederatedAveraging(model, [client], lr=0.1, seed=3).federated_round(num_epochs=2)
    torch.manual_seed(seed_of(3, 1, 0))
    optimizer = torch.optim.SGD(own.parameters(), lr=0.1)
    for _ in range(2):
        for inputs, targets in client.data_loader:
            optimizer.zero_grad()
            cross_entropy(own(inputs), targets).backward()
            optimizer.step()
    for name, tensor in own.state_dict().items():
        assert tensor.equal(model.state_dict()[name]), name


def test_one_step_of_all_clients_is_the_centralized_step(rng: torch.Generator) -> None:
    x, y = samples(rng, 60)
    model, parts = linear(), [torch.arange(10), torch.arange(10, 17), torch.arange(17, 60)]
    expected = copy.deepcopy(model)
    FederatedAveraging(model, make_clients(x, y, parts, batch_size=60), lr=0.5).federated_round(num_epochs=1)
    cross_entropy(expected(x), y).backward()
    torch.optim.SGD(expected.parameters(), lr=0.5).step()
    assert_close(model.weight, expected.weight, atol=1e-6, rtol=0)


def test_the_proximal_term_holds_clients_back(rng: torch.Generator) -> None:
    clients, model = [loaded(rng, *[5] * 8)], linear()
    lr, moved = 1e-3, []
    for mu in (0.0, 100.0, 1 / lr):
        own = FederatedAveraging(model, clients, lr=lr, proximal_mu=mu).train_client(clients[0], 5)
        moved.append(float((own.weight - model.weight).detach().abs().max()))  # type: ignore[operator,union-attr]
    assert moved[0] > moved[1] > moved[2]
    assert moved[2] < 3 * lr  # every step starts anew: none is longer than lr times a gradient
    assert moved[0] > 10 * moved[2]


def test_the_same_seed_gives_the_same_rounds_and_they_can_be_taken_up_again(rng: torch.Generator) -> None:
    x, y = samples(rng, 120)
    clients = make_clients(x, y, split_iid(120, 10, seed=1))

    def federation(model: nn.Module, seed: int = 0) -> FederatedAveraging:
        return FederatedAveraging(model, clients, lr=0.1, fraction=0.35, seed=seed)

    first, second, other = (federation(normalized(), seed) for seed in (0, 0, 1))
    before = torch.get_rng_state()
    rounds = [first.federated_round(1) for _ in range(2)]
    assert torch.get_rng_state().equal(before)
    assert [len(set(done.clients)) for done in rounds] == [3, 3]
    assert rounds[0].clients != rounds[1].clients
    assert second.federated_round(1) == rounds[0]
    later = federation(copy.deepcopy(second.global_model))
    later.rounds = second.rounds
    assert later.federated_round(1) == rounds[1]
    assert other.federated_round(1).clients != rounds[0].clients
    (expected,) = states(first.global_model)
    assert_close(states(later.global_model)[0], expected, atol=0, rtol=0)


def test_a_round_counts_what_it_costs(rng: torch.Generator) -> None:
    clients = [loaded(rng, 4, 4), loaded(rng, 3), failing(OSError("gone"))]
    federation = FederatedAveraging(linear(), clients)
    with pytest.warns(ClientLeftOutWarning, match="client 2 is left out of round 1: OSError: gone"):
        done = federation.federated_round(num_epochs=3)
    assert (done.number, done.clients, done.samples) == (1, (0, 1, 2), 3 * 11)
    assert done.left_out == {2: "OSError: gone"}
    assert done.megabytes == pytest.approx((3 + 2) * 4 * FEATURES * CLASSES / 1e6)  # to all, and from those that finish


class Backwards:
    """An engine whose calls end in the reverse order."""

    def each(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        for item in reversed(list(items)):
            yield item, function(item)


class Forgetful:
    """An engine that loses its first call."""

    def each(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        for item in list(items)[1:]:
            yield item, function(item)


def test_what_an_engine_loses_is_left_out_and_named(rng: torch.Generator) -> None:
    clients = [loaded(rng, 6) for _ in range(3)]
    federation, others = (FederatedAveraging(linear(), clients, engine=engine) for engine in (Forgetful(), None))
    with pytest.warns(ClientLeftOutWarning, match=r"client 0 .*returned nothing"):
        assert list(federation.federated_round(1).left_out) == [0]
    others.aggregate_models([others.train_client(client, 1) for client in clients[1:]], [6, 6])
    assert_close(*states(federation.global_model, others.global_model))


@pytest.mark.parametrize(
    "processes", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["backwards", "processes"]
)
def test_every_engine_gives_the_same_rounds(rng: torch.Generator, processes: bool) -> None:
    x, y = samples(rng, 60)
    clients = make_clients(x, y, split_iid(60, 5))
    alone = FederatedAveraging(normalized(), clients, lr=0.1)
    expected = [alone.federated_round(1) for _ in range(2)]
    with make_engine("loky", 2) as engine:
        other = FederatedAveraging(normalized(), clients, lr=0.1, engine=engine if processes else Backwards())
        assert [other.federated_round(1) for _ in range(2)] == expected
    assert_close(*states(other.global_model, alone.global_model), atol=0, rtol=0)


# ---- the average ----------------------------------------------------------------------------------------------------


def three(rng: torch.Generator) -> list[nn.Module]:
    models = [normalized() for _ in range(3)]
    for number, model in enumerate(models):
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=rng) if tensor.is_floating_point() else 10 + number)
    return models


def average(models: list[nn.Module], weights: list[float]) -> dict[str, Tensor]:
    federation = FederatedAveraging(normalized(), [Client(range(1), [])])
    federation.aggregate_models(models, weights)
    return states(federation.global_model)[0]


def test_the_average_is_convex_and_depends_on_the_ratios_of_weights_only(rng: torch.Generator) -> None:
    models, weights = three(rng), [1.0, 0.0, 2.5]
    found, own = average(models, weights), states(*models)
    for name, tensor in found.items():
        if tensor.is_floating_point():
            expected = (own[0][name].double() + 2.5 * own[2][name].double()) / 3.5
            assert_close(tensor, expected.float(), atol=1e-7, rtol=1e-6)
            assert bool((tensor >= torch.minimum(own[0][name], own[2][name])).all())
            assert bool((tensor <= torch.maximum(own[0][name], own[2][name])).all())
    assert_close(average(models, [3.0, 0.0, 7.5]), found)
    assert_close(average(models[::-1], weights[::-1]), found)


def test_identical_models_are_their_average_and_integers_stay_integers(rng: torch.Generator) -> None:
    models = three(rng)
    assert_close(average([models[1]] * 5, [0.3, 1, 7, 0.01, 2]), states(models[1])[0], atol=0, rtol=0)
    counter = average(models, [1, 1, 1])["1.num_batches_tracked"]
    assert (counter.dtype, int(counter)) == (torch.int64, 12)


def test_running_statistics_are_averaged_by_weight(rng: torch.Generator) -> None:
    clients, model = [loaded(rng, 6, 6), loaded(rng, 4)], normalized()
    federation = FederatedAveraging(model, clients, lr=0.1)
    own = states(*(federation.train_client(client, 1) for client in clients))
    federation.federated_round(num_epochs=1)
    for name in ("1.running_mean", "1.running_var"):
        assert_close(model.state_dict()[name], (12 * own[0][name] + 4 * own[1][name]) / 16)
    assert int(model.state_dict()["1.num_batches_tracked"]) == 2


def test_models_that_cannot_be_averaged_change_nothing(rng: torch.Generator) -> None:
    models = three(rng)
    federation = FederatedAveraging(normalized(), [Client(range(1), [])])
    before = states(federation.global_model)
    with torch.no_grad():
        models[1][3].bias[0] = math.nan  # type: ignore[index,union-attr]
    for wrong in ([models[0], linear()], models[:2]):
        with pytest.raises(ValueError, match=r"client_models\[1\]"):
            federation.aggregate_models(wrong, [1, 1])
    assert_close(states(federation.global_model), before, atol=0, rtol=0)


# ---- clients that do not return a model -----------------------------------------------------------------------------


def poisoned(client: Client) -> Client:
    (x, y), *others = client.data_loader
    return Client(client.data, [(torch.full_like(x, math.nan), y), *others])


def test_what_fails_costs_its_share_and_not_the_training(rng: torch.Generator) -> None:
    good = [loaded(rng, 6), loaded(rng, 4)]
    bad = [
        failing(OSError("gone")),
        poisoned(loaded(rng, 90)),
        Client(range(3), iter(())),
        Client(range(2), [torch.zeros(2, 5)]),
    ]
    model, expected = normalized(), normalized()
    everyone = [bad[0], good[0], *bad[1:], good[1]]
    with pytest.warns(ClientLeftOutWarning) as heard:
        done = FederatedAveraging(model, everyone, lr=0.1).federated_round(1)
    assert sorted(done.left_out) == [0, 2, 3, 4]
    assert "NaN" in done.left_out[2]
    assert "none in epoch 1" in done.left_out[3]
    assert "pairs (inputs, targets), got Tensor" in done.left_out[4]
    assert len(heard) == 4
    assert heard[0].filename == __file__
    federation = FederatedAveraging(expected, everyone, lr=0.1)
    federation.aggregate_models([federation.train_client(client, 1) for client in good], [6, 4])
    assert_close(*states(model, expected))


def test_if_all_fail_the_model_stays_and_the_next_round_samples_others(rng: torch.Generator) -> None:
    clients = [failing(OSError("gone")) for _ in range(20)]
    federation = FederatedAveraging(normalized(), [*clients], fraction=0.2)
    before, sampled = states(federation.global_model), []
    for _ in range(2):
        with (
            pytest.warns(ClientLeftOutWarning) as heard,
            pytest.raises(NoClientFinishedError, match=r"all 4 clients .*: OSError: gone") as caught,
        ):
            federation.federated_round(1)
        assert isinstance(caught.value.__cause__, OSError)
        sampled.append([str(warning.message).split()[1] for warning in heard])
    assert_close(states(federation.global_model), before, atol=0, rtol=0)
    assert sampled[0] != sampled[1]


class Slow:
    """A loader whose batches take a while each; it says how many it gave."""

    def __init__(self, batch: Any, seconds: float, batches: int) -> None:
        self.batch, self.seconds, self.batches, self.given = batch, seconds, batches, 0

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.batches):
            time.sleep(self.seconds)
            self.given += 1
            yield self.batch


def test_who_hangs_is_given_up(rng: torch.Generator) -> None:
    clients = [Client(range(100), Slow(samples(rng, 2), 1e4, 1)), loaded(rng, 6)]
    federation = FederatedAveraging(normalized(), clients, time_limit=1.0)
    with pytest.warns(ClientLeftOutWarning, match=r"client 0 .*TimeoutError: it took longer than time_limit=1.0 s"):
        assert list(federation.federated_round(1).left_out) == [0]


def test_who_is_slow_stops_at_the_next_batch(rng: torch.Generator) -> None:
    slow = Slow(samples(rng, 2), 0.1, 10_000)
    federation = FederatedAveraging(linear(), [Client(range(2), slow)], time_limit=0.3)
    running = threading.active_count()
    with pytest.raises(TimeoutError, match=r"time_limit=0.3 s"):
        federation.train_client(federation.clients[0], 1)
    give_up = time.monotonic() + 60
    while threading.active_count() > running:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert slow.given < 100


def test_within_its_time_a_client_does_what_it_does_without_a_limit(rng: torch.Generator) -> None:
    x, y = samples(rng, 40)
    clients = make_clients(x, y, split_iid(40, 2))
    free, limited = (FederatedAveraging(normalized(), clients, time_limit=limit) for limit in (None, 60))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert free.federated_round(2) == limited.federated_round(2)
    assert_close(*states(free.global_model, limited.global_model), atol=0, rtol=0)


# ---- splits ---------------------------------------------------------------------------------------------------------


def is_partition(parts: list[Tensor], n: int) -> bool:
    return torch.cat(parts).sort().values.equal(torch.arange(n))


def test_every_split_has_each_sample_once(rng: torch.Generator) -> None:
    targets = torch.randint(10, (1003,), generator=rng)
    iid = split_iid(1003, 7)
    shards = split_shards(targets, 50)
    dirichlet = split_dirichlet(targets, 20, 0.3)
    for parts in (iid, shards, dirichlet):
        assert is_partition(parts, 1003)
        assert {part.dtype for part in parts} == {torch.int64}
    assert {len(part) for part in iid} == {143, 144}
    assert {len(part) for part in shards} <= {20, 21, 22}
    assert max(len(targets[part].unique()) for part in shards) <= 4  # of two shards, each may go over a border
    assert float(np.mean([len(targets[part].unique()) for part in shards])) < 2.5
    assert min(len(part) for part in dirichlet) >= 10


def test_alpha_says_how_much_clients_differ(rng: torch.Generator) -> None:
    targets = torch.randint(10, (6000,), generator=rng)

    def largest_share(parts: list[Tensor]) -> float:
        return float(np.mean([targets[part].bincount().max() / len(part) for part in parts]))

    alike, mixed, apart = (largest_share(split_dirichlet(targets, 10, alpha)) for alpha in (1e4, 1.0, 0.05))
    assert alike < 0.15 < mixed < 0.5 < apart
    assert [part.tolist() for part in split_dirichlet(targets, 10, 1.0, seed=1)] == [
        part.tolist() for part in split_dirichlet(targets, 10, 1.0, seed=1)
    ]


def test_fused_sgd_is_a_partial(rng: torch.Generator) -> None:
    x, y = samples(rng, 40)
    clients = make_clients(x, y, split_iid(40, 2))
    plain, fused = (
        FederatedAveraging(linear(), clients, optimizer=optimizer)
        for optimizer in (torch.optim.SGD, partial(torch.optim.SGD, fused=True))
    )
    plain.federated_round(2)
    fused.federated_round(2)
    assert_close(*states(plain.global_model, fused.global_model))
