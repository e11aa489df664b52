"""Kandinsky 2.1: embeddings and pictures against diffusers' own pipelines. Its decoder reads the prompt, too."""

import json
import shutil

import pytest
import torch
from rarity.density.base.errors import RarityError
from rarity.generators.kandinsky.layout import find_parts
from rarity.generators.kandinsky.load import load_kandinsky
from rarity.generators.runtime.noise import picture_streams, streams
from tiny_kandinsky import build_tiny_kandinsky_21

PADDED, FULL = "a letter r", "a b c d e f g h i j"  # of the tokenizer's 12 tokens the second uses each


@pytest.fixture(scope="module")
def prior(tiny_kandinsky_21):
    return tiny_kandinsky_21[0]


@pytest.fixture(scope="module")
def decoder(tiny_kandinsky_21):
    return tiny_kandinsky_21[1]


@pytest.fixture(scope="module")
def embeddings(prior):
    return prior.sample(PADDED, 3, steps=3, negative_prompt="bold")


@pytest.fixture(scope="module")
def prior_pipeline(tiny_kandinsky_21_folder):
    from diffusers import KandinskyPriorPipeline

    return quiet(KandinskyPriorPipeline.from_pretrained(tiny_kandinsky_21_folder / "kandinsky-2-1-prior"))


@pytest.fixture(scope="module")
def pipeline(tiny_kandinsky_21_folder):
    from diffusers import KandinskyPipeline

    return quiet(KandinskyPipeline.from_pretrained(tiny_kandinsky_21_folder / "kandinsky-2-1"))


@pytest.fixture
def folder(tiny_kandinsky_21_folder, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(tiny_kandinsky_21_folder, tmp_path / "model")


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)  # guidance amplifies rounding


@pytest.mark.parametrize("negative", ["", "bold", FULL])
@pytest.mark.parametrize("guidance", [4.0, 1.0])
@pytest.mark.parametrize("prompt", [PADDED, FULL])
def test_samples_equal_diffusers(prior, prior_pipeline, prompt, guidance, negative):
    # With a negative prompt diffusers samples that as well, and returns both: the first half is the prompt's.
    noise = streams(5, 0, 3, "prior") + (streams(9, 0, 3, "prior") if negative else [])
    expected = prior_pipeline(
        prompt, negative_prompt=negative or None, num_images_per_prompt=3, num_inference_steps=5, guidance_scale=guidance,
        generator=noise,
    ).image_embeds
    got = prior.sample(prompt, 3, seed=5, steps=5, guidance=guidance, negative_prompt=negative)
    close(got.vectors, expected)
    tokens = prior.tokenizer(prompt, padding="max_length").attention_mask
    assert all(tokens) == (prompt is FULL), "one prompt is padded, the other full"


def test_the_embedding_of_no_picture_and_the_statistics_equal_diffusers(prior, prior_pipeline):
    expected = prior_pipeline(PADDED, num_inference_steps=2, generator=streams(0, 0, 1, "prior")).negative_image_embeds
    close(prior.zero_embedding(), expected)
    assert torch.equal(prior.transformer.clip_mean, prior_pipeline.prior.clip_mean) and prior.transformer.clip_mean.any()
    assert prior.transformer.clip_std.ne(1).any(), "statistics that do nothing would prove nothing"


@pytest.mark.parametrize("negative", ["", "bold"])
@pytest.mark.parametrize("guidance", [4.0, 1.0])
@pytest.mark.parametrize("prompt", [PADDED, " ".join("r" * 90)], ids=["padded", "cut"])
def test_pictures_equal_diffusers(decoder, embeddings, pipeline, prompt, guidance, negative):
    expected = pipeline(
        [prompt] * 3, embeddings.vectors, decoder._zero.expand(3, -1), negative_prompt=[negative] * 3, height=16, width=16,
        num_inference_steps=4, guidance_scale=guidance, generator=picture_streams(embeddings.keys, 2), output_type="np",
    ).images
    got = decoder.decode(embeddings, seed=2, steps=4, guidance=guidance, prompt=prompt, negative_prompt=negative)
    close(got, torch.from_numpy(expected))
    other = decoder.decode(embeddings, seed=2, steps=4, guidance=guidance, prompt="x", negative_prompt=negative)
    assert not torch.allclose(got, other, atol=1e-3), "the prompt shows in the picture"


def test_another_scheduler_equals_diffusers(tiny_kandinsky_21_folder, embeddings, pipeline, monkeypatch):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear", variance_type="learned_range")
    decoder = load_kandinsky(tiny_kandinsky_21_folder / "kandinsky-2-1")[1]
    decoder.scheduler = scheduler
    monkeypatch.setattr(pipeline, "scheduler", scheduler)
    expected = pipeline(
        [PADDED] * 2, embeddings.vectors[:2], decoder._zero.expand(2, -1), height=24, width=16, num_inference_steps=4,
        generator=picture_streams(embeddings.keys[:2], 0), output_type="np",
    ).images
    close(decoder.decode(embeddings.select(range(2)), steps=4, height=24, width=16, negative_prompt=""), torch.from_numpy(expected))


def test_embeddings_bring_their_own_prompt(decoder, embeddings):
    own = decoder.decode(embeddings, steps=2)
    assert torch.equal(own, decoder.decode(embeddings, steps=2, prompt=PADDED, negative_prompt="bold"))
    for different in ({"prompt": ""}, {"negative_prompt": ""}):
        assert not torch.allclose(own, decoder.decode(embeddings, steps=2, **different), atol=1e-4)


