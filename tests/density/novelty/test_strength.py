"""The strength of a variation, found in worlds whose variety and validity at every strength are known; and the choice of a varied set."""

import math
from dataclasses import replace

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, RarityError
from rarity.density.novelty.diversity import most_varied
from rarity.density.novelty.strength import CERTAIN, STRONGEST, Curves, Look, find_part, find_strength

WIDTH, DIRECTIONS = 128, 40
GROWTH = 2.0  # of what a strength adds, in units of how far seeds lie apart by themselves


def world(seed, pictures=8, room=3.0, push=0.0, guards=1):
    """A picture at strength s lies at b + f w, f = 2 s / (1 + s / 3), and its slack is room + e - push f; b, w and e normal, new at each look."""
    g = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(WIDTH, DIRECTIONS, generator=g))[0]
    middle, asked = torch.randn(WIDTH, generator=g), []

    def look(strength):
        asked.append(strength)
        own, added = (torch.randn(pictures, DIRECTIONS, generator=g) for _ in range(2))
        edge = torch.randn(pictures, guards, generator=g)
        return Look(strength, middle + (own + growth(strength) * added) @ axes.T, room + edge - push * growth(strength))

    return look, asked


def growth(strength):
    return GROWTH * strength / (1 + strength / 3)


def variety_of(strength):
    return math.sqrt(1 + growth(strength) ** 2)


def inside(strength, room, push):
    """The share inside in truth, of the share at strength 0."""
    share = torch.special.ndtr(torch.tensor([room - push * growth(strength), room], dtype=torch.float64))
    return float(share[0] / share[1])


def test_the_strength_gives_the_variety_that_was_asked_for():
    """Within a tenth for nine worlds of ten: eight seeds are a sample; and its standard error says how far it may be off."""
    off = []
    for wanted in (1.3, 2.0, 2.6):
        for seed in range(8):
            look, asked = world(seed)
            found = find_strength(look, wanted)
            assert asked[0] == 0 and len(asked) == 5 == len(set(asked))
            assert found.limit == "variety" and found.variety == pytest.approx(wanted, rel=0.01) and found.guarded
            off.append((abs(variety_of(found.strength) / wanted - 1), abs(variety_of(found.strength) - found.variety) / found.error))
    assert sum(relative < 0.1 for relative, _ in off) >= 0.9 * len(off)
    assert sum(errors < 2.5 for _, errors in off) >= 0.9 * len(off)


@pytest.mark.parametrize("room, push, validity", [(2.5, 1.2, 0.9), (3.0, 1.0, 0.95), (1.5, 0.5, 0.95)])
def test_what_no_longer_is_the_subject_ends_it_where_the_validity_is_kept_for_sure_enough(room, push, validity):
    """With a probability of CERTAIN, in worlds whose validity falls by another law than the one that is learnt."""
    kept, off = [], []
    for seed in range(40):
        found = find_strength(world(seed, room=room, push=push)[0], 0, validity)
        assert found.limit == "validity" and 0 < found.strength < STRONGEST and found.validity >= validity
        kept.append(inside(found.strength, room, push) >= validity)
        off.append(inside(found.strength, room, push) - validity)
    assert sum(kept) / len(kept) > CERTAIN - 0.1, "40 worlds tell such a share to 5 points"
    assert sum(off) / len(off) < 0.7 * (1 - validity), "and it is not merely careful"


def test_more_pictures_are_surer():
    def spread(pictures):
        return torch.tensor([inside(find_strength(world(seed, pictures, 2.5, 1.2)[0], 0, 0.9).strength, 2.5, 1.2) for seed in range(10)]).std()

    assert spread(40) < 0.7 * spread(8)


def test_a_variety_that_is_asked_for_ends_where_the_validity_is_kept_as_probably_as_not():
    def found(seed, variety):
        return find_strength(world(seed, room=2.5, push=1.2)[0], variety, 0.9)

    kept = [inside(found(seed, 50.0).strength, 2.5, 1.2) for seed in range(20)]
    assert sum(kept) / len(kept) == pytest.approx(0.9, abs=0.04)
    for seed in range(5):
        assert found(seed, 50.0).limit == "validity" and found(seed, 50.0).strength > found(seed, 0).strength
        assert found(seed, 1.1).strength < found(seed, 50.0).strength


def test_where_nothing_is_too_much_it_ends_at_the_strongest():
    look, asked = world(0, guards=0)
    found = find_strength(look, 50.0)
    assert found.strength == STRONGEST == max(asked) and found.limit == "range" and found.variety < 50
    assert len(set(asked)) == 5


def test_as_drawn_is_strength_0_and_costs_one_look():
    look, asked = world(0)
    found = find_strength(look, 1.0)
    assert (found.strength, found.variety, asked) == (0.0, 1.0, [0.0])


