"""When samples are enough: on Gaussians whose true rarities are known."""

import math

import pytest
import torch
from rarity.density.base.embeddings import Embeddings
from rarity.density.base.errors import RarityError
from rarity.density.base.spaces import EmbeddingSpace
from rarity.density.estimators.convergence import PROBE, Convergence, until_enough
from rarity.density.estimators.gaussian import GaussianDensity
from scipy.stats import chi2

WIDTH = 8
SPACE = EmbeddingSpace("test", "0" * 12, WIDTH)
SPREAD = torch.arange(1, WIDTH + 1) ** -0.5


def batches(seed, size=500, drift=0.0):
    """Gaussian samples without end; with a drift, their mean runs away."""
    draw = torch.Generator().manual_seed(seed)
    seen = 0
    while True:
        x = torch.randn(size, WIDTH, generator=draw) + drift * (seen + torch.arange(size)[:, None]) / 1000
        yield Embeddings(x * SPREAD, SPACE)
        seen += size


def true_bits(x):
    """-log2 P(chi^2_d >= D2), which is exact for these samples."""
    d2 = (x.double() / SPREAD).square().sum(dim=1)
    return -torch.from_numpy(chi2.logsf(d2.numpy(), WIDTH)) / math.log(2)


@pytest.mark.parametrize("seed", range(4))
def test_enough_samples_know_what_one_in_a_thousand_means(seed):
    convergence = Convergence(SPACE)
    density = GaussianDensity.fit(until_enough(batches(seed), convergence))
    assert density.count == convergence.count, "the density learns from every sample, the probe's included"
    assert math.log2(convergence.count / 1000) in range(1, 7)
    for one_in, most in ((100, 0.5), (1000, 1.2)):
        w, r = density.frame.whiten(next(batches(100 + seed)).vectors)
        bits = math.log2(one_in)
        reach = (density.score_at(bits) / (w.square().sum(dim=1) + r.square().sum(dim=1) / density.frame.residual_variance)).sqrt()
        error = true_bits(density.frame.unwhiten(reach[:, None] * w, reach[:, None] * r)) - bits
        # Twice the tolerance for 1 in 1,000: the move is one draw of an error of that size.
        assert error.abs().mean() <= most


def test_a_doubling_is_what_two_densities_differ_by():
    x = torch.cat([batch.vectors for batch, _ in zip(batches(3), range(5), strict=False)])
    convergence = Convergence(SPACE, nats=1e-9, bits=1e-9)
    convergence.update(Embeddings(x, SPACE))
    probe = x[:PROBE]
    before, after = (GaussianDensity.fit(Embeddings(x[PROBE:count], SPACE)) for count in (1000, 2000))
    nats = sum(abs(float(after.log_prob(row[None]) - before.log_prob(row[None]))) for row in probe) / PROBE / WIDTH
    moved = []
    for one_in in (100, 1000):
        total = 0.0
        for row in probe:
            low, high = 0.0, 100.0  # how far along its ray from the mean the row is as rare as that
            for _ in range(60):
                middle = (low + high) / 2
                there = before.frame.mean + middle * (row.double() - before.frame.mean)
                low, high = (middle, high) if before.score(there[None]) < before.score_at(math.log2(one_in)) else (low, middle)
            total += abs(float(after.bits((before.frame.mean + high * (row.double() - before.frame.mean))[None])) - math.log2(one_in))
        moved.append(total / PROBE)
    [doubling] = convergence.doublings
    assert doubling.count == 2000
    assert doubling.nats == pytest.approx(nats, rel=1e-6) and doubling.bits == pytest.approx(max(moved), rel=1e-6)


def test_the_move_shrinks_like_the_error():
    convergence = Convergence(SPACE, nats=1e-9, bits=1e-9)
    for batch, _ in zip(batches(5, 1000), range(64), strict=False):
        convergence.update(batch)
    first, last = convergence.doublings[0], convergence.doublings[-1]
    assert (first.count, last.count) == (2000, 64000)
    assert last.nats < first.nats / 3 and last.bits < first.bits / 2, "sqrt(32) is 5.7"


