"""Synthetic samples for the density tests: Gaussian ones, and a heavy-tailed mixture as a real prior makes."""

import pytest
import torch
from rarity.density import ContrastGuardrail, Embeddings, EmbeddingSpace, GaussianDensity

SPACE = EmbeddingSpace("test encoder", "0123456789abcdef", 16, "raw")


def draw_gaussian(count, seed=0, width=16):
    g = torch.Generator().manual_seed(seed)
    return 0.5 + torch.randn(count, width, generator=g) * torch.logspace(0, -1, width)


def draw_mixture(count, seed=0, width=16):
    """Most samples in one broad mode, one in six in far ones, every sample with its own heavy-tailed scale."""
    g, fixed = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(99)
    modes = torch.randn(12, width, generator=fixed) * torch.logspace(0.3, -0.7, width)
    modes[0] = 0
    spread = 0.1 + 0.5 * torch.rand(12, 1, generator=fixed)
    which = torch.randint(12, (count,), generator=g) * (torch.rand(count, generator=g) < 1 / 6)
    scale = torch.rand(count, 1, generator=g).clamp_min(1e-3) ** -0.25
    noise = torch.randn(count, width, generator=g) * torch.logspace(0, -1, width)
    return 0.5 + modes[which] + spread[which] * scale * noise


@pytest.fixture(scope="session")
def space():
    return SPACE


@pytest.fixture(scope="session")
def mixture():
    """A function (count, seed) -> Embeddings of the heavy-tailed mixture."""
    return lambda count, seed=0: Embeddings(draw_mixture(count, seed), SPACE, source={"prompt": "a test", "seed": seed})


@pytest.fixture(scope="session")
def gaussian():
    """A function (count, seed) -> Embeddings of a Gaussian."""
    return lambda count, seed=0: Embeddings(draw_gaussian(count, seed), SPACE)


@pytest.fixture(scope="session")
def baseline(mixture):
    return mixture(2000, 1)


@pytest.fixture(scope="session")
def density(baseline):
    return GaussianDensity.fit(baseline, components=9, seed=3)


@pytest.fixture(scope="session")
def contrast(baseline):
    """A subject near the main mode and five alternatives elsewhere."""
    g = torch.Generator().manual_seed(5)
    prototypes = torch.cat([baseline.vectors.mean(0, keepdim=True), torch.randn(5, 16, generator=g)])
    return ContrastGuardrail.from_baseline(prototypes, 0, baseline, quantile=0.3)
