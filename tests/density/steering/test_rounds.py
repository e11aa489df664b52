"""Repeated rounds: what came out is what the next run keeps away from. Further each time, as rare, and inside."""

import pytest
import torch
from rarity.density import Direction, Embeddings, choose_starts, optimize

ROUNDS, COUNT = 3, 24


@pytest.fixture(scope="module")
def sets(baseline, density, contrast):
    starts = choose_starts(baseline, density, ROUNDS * COUNT, "usual", 0, (contrast,))
    return [starts.select(range(i, i + COUNT)) for i in range(0, len(starts), COUNT)]


@pytest.fixture(scope="module")
def once(density, contrast, sets):
    """As many results of one run, from the same starts."""
    return [optimize(density, some, 1000, (contrast,)) for some in sets]


@pytest.fixture(scope="module")
def rounds(density, contrast, sets):
    made = []
    for some in sets:
        away = (Direction.away_from(Embeddings.cat([one.final for one in made]), 2.0),) if made else ()
        made.append(optimize(density, some, 1000, (contrast,), directions=away))
    return made


def nearest(made, number):
    """How far the results of a round are from the nearest result of the rounds before it, on average."""
    before = torch.cat([one.final.vectors for one in made[:number]]).double()
    return float(torch.cdist(made[number].final.vectors.double(), before).amin(dim=1).mean())


def test_every_round_is_further_from_what_came_out_before(once, rounds):
    assert torch.equal(rounds[0].final.vectors, once[0].final.vectors), "there is nothing to keep away from yet"
    for number in (1, 2):
        assert nearest(rounds, number) > 1.1 * nearest(once, number)


def test_rounds_stay_as_rare_and_inside(rounds):
    for one in rounds:
        assert one.in_band.all() and one.accepted.all()


def test_rounds_from_a_saved_density(density, contrast, sets):
    """Away from all that a density calls usual, such as one fitted to what earlier rounds made."""
    away = (Direction.away_from(density, 1.0),)
    made = optimize(density, sets[0], 1000, (contrast,), directions=away)
    assert made.in_band.all() and made.accepted.all()
