"""Wishes: what a strength means, what they may not touch, and their signs."""

import copy
import math

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, RarityError, choose_starts, optimize
from rarity.density.steering.directions import Direction, Wishes


@pytest.fixture(scope="module")
def starts(baseline, density):
    return choose_starts(baseline, density, 24, "usual", 2)


@pytest.fixture(scope="module")
def free(density):
    """The density without its guardrail of norms, which here stops some wishes on their way."""
    free = copy.copy(density)
    free.norm_range = (0.0, 1e6)
    return free


def moved(density, starts, directions, chain=()):
    """How far each reading is from where it would be without the wishes, [M, N]; and the trajectory."""
    wishes = Wishes(density, directions)
    without, result = (optimize(density, starts, 1000, chain, directions=d) for d in ((), directions))
    return wishes.read(result.final.vectors) - wishes.read(without.final.vectors), result


@pytest.mark.parametrize("strength", [-2.0, 0.5, 2.0])
def test_a_strength_is_a_move_in_standard_deviations(free, density, starts, strength):
    move, result = moved(free, starts, (Direction.component(density, 3, strength),))
    assert (move - strength).abs().max() < 0.05  # what the last, shortest steps leave
    assert torch.allclose(density.own_calibration.bits(density.score(result.final.vectors)), torch.tensor(math.log2(1000)).double(), atol=1e-3)
    assert result.in_band.all()


def test_a_chain_gets_every_wish(free, density, starts):
    chain = (Direction.component(density, 1, 1.0), Direction.component(density, 3, -1.5))
    move, result = moved(free, starts, chain)
    assert (move - torch.tensor([[1.0], [-1.5]])).abs().max() < 0.15 and result.in_band.all()
    assert {"component 1", "component 3"} <= set(result.readings)
    assert torch.allclose(result.readings["component 3"][-1], Wishes(density, chain).read(result.final.vectors)[1])


def test_no_strength_is_no_wish(free, density, starts):
    move, result = moved(free, starts, (Direction.component(density, 1, 0.0),))
    assert torch.equal(result.final.vectors, optimize(free, starts, 1000).final.vectors)


def test_guardrails_go_first(density, starts, contrast):
    """A wish straight against a guardrail: the guardrail holds, the rarity holds, the wish gets what is left."""
    away = Direction("away", -4.0, density.space, contrast.subject - contrast.others.mean(dim=0))
    _, result = moved(density, starts, (away,), (contrast,))
    assert result.accepted.all() and result.in_band.all()
    assert not optimize(density, starts, 1000, directions=(away,)).final.vectors.equal(result.final.vectors)
    assert contrast.accepts(optimize(density, starts, 1000, directions=(away,)).final.vectors).double().mean() < 0.5


def test_a_wish_beyond_the_shell_goes_as_far_as_it_can(free, density, starts):
    wish = Direction.component(density, 1, 50.0)
    _, result = moved(free, starts, (wish,))
    assert result.in_band.all()
    mean, spread = wish.usual(density)
    furthest = result.readings["t2"][-1].sqrt()  # what the residual leaves
    reached = (wish.place(result.final.vectors) - mean) / spread / furthest
    assert (reached <= 1).all() and reached.median() > 0.9


def test_the_unit_is_the_spread_of_usual_samples(density, baseline):
    g = torch.Generator().manual_seed(3)
    wish = Direction("any", 1.0, density.space, torch.randn(16, generator=g))
    places = wish.place(baseline.vectors)
    mean, spread = wish.usual(density)
    assert wish.vector.norm() == pytest.approx(1) and mean == pytest.approx(float(places.mean()), abs=1e-9)
    assert spread == pytest.approx(float(places.std()), rel=0.03)  # ppca replaces the small variances by their mean
    axis = Direction.component(density, 2)
    assert axis.usual(density)[1] == pytest.approx(float(density.frame.variances[1].sqrt()), rel=1e-9)
    assert axis.vector[axis.vector.abs().argmax()] > 0


def test_towards_is_nearer_and_away_is_further(density, starts, mixture):
    examples = Embeddings(starts.vectors.mean(0, keepdim=True) + torch.eye(16)[0], density.space)
    for target, far in ((examples, lambda x: (x.double() - examples.vectors.double()).norm(dim=1)), (density, None)):
        near, off = Direction.towards(target, 1.0), Direction.away_from(target, 1.0)
        assert near.strength == 1.0 and off.strength == -1.0
        x = mixture(50, 9).vectors
        far = far or (lambda x: density.score(x).sqrt())
        assert torch.equal(near.place(x).argsort(), far(x).argsort(descending=True))
    place = [
        optimize(density, starts, 1000, directions=(make(examples, 1.0),)).final.vectors
        for make in (Direction.towards, Direction.away_from)
    ]
    nearer, further = ((x.double() - examples.vectors.double()).norm(dim=1) for x in place)
    assert (nearer < further).double().mean() > 0.8  # the guardrail of norms stops the others


def test_between_is_a_difference_within_one_modality(space):
    g = torch.Generator().manual_seed(1)
    light, bold = torch.randn(3, 16, generator=g), torch.randn(4, 16, generator=g)
    wish = Direction.between(light, bold, space, 2.0, "bold")
    unit = [torch.stack([row / row.norm() for row in rows.double()]).mean(dim=0) for rows in (light, bold)]
    apart = unit[1] - unit[0]
    assert torch.allclose(wish.vector, apart / apart.norm(), atol=1e-12)
    back = Direction.between(bold, light, space)
    assert torch.allclose(back.vector, -wish.vector, atol=1e-12)


def test_it_works_under_inference_mode_and_cancels(density, starts):
    with torch.inference_mode():
        examples = Embeddings(starts.vectors[:2].clone(), density.space)
        wishes = (Direction.away_from(examples, 0.5), Direction.component(density, 1, 0.5))
        assert optimize(density, starts, 100, directions=wishes, steps=5).in_band.all()

    def cancel(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        optimize(density, starts, 100, directions=wishes, progress=cancel)


def test_nonsense_is_refused(density, starts, space):
    foreign = EmbeddingSpace("another", "encoder", 16)
    for make, message in [
        (lambda: Direction("d", math.nan, space, torch.ones(16)), "strength"),
        (lambda: Direction("d", 1.0, space), "either a vector or"),
        (lambda: Direction("d", 1.0, space, torch.zeros(16)), "not all zero, got zeros. Its two ends must differ: give other words"),
        (lambda: Direction("d", 1.0, space, torch.ones(15)), r"16 finite numbers .*got shape \(15,\)"),
        (lambda: Direction.between(torch.ones(2, 16), torch.ones(3, 16), space), "ends must differ"),
        (lambda: Direction.between(torch.ones(2, 15), torch.ones(3, 16), space), r"shape \[N, 16\]"),
        (lambda: Direction.component(density, 0), "from 1 to 9, got 0"),
        (lambda: Direction.component(density, 10), "from 1 to 9, got 10"),
        (lambda: Direction("d", 1.0, foreign, target=density), "different embedding spaces"),
        (lambda: optimize(density, starts, 10, directions=(Direction("d", 1.0, foreign, torch.ones(16)),)),
         "direction 'd' .* different embedding spaces"),
    ]:
        with pytest.raises(RarityError, match=message):
            make()
