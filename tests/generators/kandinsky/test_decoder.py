"""Decoding, against diffusers' own pipeline."""

import json
from dataclasses import replace

import pytest
import torch
from rarity.density.base.embeddings import Embeddings
from rarity.density.base.errors import RarityError
from rarity.density.estimators.gaussian import GaussianDensity
from rarity.density.steering.optimize import optimize
from rarity.generators.kandinsky.decoder import DecoderDefaults, read_defaults
from rarity.generators.runtime.noise import picture_streams


@pytest.fixture(scope="module")
def decoder(tiny_kandinsky):
    return tiny_kandinsky[1]


@pytest.fixture(scope="module")
def embeddings(tiny_kandinsky):
    return tiny_kandinsky[0].sample("a letter r", 5, steps=3)


def pipeline_of(folder, **scheduler):
    from diffusers import KandinskyV22Pipeline

    pipeline = KandinskyV22Pipeline.from_pretrained(folder / "decoder")
    pipeline.set_progress_bar_config(disable=True)
    if scheduler:
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **scheduler)
    return pipeline


@pytest.mark.parametrize("guidance", [4.0, 1.0])
@pytest.mark.parametrize("variance_type", ["learned_range", "fixed_small"])
def test_pictures_equal_diffusers(decoder, embeddings, tiny_kandinsky, tiny_kandinsky_folder, guidance, variance_type):
    pipeline = pipeline_of(tiny_kandinsky_folder, variance_type=variance_type)
    rows = embeddings.vectors[:3]
    expected = pipeline(
        rows, tiny_kandinsky[0].zero_embedding().expand(3, -1), height=16, width=16, num_inference_steps=4,
        guidance_scale=guidance, generator=picture_streams(embeddings.keys[:3], 2), output_type="np",
    ).images
    ours = type(decoder)(space=decoder.space, zero=decoder._zero, unet=decoder.unet, movq=decoder.movq,
                         scheduler=pipeline.scheduler, defaults=decoder.defaults)
    got = ours.decode(embeddings.select(range(3)), seed=2, steps=4, guidance=guidance)
    torch.testing.assert_close(got, torch.from_numpy(expected), rtol=1e-3, atol=1e-3)


def test_another_scheduler_equals_diffusers(decoder, embeddings, tiny_kandinsky_folder):
    from diffusers import DDIMScheduler

    pipeline = pipeline_of(tiny_kandinsky_folder)
    pipeline.scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False)
    ours = type(decoder)(space=decoder.space, zero=decoder._zero, unet=decoder.unet, movq=decoder.movq,
                         scheduler=pipeline.scheduler, defaults=decoder.defaults)
    expected = pipeline(
        embeddings.vectors[:2], decoder._zero.expand(2, -1), height=24, width=16, num_inference_steps=4,
        generator=picture_streams(embeddings.keys[:2], 0), output_type="np",
    ).images
    got = ours.decode(embeddings.select(range(2)), steps=4, height=24, width=16)
    assert got.shape == (2, 24, 16, 3)
    torch.testing.assert_close(got, torch.from_numpy(expected), rtol=1e-3, atol=1e-3)


def test_a_picture_does_not_depend_on_what_is_drawn_beside_it(decoder, embeddings):
    whole = decoder.decode(embeddings, steps=3)
    assert whole.shape == (5, 16, 16, 3) and whole.dtype == torch.float32
    assert whole.min() >= 0 and whole.max() <= 1
    torch.testing.assert_close(decoder.decode(embeddings, steps=3, batch_size=2), whole, rtol=1e-4, atol=1e-4)
    assert torch.equal(whole, decoder.decode(embeddings, steps=3))
    assert not torch.allclose(whole, decoder.decode(embeddings, steps=3, seed=1), atol=1e-2)


def test_a_picture_stays_what_it_is_when_its_row_is_selected_moved_or_joined(decoder, embeddings):
    """Select Embeddings, then Decode: the liked picture, whatever its place in either set."""
    whole = decoder.decode(embeddings, steps=3)

    def close(rows, expected):
        torch.testing.assert_close(decoder.decode(rows, steps=3), expected, rtol=1e-4, atol=1e-4)

    close(embeddings.select([3]), whole[3:4])
    close(embeddings.select([4, 0, 2]), whole[[4, 0, 2]])
    close(Embeddings.cat([embeddings.select([2]), embeddings]), torch.cat([whole[2:3], whole]))
    close(replace(embeddings, vectors=embeddings.vectors * (1 + 1e-7)).select([1]), whole[1:2])
    strangers = replace(embeddings, keys=embeddings.keys + 1)
    assert (decoder.decode(strangers, steps=3) - whole).abs().amax(dim=(1, 2, 3)).min() > 1e-2


