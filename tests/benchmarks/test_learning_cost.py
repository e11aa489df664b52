"""The benchmark of an iteration's cost: what it counts is one iteration, and what it cannot measure it says."""

import pytest
import torch
from rarity.generators.concepts.lora import adapted
from rarity.generators.concepts.objectives import Objective
from rarity.generators.concepts.sampling import Chain
from torch.utils.flop_counter import FlopCounterMode


@pytest.fixture(scope="module")
def cost(benchmark_module):
    return benchmark_module("learning_cost")


def test_one_iteration_is_counted_there_and_back(cost, tiny_kandinsky, monkeypatch):
    prior = tiny_kandinsky[0]
    monkeypatch.setattr(cost, "PROMPT", "a letter r")  # the tiny tokenizer reads at most 12
    density = cost.density_of(prior)
    row = cost.measure(prior, density, 3, 2, 1e9)
    loss = Objective("band", density, 1000, (), (), prior, cost.PROMPT)
    with adapted(prior.transformer, cost.RANK):
        sampler = Chain(prior, cost.PROMPT, "", cost.STEPS, cost.GUIDANCE, reread=False)
        with FlopCounterMode(display=False) as there:
            x = sampler.draw(0, range(3), "concept")
        with FlopCounterMode(display=False) as back:
            x.backward(torch.ones_like(x))
    scored = FlopCounterMode(display=False)
    with scored:
        y = x.detach().double().requires_grad_(True)
        loss(y).backward()
    expected = (there.get_total_flops() + back.get_total_flops() + scored.get_total_flops()) / 2
    # The distance to the places, the norm and the residual are read beside the band.
    assert row["multiply-adds an iteration"] == pytest.approx(expected, rel=0.05)
    assert row["seconds"] > 0 and row["peak GB"] > row["weights GB"] > 0


def test_no_gpu_is_told(cost):
    row = {"device": "cpu", "batch": 1, "layers": cost.LAYERS, "seconds an iteration": 1.0, "peak GB": 3.6}
    assert [(target["value"], target["ok"]) for target in cost.reached([row])] == [("not measured", None)] * 2
    seconds, memory = cost.reached([row, row | {"device": "cuda"}])
    assert (seconds["value"], seconds["ok"]) == (50, False) and (memory["value"], memory["ok"]) == (3.6, False)
    assert [target["ok"] for target in cost.reached([row | {"device": "cuda", "seconds an iteration": 0.1, "peak GB": 3.4}])] == [True] * 2
