"""Sampling, reading and encoding with the prior, against diffusers' own pipeline."""

import pytest
import torch
from rarity.density.base.errors import RarityError
from rarity.density.estimators.gaussian import GaussianDensity
from rarity.density.estimators.own_samples import are_own
from rarity.generators.eyes import encoding
from rarity.generators.eyes.preprocessing import preprocess
from rarity.generators.kandinsky.image_encoder import encoder_fingerprint, encoder_name
from rarity.generators.kandinsky.load import load_kandinsky
from rarity.generators.kandinsky.prior import Prior
from rarity.generators.runtime.noise import streams


@pytest.fixture(scope="module")
def prior(tiny_kandinsky):
    return tiny_kandinsky[0]


@pytest.fixture(scope="module")
def pipeline(tiny_kandinsky_folder):
    from diffusers import KandinskyV22PriorPipeline

    pipeline = KandinskyV22PriorPipeline.from_pretrained(tiny_kandinsky_folder / "prior")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)  # guidance amplifies rounding


@pytest.mark.parametrize("guidance", [4.0, 1.0, 0.0])
@pytest.mark.parametrize("steps", [2, 7])
def test_samples_equal_diffusers(prior, pipeline, guidance, steps):
    expected = pipeline(
        "a letter r", num_images_per_prompt=3, num_inference_steps=steps, guidance_scale=guidance,
        generator=streams(5, 0, 3, "prior"),
    ).image_embeds
    close(prior.sample("a letter r", 3, seed=5, steps=steps, guidance=guidance).vectors, expected)


def test_samples_with_a_negative_prompt_equal_diffusers(prior, pipeline):
    # diffusers samples the negative prompt as well, and returns both: the first half is the prompt's.
    noise = streams(1, 0, 2, "prior") + streams(9, 0, 2, "prior")
    expected = pipeline(
        "a letter r", negative_prompt="bold", num_images_per_prompt=2, num_inference_steps=5, generator=noise
    ).image_embeds
    got = prior.sample("a letter r", 2, seed=1, steps=5, negative_prompt="bold").vectors
    close(got, expected)
    assert not torch.allclose(got, prior.sample("a letter r", 2, seed=1, steps=5).vectors, atol=1e-3)


def test_a_prompt_that_is_too_long_is_cut_as_diffusers_cuts_it(prior, pipeline, caplog):
    prompt = "a very long prompt of very many words"
    expected = pipeline(
        prompt, num_images_per_prompt=2, num_inference_steps=3, generator=streams(0, 0, 2, "prior")
    ).image_embeds
    close(prior.sample(prompt, 2, steps=3).vectors, expected)
    assert "tokens" in caplog.text


def test_zero_embedding_and_text_equal_diffusers(prior, pipeline):
    close(prior.zero_embedding(), pipeline.get_zero_embed(1))
    expected, _, _ = pipeline._encode_prompt(["a letter r", "b"], "cpu", 1, False)
    got = prior.encode_text(["a letter r", "b"])
    close(got, expected)
    assert got.dtype == torch.float32 and got.shape == (2, prior.space.width)


def test_a_sample_does_not_depend_on_what_is_drawn_beside_it(prior):
    whole = prior.sample("a", 7, seed=3, steps=4).vectors
    close(prior.sample("a", 7, seed=3, steps=4, batch_size=3).vectors, whole)
    close(prior.sample("a", 2, seed=3, steps=4, batch_size=1).vectors, whole[:2])


def test_a_sample_is_the_same_one_in_every_batch_precision_and_count(prior, tiny_kandinsky_folder):
    """Its numbers are rounded otherwise each time; who it is hangs on where it comes from alone."""
    whole = prior.sample("a", 7, seed=3, steps=4)
    assert len(whole.keys.unique()) == 7
    assert torch.equal(prior.sample("a", 7, seed=3, steps=4, batch_size=3).keys, whole.keys)
    later = list(prior.sample_batches("a", 7, first=2, seed=3, steps=4, batch_size=2))
    assert torch.equal(torch.cat([batch.keys for batch in later]), whole.keys[2:])
    half = load_kandinsky(tiny_kandinsky_folder, dtype=torch.float16)[0]
    assert half.producer == prior.producer
    density = GaussianDensity.fit(prior.sample("a", 60, seed=3, steps=4))
    again = prior.sample("a", 60, seed=3, steps=4, batch_size=7)
    assert are_own(density, again).all() and are_own(density, again.select([5, 1])).all()


