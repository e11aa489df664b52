"""Models on another device than the processor: nothing is left behind, and the results are those of the processor."""

import pytest
import torch
from elsewhere import Elsewhere, elsewhere
from learning import KINDS, PROMPT, STEPS, digest, learn
from rarity.density import GaussianDensity, optimize
from rarity.generators.concepts.objectives import OBJECTIVES
from rarity.generators.concepts.sampling import sample_concept
from rarity.generators.eyes.contrast_sources import contrast_guardrail
from rarity.generators.eyes.direction_sources import text_direction
from rarity.generators.eyes.openclip import load_open_clip
from rarity.generators.judges.validity_gate import ValidityGate
from rarity.generators.judges.vlm import Vlm, VlmJudge
from rarity.generators.judges.zero_shot import ContrastJudge
from rarity.generators.kandinsky.decoder import DecoderDefaults
from rarity.generators.kandinsky.load import load_kandinsky
from rarity.generators.kandinsky.prior_baseline import draw_baseline
from rarity.generators.local_score.machine import KINDS as KINDS_OF_SCORES
from rarity.generators.local_score.new_pictures import Recipe, new_latents, new_pictures
from tiny_open_clip import NAME, build_tiny_open_clip
from tiny_vlm import BUILDERS, teach

# Attention is computed by other kernels there: float32 sums in another order, which learning and decoding amplify.
CLOSE = {"atol": 1e-3, "rtol": 1e-3}
pictures = torch.rand(3, 16, 16, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[True, False], ids=["with float64", "without float64"])
def device(request):
    with elsewhere(doubles=request.param) as device:
        yield device


@pytest.fixture(params=["2.2", "2.1"])
def both(request, tiny_kandinsky, tiny_kandinsky_21, tiny_kandinsky_folder, tiny_kandinsky_21_folder, device):
    """The same Kandinsky on the processor and on the device: two pairs of prior and decoder."""
    if request.param == "2.2":
        return tiny_kandinsky, load_kandinsky(tiny_kandinsky_folder, device=device)
    return tiny_kandinsky_21, load_kandinsky(tiny_kandinsky_21_folder / "kandinsky-2-1-prior", device=device)


def test_the_device_is_as_strict_as_a_graphics_card(device):
    there = torch.ones(2, 3).to(device)
    assert isinstance(there, Elsewhere) and there.device == device and torch.equal((2 * there).cpu(), 2 * torch.ones(2, 3))
    assert float(torch.arange(3, device=device).sum()) == 3 and torch.equal(there[[0]].cpu(), torch.ones(1, 3))
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(2, 3)
    with pytest.raises(RuntimeError, match="generator of the device"):
        torch.randn(2, device=device, generator=torch.Generator())
    with pytest.raises((RuntimeError, TypeError)):
        there.numpy()


def test_sampling_decoding_and_encoding(both):
    here, there = both
    for options in ({}, {"negative_prompt": "t"}, {"batch_size": 3}):
        expected, got = (prior.sample(PROMPT, 5, seed=1, steps=STEPS, **options) for prior, _ in both)
        assert got.vectors.device.type == "cpu"
        torch.testing.assert_close(got.vectors, expected.vectors, **CLOSE)
    drawn = [decoder.decode(expected, seed=2, steps=2) for _, decoder in both]
    assert drawn[1].device.type == "cpu"
    torch.testing.assert_close(drawn[1], drawn[0], **CLOSE)
    for look in (lambda prior: prior.encode_images(pictures).vectors, lambda prior: prior.encode_text(["r", "t"])):
        torch.testing.assert_close(look(there[0]), look(here[0]), **CLOSE)


def test_a_kept_baseline_goes_on_there(tiny_kandinsky, tiny_kandinsky_folder, device, tmp_path):
    here, there = tiny_kandinsky[0], load_kandinsky(tiny_kandinsky_folder, device=device)[0]
    settings = {"seed": 1, "steps": 2, "batch_size": 4}
    draw_baseline(here, PROMPT, 3, folder=tmp_path, **settings)
    kept, _ = draw_baseline(there, PROMPT, 7, folder=tmp_path, **settings)
    torch.testing.assert_close(kept.vectors, here.sample(PROMPT, 7, seed=1, steps=2).vectors, **CLOSE)


