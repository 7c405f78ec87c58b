"""The benchmarks measure what they say: turns, floors, memory, and the training that a study does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from advanced_optimizers import FEROptimizer
from advanced_optimizers.experiments.data.datasets import DataError
from advanced_optimizers.experiments.evidence.medians import MIN_PAIRS
from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.registry import CLAIMS, get_study
from advanced_optimizers.experiments.training.loop import train
from benchmarks import __main__ as command
from benchmarks import data_pipeline, devices, epochs, imports, step, tasks
from benchmarks.memory import AllocationTrace, state_bytes
from benchmarks.result import Result, aligned
from benchmarks.timing import bandwidth, block_means, block_sums, interleaved, memory_passes, ratios, spread, timed
from tests.experiments_helpers import PYPROJECT

SMOOTHING = ("ConvolutionalSGD", "LocalLossConvSGD")
SHAPES = [torch.Size(shape) for shape in ((40, 30), (30,), (6, 4, 3, 3), (1,))]


def contender(name: str) -> step.Contender:
    return next(c for c in step.available_contenders() if c.name == name)


def a_result(name: str = "part") -> Result:
    rows = [{"Optimizer": "SGD", "ms": "2.50"}, {"Optimizer": "FER over SGD", "ms": "12.50"}]
    return Result(
        name=name, caption="What it shows.", rows=rows, measurements=[{"ms": 2.5}], environment={"torch": "2"}
    )


def measure(part: str, folder: Path, rows: int | None = None) -> dict[str, Any]:
    """Runs one part through the command line, quickly, and reads its file back."""
    assert command.main(["--quick", "--only", part, "--output", str(folder)]) == 0
    (path,) = folder.glob("*.json")
    content: dict[str, Any] = json.loads(path.read_text())
    assert {"torch", "threads", "device_name", "git_commit", "load_at_start"} <= content["environment"].keys()
    table = path.with_suffix(".md").read_text()
    assert content["caption"] in table
    assert table.count("\n|") == 2 + (rows or len(content["measurements"]))
    return content


class TestTiming:
    def test_each_round_begins_with_the_next_contender(self) -> None:
        calls: list[str] = []

        def contender(name: str, seconds: float) -> float:
            calls.append(name)
            return seconds

        seconds = interleaved({name: partial(contender, name, i) for i, name in enumerate("abc", 1)}, rounds=4)
        assert "".join(calls) == "abcbcacababc"
        assert seconds == {"a": [1] * 4, "b": [2] * 4, "c": [3] * 4}

    def test_timed_measures_the_work(self) -> None:
        done: list[int] = []
        assert timed(lambda: done.append(1))() > 0.0
        assert done == [1]

    def test_spread_is_median_and_quartiles(self) -> None:
        assert spread([5.0, 1.0, 4.0, 2.0, 3.0]) == (3.0, 2.0, 4.0)
        assert spread([7.0]) == (7.0, 7.0, 7.0)

    def test_blocks(self) -> None:
        assert block_means([1.0, 3.0, 5.0, 7.0], 2) == [2.0, 6.0]
        assert block_sums([1.0, 3.0, 5.0, 7.0], 2) == [4.0, 12.0]
        with pytest.raises(ValueError, match="size must divide the 4 values, got 3"):
            block_means([1.0, 3.0, 5.0, 7.0], 3)

    def test_ratios_are_taken_round_by_round(self) -> None:
        assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]

    def test_a_memory_pass_reads_and_writes_every_number_once(self) -> None:
        assert bandwidth(elements=1000, seconds=1e-6) == pytest.approx(8e9)  # 1000 numbers of 4 bytes, twice
        assert all(timed(run)() > 0.0 for run in memory_passes(1000).values())


class TestMemory:
    def test_a_trace_counts_new_tensors_until_they_are_freed(self) -> None:
        given = torch.ones(100)
        with AllocationTrace() as trace:
            kept = given * 2.0
            view = kept.view(10, 10)
            kept.add_(1.0)
            passing = given + 1.0
            assert trace.live == 800  # neither the view nor the update in place takes memory
            del passing
            assert trace.live == 400
            del kept
            assert trace.live == 400  # the view holds it
            del view
        assert (trace.live, trace.peak) == (0, 800)

    @pytest.mark.parametrize(
        ("name", "state", "scratch"),
        [("SGD momentum, fused", 1, 0), ("Adam, for loop", 2, 0), ("FER over SGD", 2, 1), ("FER over Adam", 3, 1)],
    )
    def test_buffers_of_an_optimizer(self, name: str, state: int, scratch: int) -> None:
        memory = step.measure_memory(contender(name), [torch.Size((300, 400)), torch.Size((10,))])
        assert memory.state == pytest.approx(state, abs=2e-3)
        assert memory.scratch == pytest.approx(scratch, abs=2e-3)

    @pytest.mark.slow
    def test_what_a_step_takes_and_gives_back(self) -> None:
        shapes = [torch.Size((100, 100))] * 4
        transient = {c.name: step.measure_memory(c, shapes).transient for c in step.available_contenders()}
        assert transient["Adam, fused"] == 0.0
        assert 0.25 <= transient["Adam, for loop"] < 1.0  # temporaries of one or a few tensors of the four
        assert transient["Adam, foreach"] >= 1.0  # temporaries of all tensors at once

    def test_state_is_what_a_checkpoint_holds(self) -> None:
        weight = nn.Parameter(torch.ones(1000))
        weight.grad = torch.ones(1000)
        optimizer = FEROptimizer([weight], torch.optim.SGD, {"lr": 0.1})
        optimizer.step()
        assert state_bytes(optimizer) == 4000  # the memory; plain SGD has none


class TestStep:
    def test_the_floor_is_the_formula_s_bytes_over_the_bandwidth(self) -> None:
        assert step.floor_seconds(words=7.0, parameters=10**6, bytes_per_second=28e9) == pytest.approx(1e-3)

    def test_words_of_a_base_follow_from_its_state(self) -> None:
        for c in step.available_contenders():
            if c.base is None:
                buffers = step.measure_memory(c, [torch.Size((300, 400))]).state
                # The gradient is read; the parameter and each buffer of the state are read and written.
                assert c.words == 1 + 2 * (1 + round(buffers))

    def test_words_of_a_wrapper_come_on_top_of_its_base(self) -> None:
        contenders = {c.name: c for c in step.available_contenders()}
        added = {c.name: c.words - contenders[c.base].words for c in contenders.values() if c.base is not None}
        # FER: reads g and memory, writes memory and g'. Gradient correction: the same, and writes and reads another g
        # every fourth step. The convolutional optimizers: read g and write g'; version 2 also reads and writes the
        # average of the gradients, where its kernels learn. OrthoGrad: reads g and p, writes g'. Lookahead: reads and
        # writes p and the slow weights, every fifth step.
        assert added == pytest.approx(
            {
                "FER over SGD": 4,
                "FER over Adam": 4,
                "Correction over SGD": 4.5,
                "Correction over Adam": 4.5,
                **{f"{name} over {base}": 2 for name in SMOOTHING for base in ("SGD", "Adam")},
                **{f"ConvolutionalSGDv2 over {base}": 4 for base in ("SGD", "Adam")},
                "ConvolutionalSGD, 5 taps": 2,
                "LocalLossConvSGD, 5 taps, every 4th": 2,
                "ConvolutionalSGDv2, 5 taps, fixed": 2,
                "ConvolutionalSGDv2, 5 taps, every 10th": 4,
                "ConvolutionalSGDv2, 5 taps, every 4th": 4,
                "OrthoGrad over Adam": 3,
                "Lookahead over Adam": 0.8,
                "MuSGD momentum, fused": 0,
                "MuAdam, fused": 0,
            }
        )

    def test_gradient_correction_is_timed_while_it_corrects(self) -> None:
        optimizer = step.prepared(contender("Correction over Adam"), SHAPES[:1])
        assert optimizer.history
        for _ in range(200):
            optimizer.step()
        assert optimizer.history[-1].gcw_gate != 0.0
        assert optimizer.history[-1].gcode_gate != 0.0

    @pytest.mark.parametrize("name", ["FER over SGD", "FER over Adam"])
    def test_fer_is_timed_while_it_corrects(self, name: str) -> None:
        optimizer = step.prepared(contender(name), SHAPES[:1])
        for _ in range(200):
            optimizer.step()
        history = optimizer.consistency_history[-200:]
        assert len(history) == 200
        assert max(history) < optimizer.param_groups[0]["consistency_threshold"]

    @pytest.mark.parametrize("name", ["MuSGD momentum, fused", "MuAdam, fused"])
    def test_mup_is_timed_with_several_learning_rates(self, name: str) -> None:
        optimizer = step.prepared(contender(name), [torch.Size((64, 3, 3, 3)), torch.Size((64,)), torch.Size((64, 32))])
        multipliers = {group["lr_multiplier"] for group in optimizer.param_groups}
        assert len(multipliers) == len(optimizer.param_groups) == 2

    def test_a_missing_peer_is_named(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        names = [c.name for c in step.available_contenders()]
        assert "FER over Adam" in names
        assert not any("Lookahead" in name or "OrthoGrad" in name or "schedule-free" in name for name in names)
        printed = capsys.readouterr().out
        assert "Lookahead and OrthoGrad are left out: pytorch_optimizer is not installed" in printed
        assert "AdamW, schedule-free is left out: schedulefree is not installed" in printed

    @pytest.mark.slow
    def test_measurements(self, tmp_path: Path) -> None:
        rows = {row["optimizer"]: row for row in measure("step", tmp_path)["measurements"]}
        assert rows.keys() == {c.name for c in step.available_contenders()}
        for row in rows.values():
            assert row["tensors"] == 62
            assert row["median_seconds"] > 0.0
            assert row["floor_seconds"] == pytest.approx(
                row["words_per_parameter"] * 4 * row["parameters"] / max(row["bandwidth_bytes_per_second"].values())
            )
            assert row["ratio_to_reference"]["low"] > 0.0
            if row["base"] is not None:
                of_repeats = ratios(row["seconds"], rows[row["base"]]["seconds"])
                assert row["ratio_to_base"] == pytest.approx(spread(of_repeats)._asdict())
        assert rows[step.REFERENCE]["ratio_to_reference"]["median"] == 1.0


class TestDataPipeline:
    def test_both_give_the_same_images_before_augmentation(self) -> None:
        """Constant images stay as they are under flips, and inside under crops: the two differ in nothing else."""
        values = torch.tensor([10, 200], dtype=torch.uint8)
        images = values[:, None, None, None].expand(2, 32, 32, 3).contiguous()
        ours = next(iter(data_pipeline.project_batches(images, torch.arange(2))))
        theirs, labels = next(iter(data_pipeline.torchvision_batches(images, torch.arange(2))))
        assert ours.images.shape == theirs.shape == (2, 3, 32, 32)
        assert ours.images.dtype == theirs.dtype == torch.float32
        inside = (..., slice(8, 24), slice(8, 24))  # never padding
        for label in range(2):
            torch.testing.assert_close(
                ours.images[ours.labels == label][inside], theirs[labels == label][inside], atol=1e-5, rtol=1e-5
            )

    def test_an_epoch_is_every_image(self) -> None:
        images = torch.zeros(300, 32, 32, 3, dtype=torch.uint8)
        labels = torch.zeros(300, dtype=torch.int64)
        for pipeline in (data_pipeline.project_batches, data_pipeline.torchvision_batches):
            assert data_pipeline.consume(pipeline(images, labels)) == 300

    def test_measurements(self, tmp_path: Path) -> None:
        rows = measure("data", tmp_path)["measurements"]
        assert rows[-1]["pipeline"] == data_pipeline.REFERENCE
        assert rows[-1]["ratio_to_reference"]["median"] == 1.0
        for row in rows:
            assert row["images_per_second"] == pytest.approx(row["images"] / spread(row["seconds"]).median)
            assert row["ratio_to_reference"]["low"] > 0.0


class TestEpochs:
    def config(self, algorithm: str, **changes: Any) -> RunConfig:
        task = get_study("fer", "quick").tasks[0]
        return replace(task.run(algorithm, {"lr": 0.1}, seed=3, label_noise=0.0), **changes)

    def test_trains_as_a_study_does(self, tmp_path: Path) -> None:
        config = self.config("fer-sgd", epochs=1)
        trainer = epochs.Trainer(config)
        trainer.learner.start_epoch(1)
        results = [(trainer.learner.step(batch), len(batch.labels)) for batch in trainer.batches]
        loss = sum(float(result.loss) * size for result, size in results) / sum(size for _, size in results)
        record = train(config, RunStore(tmp_path / "runs"))
        assert loss == pytest.approx(record.final["train_loss"], rel=1e-6)

    def test_every_quick_run_is_long_enough_for_the_quick_plan(self) -> None:
        tasks = {task.name: (task, baseline) for task, _, baseline in epochs.comparisons("quick")}
        for task, baseline in tasks.values():
            batches = len(epochs.Trainer(epochs._run_of(task, baseline)).batches)
            measured = epochs.spread_epochs(task.epochs, epochs.QUICK.epochs)
            assert epochs.batches_per_turn(epochs.QUICK, len(measured), batches, seconds_per_batch=1.0) == 1

    def test_the_two_of_a_pair_see_the_same_batches(self) -> None:
        orders = []
        for algorithm in ("sgd", "flipping-sgd"):
            trainer = epochs.Trainer(self.config(algorithm))
            trainer.train(3)
            orders.append(torch.cat([batch.indices for batch in islice(trainer._stream, 30)]))
        assert torch.equal(*orders)

    def test_a_turn_is_taken_in_epochs_all_over_the_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: dict[str, list[int]] = {}

        def one_each(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
            for name, turn in contenders.items():
                criterion = getattr(turn.func.__self__.learner, "criterion", None)  # type: ignore[attr-defined]
                if criterion is not None:
                    seen.setdefault(name, []).append(int(criterion.epoch))
            return {name: [1.0] * rounds for name in contenders}

        monkeypatch.setattr(epochs, "interleaved", one_each)
        task = get_study("fer", "quick").tasks[0]
        epochs.measure_pairs(task, "flipping-sgd", "sgd", epochs.QUICK)
        assert seen == {"flipping-sgd": epochs.spread_epochs(task.epochs, epochs.QUICK.epochs)}

    @pytest.mark.parametrize(
        ("total", "count", "expected"), [(10, 10, list(range(1, 11))), (20, 5, [4, 8, 12, 16, 20]), (3, 10, [1, 2, 3])]
    )
    def test_epochs_are_spread_evenly(self, total: int, count: int, expected: list[int]) -> None:
        assert epochs.spread_epochs(total, count) == expected

    def test_seconds_are_scaled_to_an_epoch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def two_and_one(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
            return {name: [2.0 if name == "fer-sgd" else 1.0] * rounds for name in contenders}

        monkeypatch.setattr(epochs, "interleaved", two_and_one)
        measured = epochs.measure_pairs(get_study("fer", "quick").tasks[0], "fer-sgd", "sgd", epochs.QUICK)
        scale = epochs.QUICK.epochs * measured["batches_per_epoch"] / measured["batches_per_pair"]
        assert measured["pairs"] == [pytest.approx([2.0 * scale, 1.0 * scale])] * epochs.QUICK.pairs

    def test_turns_are_long_enough_and_end_with_the_schedule(self) -> None:
        plan = epochs.Plan(pairs=9, epochs=10, pair_seconds=2.0, warm_up=10)
        convnet = epochs.batches_per_turn(plan, epochs=10, batches_per_epoch=391, seconds_per_batch=0.05)
        assert convnet == math.ceil(2.0 / 0.05 / 10)
        mlp = epochs.batches_per_turn(plan, epochs=10, batches_per_epoch=469, seconds_per_batch=0.001)
        assert mlp == math.ceil(469 / 4 / 10)
        short = epochs.batches_per_turn(plan, epochs=2, batches_per_epoch=100, seconds_per_batch=0.001)
        assert short * 2 * plan.pairs + 2 * plan.warm_up < 200
        with pytest.raises(ValueError, match="leave a batch for each turn of 1 epochs, got 9"):
            epochs.batches_per_turn(plan, epochs=1, batches_per_epoch=28, seconds_per_batch=0.001)

    def test_memory_is_counted_on_whole_batches(self) -> None:
        trainer = epochs.Trainer(self.config("sgd"))
        trainer.train(len(trainer.batches) - 1)  # the next batch is the short one
        assert trainer.peak_bytes() == trainer.peak_bytes() > 0

    def test_a_full_run_can_decide_the_claims(self) -> None:
        assert epochs.FULL.pairs >= MIN_PAIRS
        assert epochs.FULL.pairs % 2 == 1
        assert any("overhead" in key for key in CLAIMS)

    @pytest.mark.slow
    def test_measurements(self, tmp_path: Path) -> None:
        content = measure("epochs", tmp_path)
        assert [path.name for path in tmp_path.glob("*.json")] == ["epoch_overhead.json"]
        assert content["environment"]["threads"] == 1
        rows = content["measurements"]
        compared = {(task.name, algorithm, baseline) for task, algorithm, baseline in epochs.comparisons("quick")}
        assert {(r["task"], r["algorithm"], r["baseline"]) for r in rows} == compared
        assert ("digits-mlp", "fer-sgd", "sgd") in compared
        for row in rows:
            assert len(row["pairs"]) == epochs.QUICK.pairs
            assert all(seconds > 0.0 for pair in row["pairs"] for seconds in pair)
            assert all(count > 0 for count in row["peak_bytes"])


@pytest.mark.slow
def test_the_meta_gradient_of_many_tasks_is_the_same_at_once_and_one_by_one(tmp_path: Path) -> None:
    orders_and_steps = {(m["order"], m["inner_steps"]) for m in measure("tasks", tmp_path)["measurements"]}
    assert len(orders_and_steps) == 4
    maml = tasks.MAML(tasks.network(), lr=0.01, loss=tasks.mse_loss)
    x, y = tasks.sinusoid_tasks(tasks.TASKS, 20, torch.Generator().manual_seed(1))
    gradients = []
    for way in tasks.ways(maml, (x[:, :10], y[:, :10]), (x[:, 10:], y[:, 10:]), 2).values():
        way()
        gradients.append(torch.cat([p.grad.flatten() for p in maml.parameters() if p.grad is not None]))
    at_once, one_by_one = gradients
    assert at_once.norm() > 0.1
    torch.testing.assert_close(at_once, one_by_one, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_import_measurements(tmp_path: Path) -> None:
    rows = {row["module"]: row for row in measure("import", tmp_path)["measurements"]}
    assert rows.keys() == {"advanced_optimizers", "torch"}
    assert rows["torch"]["ratio_to_reference"]["median"] == 1.0
    assert all(seconds > 0.0 for row in rows.values() for seconds in row["seconds"])


def test_an_import_is_timed_in_a_new_process() -> None:
    assert imports.import_seconds("decimal") > 0.0


def test_a_table_lines_up() -> None:
    assert aligned(a_result().rows).splitlines() == [
        "| Optimizer    |    ms |",
        "| :----------- | ----: |",
        "| SGD          |  2.50 |",
        "| FER over SGD | 12.50 |",
    ]


def test_a_result_is_saved_whole(tmp_path: Path) -> None:
    json_path, table_path = a_result().save(tmp_path / "new" / "folder")
    content = json.loads(json_path.read_text())
    assert content == {"measurements": [{"ms": 2.5}], "environment": {"torch": "2"}, "caption": "What it shows."}
    assert table_path.read_text() == a_result().text
    assert sorted(path.suffix for path in json_path.parent.iterdir()) == [".json", ".md"]


class TestDevices:
    def test_the_same_processor_repeats_its_runs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "pyproject.toml").write_text(PYPROJECT)
        monkeypatch.chdir(tmp_path)
        content = measure("devices", tmp_path / "out", rows=3)
        assert all(first == second for first, second in (row["accuracies"] for row in content["measurements"]))

    def test_only_runs_from_an_accelerator_are_repeated(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no record"):
            devices.repeated_configs("full", RunStore(tmp_path))
        config = devices.repeated_configs("quick", RunStore(tmp_path))[0]
        with pytest.raises(DataError, match=f"the run {config.run_id} .* has no record from an accelerator"):
            devices._check_recorded([config], RunStore(tmp_path))

    def test_a_difference_is_that_of_the_means(self) -> None:
        pairs = [(0.80, 0.79), (0.82, 0.81), (0.84, 0.80)]
        rows = devices._rows([{"algorithm": "sgd", "accuracies": pair} for pair in pairs])
        assert [row["Algorithm"] for row in rows] == ["sgd", "all"]
        # The mean of 1, 1 and 4 points is 2; 2.92 is the 95th percentile of t with two degrees of freedom.
        assert rows[0]["Difference, points"] == f"+2.00 [{2 - 2.92 * 3**0.5 / 3**0.5:+.2f}, {2 + 2.92:+.2f}]"
        assert (rows[0]["Recorded, %"], rows[0]["Again, %"], rows[0]["n"]) == ("82.00", "80.00", "3")
