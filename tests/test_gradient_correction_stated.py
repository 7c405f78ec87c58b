"""Gradient correction: what each variant corrects, its rows at fixed strengths and lengths, and their rules."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from advanced_optimizers import GradientCorrectionOptimizer
from advanced_optimizers.experiments.evidence.comparisons import Comparison, RunData, Verdict
from advanced_optimizers.experiments.evidence.rules import compare_shorter
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.gradient_correction_stated import STRENGTHS
from advanced_optimizers.experiments.studies.registry import CLAIMS, get_study
from advanced_optimizers.experiments.studies.study import Study
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from advanced_optimizers.experiments.training.models import build_model
from advanced_optimizers.gradient_correction.mixing import Basis, combine, make_safe
from tests.experiments_helpers import make_record
from tests.learner_helpers import make_learner
from tests.synthetic_runs import make_config as make_run
from tests.synthetic_runs import make_record as make_result

SHAPES = {"mlp": (1, 28, 28), "convnet": (3, 32, 32)}
# Layers by their place in the network; the ConvNet's last layer is linear, and its 6th, 13th and 20th shrink.
CONVNET_WEIGHTS = [0, 3, 7, 10, 14, 17, 22]


def trained(model: str, hidden: bool) -> tuple[torch.nn.Module, GradientCorrectionOptimizer]:
    """A network and its optimizer after as many steps as it takes to have predictors for everything."""
    torch.manual_seed(0)
    network = build_model(model, SHAPES[model], 10)
    images, labels = torch.randn(4, *SHAPES[model]), torch.tensor([0, 1, 2, 3])
    own = {"model": network, "example_input": images[:2]} if hidden else {}
    optimizer = GradientCorrectionOptimizer(network.parameters(), train_every=1, **own)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network, optimizer


class TestWhatIsCorrected:
    @pytest.mark.parametrize(
        ("model", "hidden", "gcw", "gcode", "hidden_states", "parameters"),
        [
            ("mlp", False, [1, 3], [1, 3], [], 240),
            ("convnet", False, CONVNET_WEIGHTS, CONVNET_WEIGHTS, [], 840),
            ("convnet", True, [3, 10, 17], [], ["6", "13", "20"], 6600),
        ],
    )
    def test_the_table(
        self,
        model: str,
        hidden: bool,
        gcw: list[int],
        gcode: list[int],
        hidden_states: list[str],
        parameters: int,
    ) -> None:
        network, optimizer = trained(model, hidden)
        for name, layers in (("gcw", gcw), ("gcode", gcode)):
            found = [which for which, p in network.named_parameters() if name in optimizer.state[p]]
            assert found == [f"{layer}.weight" for layer in layers]
        assert [each.name for each in optimizer._hidden] == hidden_states
        assert optimizer.num_extra_parameters == parameters

    def test_the_mlp_has_nothing_that_down_samples(self) -> None:
        with pytest.raises(ValueError, match="model must down-sample"):
            trained("mlp", hidden=True)

    def test_of_the_weights_the_hidden_variant_corrects_fewer_and_no_others(self) -> None:
        (network, all_weights), (other, placed) = trained("convnet", False), trained("convnet", True)
        of_all, of_placed = (
            {name for name, p in net.named_parameters() if "gcw" in optimizer.state[p]}
            for net, optimizer in ((network, all_weights), (other, placed))
        )
        assert of_placed < of_all
        assert len(of_all) == len([p for p in network.parameters() if p.dim() > 1])

    def test_hidden_states_are_trained_on_the_previous_batch(self) -> None:
        network = build_model("convnet", (1, 8, 8), 10)
        images, labels = torch.randn(2, 6, 1, 8, 8), torch.arange(6)
        optimizer = GradientCorrectionOptimizer(
            network.parameters(), train_every=1, model=network, example_input=images[0, :2]
        )
        (first, *_) = optimizer._hidden
        sums: list[torch.Tensor] = []
        network[6].register_forward_pre_hook(
            lambda _, inputs: inputs[0].register_hook(lambda grad: sums.append(grad.sum(dim=0))) and None
        )
        for batch in images:
            F.cross_entropy(network(batch), labels).backward()
            known = first.target  # what this batch's sum was compared with
            optimizer.step()
            optimizer.zero_grad()
        torch.testing.assert_close(known, sums[0])
        torch.testing.assert_close(first.target, sums[1])

    def test_the_hidden_states_bound_is_none_on_the_weights_before(self) -> None:
        # What the samples have in common can be turned around while all of them together hardly change.
        shared, own = torch.ones(4), 10.0 * torch.tensor([[1.0, -1, 0, 0], [-1, 1, 0, 0]])
        gradient, corrected = own + 0.1 * shared, own - 0.1 * shared
        assert F.cosine_similarity(gradient.flatten(), corrected.flatten(), dim=0) > 0.99
        assert F.cosine_similarity(gradient.sum(0), corrected.sum(0), dim=0) < -0.99


def test_a_strong_prediction_turns_around_what_gradients_have_in_common() -> None:
    """Where the next gradient is predicted as the gradient less its memory, as it is while Adam's steps overshoot."""
    basis = Basis(torch.tensor([[[1.0, 0.43], [0.43, 1.0]]]), torch.ones(1, 1, 1), torch.tensor([[[1.0, 0.0]]]))
    prediction = torch.tensor([[[1.0, -0.65]]])
    shares = {}
    for strength in (0.05, 0.1, 0.41):
        a, b = make_safe(combine(prediction, [strength], basis), basis, min_cosine=0.5).flatten()
        assert a + 0.43 * b > 0.9  # the cosine with the gradient, far above its bound
        # Gradients are mostly noise, which their average sheds: the memory is about a fifth as long.
        shares[strength] = float(a + b / 0.2)
    assert shares[0.05] > shares[0.1] > 0 > shares[0.41]


