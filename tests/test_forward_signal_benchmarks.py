"""The benchmarks of forward signal propagation measure what they say."""

from __future__ import annotations

import pytest
import torch

from advanced_optimizers import SigPropOptimizer
from benchmarks import __main__ as command
from benchmarks import depth_memory, pipeline
from tests.test_benchmarks import measure


def test_parts_are_registered():
    assert command.PARTS["depth"] is depth_memory.run
    assert command.PARTS["pipeline"] is pipeline.run


@pytest.mark.slow
def test_memory_is_constant_in_depth_for_learn_alone(tmp_path):
    content = measure("depth", tmp_path)
    growth = {(m["network"], m["training"]): m["peak_bytes"][-1] / m["peak_bytes"][0] for m in content["measurements"]}
    assert len(growth) == 6
    for (_, training), factor in growth.items():
        assert (factor < 1.1) if "layer by layer" in training else (factor > 4)


def test_memory_counts_the_activations_of_one_layer():
    net = depth_memory.dense(2)
    activations = 64 * 256 * 4
    assert activations < depth_memory.peak_bytes(depth_memory.learn, net, 64) < 12 * activations + 3 * 256 * 256 * 4


@pytest.mark.slow
def test_pipeline_is_timed_next_to_the_two_other_ways(tmp_path):
    content = measure("pipeline", tmp_path)
    assert len(content["measurements"]) == 6
    for m in content["measurements"]:
        assert len(m["seconds"]) == 2
        assert all(seconds > 0 for seconds in m["seconds"])
        assert m["training"] != pipeline.REFERENCE or m["speed_up"]["median"] == 1
        assert (m["bound"] is not None) == (m["training"] == pipeline.PIPELINE)
        assert m["bound"] is None or 1 <= m["bound"] <= pipeline.STAGES


@pytest.mark.parametrize("threads", [1, 2])
def test_timed_ways_learn(threads):
    net = pipeline.dense()
    optimizer = SigPropOptimizer(net, lr=1e-3)
    before = net.layers[0].block[1].weight.detach().clone()
    pipeline.learn(optimizer, [(torch.randn(8, 1024), torch.arange(8))], threads)
    assert torch.get_num_threads() == 1
    assert not torch.equal(net.layers[0].block[1].weight, before)