def test_another_model_prompt_or_setting_makes_other_samples(prior, tiny_kandinsky_folder):
    asked = {"seed": 3, "steps": 4, "guidance": 4.0, "negative_prompt": ""}
    changed = [{"seed": 4}, {"steps": 5}, {"guidance": 3.0}, {"negative_prompt": "b"}, {"prompt": "b"}]
    sets = [prior.sample(**{"prompt": "a", "count": 4} | asked | more).keys for more in [{}, *changed]]
    tuned = load_kandinsky(tiny_kandinsky_folder)[0]
    with torch.no_grad():
        tuned.transformer.proj_in.weight.mul_(1.01)
    other = Prior(**{name: getattr(tuned, name) for name in (
        "space", "transformer", "text_encoder", "tokenizer", "image_encoder", "image_processor", "scheduler")}, zero=None)
    assert other.space == prior.space, "another prior with the same eye"
    sets.append(other.sample("a", 4, **asked).keys)
    assert len(torch.cat(sets).unique()) == 28


def test_pictures_are_known_by_their_pixels(prior):
    pictures = torch.rand(3, 20, 20, 3, generator=torch.Generator().manual_seed(0))
    seen = prior.encode_images(pictures)
    assert torch.equal(prior.encode_images(pictures.flip(0), batch_size=1).keys, seen.keys.flip(0))
    saved = (255 * pictures).to(torch.uint8)  # as ComfyUI's Save Image cuts them
    assert torch.equal(prior.encode_images(saved / 255).keys, seen.keys)


