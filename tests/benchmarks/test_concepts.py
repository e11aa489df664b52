"""The benchmark of concepts: the rivals' formulas beside literal ones."""

from types import SimpleNamespace

import pytest
import torch
from rarity.generators.kandinsky.load import load_kandinsky
from torch.nn.functional import cosine_similarity


@pytest.fixture(scope="module")
def concepts(benchmark_module):
    return benchmark_module("concepts")


def test_conceptlab_s_loss_is_the_literal_formula(concepts):
    prior, _ = load_kandinsky()
    x = torch.randn(7, prior.space.width, generator=torch.Generator().manual_seed(0)).double()
    x[:3] = prior.encode_text(["a letter R", "a bold letter R", "a mono letter Q"]).double()  # beyond both clamps
    got = concepts.conceptlab(prior, SimpleNamespace(prompt="a letter R", letter="R"))(x)
    text = prior.encode_text(["a letter R", *(f"a {style} letter R" for style in concepts.STYLES)]).double()
    for row, value in zip(x, got, strict=True):
        cosines = [float(cosine_similarity(row, one, dim=0)) for one in text]
        away = [max(cosine, 0.20) for cosine in cosines[1:]]
        expected = 0.5 * (sum(away) / len(away) + max(away)) + 1 - min(cosines[0], 0.28)
        assert float(value) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("margins, goes_on", [([0.1, 0.2, -0.1], True), ([-0.1, -0.2, 0.1], False)])
def test_the_gate_ends_a_trial_that_is_mostly_something_else(concepts, margins, goes_on):
    contrast = SimpleNamespace(reading=lambda x: torch.tensor(margins))
    concept = SimpleNamespace(trajectory=SimpleNamespace(final=SimpleNamespace(vectors=None)))
    gate = concepts.Gate(SimpleNamespace(contrast=contrast))
    assert gate(concept) is goes_on and gate.refused is not goes_on
