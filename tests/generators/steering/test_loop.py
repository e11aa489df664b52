"""One offset, steered by both engines, on a generator small enough to know what must come out."""

import contextlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, GaussianDensity
from rarity.density.base.errors import RarityError
from rarity.density.steering.band import BandLoss
from rarity.density.steering.directions import Direction
from rarity.density.steering.optimize import with_defaults
from rarity.generators.judges.validity_gate import ValidityGate
from rarity.generators.runtime.memory import Placement
from rarity.generators.steering.engines import Gradient, Tried
from rarity.generators.steering.loop import Aim, steer

WIDTH, SIZE = 6, 4
SPACE = EmbeddingSpace("toy", "0" * 12, WIDTH)
ENGINES = [("gradient", 0.1), ("evolution", 0.5)]


class Toy:
    """Pictures of two pixels: an embedding is a bent image of the offset, and a little noise that belongs to the picture."""

    def __init__(self, noise=0.05):
        random = torch.Generator().manual_seed(0)
        self.matrix = torch.randn(WIDTH, SIZE, generator=random)
        self.noise = noise * torch.randn(64, WIDTH, generator=random)
        self.space, self.size, self.placement, self.asked = SPACE, SIZE, Placement(), []

    def embed(self, offset, rows):
        self.asked.append((torch.is_grad_enabled(), len(rows)))
        x = self.matrix @ offset
        return (x + 0.1 * x.sin()).expand(len(rows), -1) + self.noise[rows.start : rows.stop]

    def pictures(self, offset, rows):
        return (offset[0] / 20 + 0.5).clamp(0, 1).expand(len(rows), 1, 2, 3)


@pytest.fixture(scope="module")
def density():
    x = torch.randn(3000, WIDTH, generator=torch.Generator().manual_seed(1))
    return GaussianDensity.fit(Embeddings(x, SPACE), components=4)


def test_the_gradient_is_that_of_the_literal_formula_however_it_is_cut(density):
    toy, at = Toy(), torch.tensor([0.7, -0.2, 0.4, 1.0])
    first = toy.embed(torch.zeros(SIZE), range(5)).double()
    aim = Aim(density, 9.0, (), (Direction("up", 2.0, SPACE, vector=torch.eye(WIDTH)[0]),), first)
    offset = at.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(aim(toy.embed(offset, range(5)).double()), offset)
    for at_once in (1, 2, 5):
        draw = SimpleNamespace(generator=toy, rows=range(5), at_once=at_once, count=lambda pictures: None)
        start = Tried(at, toy.embed(at, range(5)).double(), 0.0)
        torch.testing.assert_close(Gradient(draw, aim, start, 0.1, 0).slope(start), expected)


