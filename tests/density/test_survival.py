"""The survival of chi-squared beside mpmath, far beyond where other libraries give up."""

import math

import mpmath
import pytest
import torch
from rarity.density import RarityError
from rarity.density.survival import log_survival, wilson_hilferty
from scipy.stats import chi2, norm

DEGREES = [0.5, 1.0, 2.0, 3.0, 50.0, 767.0, 2000.0]


def literal(x, degrees):
    """log Q(degrees / 2, x / 2) with sixty digits, and its derivative -pdf / Q."""
    with mpmath.workdps(60):
        a, half = mpmath.mpf(degrees) / 2, mpmath.mpf(x) / 2
        if half > a:  # Q itself is tiny: as E_{1-a}, mpmath keeps every digit of it
            q = mpmath.expint(1 - a, half) * half**a / mpmath.gamma(a)
            value = mpmath.log(q)
        else:
            p = mpmath.gammainc(a, 0, half, regularized=True)
            q, value = 1 - p, mpmath.log1p(-p)
        slope = -mpmath.exp(-half + (a - 1) * mpmath.log(half) - mpmath.loggamma(a)) / (2 * q)
        return float(value), float(slope)


@pytest.mark.parametrize("degrees", DEGREES)
def test_values_and_slopes_equal_mpmath_down_to_minus_20000(degrees):
    median = max(degrees - 2 / 3, 0.3 * degrees)
    middle = [median * f for f in (1e-6, 0.01, 0.3, 0.9, 0.99, 1.0, 1.01, 1.1, 1.5, 2.0)]
    switch = [degrees + 2 - 1e-9, degrees + 2, degrees + 2 + 1e-9]
    deep = [degrees + far for far in (30, 300, 3000, 20_000, 41_000, 48_000)]
    x = torch.tensor(middle + switch + deep, dtype=torch.float64, requires_grad=True)
    ours = log_survival(x, degrees)
    ours.sum().backward()
    truth = torch.tensor([literal(float(v), degrees) for v in x.detach()], dtype=torch.float64)
    assert float(truth[-1, 0]) < -20_000
    big = truth[:, 0] < -1e-290  # below, -P is no ordinary float64 any more
    assert ((ours.detach() - truth[:, 0]) / truth[:, 0])[big].abs().max() < 1e-9
    assert ours.detach()[~big].abs().sum() < 1e-280
    assert ((x.grad - truth[:, 1]) / truth[:, 1])[big].abs().max() < 1e-9


@pytest.mark.parametrize("degrees", DEGREES)
def test_it_falls_everywhere_with_a_finite_slope(degrees):
    x = torch.cat([torch.linspace(0, 4 * degrees + 40, 3001), torch.logspace(4, 9, 200)]).double().requires_grad_(True)
    ours = log_survival(x, degrees)
    ours.sum().backward()
    assert torch.isfinite(ours).all() and torch.isfinite(x.grad).all()
    assert (ours.diff() <= 0).all() and ours[0] == 0 and (x.grad <= 0).all()
    assert (ours.diff()[ours[1:] < -1e-10] < 0).all()


def test_it_agrees_with_scipy_where_scipy_can():
    x, degrees = torch.linspace(0.1, 400, 50).double(), torch.tensor([[1.0], [9.0], [300.0]]).double()
    ours = log_survival(x, degrees)
    assert ours.shape == (3, 50)
    assert torch.allclose(ours, torch.from_numpy(chi2.logsf(x.numpy(), degrees.numpy())), rtol=1e-8, atol=1e-14)
    assert math.isinf(chi2.logsf(3000.0, 9)) and log_survival(torch.tensor(3000.0), 9) > -1500


def test_two_degrees_are_the_exponential():
    x = torch.linspace(0, 5e4, 100).double()
    assert torch.allclose(log_survival(x, 2.0), -x / 2, rtol=1e-13)


def test_the_gradient_passes_gradcheck_and_is_summed_where_x_is_broadcast():
    x = torch.tensor([0.5, 8.0, 12.0, 300.0], dtype=torch.float64, requires_grad=True)
    degrees = torch.tensor([[2.5], [10.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: log_survival(v, degrees), (x,), eps=1e-5, atol=1e-7)


def test_float32_scores_are_read_in_float64_and_get_float32_gradients():
    x = torch.tensor([0.0, 3.0, 40_000.0], requires_grad=True)
    ours = log_survival(x, 64)
    ours.sum().backward()
    assert ours.dtype == torch.float64 and x.grad.dtype == torch.float32
    assert torch.equal(ours, log_survival(x.detach().double(), 64)) and torch.isfinite(x.grad).all()


def test_the_edges():
    x = torch.tensor([-1.0, 0.0, math.inf, math.nan], requires_grad=True)
    ours = log_survival(x, 0.5)
    assert ours[:2].tolist() == [0.0, 0.0] and ours[2] == -math.inf and ours[3].isnan()
    ours[:3].sum().backward()
    assert x.grad[:3].tolist() == [0.0, 0.0, -0.5]
    assert log_survival(torch.empty(0), 3.0).shape == (0,)
    with torch.inference_mode():
        assert log_survival(torch.tensor(3.0), 3.0) < 0
    for wrong in (0.0, -1.0, math.nan, math.inf, 2e6):
        with pytest.raises(RarityError, match="Degrees of freedom"):
            log_survival(torch.ones(2), wrong)


@pytest.mark.parametrize("degrees", [50.0, 320.0, 1280.0])
def test_wilson_hilferty_is_nearly_the_normal_quantile(degrees):
    """At equal tail probability z is a standard normal's, to a few hundredths."""
    p = [0.99, 0.5, 0.1, 1e-3, 1e-6]
    z = wilson_hilferty(torch.from_numpy(chi2.isf(p, degrees)), degrees)
    assert torch.allclose(z, torch.from_numpy(norm.isf(p)), atol=0.04)
    at_zero = torch.zeros(1, requires_grad=True)
    wilson_hilferty(at_zero, degrees).backward()
    assert at_zero.grad.item() == 0
