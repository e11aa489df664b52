"""The forms that the local score benchmark times against each other compute the same thing."""

import math

import torch
from rarity.generators.local_score.patches import interior
from rarity.generators.local_score.score_machines import _mix


def test_all_forms_agree_with_the_formula_written_out(benchmark_module):
    forms = benchmark_module("local_score")
    g = torch.Generator().manual_seed(0)
    sources = torch.rand(3, 2, 12, 14, generator=g) * 2 - 1
    signal, patch = 0.6, 5
    x = math.sqrt(signal) * sources[:1] + math.sqrt(1 - signal) * torch.randn(1, 2, 12, 14, generator=g)
    region = interior(12, 14, patch)
    slow = forms.literal_step(x, sources, signal, patch, region.pixels)
    ours = _mix(x, region, sources, region, signal, None, 0, 0.0, None)
    for form in (forms.by_shifts(x, sources, signal, patch), forms.by_fft(x, sources, signal, patch), ours):
        torch.testing.assert_close(form, slow, rtol=0, atol=2e-5)  # float32, exponents up to about 100
