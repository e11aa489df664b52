"""The prior with a memory predicts what diffusers' PriorTransformer predicts."""

import pytest
import torch
from diffusers import PriorTransformer
from diffusers.models.attention_processor import SlicedAttnProcessor
from rarity.density.base.errors import RarityError
from rarity.generators.kandinsky import cached_prior
from rarity.generators.kandinsky.cached_prior import CachedPrior, Prefix
from rarity.generators.kandinsky.prior_attention import GROUP, InGroups, RowByRow, attention_of

TOKENS, WIDTH = 11, 24


@pytest.fixture(params=[RowByRow, InGroups])
def way(request, monkeypatch):
    """Both ways of attention, whatever the device."""
    monkeypatch.setattr(cached_prior, "attention_of", request.param)


def make_prior(**options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = dict(num_attention_heads=4, attention_head_dim=8, num_layers=3, embedding_dim=WIDTH, num_embeddings=TOKENS)
        prior = PriorTransformer(**{**sizes, **options}).eval()
        with torch.no_grad():
            for weight in prior.parameters():  # diffusers starts some at zero, where a wrong use of them would not show
                weight.normal_(0, 1 / weight.shape[-1] ** 0.5)
    return prior


def make_texts(lengths, width=WIDTH, dtype=torch.float32):
    """embedding [n, d], hidden [n, t, d] and mask [n, t] of texts with the given numbers of tokens."""
    draw = torch.Generator().manual_seed(1)
    embedding = torch.randn(len(lengths), width, generator=draw)
    hidden = torch.randn(len(lengths), TOKENS, width, generator=draw)
    return embedding.to(dtype), hidden.to(dtype), torch.arange(TOKENS) < torch.tensor(lengths)[:, None]


def make_noisy(b, width=WIDTH):
    return torch.randn(b, width, generator=torch.Generator().manual_seed(2))


def cached_of(prior, texts, *times):
    """The prior with a memory of the texts at these times."""
    embedding, hidden, mask = texts
    return CachedPrior(prior, embedding, hidden, Prefix(mask, times))


def plain(prior, x, timestep, texts):
    """diffusers' own forward for every pair of a text and a sample, [n, b, d]."""
    n, b = len(texts[0]), len(x)
    rows = [part.repeat_interleave(b, dim=0) for part in texts]
    return prior(x.to(prior.dtype).repeat(n, 1), timestep, *rows).predicted_image_embedding.unflatten(0, (n, b))


def relative_error(got, expected):
    return ((got.double() - expected.double()).norm() / expected.double().norm()).item()


@pytest.mark.parametrize("lengths", [(TOKENS,), (6,), (1,), (0,), (TOKENS, TOKENS), (7, 2), (2, 7), (TOKENS, 1)], ids=str)
@pytest.mark.parametrize("options", [
    {},
    dict(norm_in_type="layer", embedding_proj_norm_type="layer"),
    dict(num_layers=1, num_attention_heads=1, time_embed_dim=20, clip_embed_dim=10),
], ids=["kandinsky", "norms", "one layer"])
def test_predictions_equal_diffusers(way, lengths, options):
    prior, texts, x = make_prior(**options), make_texts(lengths), make_noisy(5)
    with torch.no_grad():
        times = (999, 480, 0)
        cached = cached_of(prior, texts, *times)
        for step, timestep in enumerate(times):
            got, expected = cached.predict(x, step), plain(prior, x, timestep, texts)
            assert got.shape == expected.shape and got.dtype == x.dtype
            assert relative_error(got, expected) <= 1e-5
            for one, other in zip(got, expected, strict=True):
                assert relative_error(one, other) <= 1e-5


def test_padding_anywhere(way):
    prior, (embedding, hidden, _), x = make_prior(), make_texts((TOKENS,)), make_noisy(2)
    mask = torch.tensor([[True, False, True, True, False, True, False, False, True, True, False]])
    with torch.no_grad():
        got = cached_of(prior, (embedding, hidden, mask.long()), 40).predict(x, 0)
        assert relative_error(got, plain(prior, x, 40, (embedding, hidden, mask))) <= 1e-5


@pytest.mark.parametrize("lengths", [(6,), (TOKENS, 2)], ids=str)
def test_half_precision(way, lengths):
    prior, texts, x = make_prior().bfloat16(), make_texts(lengths, dtype=torch.bfloat16), make_noisy(32)
    with torch.no_grad():
        got = cached_of(prior, texts, 500).predict(x, 0)
        assert got.dtype == torch.float32
        assert relative_error(got, plain(prior, x, 500, texts)) <= 2e-2
        exact = plain(prior.float(), x, 500, [part.float() if part.is_floating_point() else part for part in texts])
        assert relative_error(got, exact) <= 2e-2


def test_a_sample_does_not_depend_on_what_is_drawn_beside_it(way):
    prior, x = make_prior(), make_noisy(9)
    with torch.no_grad():
        cached = cached_of(prior, make_texts((7, 2)), 80)
        assert relative_error(torch.cat([cached.predict(part, 0) for part in x.split(4)], dim=1), cached.predict(x, 0)) < 1e-5


@pytest.mark.parametrize("b", [1, GROUP, GROUP + 1, 2 * GROUP + 3])
def test_groups_that_are_not_full_and_several_of_them(way, b):
    prior, texts, x = make_prior(), make_texts((7, 2)), make_noisy(b)
    with torch.no_grad():
        got = cached_of(prior, texts, 80).predict(x, 0)
        assert got.shape == (2, b, WIDTH)
        assert relative_error(got, plain(prior, x, 80, texts)) <= 1e-5


def test_a_processor_attends_row_by_row_and_a_graphics_card_in_groups():
    memory, time, padding = torch.zeros(2, 3, 8, 5, 8), torch.zeros(2, 3, 8, 1, 8), torch.zeros(8, 6, 1)
    assert type(attention_of(2, 4, memory, time, padding)) is RowByRow
    if torch.cuda.is_available():
        assert type(attention_of(2, 4, memory.cuda(), time.cuda(), padding.cuda())) is InGroups


def test_gradients_equal_diffusers(way):
    prior, x = make_prior(), make_noisy(3)
    embedding, hidden, mask = make_texts((7, 2))
    wanted = [embedding.requires_grad_(), hidden.requires_grad_(), x.requires_grad_(),
              *(weight for name, weight in prior.named_parameters() if not name.startswith("clip_"))]
    got = torch.autograd.grad(cached_of(prior, (embedding, hidden, mask), 30).predict(x, 0).square().sum(), wanted)
    expected = torch.autograd.grad(plain(prior, x, 30, (embedding, hidden, mask)).square().sum(), wanted)
    for one, other in zip(got, expected, strict=True):  # a key's bias moves no softmax: its gradient is all rounding
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_weights_are_used_where_they_are():
    prior, texts, x = make_prior(), make_texts((7, 2)), make_noisy(3)
    with torch.no_grad():
        cached = cached_of(prior, texts, 30)
        for layer in (prior.proj_in, prior.norm_out, prior.proj_to_clip_embeddings):  # none of them concerns the texts
            layer.weight = torch.nn.Parameter(layer.weight * 2)
        assert relative_error(cached.predict(x, 0), plain(prior, x, 30, texts)) <= 1e-5


@pytest.mark.parametrize("options, name", [
    (dict(added_emb_type=None, additional_embeddings=3), "added_emb_type"),
    (dict(encoder_hid_proj_type=None), "encoder_hid_proj_type"),
    (dict(additional_embeddings=5), "additional_embeddings"),
])
def test_other_configurations_are_refused(options, name):
    with pytest.raises(RarityError, match=f"{name} = .*Kandinsky's has"):
        cached_of(make_prior(**options), make_texts((7,)), 0)


def test_unknown_norms_are_refused():
    prior = make_prior()
    prior.register_to_config(norm_in_type="batch")
    with pytest.raises(RarityError, match="norm_in_type = 'batch', but Kandinsky's has None or 'layer'"):
        cached_of(prior, make_texts((7,)), 0)


def test_custom_attention_is_refused():
    prior = make_prior()
    prior.set_attn_processor(SlicedAttnProcessor(1))
    with pytest.raises(RarityError, match="SlicedAttnProcessor"):
        cached_of(prior, make_texts((7,)), 0)