@pytest.mark.parametrize("wanted, part", [(1.3, 0.5), (3.0, 1.0)])
def test_the_shortest_part_that_is_enough_is_taken(wanted, part):
    """In the first half a strength counts for a third of what it does in all steps."""
    whole, _ = world(0, guards=0)
    strengths = []

    def look(strength, share):
        strengths.append((strength, share))
        return replace(whole(strength / 3 if share == 0.5 else strength), strength=strength)

    found, taken = find_part(look, wanted)
    assert taken == part and found.limit == "variety" and found.variety == pytest.approx(wanted, rel=0.01)
    assert len(strengths) == 5 and strengths[:2] == [(0.0, 0.5), (2.0, 0.5)] and {share for _, share in strengths[2:]} == {part}
    assert variety_of(found.strength / (3 if part == 0.5 else 1)) == pytest.approx(wanted, rel=0.2)
    only, taken = find_part(look, wanted, parts=(1.0,))
    assert taken == 1.0 and len(strengths) == 10 and only.variety == pytest.approx(wanted, rel=0.01)


def test_one_part_is_as_good_as_another_where_nothing_is_varied():
    found, taken = find_part(lambda strength, share: world(0)[0](strength), 1.0)
    assert (found.strength, taken, len(found.looks)) == (0.0, 0.5, 1)


def test_curves_are_monotone_and_reach_through_noise():
    """A look that shows less variety than a weaker one is noise: both count for their mean."""
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    looks = tuple(Look(s, f * x, torch.zeros(6, 0)) for s, f in ((0.0, 1.0), (0.5, 1.6), (1.0, 1.4), (2.0, 3.0)))
    curves = Curves(looks)
    assert curves.variety == pytest.approx([1, 1.5, 1.5, 3], rel=1e-6) and (curves.validity == 1).all()
    assert curves.strongest(1.25, 1) == pytest.approx(0.25) and curves.strongest(2.25, 1) == pytest.approx(1.5)
    assert curves.at(1.5) == pytest.approx((2.25, 1))


def test_one_guard_that_refuses_is_enough():
    look, _ = world(0, room=4.0, guards=2)

    def with_a_strict_one(strength):
        one = look(strength)
        return Look(strength, one.x, one.slack - torch.tensor([0.0, 3.0]) * growth(strength))

    assert find_strength(with_a_strict_one, 0, 0.95).strength < find_strength(look, 0, 0.95).strength


@pytest.mark.parametrize("variety, validity", [(0.5, 0.95), (-1, 0.95), (math.inf, 0.95), (math.nan, 0.95), (2, 0), (2, 1.1), (2, math.nan)])
def test_numbers_out_of_range_are_named(variety, validity):
    with pytest.raises(RarityError, match="The variety must be 1 or more, or 0 .* and the validity above 0 and at most 1"):
        find_strength(world(0)[0], variety, validity)


@pytest.mark.parametrize("changed, message", [
    ({"x": torch.ones(8, 4)}, "All seeds give the same picture"),
    ({"x": torch.full((8, 4), math.nan)}, "not finite"),
    ({"x": torch.randn(2, 4), "slack": torch.ones(2, 1)}, "At least 3 pictures"),
    ({"slack": -torch.ones(8, 1)}, "None of the 8 pictures as they are drawn is inside"),
    ({"slack": torch.zeros(8, 0)}, "connect a guardrail or a gate"),
])
def test_pictures_that_say_nothing_are_an_error(changed, message):
    given = {"strength": 0.0, "x": torch.randn(8, 4), "slack": torch.ones(8, 1)} | changed
    with pytest.raises(RarityError, match=message):
        find_strength(lambda _: Look(**given), 0)


def of(rows):
    return Embeddings(rows, EmbeddingSpace("test encoder", "0123456789abcdef", rows.shape[1]))


def test_a_varied_set_is_the_greedy_one_of_the_kernel_s_determinant():
    """Beside the formula, entry by entry."""
    x = torch.randn(12, 6, generator=torch.Generator().manual_seed(1)) + 0.5
    unit = torch.nn.functional.normalize(x.double(), dim=1)
    kernel, taken = unit @ unit.T, [0]
    while len(taken) < 5:
        gains = [-1.0 if i in taken else float(torch.linalg.det(kernel[[*taken, i]][:, [*taken, i]])) for i in range(12)]
        taken.append(max(range(12), key=gains.__getitem__))
    assert most_varied(of(x), 5) == taken


def test_a_repeat_comes_last_and_the_first_row_first():
    x = torch.eye(4)[[0, 0, 1, 1, 2, 3]] * torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0, 1.0])[:, None]
    assert most_varied(of(x), 4) == [0, 2, 4, 5] and sorted(most_varied(of(x), 9)) == list(range(6))
    with pytest.raises(RarityError, match="At least 1 row must be taken, got 0"):
        most_varied(of(x), 0)
