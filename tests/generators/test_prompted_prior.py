"""The prior with a memory predicts what diffusers' PriorTransformer predicts."""

import pytest
import torch
from diffusers import PriorTransformer
from rarity.generators.prompted_prior import PromptedPrior

TOKENS, WIDTH = 11, 24


def make_prior(dtype=torch.float32, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prior = PriorTransformer(
            num_attention_heads=4, attention_head_dim=8, num_layers=3, embedding_dim=WIDTH, num_embeddings=TOKENS, **options
        )
        with torch.no_grad():
            for weight in prior.parameters():
                weight.normal_(0, 0.3)
    return prior.to(dtype).eval()


@pytest.mark.parametrize("padding", [0, 4, 10])
@pytest.mark.parametrize("options", [{}, {"norm_in_type": "layer", "embedding_proj_norm_type": "layer"}])
def test_predictions_equal_diffusers(padding, options):
    prior = make_prior(torch.float64, **options)
    draw = torch.Generator().manual_seed(1)
    embedding, hidden, x = (
        torch.randn(*shape, dtype=torch.float64, generator=draw) for shape in [(WIDTH,), (TOKENS, WIDTH), (5, WIDTH)]
    )
    mask = torch.arange(TOKENS) < TOKENS - padding
    times = torch.tensor([999, 500, 0])
    with torch.no_grad():
        prompted = PromptedPrior(prior, embedding, hidden, mask, times)
        for step, t in enumerate(times):
            expected = prior(
                x, t, embedding.expand(5, -1), hidden.expand(5, -1, -1), mask.expand(5, -1)
            ).predicted_image_embedding
            # diffusers masks with -10,000, which is as good as never at this scale.
            torch.testing.assert_close(prompted.predict(x, step), expected, rtol=1e-9, atol=1e-9)


def test_gradients_reach_the_text_and_the_weights():
    prior = make_prior()
    hidden = torch.randn(TOKENS, WIDTH, requires_grad=True)
    prompted = PromptedPrior(prior, torch.randn(WIDTH), hidden, torch.ones(TOKENS, dtype=torch.bool), torch.tensor([9, 0]))
    prompted.predict(torch.randn(2, WIDTH), 1).square().sum().backward()
    assert hidden.grad.abs().sum() > 0 and prior.proj_in.weight.grad.abs().sum() > 0