def test_a_picture_does_not_depend_on_what_is_drawn_beside_it(decoder, embeddings):
    whole = decoder.decode(embeddings, steps=3)
    torch.testing.assert_close(decoder.decode(embeddings, steps=3, batch_size=2), whole, rtol=1e-4, atol=1e-4)


def test_either_half_of_a_pair_finds_the_other(folder):
    parts = find_parts(folder / "kandinsky-2-1-prior")
    assert parts == find_parts(folder / "kandinsky-2-1")
    assert parts["decoder_text_encoder"] == folder / "kandinsky-2-1" / "text_encoder"
    assert parts["text_encoder"] == folder / "kandinsky-2-1-prior" / "text_encoder"


def test_one_combined_folder_as_diffusers_saves_it(pipeline, prior_pipeline, tmp_path, tiny_kandinsky_21, embeddings):
    from diffusers import KandinskyCombinedPipeline

    parts = {f"prior_{name}": part for name, part in prior_pipeline.components.items()}
    KandinskyCombinedPipeline(**pipeline.components, **parts).save_pretrained(tmp_path / "combined")
    prior, decoder = load_kandinsky(tmp_path / "combined")
    assert torch.equal(prior.sample(PADDED, 3, steps=3, negative_prompt="bold").vectors, embeddings.vectors)
    assert torch.equal(decoder.decode(embeddings, steps=2), tiny_kandinsky_21[1].decode(embeddings, steps=2))


def test_a_missing_text_encoder_of_the_decoder_is_named(folder):
    shutil.rmtree(folder / "kandinsky-2-1" / "text_encoder")
    (folder / "kandinsky-2-1" / "tokenizer" / "tokenizer_config.json").unlink()
    with pytest.raises(RarityError) as error:
        load_kandinsky(folder / "kandinsky-2-1-prior")
    for name in ("kandinsky-2-1/text_encoder/", "kandinsky-2-1/tokenizer/tokenizer_config.json"):
        assert name in str(error.value)


def test_half_precision_files_alone_will_do(folder, prior, embeddings):
    from safetensors.torch import load_file, save_file

    for weights in folder.glob("*/*/*.safetensors"):
        halved = {name: value.half() for name, value in load_file(weights).items()}
        save_file(halved, weights.with_name(f"{weights.stem}.fp16.safetensors"), metadata={"format": "pt"})
        weights.unlink()
    half, decoder = load_kandinsky(folder / "kandinsky-2-1-prior")
    assert half.space == prior.space and half.transformer.dtype == decoder.text.text_encoder.dtype == torch.float32
    got = half.sample(PADDED, 3, steps=3, negative_prompt="bold").vectors
    assert ((got - embeddings.vectors).norm() / embeddings.vectors.norm()).item() < 0.02


def test_in_half_precision_everything_runs(tiny_kandinsky_21_folder, prior, embeddings):
    half, decoder = load_kandinsky(tiny_kandinsky_21_folder / "kandinsky-2-1", dtype=torch.bfloat16)
    models = (half.transformer, half.text_encoder, half.image_encoder, decoder.unet, decoder.movq, decoder.text.text_encoder)
    assert {model.dtype for model in models} == {torch.bfloat16} and half.space == prior.space
    got = half.sample(PADDED, 3, steps=3, negative_prompt="bold").vectors
    # bfloat16 has 8 bits, 2e-3 a rounding; guidance at 4 makes seven of it, and three steps add theirs.
    assert ((got - embeddings.vectors).norm() / embeddings.vectors.norm()).item() < 0.05
    pictures = decoder.decode(embeddings, steps=2)
    assert pictures.dtype == torch.float32 and pictures.std() > 0.05
    assert len(half.encode_images(pictures)) == 3


def test_a_21_prior_with_a_22_decoder_is_refused(tmp_path, tiny_kandinsky_folder):
    narrow = build_tiny_kandinsky_21(tmp_path / "narrow", width=16)
    with pytest.raises(RarityError, match="width 32.*width 16"):
        load_kandinsky(narrow / "kandinsky-2-1-prior", decoder=tiny_kandinsky_folder / "decoder")


def test_a_22_decoder_refuses_21_embeddings_and_names_both_spaces(tiny_kandinsky, embeddings):
    with pytest.raises(RarityError) as error:
        tiny_kandinsky[1].decode(embeddings)
    assert str(tiny_kandinsky[1].space) in str(error.value) and str(embeddings.space) in str(error.value)


def test_a_text_encoder_of_another_width_is_refused(folder):
    file = folder / "kandinsky-2-1" / "unet" / "config.json"
    other = build_tiny_kandinsky_21(folder / "other", width=16)
    shutil.rmtree(folder / "kandinsky-2-1" / "text_encoder")
    shutil.copytree(other / "kandinsky-2-1" / "text_encoder", folder / "kandinsky-2-1" / "text_encoder")
    assert json.loads(file.read_text())["cross_attention_dim"] == 32
    with pytest.raises(RarityError, match=r"widths \(16, 24\), but its U-Net takes \(32, 24\)"):
        load_kandinsky(folder / "kandinsky-2-1-prior")
