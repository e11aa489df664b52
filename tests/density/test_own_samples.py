"""Samples that a density has learnt from: known by their bytes, read beside each other, steered as far as is rare among them."""

import math

import pytest
import torch
from rarity.density import (
    Embeddings,
    EmbeddingSpace,
    ExposureMemory,
    GaussianDensity,
    choose_starts,
    fit_density,
    load_embeddings,
    optimize,
    save_embeddings,
    score_novelty,
    slerp_on_shell,
    variations,
)
from rarity.density.own_samples import are_own, calibration_for

FEW, WIDTH = 200, 48  # 4 samples a dimension


@pytest.fixture(scope="module")
def few():
    """A function (count, seed) -> samples of a known normal distribution, spreads i^-0.5 along its axes."""

    def draw(count, seed):
        g = torch.Generator().manual_seed(seed)
        spread = torch.arange(1, WIDTH + 1) ** -0.5
        return Embeddings(4 + torch.randn(count, WIDTH, generator=g) * spread, EmbeddingSpace("normal", "0" * 12, WIDTH))

    return draw


@pytest.fixture(scope="module", params=["ppca", "ledoit-wolf", "mixture"])
def small(request, few):
    return fit_density(few(FEW, 1), request.param)


def both(few):
    """Six of the samples that were learnt from, and six others, in turn."""
    pairs = zip(few(FEW, 1).vectors[10:16], few(6, 2).vectors, strict=True)
    return few(1, 3), Embeddings(torch.stack([row for pair in pairs for row in pair]), few(1, 3).space)


def true_bits(x):
    """-log2 of the probability to lie further out, of the known distribution."""
    d2 = ((x.double() - 4) * torch.arange(1, WIDTH + 1) ** 0.5).square().sum(dim=1)
    return -torch.special.gammaincc(torch.tensor(WIDTH / 2).double(), d2 / 2).log2()


def test_own_samples_are_known_by_their_numbers(small, few):
    _, mixed = both(few)
    assert are_own(small, mixed).tolist() == [True, False] * 6
    assert are_own(small, Embeddings(mixed.vectors[:2] + 1e-6, mixed.space)).tolist() == [False, False]


def test_own_samples_are_rare_as_often_as_it_says_and_new_ones_too(small, few):
    """Among 200 and 4,000 samples, three standard errors of a share."""
    for rows, n in ((few(FEW, 1), FEW), (few(4000, 5), 4000)):
        bits = calibration_for(small, rows).bits(small.score(rows.vectors))
        for one_in in (2, 4, 16):
            slack = 3 * math.sqrt(1 / one_in / min(n, FEW))
            assert abs(float((bits >= math.log2(one_in)).double().mean()) - 1 / one_in) <= slack, (n, one_in)


def test_steering_from_own_samples_is_truly_about_as_rare_as_asked(small, few):
    """To the shell of new samples, which these seem to lie well within, the same numbers are moved several bits too far."""
    starts = choose_starts(few(FEW, 1), small, 20, "rarer")
    final = optimize(small, starts, 100).final.vectors
    asked = math.log2(100)
    assert abs(true_bits(final).median() - asked) < 1.5
    unknown = Embeddings(starts.vectors + 1e-6, starts.space)
    assert true_bits(optimize(small, unknown, 100).final.vectors).median() > asked + 2
    assert (small.bits(final) < asked - 1.5).all(), "as new samples these would not be as rare"


def test_every_sample_goes_by_its_own_calibration(small, few):
    _, mixed = both(few)
    made = optimize(small, mixed, 100, steps=20)
    own = are_own(small, mixed)
    apart = [optimize(small, mixed.select(mask), 100, steps=20) for mask in (own, ~own)]
    for mask, alone in zip((own, ~own), apart, strict=True):
        torch.testing.assert_close(made.final.vectors[mask], alone.final.vectors, rtol=0, atol=1e-5)
        torch.testing.assert_close(made.readings["bits"][:, mask], alone.readings["bits"], rtol=0, atol=1e-4)  # float32 rows
    assert made.in_band.all()
    score = small.score(mixed.vectors)
    low, high = calibration_for(small, mixed).interval(score)
    bits = calibration_for(small, mixed).bits(score)
    assert (low <= bits).all() and (bits <= high).all()


def test_results_are_read_as_their_starts_are_wherever_they_go(small, few, tmp_path):
    starts = choose_starts(few(FEW, 1), small, 8)
    made = optimize(small, starts, 100).final
    save_embeddings(made, tmp_path / "rare.safetensors")
    for rows in (made, made.select([1, 3]), Embeddings.cat([made, made]), load_embeddings(tmp_path / "rare.safetensors")):
        assert are_own(small, rows).all()
    novelty = score_novelty(made, small, ExposureMemory(small.space))
    torch.testing.assert_close(novelty.bits, torch.full((8,), math.log2(100)).double(), rtol=0, atol=0.01)
    assert (novelty.bits_low <= novelty.bits).all() and (novelty.bits <= novelty.bits_high).all()
    again = optimize(small, made, 100)
    torch.testing.assert_close(again.readings["bits"][0], again.readings["bits"][-1], rtol=0, atol=1e-3)


def test_what_did_not_begin_in_own_samples_does_not_count_as_such(small, few):
    others = few(FEW, 9)
    made = optimize(small, choose_starts(others, small, 8), 100).final
    assert not are_own(small, made).any() and not are_own(GaussianDensity.fit(few(FEW, 4)), made).any()
    own = optimize(small, choose_starts(few(FEW, 1), small, 8), 100).final
    assert not are_own(GaussianDensity.fit(others), own).any()
    assert not are_own(small, Embeddings.cat([own, made])).any(), "not known of all"
    if small.estimator == "ppca":
        assert not are_own(small, variations(small, own, 4, 0.5, 100).final).any()
        assert are_own(small, slerp_on_shell(small, own, own.select(range(7, -1, -1)), 3)).all()
        assert not are_own(small, slerp_on_shell(small, own, made, 3)).any()


def test_a_sample_among_its_neighbours_is_no_sample_of_its_own(few):
    neighbours = fit_density(few(FEW, 1), "neighbours")
    assert not are_own(neighbours, few(FEW, 1)).any()
    assert calibration_for(neighbours, few(FEW, 1)) is neighbours.calibration
