"""On a graphics card what is captured and what runs kernel by kernel give the same, to the rounding of float32 sums."""

import gc

import pytest
import torch
from learning import KINDS, PROMPT, STEPS, digest, learn
from rarity.density import GaussianDensity
from rarity.generators.kandinsky.load import load_kandinsky
from rarity.generators.runtime import captured

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics card")


@pytest.fixture
def both(tiny_kandinsky_folder):
    """Prior and decoder on the card."""
    captured.forget()
    yield load_kandinsky(tiny_kandinsky_folder, device="cuda")
    captured.forget()
    assert not captured._refused, "every kind of work is captured here"


def eagerly(work):
    """What work() gives where nothing can be captured."""
    recorder_of, captured.recorder_of = captured.recorder_of, lambda device: None
    try:
        return work()
    finally:
        captured.recorder_of = recorder_of


def kept(model):
    return len(captured._kept.get(model, ()))


@pytest.mark.parametrize("options", [{}, {"guidance": 1.0}, {"batch_size": 3}, {"negative_prompt": "bold"}], ids=str)
def test_sampling(both, options):
    prior, _ = both

    def drawn():
        return [prior.sample(PROMPT, 7, seed=seed, steps=4, **options).vectors for seed in (1, 2, 3)]

    expected, got = eagerly(drawn), drawn()  # the second seed replays what the first captured, the third the reading, too
    assert kept(prior.transformer) == 2
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_sampling_in_half_precision_and_inference_mode(tiny_kandinsky_folder):
    prior, _ = load_kandinsky(tiny_kandinsky_folder, device="cuda", dtype=torch.bfloat16)
    prior.sample(PROMPT, 5, steps=3)
    with torch.inference_mode():
        inside = prior.sample(PROMPT, 5, steps=3).vectors
    outside = prior.sample(PROMPT, 5, steps=3).vectors
    assert torch.equal(inside, outside) and kept(prior.transformer) == 2
    expected = eagerly(lambda: prior.sample(PROMPT, 5, steps=3).vectors)
    assert float((outside - expected).norm() / expected.norm()) < 0.05  # two ways to round 8 digits, step after step


def test_a_model_that_moves_is_captured_anew(both):
    prior, _ = both
    first = prior.sample(PROMPT, 5, steps=3).vectors
    prior.transformer.cpu()
    gc.collect()
    torch.cuda.empty_cache()
    held = torch.ones(2**20, device="cuda")  # takes the old weights' place
    prior.transformer.cuda()
    torch.testing.assert_close(prior.sample(PROMPT, 5, steps=3).vectors, first, rtol=1e-3, atol=1e-3)
    assert float(held.sum()) == 2**20


@pytest.mark.parametrize("objective", ["band", "places"])
@pytest.mark.parametrize("kind", KINDS)
def test_learning(both, kind, objective):
    prior, _ = both
    density = GaussianDensity.fit(eagerly(lambda: prior.sample(PROMPT, 100, seed=11, steps=STEPS)))
    prior.transformer.cpu(), prior.text_encoder.cpu()
    before = digest(prior)
    prior.transformer.cuda(), prior.text_encoder.cuda()
    got = learn(prior, density, kind, objective=objective)
    expected = eagerly(lambda: learn(prior, density, kind, objective=objective))
    for mine, theirs in ((got.tokens, expected.tokens), (got.loras, expected.loras)):
        if mine.numel():  # AdamW's step is as large for a gradient that is nearly zero, whose sign rounding may decide
            assert float((mine[-1] - theirs[-1]).norm() / (theirs[-1] - theirs[0]).norm()) < 2e-2
    prior.transformer.cpu(), prior.text_encoder.cpu()
    assert digest(prior) == before


@pytest.mark.parametrize("guidance", [4.0, 1.0])
def test_decoding(both, guidance):
    prior, decoder = both
    rows = prior.sample(PROMPT, 5, steps=2)
    got = decoder.decode(rows, steps=3, guidance=guidance, batch_size=3)
    assert kept(decoder.unet) == 2
    expected = eagerly(lambda: decoder.decode(rows, steps=3, guidance=guidance, batch_size=3))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


def test_what_is_let_go_is_free_again(both):
    prior, _ = both
    prior.sample(PROMPT, 64, steps=2)
    captured.forget()
    before = torch.cuda.memory_reserved()
    for rows in (100, 200, 300):
        prior.sample(PROMPT, rows, steps=2, batch_size=rows)
        captured.forget()
    assert torch.cuda.memory_reserved() <= before + 2**22