class TestRows:
    @pytest.mark.parametrize("prefix", ["correction", "correction-hidden"])
    @pytest.mark.parametrize("name", ["weak", "stated"])
    def test_strengths_are_fixed_and_the_rate_is_tuned(self, prefix: str, name: str) -> None:
        row = f"{prefix}-{name}"
        assert set(ALGORITHMS[row].search_space) == {"lr"}
        optimizer = make_learner(row, model="convnet", width=0.25).optimizer
        (group,) = optimizer.param_groups
        assert group["gcw_strength"] == group["gcode_strength"] == STRENGTHS[name]
        hidden = [each.strength for each in optimizer._hidden]
        assert hidden == ([STRENGTHS[name]] * 3 if prefix == "correction-hidden" else [])
        with pytest.raises(ValueError, match=r"hyperparameters of .* must be among"):
            make_learner(row, model="convnet", hyperparameters={"lr": 0.01, "gcw_strength": 0.3})

    def test_the_strengths_are_the_courseworks_and_half_of_it(self) -> None:
        (group,) = GradientCorrectionOptimizer([torch.nn.Parameter(torch.zeros(2, 2))]).param_groups
        assert group["gcw_strength"] == group["gcode_strength"] == STRENGTHS["stated"] == 2 * STRENGTHS["weak"]

    def test_each_module_alone_has_the_others_strength_at_zero(self) -> None:
        both = {"lr": 0.01, "gcw_strength": 0.4, "gcode_strength": 0.5}
        for name, used in (("gcw", (0.4, 0.0)), ("gcode", (0.0, 0.5))):
            learner = make_learner(f"correction-hidden-{name}", model="convnet", hyperparameters=both)
            (group,) = learner.optimizer.param_groups
            assert (group["gcw_strength"], group["gcode_strength"]) == used
            assert [each.strength for each in learner.optimizer._hidden] == [0.5] * 3 * (name == "gcode")

    def test_shorter_runs_have_8_of_10_epochs_and_no_trials(self) -> None:
        study = full("correction-shorter")
        for task in study.tasks:
            for name in study.algorithms_on(task):
                protocol = study.protocol(task, name)
                assert protocol.epochs == (8 if name.endswith("-shorter") else 10)
                # Trials in proportion would be those of the full runs.
                assert protocol.tuning_epochs == task.tuning_epochs
        assert {c.algorithm for c in study.tuning_configs()} == {"adam", "correction", "correction-hidden"}

    def test_shorter_runs_take_over_the_hyperparameters(self, store: RunStore) -> None:
        study = get_study("correction-shorter", "quick")
        assert isinstance(study, Study)
        for number, config in enumerate(study.tuning_configs()):
            store.save(make_record(config, test_accuracy=0.5 + number / 100))
        chosen = {(c.task, c.algorithm): c.hyperparameters for c in study.final_configs(store)}
        for (task, name), hyperparameters in chosen.items():
            assert hyperparameters == chosen[task, name.removesuffix("-shorter")]
        assert ("digits-convnet", "correction-hidden-shorter") in chosen
        assert ("digits-mlp", "correction-hidden-shorter") not in chosen


