"""Student's t beside scipy's, and what it promises of a further draw."""

import pytest
import torch
from rarity.density.novelty.student import student_t
from scipy import stats


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 8, 31, 200])
def test_it_is_scipy_s(degrees):
    t = torch.cat([torch.linspace(-12, 12, 97, dtype=torch.float64), torch.tensor([-1e6, 0.0, 1e6], dtype=torch.float64)])
    ours = student_t(t, degrees)
    # Some hundred roundings of numbers up to 1.
    torch.testing.assert_close(ours, torch.from_numpy(stats.t.cdf(t.numpy(), degrees)), rtol=0, atol=1e-13)
    assert float(ours[-2]) == 0.5 and (ours.diff()[:96] > -1e-15).all()


def test_a_further_draw_lies_below_as_often_as_it_says():
    """Eight draws tell where the ninth will be: below what has the chance p, for the share p of all such nines."""
    draws = 1.2 + torch.randn(20_000, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen, further = draws[:, :8], draws[:, 8]
    chance = student_t((further - seen.mean(dim=1)) / (seen.std(dim=1) * (1 + 1 / 8) ** 0.5), 7)
    for p in (0.01, 0.1, 0.5, 0.9):
        assert abs(float((chance < p).double().mean()) - p) < 4 * (p * (1 - p) / len(chance)) ** 0.5  # four standard errors
