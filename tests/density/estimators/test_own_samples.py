"""Samples that a density has learnt from: known wherever they go, read beside each other, steered as far as is rare among them."""

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
    MixtureDensity,
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
    variations,
)
from rarity.density.drawing.density_map import _rarities
from rarity.density.estimators.own_samples import are_own, calibration_for
from rarity.density.statistics import sufficient_statistics

FEW, WIDTH = 200, 48  # 4 samples a dimension


@pytest.fixture(scope="module")
def few():
    """A function (count, seed) -> samples of a known normal distribution, spreads i^-0.5 along its axes."""

    def draw(count, seed):
        g = torch.Generator().manual_seed(seed)
        spread = torch.arange(1, WIDTH + 1) ** -0.5
        return Embeddings(4 + torch.randn(count, WIDTH, generator=g) * spread, EmbeddingSpace("normal", "0" * 12, WIDTH))

    return draw


def learn(samples, estimator):
    """A density. Mixtures have two modes: to choose a number takes ten times as long, and tests of theirs do it."""
    return MixtureDensity.fit(samples, modes=2) if estimator == "mixture" else fit_density(samples, estimator)


@pytest.fixture(scope="module", params=["ppca", "ledoit-wolf", "mixture"])
def small(request, few):
    return learn(few(FEW, 1), request.param)


def both(few):
    """Six of the samples that were learnt from, and six others, in turn."""
    pairs = zip(few(FEW, 1).vectors[10:16], few(6, 2).vectors, strict=True)
    return few(1, 3), Embeddings(torch.stack([row for pair in pairs for row in pair]), few(1, 3).space)


def true_bits(x):
    """-log2 of the probability to lie further out, of the known distribution."""
    d2 = ((x.double() - 4) * torch.arange(1, WIDTH + 1) ** 0.5).square().sum(dim=1)
    return -torch.special.gammaincc(torch.tensor(WIDTH / 2).double(), d2 / 2).log2()


def as_elsewhere(rows):
    """The same samples as another processor would draw them: each number a little off, and in another order."""
    g = torch.Generator().manual_seed(7)
    off = 1 + 1e-7 * torch.randn(rows.vectors.shape, generator=g, dtype=torch.float64)
    return dataclasses.replace(rows, vectors=rows.vectors * off).select(torch.randperm(len(rows), generator=g))


def in_half(rows):
    return dataclasses.replace(rows, vectors=rows.vectors.half())


def test_own_samples_are_known_by_who_they_are_not_by_their_numbers(small, few):
    _, mixed = both(few)
    assert are_own(small, mixed).tolist() == [True, False] * 6
    assert are_own(small, in_half(mixed)).tolist() == [True, False] * 6
    assert int(are_own(small, as_elsewhere(mixed)).sum()) == 6
    others = dataclasses.replace(mixed, keys=torch.arange(12))
    assert not are_own(small, others).any(), "strangers with the same numbers"
    unknown = Embeddings(mixed.vectors[:2] + 1e-6, mixed.space)
    assert are_own(small, unknown).tolist() == [False, False], "nothing is known of them but their numbers"


def test_rounding_changes_neither_who_is_own_nor_how_far_1_in_1000_is(small, few):
    """The D2 of results from own rows, from their copies in half precision, and from a baseline that another processor drew."""
    baseline, radii = few(FEW, 1), []
    for again in (baseline, in_half(baseline), as_elsewhere(baseline)):
        for density in (small, learn(again, small.estimator)):
            made = optimize(density, choose_starts(again, density, 8), 1000, steps=5)
            radii.append(float(density.score(made.final.vectors).median()))
    assert max(radii) <= 1.01 * min(radii)
    unknown = optimize(small, Embeddings(baseline.vectors[:8].half(), baseline.space), 1000, steps=5).final
    assert float(small.score(unknown.vectors).median()) > 1.1 * max(radii), "as new samples they would go further"


def test_the_same_samples_drawn_elsewhere_give_the_same_density(small, few):
    other = learn(as_elsewhere(few(FEW, 1)), small.estimator)
    assert torch.equal(other.statistics.keys, small.statistics.keys) and other.frame.components == small.frame.components
    x = few(50, 6).vectors
    assert torch.allclose(other.score(x), small.score(x), rtol=1e-3)  # 1e-7 of every number, through the smallest variances


@pytest.mark.parametrize("kind", ["usual", "rarer"])
def test_the_same_starts_are_chosen_of_the_same_samples_drawn_elsewhere(small, few, kind):
    here, there = (choose_starts(rows, small, 12, kind, seed=4) for rows in (few(FEW, 1), as_elsewhere(few(FEW, 1))))
    assert torch.equal(here.keys, there.keys)
    assert not torch.equal(choose_starts(few(FEW, 1), small, 12, kind, seed=5).keys, here.keys)