def test_optimising_by_words_under_a_gate(tiny_kandinsky, tiny_kandinsky_folder, device, monkeypatch):
    usual = tiny_kandinsky[0].sample(PROMPT, 60, seed=3, steps=2)
    density, found = GaussianDensity.fit(usual), []
    for prior, decoder in (tiny_kandinsky, load_kandinsky(tiny_kandinsky_folder, device=device)):
        guardrail = contrast_guardrail(prior, usual, PROMPT, ["a letter t"], centred=True)
        wish = text_direction(prior, "r", "t")
        monkeypatch.setattr(decoder, "defaults", DecoderDefaults(steps=2))
        gate = ValidityGate(ContrastJudge(prior, "r", ["t"]), decoder, every=2)
        found.append(optimize(density, usual.select([0, 1]), 50, (guardrail,), directions=(wish,), steps=2, gate=gate))
    for read in found[0].readings:
        torch.testing.assert_close(found[1].readings[read], found[0].readings[read], **CLOSE)


def test_learning(tiny_kandinsky, tiny_kandinsky_folder, device):
    here, there = tiny_kandinsky[0], load_kandinsky(tiny_kandinsky_folder, device=device)[0]
    usual = here.sample(PROMPT, 100, seed=3, steps=STEPS)
    density, guardrail = GaussianDensity.fit(usual), contrast_guardrail(there, usual, PROMPT, ["a letter t"])
    held = digest(here)
    for kind, objective in zip(KINDS, OBJECTIVES, strict=True):
        options = {"kind": kind, "objective": objective, "iterations": 1, "keep_every": 1, "guardrails": (guardrail,)}
        expected, got = (learn(prior, density, **options) for prior in (here, there))
        samples = [sample_concept(here, concept, 3, seed=4).vectors for concept in (expected, got)]
        torch.testing.assert_close(*samples, **CLOSE)
        torch.testing.assert_close(sample_concept(there, got, 3, seed=4).vectors, samples[1], **CLOSE)
    assert digest(here) == held


def test_half_precision(tiny_kandinsky, tiny_kandinsky_folder, device):
    prior, decoder = load_kandinsky(tiny_kandinsky_folder, device=device, dtype=torch.bfloat16)
    usual = prior.sample(PROMPT, 60, seed=5, steps=STEPS)
    assert torch.isfinite(usual.vectors).all() and usual.vectors.dtype == torch.float32
    assert torch.isfinite(decoder.decode(usual.select(torch.arange(2)), seed=0, steps=2)).all()
    learnt = learn(prior, GaussianDensity.fit(usual), "token + lora", iterations=1)
    assert torch.isfinite(sample_concept(prior, learnt, 2, seed=0).vectors).all()


@pytest.mark.parametrize("kind", KINDS_OF_SCORES)
def test_local_score(kind, device):
    for recipe in (Recipe(kind, steps=3), Recipe(kind, "list", sizes="3 5", steps=3)):
        here, there = (new_pictures(pictures.to(where), 2, recipe, seed=1) for where in ("cpu", device))
        torch.testing.assert_close(there, here, **CLOSE)
    here, there = (new_latents(pictures.movedim(-1, 1).to(where), 2, recipe, seed=1) for where in ("cpu", device))
    torch.testing.assert_close(there, here, **CLOSE)


def test_judges(both):
    (here, _), (there, decoder) = both
    expected, got = (ContrastJudge(prior, "r", ["t", "a"]).probability(pictures) for prior in (here, there))
    torch.testing.assert_close(got, expected, **CLOSE)
    gate = ValidityGate(ContrastJudge(there, "r", ["t"]), decoder)
    assert gate.validity(pictures).device.type == "cpu"


def test_open_clip(device, tmp_path):
    path = build_tiny_open_clip(tmp_path)
    here, there = load_open_clip(NAME, path), load_open_clip(NAME, path, device=device)
    for look in (lambda eye: eye.encode_images(pictures).vectors, lambda eye: eye.encode_text(["r", "t"])):
        torch.testing.assert_close(look(there), look(here), **CLOSE)


@pytest.mark.parametrize("kind", sorted(BUILDERS))
def test_vision_language_models(tmp_path, kind, tiny_kandinsky, device):
    bright, dark = torch.full((1, 20, 24, 3), 0.9), torch.full((1, 20, 24, 3), 0.1)
    folder = teach(BUILDERS[kind](tmp_path / kind), bright, dark)
    here, there = (VlmJudge(Vlm(folder, device=where), "letter r").probability(torch.cat([dark, bright])) for where in ("cpu", device))
    torch.testing.assert_close(there, here, **CLOSE)
    assert there[0] < 0.5 < there[1]
