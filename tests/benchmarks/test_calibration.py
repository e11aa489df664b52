"""The benchmark of calibration: its exact densities beside literal ones, a run in small, and a density that lies."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

WIDTH = 24


@pytest.fixture(scope="module")
def calibration(benchmark_module):
    return benchmark_module("calibration")


@pytest.fixture(scope="module")
def truths(calibration):
    return {truth.name: truth for truth in calibration.truths(WIDTH)}


def drawn(truth, count=200, seed=0):
    return truth.draw(count, torch.Generator().manual_seed(seed)).double()


def spectrum(x):
    """Variances as the benchmark's docstring has them, read off many draws: only the literal's input."""
    return x.var(dim=0).numpy()


def test_gaussian_densities_are_scipy_s(truths):
    place = np.arange(1, WIDTH + 1)
    for name, variances in (("isotropic", np.ones(WIDTH)), ("power law", 1 / place)):
        x = drawn(truths[name])
        literal = -stats.multivariate_normal(np.ones(WIDTH), np.diag(variances)).logpdf(x.numpy())
        assert truths[name].nats(x).numpy() == pytest.approx(literal, rel=1e-12)
        assert spectrum(drawn(truths[name], 50_000)) == pytest.approx(variances, rel=0.05)


def test_student_is_scipy_s(truths):
    x = drawn(truths["Student-t"])
    t = stats.multivariate_t(np.ones(WIDTH), np.diag(1 / np.arange(1, WIDTH + 1)), df=5)
    assert truths["Student-t"].nats(x).numpy() == pytest.approx(-t.logpdf(x.numpy()), rel=1e-12)
    # The variance of a t is nu / (nu - 2) times its scale.
    assert spectrum(drawn(truths["Student-t"], 200_000))[0] == pytest.approx(5 / 3, rel=0.05)


@pytest.mark.parametrize("name", ["mixture", "curved sheet", "low rank + noise", "Student-t"])
def test_draws_have_the_density_that_is_stated(truths, name):
    """E[q(x) / p(x)] over draws of p is 1 for every density q; here q is a shrunken Gaussian around a draw of p.

    So neither a term nor a factor of p can be missing. About 100,000 draws know this mean to a few per cent.
    """
    truth = truths[name]
    x = drawn(truth, 200_000, seed=1)
    y = drawn(truth, 100_000, seed=2)
    q = stats.multivariate_normal(y.mean(0).numpy(), np.cov(y.T.numpy()) * 0.5)
    if name == "curved sheet":  # no Gaussian lies inside a bent sheet: unbend two coordinates' worth of it instead
        narrow = x[(x[:, :2] - 1).abs().max(dim=1).values < 0.15]
        share = len(narrow) / len(x)
        middle, cov = narrow.mean(0).numpy(), np.cov(narrow.T.numpy())
        q = stats.multivariate_normal(middle, cov * 0.6)
        assert share > 1e-3
    ratio = np.exp(q.logpdf(x.numpy()) + truth.nats(x).numpy())
    error = ratio.std() / math.sqrt(len(ratio))
    assert error < 0.1 and abs(ratio.mean() - 1) < 5 * error, (ratio.mean(), error)


def test_a_run_in_small(calibration, tmp_path, capsys):
    only = ["--estimators", "ppca", "--only", "isotropic", "Student-t"]
    calibration.main(["--quick", *only, "--json", str(tmp_path / "c.json")])
    found = json.loads((tmp_path / "c.json").read_text())
    assert [row["distribution"] for row in found["rows"]] == ["isotropic", "Student-t"]
    for row in found["rows"]:
        assert row["N"] == 500 and len(row["rejected at 0.01"]) == row["baselines"] == 2
        assert all(0.002 < share < 0.04 for share in row["rejected at 0.01"])
    assert found["rows"][0]["contained"] and min(found["rows"][0]["rank correlation"]) > 0.9
    assert all({"name", "value", "reach", "ok"} == set(target) for target in found["targets"])
    out = capsys.readouterr().out
    assert "isotropic" in out and ("reached" in out or "MISSED" in out)


def test_a_density_that_lies_is_missed(calibration, truths):
    """Bits twice as high, and bits that have nothing to do with the distribution."""
    truth = truths["isotropic"]
    true = truth.nats(drawn(truth, 20_000)).numpy()
    ranks = stats.rankdata(true)
    honest = -np.log2(1 - (ranks - 0.5) / len(ranks))
    learnt = SimpleNamespace(estimator="ppca", components=1, calibration=SimpleNamespace(scores=torch.zeros(5000)))
    noise = np.random.default_rng(0).permutation(honest)
    for bits, missed in ((honest, 0), (2 * honest, 3), (noise, 1), (honest / 2, 3)):
        row = calibration.summary(truth, "ppca", 5000, [learnt, learnt], [bits, bits], true)
        reached = calibration.targets([row])
        assert sum(not target["ok"] for target in reached) == missed, reached
