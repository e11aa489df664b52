"""The benchmark of variety: its world, the published ways of varying, and its table, on little of everything."""

from string import ascii_uppercase

import pytest
import torch
from rarity.generators.kandinsky.load import load_kandinsky


@pytest.fixture(scope="module")
def module(benchmark_module):
    return benchmark_module("variety")


@pytest.fixture(scope="module")
def world(module):
    return module.World("R", *load_kandinsky())


SEEDS = [5, 6, 7]


def test_a_picture_is_the_decoder_s_and_of_its_seed_alone(module, world):
    """As the decoder itself draws the condition, up to the noise: what a seed is drawn from is its own."""
    pictures = world.draw(world.plain(SEEDS), SEEDS)
    assert pictures.shape == (3, 64, 64, 3) and 0 <= pictures.min() and pictures.max() <= 1
    torch.testing.assert_close(world.draw(world.plain([6]), [6]), pictures[1:2], atol=1e-4, rtol=0)
    assert module.distance(pictures) < 0.05, "seeds look alike"
    varied = world.draw(world.ours(SEEDS, 0.75), SEEDS)
    assert module.distance(varied) > 4 * module.distance(pictures)
    torch.testing.assert_close(world.draw(world.ours([6], 0.75), [6]), varied[1:2], atol=1e-4, rtol=0)


def test_published_noise_is_uniform_on_half_of_the_values_in_the_first_fifth(world):
    told = world.fixed(list(range(200)), 3.0)
    noise = told(0.0) - world.condition
    assert noise.abs().max() <= 3.0 + 1e-4 and torch.equal(told(0.2), world.condition.expand(200, -1))
    moved = noise[noise.abs() > 1e-6]
    assert len(moved) / noise.numel() == pytest.approx(0.5, abs=0.02)
    # The deviation of uniform numbers from -s to s is s / sqrt(3).
    assert float(moved.std()) == pytest.approx(3 / 3**0.5, rel=0.02)
    assert torch.equal(world.fixed_in_all(SEEDS, 3.0)(0.9), world.fixed(SEEDS, 3.0)(0.0))


def test_cads_anneals_from_noise_to_the_condition_and_keeps_its_mean_and_deviation(module, world):
    """gamma(t) of the paper: 1 up to tau_1, 0 from tau_2 on, straight between; t runs from 1 to 0."""
    told, y = world.cads(list(range(50)), 0.25), world.condition
    torch.testing.assert_close(told(0.4), y.expand(50, -1), atol=1e-4, rtol=0)
    pure = told(0.0)
    assert float(torch.nn.functional.cosine_similarity(pure - pure.mean(1, keepdim=True), (y - y.mean())[None]).abs().mean()) < 0.25
    for done in (0.0, 0.25, 0.35):
        rows = told(done)
        torch.testing.assert_close(rows.mean(dim=1), y.mean().expand(50), atol=1e-4, rtol=0)
        torch.testing.assert_close(rows.std(dim=1), y.std().expand(50), atol=1e-4, rtol=1e-4)
    noise = torch.randn(4, len(y), generator=torch.Generator().manual_seed(0))
    halfway = world.annealed(y, 0.5, 0.25, noise)
    moved = 0.5**0.5 * (y + 0.25 * noise)
    expected = (moved - moved.mean(1, keepdim=True)) / moved.std(1, keepdim=True) * y.std() + y.mean()
    torch.testing.assert_close(halfway, expected)


def test_ours_is_told_what_the_node_gives(world):
    told = world.ours(SEEDS, 1.0, 0.5)
    moved = told(0.4)
    torch.testing.assert_close(moved.norm(dim=1), world.condition.norm().expand(3))
    assert not torch.equal(moved[0], moved[1]) and torch.equal(told(0.5), world.condition.expand(3, -1))


def test_other_wordings_are_those_of_the_model(world):
    """Six words of style that it knows; each wording is another condition, and seeds move between them."""
    ends = torch.stack([tokens[0, 0] for tokens, _ in world.wordings])
    assert len(ends) == 6 and float(torch.pdist(ends).min()) > 0.1 * float(world.condition.norm())
    moved = world.along(SEEDS, 1.0)(0.0) - world.condition
    # Apart from their length, which is restored, seeds stay in the space of seven vectors.
    basis = torch.linalg.qr(torch.cat([ends, world.condition[None]]).T)[0]
    assert float((moved - moved @ basis @ basis.T).norm() / moved.norm()) < 1e-4


def test_the_best_fixed_strength_is_the_most_varied_that_is_valid(module):
    rows = [{"valid": valid, "distance x": far} for valid, far in ((1.0, 2.0), (0.96, 3.0), (0.9, 5.0))]
    assert module.best(rows) is rows[1] and module.best(rows[2:]) is rows[2]


def test_the_table_and_what_was_asked(module, world, monkeypatch):
    """Rows are relative to the same letter's seeds as they are; every picture is judged once."""
    monkeypatch.setattr(module, "FAMILIES", [module.Method(one.name, one.told, one.strengths[:1]) for one in module.FAMILIES])
    monkeypatch.setattr(module.World, "find", lambda self, told: (0.5, 1.0))
    judged = []

    def judge(pictures):
        judged.append(len(pictures))
        return torch.eye(26)[[ascii_uppercase.index("R")] * len(pictures)]

    table, chosen = module.run([world], 3, judge)
    assert chosen == {"ours, noise": [(0.5, 1.0)], "ours, other wordings": [(0.5, 1.0)]} and judged == [3] * 9 + [3 * module.MORE] * 2
    plain, ours = table["seeds as they are"], table["ours, other wordings, each its own"]
    assert plain["valid"] == plain["distance x"] == plain["vendi x"] == ours["valid"] == 1.0
    assert ours["distance x"] > 2 and ours["within 2"] == 1.0 and ours["within 2 both ways"] == 0.0
    reached = {target["name"]: target for target in module.targets(table)}
    assert len(reached) == 6 and reached["ours: variety (distance of pixels) over seeds as they are"]["ok"]