def test_a_rare_row_has_the_noise_of_the_usual_one_it_began_in(decoder, embeddings, tiny_kandinsky):
    density = GaussianDensity.fit(tiny_kandinsky[0].sample("a letter r", 200, steps=2))
    rare = optimize(density, embeddings, 100, steps=2).final
    assert torch.equal(rare.keys, embeddings.keys)
    one, other = (torch.stack([torch.randn(4, generator=g) for g in picture_streams(rows.keys, 3)]) for rows in (rare, embeddings))
    assert torch.equal(one, other) and len(one.unique()) == 20
    assert not torch.equal(picture_streams(rare.keys, 4)[0].get_state(), picture_streams(rare.keys, 3)[0].get_state())
    # Where one row was moved twice, the pictures differ as the embeddings do.
    twice = Embeddings.cat([rare.select([0]), optimize(density, embeddings.select([0]), 2, steps=2).final])
    pictures = decoder.decode(twice, steps=3)
    assert twice.keys[0] == twice.keys[1] and not torch.equal(pictures[0], pictures[1])


def test_pictures_are_ordinary_tensors_under_inference_mode(decoder, embeddings):
    with torch.inference_mode():
        pictures = decoder.decode(embeddings, steps=2)
    assert not pictures.is_inference()
    assert torch.equal(pictures, decoder.decode(embeddings, steps=2))


def test_progress_and_cancel(decoder, embeddings):
    calls = []
    before = decoder.decode(embeddings, steps=3, batch_size=3, progress=lambda *call: calls.append(call))
    assert calls == [(done, 15) for done in (3, 6, 9, 11, 13, 15)], "of 5 pictures, 3 steps each"

    def cancel(done, total):
        raise KeyboardInterrupt

    state = dict(vars(decoder.scheduler))
    with pytest.raises(KeyboardInterrupt):
        decoder.decode(embeddings, steps=5, progress=cancel)
    assert {k: v for k, v in vars(decoder.scheduler).items() if v is not state[k]} == {}
    assert torch.equal(before, decoder.decode(embeddings, steps=3, batch_size=3))


def test_embeddings_of_another_space_are_refused(decoder, embeddings):
    wide = Embeddings(torch.randn(2, 7), replace(decoder.space, width=7, encoder="another eye"))
    with pytest.raises(RarityError) as error:
        decoder.decode(wide)
    assert "another eye" in str(error.value) and decoder.space.encoder in str(error.value)
    assert "7 wide" in str(error.value) and f"{decoder.space.width} wide" in str(error.value)
    with pytest.raises(RarityError):
        decoder.decode(Embeddings(embeddings.vectors, replace(decoder.space, kind="unit")))


@pytest.mark.parametrize("wrong, match", [
    (dict(height=17), "multiples of 4 pixels, got 17 x 16"),
    (dict(width=-4), "multiples of 4"),
    (dict(steps=0), "at least 1, got 0"),
    (dict(steps=1001), "steps"),
    (dict(guidance=float("inf")), "finite"),
    (dict(batch_size=0), "batch size"),
])
def test_wrong_requests_are_refused(decoder, embeddings, wrong, match):
    with pytest.raises(RarityError, match=match):
        decoder.decode(embeddings, **{"steps": 2, **wrong})


def test_defaults_come_from_the_folder(tmp_path):
    assert read_defaults(tmp_path) == DecoderDefaults(steps=50, guidance=4.0)
    (tmp_path / "rarity.json").write_text(json.dumps({"steps": 20, "guidance": 1.5}))
    assert read_defaults(tmp_path) == DecoderDefaults(steps=20, guidance=1.5)
    (tmp_path / "rarity.json").write_text(json.dumps({"steps": 20, "learning_rate": 0.1}))
    assert read_defaults(tmp_path) == DecoderDefaults(steps=20, guidance=4.0), "one folder of both halves"
    for wrong in ('{"steps": 0}', '{"steps": "20"}', '{"speed": 3}', "[]", "{", '{"steps": true}', '{"steps": 2.5}'):
        (tmp_path / "rarity.json").write_text(wrong)
        with pytest.raises(RarityError, match="steps|rarity.json"):
            read_defaults(tmp_path)