class TestWiderControls:
    @pytest.mark.parametrize(
        ("study", "task", "control", "added", "narrower"),
        [
            # One unit more, 785 + 10 parameters, is the least that can be added.
            ("gradient-correction", "mnist-mlp", "adam-wider", (240, 795), 512 / 512),
            # The stages' channels are 16, 32, 65 in place of 16, 32, 64.
            ("correction-stated", "cifar10-jpeg-convnet", "adam-slightly-wider", (840, 1463), 64.5 / 64),
            # 17, 34, 67; the next narrower network, 17, 33, 67, adds too few.
            ("gradient-correction", "cifar10-jpeg-convnet", "adam-wider", (6600, 7767), 1.046),
        ],
    )
    def test_each_is_the_narrowest_that_adds_at_least_as_many_parameters(
        self, study: str, task: str, control: str, added: tuple[int, int], narrower: float
    ) -> None:
        found = full(study)
        (base,) = (each for each in found.tasks if each.name == task)
        width = found.protocol(base, control).width
        sizes = {w: size(base.model, w) for w in (1.0, narrower, width)}
        least, actual = added
        assert sizes[width] - sizes[1.0] == actual >= least
        assert sizes[narrower] - sizes[1.0] < least
        # No width in between gives another network.
        between = [narrower + (width - narrower) * step / 200 for step in range(201)]
        assert {size(base.model, w) for w in between} == {sizes[narrower], sizes[width]}

    def test_all_weights_of_the_convnet_are_not_compared_with_the_hidden_variants_control(self) -> None:
        pairs = {
            key: {(c.task, c.algorithm, c.baseline) for c in CLAIMS[key].decide.keywords["comparisons"]}  # type: ignore[attr-defined]
            for key in ("correction-equal-cost", "correction-equal-parameters")
        }
        wider = {pair for pair in pairs["correction-equal-cost"] if "wider" in pair[2]}
        assert wider == {
            ("mnist-mlp", "correction", "adam-wider"),
            ("cifar10-jpeg-convnet", "correction-hidden", "adam-wider"),
        }
        assert pairs["correction-equal-parameters"] == {("cifar10-jpeg-convnet", "correction", "adam-slightly-wider")}


def test_the_former_rules_are_kept_with_their_verdicts() -> None:
    former = {key: CLAIMS[key].former for key in CLAIMS if key.startswith("correction-")}
    changed = {key for key, rule in former.items() if rule is not None}
    assert changed == {"correction-epochs", "correction-accuracy", "correction-time", "correction-equal-cost"}
    for key in changed:
        rule = former[key]
        assert rule is not None
        assert rule.verdict == "not supported"
        assert rule.rule != CLAIMS[key].rule
        assert rule.why


class TestShorterRule:
    """The margin is 0.2 points; the intervals of the differences are 0.14 points to both sides."""

    @pytest.mark.parametrize(
        ("own", "control", "status"),
        [
            (0.000, 0.004, "supported"),
            (-0.004, 0.004, "supported"),  # better than the full run
            (0.000, 0.000, "not supported"),  # the baseline does with the shorter run, too
            (0.004, 0.004, "not supported"),
            (0.004, 0.000, "not supported"),
            (0.002, 0.004, "inconclusive"),
            (0.000, 0.002, "inconclusive"),
            (0.002, 0.000, "not supported"),
        ],
    )
    def test_both_comparisons_decide(self, own: float, control: float, status: str) -> None:
        assert decide(frame_of(own, control)).status == status

    def test_the_sentence_gives_both_differences(self) -> None:
        verdict = decide(frame_of(0.0, 0.0))
        assert "+0.00 [-0.14, +0.14] points (n = 5), within the margin; " in verdict.sentence
        assert verdict.sentence.endswith("The baseline itself does with the shorter schedule.")
        assert "beyond the margin" in decide(frame_of(0.004, 0.004)).sentence
        assert "on both sides" in decide(frame_of(0.002, 0.004)).sentence
        assert len(verdict.run_ids) == 15

    def test_missing_runs_are_waited_for(self) -> None:
        assert decide(frame_of(0.0, 0.004).query("algorithm != 'adam'")).status == "pending"
        assert decide(pd.DataFrame()).status == "pending"

    def test_a_diverged_run_decides_nothing(self) -> None:
        assert decide(frame_of(0.0, 0.004, status="diverged")).status == "inconclusive"


def full(name: str) -> Study:
    study = get_study(name, "full")
    assert isinstance(study, Study)
    return study


def size(model: str, width: float) -> int:
    return sum(p.numel() for p in build_model(model, SHAPES[model], 10, width).parameters())


def decide(frame: pd.DataFrame) -> Verdict:
    task = "mnist-mlp"
    shorter, control = Comparison(task, "fer-sgd", "sgd"), Comparison(task, "adam", "sgd")
    return compare_shorter(RunData(frame), margin=0.002, shorter=shorter, control=control)


def frame_of(own: float, control: float, status: str = "completed") -> pd.DataFrame:
    """Runs with so much less accuracy than the baseline's, on average; the control's lose it in another order."""
    base = (0.951, 0.949, 0.952, 0.948, 0.950)
    chance = (0.0010, -0.0010, 0.0012, -0.0012, 0.0)
    rows = {
        "sgd": base,
        "fer-sgd": [b - own + c for b, c in zip(base, chance, strict=True)],
        "adam": [b - control - c for b, c in zip(base, chance, strict=True)],
    }
    return records_frame(
        make_result(make_run("mnist-mlp", name, seed), value, status if name == "adam" else "completed")
        for name, values in rows.items()
        for seed, value in enumerate(values)
    )