def test_a_start_that_another_one_displaces_from_the_rarest_tenth_changes_no_other(small, few):
    rows = few(FEW, 1)
    chosen = choose_starts(rows, small, 10, "rarer")
    fewer = rows.select([i for i in range(FEW) if int(rows.keys[i]) != int(chosen.keys[3])])
    again = choose_starts(fewer, small, 10, "rarer").keys.tolist()
    assert len({*chosen.keys.tolist()} & {*again}) == 9


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
    assert are_own(small, Embeddings.cat([own, made])).tolist() == [True] * 8 + [False] * 8
    learnt_from_results = fit_density(optimize(small, few(FEW, 1), 100, steps=1).final)
    assert not are_own(small, learnt_from_results.sample(4)).any()
    if small.estimator == "ppca":
        assert not are_own(small, variations(small, own, 4, 0.5, 100).final).any()
        assert are_own(small, slerp_on_shell(small, own, own.select(range(7, -1, -1)), 3)).all()
        assert are_own(small, slerp_on_shell(small, own, made, 3)).tolist() == [True, True, False] * 8, "the nearer end"


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


def test_what_began_in_samples_is_known_to_every_larger_set_of_them_and_to_no_other(small, few):
    """Also where rows that the density never saw stand among those it learnt from."""
    made = optimize(small, choose_starts(few(FEW, 1), small, 4), 100, steps=2).final
    other = learn(few(FEW, 2), small.estimator)
    larger = merge_densities([small, other])
    assert are_own(larger, made).all() and are_own(larger, few(FEW, 1)).all() and not are_own(other, made).any()
    of_larger = optimize(larger, Embeddings.cat([few(FEW, 1).select([0, 1]), few(FEW, 2).select([0, 1])]), 100, steps=2).final
    assert are_own(larger, of_larger).all() and are_own(small, of_larger).tolist() == [True, True, False, False]


def test_variations_do_not_jump_where_the_dial_starts(few):
    """A picture that was never in the baseline is new however far it is turned, and so is one of the baseline."""
    density = GaussianDensity.fit(few(FEW, 1))
    for picture in (few(1, 9), few(FEW, 1).select([3])):
        radii, found = [], []
        for how_far in (0.0, 1e-6, 0.01):
            made = variations(density, picture, 3, how_far, 1000, steps=3)
            assert not any(are_own(density, rows).any() for rows in made.embeddings)
            radii.append(float(density.score(made.final.vectors).median()))
            found.append(made.final.vectors)
        assert max(radii) <= 1.01 * min(radii)
        assert torch.allclose(found[0], found[1], atol=1e-3)
    three = variations(density, few(1, 9), 3, 0.0, 10, steps=1).final
    assert len(three.keys.unique()) == 3, "each draws noise of its own"
    assert torch.equal(three.keys, variations(density, few(1, 9), 5, 0.5, 10, steps=1).final.keys[:3])


def test_rarer_starts_are_the_rarest_of_their_kind(small, few):
    """By the score alone nearly all would be new ones: it is higher for these, not rarer."""
    mixed = Embeddings.cat([few(FEW, 1), few(FEW, 2)])
    bits = calibration_for(small, mixed).bits(small.score(mixed.vectors))
    chosen = choose_starts(mixed, small, 40, "rarer")
    assert {*chosen.vectors[:, 0].tolist()} == {*mixed.vectors[bits.argsort(descending=True, stable=True)[:40], 0].tolist()}
    assert 10 <= int(are_own(small, chosen).sum()) <= 30


def test_the_wanted_score_of_every_row_is_exact(small, few):
    rows = calibration_for(small, both(few)[1])
    assert rows.score_at(9.0)[:2, 0].tolist() == [small.own_calibration.score_at(9.0), small.score_at(9.0)]


def test_the_map_reads_samples_made_anew_as_new_ones(small, few):
    """A concept is read on samples of the seed's own noise: the first are the baseline's, bit for bit, the others are not."""
    way = optimize(small, choose_starts(few(FEW, 1), small, 4), 100, steps=2)
    anew = [dataclasses.replace(rows, source={"kind": "concept"}, keys=torch.arange(4)) for rows in way.embeddings]
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
    unknown = Embeddings(few(FEW, 1).vectors.half(), small.space)
    learnt = learn(unknown, small.estimator)
    assert are_own(learnt, Embeddings(unknown.vectors.double(), small.space)).all() and not are_own(small, unknown).any()


def test_of_more_samples_than_are_kept_all_are_own(few, monkeypatch):
    monkeypatch.setattr(sufficient_statistics, "MAX_ROWS", 150)
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
    # Float64 sums over rows that stand in another order.
    assert torch.allclose(density.own_calibration.scores, density.score(samples.vectors).sort().values, rtol=1e-12)


@pytest.mark.parametrize("estimator, each, truly", [("ppca", 2, "rarer"), ("ledoit-wolf", 3, "less rare"), ("full", 3, "less rare"), ("qis", 1.25, "less rare")])
def test_where_samples_are_few_the_report_says_which_way_the_dial_errs(few, estimator, each, truly):
    baseline = few(round(each * WIDTH), 1)
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