def test_the_aim_is_the_literal_formula(density):
    x = 6 * torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2)).double()
    rails = with_defaults(density, ())
    penalties = [[float(rail.penalty(row[None])) for rail in rails] for row in x]
    assert sum(p > 0.1 for row in penalties for p in row) > 2, "some are well outside"
    band = BandLoss(density, 9.0, 0.5)
    expected = sum(float(band(row[None])) + sum(p**2 for p in own) for row, own in zip(x, penalties, strict=True)) / 5
    assert float(Aim(density, 9.0, rails, (), x)(x)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("engine, step_size", ENGINES)
def test_pictures_of_every_noise_arrive_in_the_band(density, engine, step_size):
    toy, calls, seen = Toy(noise=0.03), [], []  # so little that other noise stays in the band, too
    found = steer(toy, density, 500, engine=engine, pictures=3, at_once=2, iterations=150, step_size=step_size, keep_every=4,
                  progress=lambda *call: calls.append(call), watch=lambda steering: seen.append(steering))
    way = found.trajectory
    assert way.in_band.all() and way.accepted.all()
    torch.testing.assert_close(way.final.vectors, toy.embed(found.offsets[-1], range(3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(way.start.vectors, toy.embed(torch.zeros(SIZE), range(3)))
    fresh = density.bits(toy.embed(found.offsets[-1], range(3, 6)).double())
    torch.testing.assert_close(found.fresh_bits, fresh, rtol=1e-4, atol=1e-4)
    assert ((fresh - math.log2(500)).abs() <= 1).all()
    assert way.steps[0] == 0 and len(way.steps) == len(found.offsets) == len(seen) + 1
    assert way.steps[-1] < 150, "it ends where all have arrived"
    assert found.drawn == sum(n for _, n in toy.asked) - 9, "all that was made, but for three lines of this test"
    done, most = zip(*calls, strict=True)
    assert list(done) == sorted(done) and max(done) <= max(most)
    assert "3 of 3 are about 1 in 500" in found.report() and "Of 3 with noise it never saw, 3 are as rare." in found.report()


@pytest.mark.parametrize("engine, step_size", ENGINES)
def test_two_runs_agree_and_the_global_random_state_is_left_alone(density, engine, step_size):
    torch.manual_seed(3)
    np.random.seed(3)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = (
        steer(Toy(), density, 500, engine=engine, iterations=6, step_size=step_size, seed=2**63).offsets for _ in range(2)
    )
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), states[0]) and np.array_equal(np.random.get_state()[1], states[1])


def test_evolution_takes_no_gradient_and_another_seed_goes_another_way(density):
    toy = Toy()
    settings = {"engine": "evolution", "iterations": 3, "step_size": 0.5}
    one, two = (steer(toy, density, 500, seed=seed, **settings).offsets[-1] for seed in (0, 1))
    assert not any(gradient for gradient, _ in toy.asked) and not torch.equal(one, two)


def test_evolution_searches_a_single_direction(density):
    toy = Toy()
    toy.matrix, toy.size = toy.matrix[:, :1], 1
    found = steer(toy, density, 100, engine="evolution", iterations=40, step_size=0.5)
    assert found.offsets.shape[1] == 1 and found.trajectory.readings["bits"][-1].mean() > found.trajectory.readings["bits"][0].mean()


def test_a_wish_is_followed(density):
    up = torch.eye(WIDTH)[1]
    places = [
        float((steer(Toy(), density, 100, directions=(Direction("up", strength, SPACE, vector=up),), iterations=80, step_size=0.05)
               .trajectory.final.vectors @ up).mean())
        for strength in (-1.5, 1.5)
    ]
    assert places[1] - places[0] > 2


class Judge:
    """Says Yes while the pictures are not too bright."""

    subject = "a dark toy"

    def probability(self, pictures, progress=None):
        return (pictures.mean(dim=(1, 2, 3)) < self.limit).double()


def gate(limit, on_no="step back"):
    judge = Judge()
    judge.limit = limit
    return ValidityGate(judge, every=2, on_no=on_no)


@pytest.mark.parametrize("on_no", ["step back", "stop"])
def test_a_gate_keeps_the_last_valid_offset(density, on_no):
    """The toy grows bright with the first number of its offset, which is where this wish goes."""
    bright = Direction("bright", 6.0, SPACE, vector=Toy().matrix[:, 0])
    free = steer(Toy(), density, 500, directions=(bright,), iterations=40, step_size=0.1)
    limit = float(Toy().pictures(free.offsets[-1], range(1)).mean() + 0.5) / 2
    held = steer(Toy(), density, 500, directions=(bright,), iterations=40, step_size=0.1, gate=gate(limit, on_no))
    assert Toy().pictures(held.offsets[-1], range(1)).mean() < limit
    assert held.trajectory.readings["validity"].eq(1).all() and "No to 'a dark toy'" in held.report()


def test_a_gate_that_refuses_the_start_says_so(density):
    with pytest.raises(RarityError, match="does not take even what the model makes"):
        steer(Toy(), density, 500, gate=gate(0.1))


def test_cancel_goes_through_and_watch_ends_it(density):
    def cancel(done, most):
        if done > 10:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        steer(Toy(), density, 500, progress=cancel)
    found = steer(Toy(), density, 500, watch=lambda steering: False, keep_every=1)
    assert found.trajectory.steps == (0, 1)


def test_gradients_that_do_not_fit_are_taken_of_fewer_at_a_time(density, caplog):
    class Narrow(Toy):
        def embed(self, offset, rows):
            if torch.is_grad_enabled() and len(rows) > self.most:
                torch.empty(2**60, dtype=torch.uint8)  # more than any machine has: the allocator's own error
            return super().embed(offset, rows)

    wide, narrow = Toy(), Narrow()
    narrow.most = 2
    same = [steer(toy, density, 500, pictures=4, at_once=4, iterations=3).offsets for toy in (wide, narrow)]
    torch.testing.assert_close(*same)
    assert "going on with 2" in caplog.text
    narrow.most = 0
    with pytest.raises(RarityError, match="choose the engine evolution"):
        steer(narrow, density, 500, iterations=3)
    steer(narrow, density, 500, engine="evolution", iterations=2)


def test_values_that_stop_being_finite_end_it_with_what_was_kept(density):
    class Breaking(Toy):
        def embed(self, offset, rows):
            return super().embed(offset, rows) / (offset.norm() < 0.15)

    for engine, step_size in (("gradient", 0.1), ("evolution", 100.0)):
        found = steer(Breaking(), density, 500, engine=engine, step_size=step_size, iterations=20)
        assert "no longer finite" in found.report() and torch.isfinite(found.offsets).all()


@pytest.mark.parametrize("change, message", [
    ({"engine": "hope"}, "gradient, evolution; got 'hope'"),
    ({"pictures": 0}, "pictures must be at least 1"),
    ({"step_size": math.nan}, "step size must be a positive number"),
    ({"one_in": 1}, "2"),
])
def test_bad_settings_are_refused(density, change, message):
    with pytest.raises(RarityError, match=message):
        steer(Toy(), density, **{"one_in": 500} | change)


def test_another_encoder_too_many_dimensions_and_broken_pictures_are_refused(density):
    toy = Toy()
    toy.space = EmbeddingSpace("other", "1" * 12, WIDTH)
    with pytest.raises(RarityError, match="different embedding spaces"):
        steer(toy, density, 500)
    toy = Toy()
    toy.matrix, toy.size = torch.zeros(WIDTH, 300), 300
    with pytest.raises(RarityError, match="searches at most 200 dimensions, got 300"):
        steer(toy, density, 500, engine="evolution")
    toy = Toy(noise=math.nan)
    with pytest.raises(RarityError, match="not finite before anything is changed"), contextlib.suppress(InterruptedError):
        steer(toy, density, 500)


def test_a_search_in_no_direction_at_all_is_refused(density):
    toy = Toy()
    toy.size = 0
    with pytest.raises(RarityError, match="dimensions must be at least 1, got 0"):
        steer(toy, density, 500, engine="evolution")
