"""The benchmark of learning: a run in small, and its oracle beside scipy's."""

import json
import resource

import numpy as np
import pytest
from scipy import stats
from sklearn.covariance import LedoitWolf


@pytest.fixture(scope="module")
def density_fit(benchmark_module):
    return benchmark_module("density_fit")


def test_the_oracle_is_scipy_s_density(density_fit):
    x, points = density_fit.draw(500, 12, 5, 1), density_fit.draw(50, 12, 5, 2)
    ppca, ledoit_wolf = density_fit.oracle(x)
    covariance = np.cov(x.double().numpy().T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    values[:6] = values[:6].mean()  # six components are kept of twelve
    literal = stats.multivariate_normal(x.double().mean(0).numpy(), vectors @ np.diag(values) @ vectors.T)
    assert ppca.log_prob(points).numpy() == pytest.approx(literal.logpdf(points.double().numpy()), abs=1e-9)
    theirs = LedoitWolf().fit(x.double().numpy())
    literal = stats.multivariate_normal(theirs.location_, theirs.covariance_)
    assert ledoit_wolf.log_prob(points).numpy() == pytest.approx(literal.logpdf(points.double().numpy()), abs=1e-9)


def test_a_run_in_small(density_fit, tmp_path, capsys):
    density_fit.main(["--quick", "--rounds", "1", "--json", str(tmp_path / "d.json")])
    found = json.loads((tmp_path / "d.json").read_text())
    rows = {row["learner"]: row for row in found["rows"]}
    assert set(rows) == set(density_fit.LEARNERS)
    for name, row in rows.items():
        assert row["seconds"] > 0 and row["bound"] > 0
        if name.startswith("ours"):
            assert max(row["errors"].values()) <= 1e-4
    # The competitor that squares before it centres shows what the errors are about.
    ours, theirs = rows["ours, moments and spectrum"], rows["PCA covariance_eigh float32"]
    assert theirs["errors"]["30"] > 100 * ours["errors"]["30"]
    assert found["stream"]["rows"] == 20_000 and 0 < found["stream"]["added megabytes"] < 500
    assert all({"name", "value", "reach", "ok"} == set(target) for target in found["targets"])
    assert "ours, Ledoit-Wolf" in capsys.readouterr().out


def test_what_is_slow_or_inexact_is_missed(density_fit):
    rows = [
        {"learner": name, "width": 64, "samples": 100, "seconds": 1.0, "bound": 9.0, "errors": {"1": 1e-3}}
        for name in density_fit.LEARNERS
    ]
    streamed = {"rows": 10, "width": 64, "added megabytes": 600.0}
    assert not any(target["ok"] for target in density_fit.targets(rows, streamed))
    for row in rows:
        row.update(bound=1.2, errors={"1": 1e-5}, seconds=6.0 if row["learner"].startswith("scikit") else 1.0)
    assert all(target["ok"] for target in density_fit.targets(rows, {**streamed, "added megabytes": 100.0}))


def test_the_most_that_was_resident_is_the_system_s_own_figure(density_fit):
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    assert density_fit.resident("VmHWM") == pytest.approx(own, rel=0.02)
    assert density_fit.resident("VmRSS") <= density_fit.resident("VmHWM")
