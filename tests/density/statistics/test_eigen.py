"""Principal axes, also where samples are few: those of the literal decomposition."""

import logging

import pytest
import torch
from elsewhere import Elsewhere, elsewhere
from rarity.density import Embeddings, EmbeddingSpace, fit_density
from rarity.density.statistics import eigen
from rarity.density.statistics.eigen import principal_axes
from rarity.density.statistics.moments import Moments


@pytest.mark.parametrize("count, repeats", [(2, 1), (20, 1), (20, 3), (60, 1), (61, 1), (300, 1)])
def test_few_samples_have_the_axes_of_the_literal_decomposition(count, repeats):
    d, g = 136, torch.Generator().manual_seed(count)
    rows = (torch.randn(count, d, generator=g, dtype=torch.float64) * torch.logspace(1, -3, d) + 5).repeat(repeats, 1)
    covariance = (rows - rows.mean(dim=0)).T @ (rows - rows.mean(dim=0)) / len(rows)
    values, axes = principal_axes(Moments(d).update(rows))
    expected, vectors = torch.linalg.eigh(covariance)
    # float64 knows an eigenvalue to its rounding of the largest one
    torch.testing.assert_close(values, expected.flip(0).clamp_min(0), rtol=1e-9, atol=1e-13 * float(expected[-1]))
    torch.testing.assert_close(axes.T @ axes, torch.eye(d, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close((axes * values) @ axes.T, covariance, rtol=0, atol=1e-12 * float(expected[-1]))
    leading = min(count - 1, 10)
    torch.testing.assert_close((axes * vectors.flip(1)).sum(dim=0)[:leading].abs(), torch.ones(leading, dtype=torch.float64), rtol=0, atol=1e-9)
    assert (axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))[0, :leading] > 0).all()


def test_twice_is_the_same():
    rows = torch.randn(10, 64, generator=torch.Generator().manual_seed(0))
    first, second = (principal_axes(Moments(64).update(rows)) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def normal(count, d, seed=0):
    return torch.randn(count, d, generator=torch.Generator().manual_seed(seed)) * torch.logspace(0, -1, d)


@pytest.mark.parametrize("estimator", ["ppca", "ledoit-wolf", "qis"])
@pytest.mark.parametrize("count", [60, 400])
def test_a_density_learnt_on_another_device_is_the_same(monkeypatch, count, estimator):
    x = Embeddings(normal(count, 80), EmbeddingSpace("test", "0" * 12, 80))
    here, fresh, used = fit_density(x, estimator), normal(20, 80, 1), []
    with elsewhere() as device:
        monkeypatch.setattr(eigen, "card", lambda: used.append(device) or device)
        monkeypatch.setattr(eigen, "WIDE", 2)
        there = fit_density(x, estimator)
    assert len(used) >= 6 and not isinstance(there.frame.basis, Elsewhere)
    assert there.frame.components == here.frame.components
    torch.testing.assert_close(there.log_prob(fresh), here.log_prob(fresh), rtol=1e-9, atol=0)
    torch.testing.assert_close(there.bits(fresh), here.bits(fresh), rtol=1e-9, atol=1e-9)


def test_where_the_card_has_no_room_the_processor_decomposes(monkeypatch, caplog):
    moments, asked = Moments(40).update(normal(90, 40)), torch.linalg.eigh
    expected = principal_axes(moments)

    def full(matrix):
        if isinstance(matrix, Elsewhere):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return asked(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", full)
    with elsewhere() as device, caplog.at_level(logging.INFO):
        monkeypatch.setattr(eigen, "card", lambda: device)
        monkeypatch.setattr(eigen, "WIDE", 2)
        found = principal_axes(moments)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert "the processor does: CUDA out of memory." in caplog.text


def test_a_process_that_uses_no_card_asks_for_none():
    assert torch.cuda.is_initialized() or eigen.card() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")
def test_on_a_card():
    moments = Moments(1280).update(normal(2000, 1280))
    expected, vectors = torch.linalg.eigh(moments.covariance())
    torch.zeros(1, device="cuda")
    assert eigen.card() is not None
    values, axes = principal_axes(moments)
    torch.testing.assert_close(values, expected.flip(0), rtol=1e-9, atol=0)
    torch.testing.assert_close((axes[:, :9] * vectors.flip(1)[:, :9]).sum(dim=0).abs(), torch.ones(9).double(), rtol=0, atol=1e-9)
