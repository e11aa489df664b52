"""The benchmark of starts: its truth, and that results are about as rare as asked where samples are few."""

import pytest
import torch


@pytest.fixture(scope="module")
def module(benchmark_module):
    return benchmark_module("starts")


def test_the_truth_is_the_share_that_lies_further_out(module):
    world = module.World(16, 0.5)
    bits = world.bits(world.draw(20_000).vectors)
    for one_in in (2, 16, 256):  # three standard errors of a share of 20,000, about
        assert float((bits >= torch.tensor(float(one_in)).log2()).double().mean()) == pytest.approx(1 / one_in, rel=0.03 * one_in**0.5)


def test_results_of_own_samples_are_about_as_rare_as_asked(module):
    """At 8 samples a dimension, where one baseline alone may miss by 2 bits."""
    rows = module.measure(module.World(32, 0.5), 8 * 32, 3)
    assert [row["starts"] for row in rows] == ["rarer, its own", "rarer, new", "usual, its own", "usual, new"]
    for row in rows[::2]:
        assert row["true bits"] == pytest.approx([3.3, 6.6, 10.0], abs=2), row["starts"]
