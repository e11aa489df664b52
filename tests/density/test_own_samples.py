"""Samples that a density has learnt from: known by their bytes, read beside each other, steered as far as is rare among them."""

import copy
import dataclasses
import math
import pickle

import pytest
import torch
from rarity.density import (
    Embeddings,
    EmbeddingSpace,
    ExposureMemory,
    GaussianDensity,
    all_checkpoints,
    choose_starts,
    fit_density,
    load_density,
    load_embeddings,
    merge_densities,
    optimize,
    save_density,
    save_embeddings,
    score_novelty,
    slerp_on_shell,
    statistics,
    variations,
)
from rarity.density.embeddings import BEGAN
from rarity.density.own_samples import are_own, calibration_for, name_of
from rarity.density.plots import _rarities

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
    learnt_from_results = fit_density(optimize(small, few(FEW, 1), 100, steps=1).final)
    assert not are_own(small, learnt_from_results.sample(4)).any()
    if small.estimator == "ppca":
        assert not are_own(small, variations(small, own, 4, 0.5, 100).final).any()
        assert are_own(small, slerp_on_shell(small, own, own.select(range(7, -1, -1)), 3)).all()
        assert not are_own(small, slerp_on_shell(small, own, made, 3)).any()


def test_a_sample_among_its_neighbours_is_no_sample_of_its_own(few):
    neighbours = fit_density(few(FEW, 1), "neighbours")
    assert not are_own(neighbours, few(FEW, 1)).any()
    assert calibration_for(neighbours, few(FEW, 1)) is neighbours.calibration


def test_every_checkpoint_of_own_samples_is_read_as_they_are(small, few):
    """Those of one sample, joined from its start to its result, keep the readings of the way."""
    way = optimize(small, choose_starts(few(FEW, 1), small, 4), 100, steps=20)
    every, read = all_checkpoints(way), way.readings["bits"].T.flatten()
    assert are_own(small, every).all()
    torch.testing.assert_close(score_novelty(every, small, ExposureMemory(small.space)).bits, read, rtol=0, atol=1e-6)


def test_what_began_in_samples_is_known_to_every_larger_set_of_them(small, few):
    made = optimize(small, choose_starts(few(FEW, 1), small, 4), 100, steps=2).final
    same_name = []
    for seed in (2, 4):
        other = fit_density(few(FEW, seed), small.estimator)
        larger = merge_densities([small, other])
        same_name.append(name_of(larger) == name_of(small))
        assert are_own(larger, made).all() and are_own(larger, few(FEW, 1)).all() and not are_own(other, made).any()
    assert same_name == [True, False], "the first key of all may be another's"
    for name in (7, None, "", "f" * 17, "0x" + "1" * 14, "é" * 16, ["1" * 16], "f" * 16):
        assert not are_own(small, Embeddings(made.vectors, made.space, source={BEGAN: name})).any()


def test_rarer_starts_are_the_rarest_of_their_kind(small, few):
    """By the score alone nearly all would be new ones: it is higher for these, not rarer."""
    mixed = Embeddings.cat([few(FEW, 1), few(FEW, 2)])
    bits = calibration_for(small, mixed).bits(small.score(mixed.vectors))
    chosen = choose_starts(mixed, small, 40, "rarer")
    assert {*chosen.vectors[:, 0].tolist()} == {*mixed.vectors[bits.argsort(descending=True)[:40], 0].tolist()}
    assert 10 <= int(are_own(small, chosen).sum()) <= 30


def test_the_wanted_score_of_every_row_is_exact(small, few):
    rows = calibration_for(small, both(few)[1])
    assert rows.score_at(9.0)[:2, 0].tolist() == [small.own_calibration.score_at(9.0), small.score_at(9.0)]


def test_the_map_reads_samples_made_anew_as_new_ones(small, few):
    """A concept is read on samples of the seed's own noise: the first are the baseline's, bit for bit, the others are not."""
    way = optimize(small, choose_starts(few(FEW, 1), small, 4), 100, steps=2)
    anew = [Embeddings(rows.vectors, rows.space, (), {"kind": "concept"}) for rows in way.embeddings]
    made = dataclasses.replace(way, embeddings=tuple(anew))
    for trajectory, calibration in ((way, small.own_calibration), (made, small.calibration)):
        expected = [calibration.bits(small.score(rows.vectors)) for rows in way.embeddings]
        for shown, bits in zip(_rarities(small, None, trajectory)[1], expected, strict=True):
            torch.testing.assert_close(shown, bits, rtol=0, atol=0)


def test_a_density_remembers_its_own_samples_wherever_it_goes(small, few, tmp_path):
    expected = small.own_calibration.scores
    save_density(small, tmp_path / "density.safetensors")
    for twin in (copy.deepcopy(small), pickle.loads(pickle.dumps(small)), load_density(tmp_path / "density.safetensors")):
        assert are_own(twin, few(FEW, 1)).all() and torch.equal(twin.own_calibration.scores, expected)
        save_density(twin, tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "density.safetensors").read_bytes()
    half = Embeddings(few(FEW, 1).vectors.half(), small.space)
    learnt = fit_density(half, small.estimator)
    assert are_own(learnt, Embeddings(half.vectors.double(), small.space)).all() and not are_own(small, half).any()


def test_of_more_samples_than_are_kept_all_are_own(few, monkeypatch):
    monkeypatch.setattr(statistics, "MAX_ROWS", 150)
    density = GaussianDensity.fit(few(FEW, 1))
    assert len(density.statistics.rows) == 150 and are_own(density, few(FEW, 1)).all()
    bits = calibration_for(density, few(FEW, 1)).bits(density.score(few(FEW, 1).vectors))
    assert abs(float((bits >= 3).double().mean()) - 1 / 8) <= 3 * math.sqrt(1 / 8 / 150)


def test_cancelling_while_own_samples_are_calibrated_leaves_nothing_half_done(few):
    samples = few(FEW, 1)
    density = GaussianDensity.fit(samples)

    def cancel():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibration_for(density, samples, cancel)
    told = []
    assert calibration_for(density, samples, lambda: told.append(0)) is density.own_calibration and told
    assert torch.equal(density.own_calibration.scores, density.score(samples.vectors).sort().values)


@pytest.mark.parametrize("estimator, each, truly", [("ppca", 2, "rarer"), ("ledoit-wolf", 3, "less rare"), ("full", 3, "less rare")])
def test_where_samples_are_few_the_report_says_which_way_the_dial_errs(few, estimator, each, truly):
    baseline = few(each * WIDTH, 1)
    density = fit_density(baseline, estimator)
    made = optimize(density, choose_starts(baseline, density, 20), 100, steps=10)
    assert f"begins in these may truly be {truly} than dialled" in made.report() and "in others" not in made.report()
    assert float(true_bits(made.final.vectors).median() > math.log2(100)) == (truly == "rarer")
    others = optimize(density, few(20, 9), 100, steps=10)
    assert "in others may truly be rarer than dialled; begin in these, or take 768 samples." in others.report()
    assert true_bits(others.final.vectors).median() > math.log2(100)
    mixed = Embeddings.cat([baseline.select([3]), few(1, 9)])
    assert len(optimize(density, mixed, 100, steps=2).notes) == 2


def test_where_samples_are_many_nothing_is_said(few):
    baseline = few(16 * WIDTH, 1)
    for estimator in ("ppca", "oas"):
        density = fit_density(baseline, estimator)
        for starts in (baseline.select(range(4)), few(4, 2)):
            assert optimize(density, starts, 100, steps=2).notes == ()
