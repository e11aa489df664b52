"""Principal axes, also where samples are few: those of the literal decomposition."""

import pytest
import torch
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
