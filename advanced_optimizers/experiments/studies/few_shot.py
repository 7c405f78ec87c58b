"""Few examples: which method, trained on some characters, tells apart others from one drawing of each, or five?

The trials that set the lengths and margins used one seed, and are not part of the records. What was cut, since all runs
of the full profile have to fit into a quarter of an hour of one core: training with 60 ways, distances that are not
squared, a learned temperature, and batch statistics at test time. MAML has a small perceptron on drawings of half the
size, so it is not a fair contest with the convolutions of the others.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

from advanced_optimizers.automl.meta_learning import MAML, MatchingNetworks, PrototypicalNetworks
from advanced_optimizers.experiments.data.episodes import (
    QUERIES,
    Characters,
    Episodes,
    characters,
    draw_episodes,
    prepared,
)
from advanced_optimizers.experiments.data.omniglot import SIZE
from advanced_optimizers.experiments.evidence.metrics import Metric
from advanced_optimizers.experiments.records.config import KindConfig
from advanced_optimizers.experiments.studies.claims.few_shot import CLAIMS, DRAWINGS, STUDY
from advanced_optimizers.experiments.studies.claims.meta_learning import ACCURACY
from advanced_optimizers.experiments.studies.kind_study import KindStudy, KindTask
from advanced_optimizers.experiments.studies.study import SEEDS
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm

# The tests: (ways, shots).
SETTINGS = ((5, 1), (5, 5), (20, 1), (20, 5))
# Examples of each of five classes: as many as with five each, but uneven.
UNEVEN = (1, 2, 4, 8, 10)
FEATURES = 32
# The gradient-based learner's: step size on the mean loss, tasks at once, steps in training and the most in tests.
INNER_LR, TASKS, TRAINED_STEPS, TESTED_STEPS = 0.4, 16, 1, (1, 3, 5)

Network = PrototypicalNetworks | MatchingNetworks


@dataclass(frozen=True, kw_only=True)
class FewShotRun(KindConfig):
    """Training on episodes, or batches, of some classes, and tests on episodes of others.

    Attributes:
        data: ``omniglot``; or ``digits``, whose classes 0 to 4 in four turns each are for training, and 5 to 9 in four
            turns for tests: less than a benchmark, but it is there without a download.
        steps: Training episodes, batches, or meta-batches.
        test_episodes: Episodes of each test.
    """

    kind = "few-shot"

    data: str = "omniglot"
    steps: int = 250
    test_episodes: int = 300

    @property
    def task(self) -> str:
        """The data."""
        return f"{self.data}-few-shot"

    @property
    def points(self) -> int:
        """It is measured once."""
        return 1

    @property
    def extent(self) -> str:
        """The steps."""
        return f"{self.steps} steps of training"

    @property
    def datasets(self) -> tuple[str, ...]:
        """The one that is read."""
        return (self.data,)

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """Trains, then tests; accuracies are fractions of all queries of all episodes."""
        yield METHODS[self.algorithm](self, characters(self.data), device)


# ---- encoders -----------------------------------------------------------------------------------------------------


def encoder(device: str) -> nn.Module:
    """Four blocks as in the paper, with half its channels: (N, 1, 28, 28) -> (N, 32)."""
    widths = (1, *(FEATURES,) * 4)
    blocks = [_block(*pair) for pair in pairwise(widths)]
    return nn.Sequential(*blocks, nn.Flatten()).to(device).to(memory_format=torch.channels_last)


def _block(wide: int, wider: int) -> nn.Module:
    # To pool before the normalization takes half the time; in a trial with one seed it lost six points.
    convolution = nn.Conv2d(wide, wider, 3, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(wider), nn.ReLU(), nn.MaxPool2d(2))


def _prototypical(distance: str = "squared-euclidean", temperature: float = 1.0) -> Callable[[str], Network]:
    return lambda device: PrototypicalNetworks(
        None, encoder=encoder(device), distance=distance, temperature=temperature
    )


def _matching(temperature: float, *, full_context: bool = False) -> Callable[[str], Network]:
    context: dict[str, Any] = {"full_context": True, "embedding_dim": FEATURES} if full_context else {}
    return lambda device: MatchingNetworks(encoder(device), temperature=temperature, **context).to(device)


# ---- training and tests -------------------------------------------------------------------------------------------


def train_on_episodes(
    make: Callable[[str], Network], ways: int = 20, shots: int = 1
) -> Callable[..., dict[str, float]]:
    """A method that is trained as it is tested, on episodes."""

    def method(run: FewShotRun, drawings: Characters, device: str) -> dict[str, float]:
        network, generator = make(device), torch.Generator().manual_seed(run.seed)
        optimizer, begun = torch.optim.Adam(network.parameters(), 1e-3), time.process_time()
        ways_here = min(ways, len(drawings.train))
        for _ in range(run.steps):
            episode = draw_episodes(1, drawings.train, (shots,) * ways_here, generator)
            (support, own), (query, labels) = (part(0, drawings.train) for part in (episode.support, episode.query))
            optimizer.zero_grad()
            support, query = prepared(support, device), prepared(query, device)
            network.loss(support, query, ways_here, labels.to(device), support_labels=own.to(device)).backward()
            optimizer.step()
        seconds = time.process_time() - begun
        return {**accuracies(network, drawings.test, run, device), "training_seconds": seconds}

    return method


def train_a_classifier(run: FewShotRun, drawings: Characters, device: str) -> dict[str, float]:
    """Ordinary training on all training classes at once, in batches as large as the episodes."""
    own, generator = encoder(device), torch.Generator().manual_seed(run.seed)
    classes, each = drawings.train.shape[:2]
    model, begun = nn.Sequential(own, nn.Linear(FEATURES, classes).to(device)), time.process_time()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(run.steps):
        labels, drawn = (torch.randint(n, (120,), generator=generator) for n in (classes, each))
        optimizer.zero_grad()
        cross_entropy(model(prepared(drawings.train[labels, drawn], device)), labels.to(device)).backward()
        optimizer.step()
    seconds = time.process_time() - begun
    network = PrototypicalNetworks(None, encoder=own)
    return {**accuracies(network, drawings.test, run, device), "training_seconds": seconds}


def train_nothing(make: Callable[[str], nn.Module]) -> Callable[..., dict[str, float]]:
    """Nearest means of features that nobody trained."""

    def method(run: FewShotRun, drawings: Characters, device: str) -> dict[str, float]:
        network = PrototypicalNetworks(None, encoder=make(device))
        return {**accuracies(network, drawings.test, run, device), "training_seconds": 0.0}

    return method


@torch.no_grad()
def accuracies(network: Network, drawings: Tensor, run: FewShotRun, device: str) -> dict[str, float]:
    """The accuracy in each of ``SETTINGS``, and with uneven numbers of examples; every drawing is embedded once."""
    network.eval()
    flat = drawings.flatten(0, 1)
    embedded = torch.cat([network.encoder(prepared(part, device)) for part in flat.split(500)])
    examples = embedded.view(*drawings.shape[:2], -1)
    head = copy.copy(network)
    head._modules = {**network._modules, "encoder": nn.Identity()}
    tests = {f"accuracy_{ways}_way_{shots}_shot": (shots,) * ways for ways, shots in SETTINGS}
    return {name: _accuracy(head, examples, shots, run) for name, shots in {**tests, "accuracy_uneven": UNEVEN}.items()}


def _accuracy(head: Network, examples: Tensor, shots: tuple[int, ...], run: FewShotRun) -> float:
    generator = torch.Generator().manual_seed(10_000 + run.seed)  # the same episodes for every method
    episodes = draw_episodes(run.test_episodes, examples, shots, generator)
    right = 0
    for k in range(run.test_episodes):
        support, own = episodes.support(k, examples)
        query, labels = episodes.query(k, examples)
        right += int((head(support, query, len(shots), support_labels=own)[0] == labels).sum())
    return right / (run.test_episodes * len(shots) * QUERIES)


# ---- by gradient steps --------------------------------------------------------------------------------------------


def train_by_steps(run: FewShotRun, drawings: Characters, device: str) -> dict[str, float]:
    """MAML of a small perceptron on drawings of half the size, for five ways and one shot."""
    generator, layers = torch.Generator().manual_seed(run.seed), (196, 256, 128, 64, 5)
    pairs = list(pairwise(layers))
    parts: list[nn.Module] = [part for pair in pairs for part in (nn.Linear(*pair), nn.ReLU())]
    maml = MAML(nn.Sequential(nn.Flatten(), *parts[:-1]).to(device), INNER_LR)
    optimizer, begun = torch.optim.Adam(maml.parameters(), 1e-3), time.process_time()
    for _ in range(run.steps):
        support, query = _stacked(draw_episodes(TASKS, drawings.train, (1,) * 5, generator), drawings.train, device)
        optimizer.zero_grad()
        maml.meta_batch(support, query, TRAINED_STEPS).backward()
        optimizer.step()
    found = {"training_seconds": time.process_time() - begun}
    for name, shots in (("5_way_1_shot", (1,) * 5), ("5_way_5_shot", (5,) * 5), ("uneven", UNEVEN)):
        generator = torch.Generator().manual_seed(10_000 + run.seed)
        episodes = draw_episodes(run.test_episodes, drawings.test, shots, generator)
        support, query = _stacked(episodes, drawings.test, device)
        answers = maml.outputs_by_step(support, query[0], max(TESTED_STEPS)).argmax(dim=-1)
        right = (answers == query[1][:, None]).float().mean(dim=(0, 2)).tolist()
        found |= {f"accuracy_{name}": right[TRAINED_STEPS]}
        found |= {f"accuracy_{name}_after_{step}": right[step] for step in TESTED_STEPS}
    return found


def _stacked(episodes: Episodes, examples: Tensor, device: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Support and query sets of all episodes, (episodes, examples, ...), at half the size."""
    count = len(episodes.classes)
    sets = []
    for part in (episodes.support, episodes.query):
        drawn, labels = zip(*(part(k, examples) for k in range(count)), strict=True)
        small = avg_pool2d(prepared(torch.cat(drawn), device), 2)
        sets.append((small.view(count, -1, 1, SIZE // 2, SIZE // 2), torch.stack(labels).to(device)))
    return sets[0], sets[1]


METHODS: dict[str, Callable[[FewShotRun, Characters, str], dict[str, float]]] = {
    "few-shot-pixels": train_nothing(lambda device: nn.Flatten()),
    "few-shot-untrained": train_nothing(encoder),
    "few-shot-classifier": train_a_classifier,
    "prototypes": train_on_episodes(_prototypical()),
    "prototypes-cosine": train_on_episodes(_prototypical("cosine", temperature=10.0)),
    "prototypes-5-way": train_on_episodes(_prototypical(), ways=5),
    "matching-as-published": train_on_episodes(_matching(1.0)),
    "matching": train_on_episodes(_matching(10.0)),
    "matching-full-context": train_on_episodes(_matching(10.0, full_context=True)),
    "maml-characters": train_by_steps,
}


# ---- the topic ------------------------------------------------------------------------------------------------------

PIXELS = "few-shot-pixels"
# Label, and whether it only shows what a part contributes.
_DRAWINGS = {
    PIXELS: ("Pixels", False),
    "few-shot-untrained": ("Untrained features", True),
    "few-shot-classifier": ("Features of a classifier", True),
    "maml-characters": ("MAML, perceptron", False),
    "prototypes": ("Prototypes", False),
    "prototypes-cosine": ("Prototypes, cosine", True),
    "prototypes-5-way": ("Prototypes, 5-way training", True),
    "matching": ("Matching, temperature 10", False),
    "matching-as-published": ("Matching, as published", False),
    "matching-full-context": ("Matching, full context", False),
}


def _drawings(profile: str, data: str, steps: int, test_episodes: int, seeds: tuple[int, ...]) -> KindStudy:
    def config(algorithm: str, seed: int) -> FewShotRun:
        longer = 3 if algorithm == "maml-characters" else 1
        return FewShotRun(algorithm=algorithm, seed=seed, data=data, steps=longer * steps, test_episodes=test_episodes)

    protocol = {"Training episodes": steps, "Test episodes": test_episodes}
    return KindStudy(
        name=STUDY,
        title="What tells apart new characters from one drawing of each?",
        profile=profile,
        tasks=(KindTask(task=f"{data}-few-shot", reads=(data,), config=config, protocol=protocol),),
        algorithms=tuple(_DRAWINGS),
        seeds=seeds,
        metrics=(*(f"accuracy_{ways}_way_{shots}_shot" for ways, shots in SETTINGS), "training_seconds"),
    )


def _percentage(column: str, words: str) -> Metric:
    return Metric(f"accuracy_{column}", f"accuracy, {words}", True, best=1.0)


TOPIC = Topic(
    title="Few examples",
    tasks={
        "omniglot-few-shot": "Omniglot",
    },
    algorithms={
        name: Algorithm(label=label, baseline=None if name == PIXELS else PIXELS, timed=False, control=control)
        for name, (label, control) in _DRAWINGS.items()
    },
    studies=(
        _drawings("quick", "digits", steps=5, test_episodes=10, seeds=SEEDS[:2]),
        _drawings("full", "omniglot", steps=250, test_episodes=300, seeds=SEEDS),
    ),
    claims=CLAIMS,
    metrics=(
        *(_percentage(f"{ways}_way_{shots}_shot", f"{ways} ways, shots: {shots}") for ways, shots in SETTINGS),
        *(_percentage(f"5_way_1_shot_after_{step}", f"5 ways, shots: 1, after step {step}") for step in TESTED_STEPS),
        _percentage("uneven", "5 ways, uneven shots"),
        Metric("training_seconds", "CPU seconds of training", False, "s", "s", 1.0, 1),
    ),
    margins={f"accuracy_{ways}_way_{shots}_shot": {DRAWINGS: ACCURACY} for ways, shots in SETTINGS},
)