def test_who_pictures_are_is_not_asked_of_their_pixels_where_somebody_knows(prior, monkeypatch):
    pictures, keys = torch.rand(3, 20, 20, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([5, 2, 9])
    expected = prior.encode_images(pictures).vectors
    monkeypatch.setattr(encoding, "picture_keys", None)
    seen = prior.encode_images(pictures, keys=keys)
    assert torch.equal(seen.keys, keys) and torch.equal(seen.vectors, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")
def test_a_card_makes_pictures_ready_as_the_processor_does(prior):
    pictures = torch.rand(2, 70, 50, 3, generator=torch.Generator().manual_seed(0))
    there = preprocess(pictures, prior.image_processor, torch.device("cuda"))
    torch.testing.assert_close(there.cpu(), preprocess(pictures, prior.image_processor), rtol=0, atol=1e-4)


def test_the_seed_decides(prior):
    first = prior.sample("a", 4, seed=3, steps=4)
    torch.randn(10)  # the global generator has no say
    assert torch.equal(first.vectors, prior.sample("a", 4, seed=3, steps=4).vectors)
    assert not torch.allclose(first.vectors, prior.sample("a", 4, seed=4, steps=4).vectors, atol=1e-2)
    assert first.source == {
        "kind": "prior", "prompt": "a", "negative_prompt": "", "seed": 3, "steps": 4, "guidance": 4.0
    }
    assert first.space == prior.space


def test_streams_are_distinct_and_keep_apart_what_a_seed_is_used_for():
    seeds = [one.initial_seed() for one in streams(7, 0, 5000, "prior")]
    assert len(set(seeds)) == 5000
    assert seeds[100:200] == [one.initial_seed() for one in streams(7, 100, 100, "prior")]
    assert streams(2**48, 0, 1, "prior")[0].initial_seed() != streams(0, 0, 1, "prior")[0].initial_seed()
    for other in (streams(8, 0, 5000, "prior"), streams(7, 0, 5000, "decoder"), streams(2**64 - 1, 0, 5000, "prior")):
        assert not set(seeds) & {one.initial_seed() for one in other}


def test_noise_of_neighbouring_samples_is_uncorrelated():
    rows = torch.cat([torch.randn(1, 512, generator=one) for one in streams(0, 0, 400, "prior")])
    correlation = torch.corrcoef(rows) - torch.eye(400)
    assert abs(rows.mean()) < 0.01 and abs(rows.std() - 1) < 0.01
    assert correlation.abs().max() < 6 / 512**0.5
    assert abs(correlation.std() * 512**0.5 - 1) < 0.05


def test_any_grad_mode_gives_ordinary_tensors(prior):
    with torch.inference_mode():
        inside = prior.sample("a", 2, steps=3)
        text = prior.encode_text(["a"])
    outside = prior.sample("a", 2, steps=3)
    assert torch.equal(inside.vectors, outside.vectors)
    for tensor in (inside.vectors, text, outside.vectors):
        assert not tensor.is_inference() and not tensor.requires_grad


def test_loading_inside_inference_mode_gives_ordinary_weights(tiny_kandinsky_folder):
    with torch.inference_mode():
        prior, decoder = load_kandinsky(tiny_kandinsky_folder)
    assert not any(p.is_inference() for p in [*prior.transformer.parameters(), *decoder.unet.parameters()])


def test_progress_counts_every_step(prior):
    calls = []
    prior.sample("a", 5, steps=3, batch_size=2, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 15) for done in (2, 4, 6, 8, 10, 12, 13, 14, 15)], "of 5 samples, 3 steps each"


def test_batches_are_the_samples(prior):
    whole = prior.sample("a", 7, seed=3, steps=4)
    batches = list(prior.sample_batches("a", 7, seed=3, steps=4, batch_size=3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert [batch.source for batch in batches] == [{**whole.source, "first": first} for first in (0, 3, 6)]
    close(torch.cat([batch.vectors for batch in batches]), whole.vectors)
    late = list(prior.sample_batches("a", 7, first=5, seed=3, steps=4))
    close(late[0].vectors, whole.vectors[5:])
    assert len(late) == 1 and late[0].source["first"] == 5


def test_between_batches_nothing_is_switched_off(prior):
    """A caller learns from one batch before the next is drawn: with gradients, and with its own number of threads."""
    threads = torch.get_num_threads()
    for _ in prior.sample_batches("a", 4, steps=2, batch_size=2):
        assert torch.is_grad_enabled() and torch.get_num_threads() == threads


def test_a_wrong_request_for_batches_is_refused_at_once(prior):
    with pytest.raises(RarityError, match="prompt must be some text"):
        prior.sample_batches("", 3)
    for first in (3, -1):
        with pytest.raises(RarityError, match=f"first sample must be one of 0 to 2, got {first}"):
            prior.sample_batches("a", 3, first=first)


def test_cancelling_leaves_everything_as_it_was(prior):
    class Cancelled(Exception):
        pass

    def cancel(done, total):
        if done == 6:
            raise Cancelled

    before = prior.sample("a", 2, steps=4).vectors
    weights = {name: value.clone() for name, value in prior.transformer.state_dict().items()}
    scheduler = dict(vars(prior.scheduler))
    with pytest.raises(Cancelled):
        prior.sample("a", 8, steps=5, batch_size=2, progress=cancel)
    assert all(torch.equal(weights[name], value) for name, value in prior.transformer.state_dict().items())
    assert {k: v for k, v in vars(prior.scheduler).items() if v is not scheduler[k]} == {}
    assert torch.equal(before, prior.sample("a", 2, steps=4).vectors)


def test_pictures_are_encoded_as_transformers_does(prior, pipeline):
    pictures = torch.rand(3, 24, 20, 3, generator=torch.Generator().manual_seed(0))
    pictures = (pictures * 255).round()  # what an 8-bit file holds
    pixels = pipeline.image_processor(list(pictures.to(torch.uint8).permute(0, 3, 1, 2)), return_tensors="pt").pixel_values
    with torch.no_grad():
        expected = pipeline.image_encoder(pixels).image_embeds
    got = prior.encode_images(pictures / 255, batch_size=2)
    assert got.space == prior.space
    # The processor rounds the resized picture to 8 bits, we do not.
    torch.testing.assert_close(got.vectors, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("size, crop, shape", [
    ({"shortest_edge": 16}, {"height": 16, "width": 16}, (30, 40)),
    ({"shortest_edge": 16}, {"height": 16, "width": 16}, (41, 17)),
    ({"height": 12, "width": 20}, {"height": 12, "width": 12}, (24, 24)),
    ({"shortest_edge": 20}, {"height": 16, "width": 16}, (8, 9)),
    ({"shortest_edge": 10}, {"height": 16, "width": 15}, (20, 20)),
    ({"shortest_edge": 18}, {"height": 18, "width": 30}, (33, 55)),  # 18 / 33 * 55 is a hair less than 30
    ({"shortest_edge": 24}, {"height": 24, "width": 24}, (47, 47)),
])
@pytest.mark.parametrize("resample", [2, 3])
def test_preprocessing_equals_the_image_processor(size, crop, shape, resample):
    from transformers import CLIPImageProcessor

    processor = CLIPImageProcessor(size=size, crop_size=crop, resample=resample)
    y, x = torch.meshgrid(torch.linspace(0, 1, shape[0]), torch.linspace(0, 1, shape[1]), indexing="ij")
    picture = torch.stack([y, x, (torch.sin(7 * x + 4 * y) + 1) / 2])
    picture = (picture * 255).round().to(torch.uint8)
    expected = processor(picture, return_tensors="pt").pixel_values
    got = preprocess(picture.permute(1, 2, 0)[None] / 255, processor.to_dict())
    one_level = 1 / 255 / min(processor.image_std)
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= one_level


@pytest.mark.parametrize("images", [
    torch.rand(16, 16, 3), torch.rand(1, 3, 16, 16), torch.rand(1, 16, 16, 4), torch.rand(0, 16, 16, 3),
    torch.full((1, 16, 16, 3), 255.0), torch.full((1, 16, 16, 3), float("nan")), [1],
])
def test_wrong_pictures_are_refused(prior, images):
    with pytest.raises(RarityError, match="Pictures must"):
        prior.encode_images(images)


@pytest.mark.parametrize("wrong, match", [
    (dict(prompt=""), "prompt must be some text"),
    (dict(prompt=" \n"), "prompt must be some text"),
    (dict(prompt=None), "prompt must be some text"),
    (dict(count=0), "count must be at least 1, got 0"),
    (dict(steps=1), "steps must be at least 2, got 1"),
    (dict(steps=1001), "steps"),
    (dict(batch_size=-1), "batch size must be at least 0"),
    (dict(guidance=float("nan")), "guidance must be a finite number"),
])
def test_wrong_requests_are_refused(prior, wrong, match):
    with pytest.raises(RarityError, match=match):
        prior.sample(**{"prompt": "a", "count": 2, "steps": 3, **wrong})


@pytest.mark.parametrize("texts", [[], [""], ["a", "  "]])
def test_no_text_is_refused(prior, texts):
    with pytest.raises(RarityError):
        prior.encode_text(texts)


def test_the_fingerprint_names_the_encoder_and_not_its_rounding(prior, tiny_kandinsky_folder):
    other = load_kandinsky(tiny_kandinsky_folder)[0].image_encoder
    assert encoder_fingerprint(other) == prior.space.fingerprint
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1 + 1e-6 * torch.randn_like(weight))
    assert encoder_fingerprint(other) == prior.space.fingerprint
    with torch.no_grad():
        other.visual_projection.weight.mul_(torch.randn_like(other.visual_projection.weight))
    assert encoder_fingerprint(other) != prior.space.fingerprint
    assert encoder_name(other.config) == "CLIP ViT 24x2/4"