def test_the_size_of_the_batches_does_not_matter():
    found = []
    for size in (70, 500, 4096):
        convergence = Convergence(SPACE)
        draw = torch.Generator().manual_seed(1)
        x = torch.randn(40_000, WIDTH, generator=draw) * SPREAD
        parts = list(until_enough((Embeddings(part, SPACE) for part in x.split(size)), convergence))
        assert sum(map(len, parts)) == convergence.count, "the last batch is cut where it is enough"
        assert torch.equal(torch.cat([part.vectors for part in parts]), x[: convergence.count])
        found.append((convergence.count, convergence.doublings))
    assert found[0] == found[1] == found[2]


def test_no_more_is_asked_for_than_needed():
    asked = []

    def watched():
        for batch in batches(0):
            asked.append(len(batch))
            yield batch

    convergence = Convergence(SPACE)
    parts = list(until_enough(watched(), convergence))
    assert sum(asked) - 500 < convergence.count <= sum(asked) and len(parts) == len(asked)
    assert convergence.enough and convergence.report().startswith(f"{convergence.count:,} samples are enough")
    assert convergence.update(next(batches(1))) == 0, "what is enough stays enough"


def test_samples_that_keep_changing_are_never_enough():
    convergence = Convergence(SPACE)
    for batch, _ in zip(batches(0, 1000, drift=0.5), range(33), strict=False):
        assert convergence.update(batch) == len(batch)
    assert not convergence.enough and len(convergence.doublings) == 5
    assert "33,000 samples are not known to be enough" in convergence.report()


@pytest.mark.parametrize("count, tolerances, verdict", [
    (500, {}, "500 samples are not known to be enough: there is nothing to compare before 2,000. Raise count to find out."),
    (1500, {}, "1,500 samples are not known to be enough: there is nothing to compare before 2,000. Raise count to find out."),
    (3000, {"nats": 1e-9, "bits": 1e-9}, "3,000 samples are not known to be enough: what 1,000 of them called 1 in 1,000 is 1 in {} to "
     "1 in {} after 2,000. Raise count to 4,000 to go on."),
    (3000, {"nats": 1e-9, "bits": 9.0}, "3,000 samples are not known to be enough: from 1,000 to 2,000 of them 1 in 1,000 hardly "
     "moved, but how usual single samples are did. Raise count to 4,000 to go on."),
    (3000, {"nats": 9.0, "bits": 9.0}, "2,000 samples are enough: twice as many would hardly change what is usual. What half of them "
     "called 1 in 1,000 is still 1 in {} to 1 in {}."),
])
def test_the_report_is_two_sentences_and_the_figures_behind_them(count, tolerances, verdict):
    convergence = Convergence(SPACE, **tolerances)
    for batch, _ in zip(batches(0), range(count // 500), strict=False):
        convergence.update(batch)
    said, *figures = convergence.report().split("\n")
    if convergence.doublings:
        moved = convergence.doublings[-1].bits
        verdict = verdict.format(*(f"{float(f'{1000 * 2**bits:.2g}'):,.0f}" for bits in (-moved, moved)))
        assert f"From 1,000 to 2,000 samples 1 in 100 and 1 in 1,000 moved by {moved:.2f} bits" in figures[0]
    assert said == verdict and said.count(". ") == 1
    assert figures[-1] == f"Enough is a move within {convergence.bits:g} bits and {convergence.nats:g} a dimension."


def test_two_runs_agree():
    one, two = Convergence(SPACE), Convergence(SPACE)
    for convergence in (one, two):
        list(until_enough(batches(2), convergence))
    assert one.doublings == two.doublings and one.count == two.count


def test_what_is_refused():
    with pytest.raises(RarityError, match="tolerances must be positive, got 0.01 nats and 0 bits"):
        Convergence(SPACE, bits=0)
    with pytest.raises(RarityError, match="at least 400 samples, got 399"):
        Convergence(SPACE, first=2 * PROBE - 1)
    other = EmbeddingSpace("other", "1" * 12, WIDTH)
    with pytest.raises(RarityError, match="other"):
        Convergence(SPACE).update(Embeddings(torch.randn(3, WIDTH), other))
    with pytest.raises(RarityError, match="hardly vary"):
        Convergence(SPACE).update(Embeddings(torch.ones(1000, WIDTH) + torch.arange(1000)[:, None] * torch.eye(WIDTH)[0], SPACE))
