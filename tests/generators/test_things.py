"""The built-in model that draws things: its size, that diffusers' own pipelines draw with it, and that it draws what was asked for."""

import pytest
import torch
from rarity.generators.kandinsky.load import BUILT_IN, THINGS, load_kandinsky
from torch.nn.functional import normalize

FOLDER = BUILT_IN[THINGS]
ASKED = ("bag", "building", "house", "car", "chair", "cat")


@pytest.fixture(scope="module")
def things():
    return load_kandinsky(THINGS)


def read_as(prior, pictures, subjects):
    """Which of the subjects the model's own eye reads each picture as."""
    likeness = normalize(prior.encode_images(pictures).vectors, dim=1) @ normalize(prior.encode_text([f"a drawing of a {s}" for s in subjects]), dim=1).T
    return likeness.argmax(dim=1)


def test_it_fits_in_sixteen_megabytes_and_holds_no_pickle():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 16e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt"}


def test_it_draws_the_thing_that_was_asked_for_in_colour_on_a_white_ground(things):
    prior, decoder = things
    right = 0
    for number, subject in enumerate(ASKED):
        pictures = decoder.decode(prior.sample(f"a drawing of a {subject}", 8, seed=0), seed=0)
        assert pictures[:, :2, :2].median() > 0.95
        right += int((read_as(prior, pictures, ASKED) == number).sum())
    assert right >= 0.9 * 8 * len(ASKED)
    red, green, blue = decoder.decode(prior.sample("a blue filled drawing of a house", 8, seed=0), seed=0).mean((0, 1, 2))
    assert blue > red and blue > green


def test_diffusers_own_pipelines_draw_with_it(things):
    from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline

    prior, decoder = (kind.from_pretrained(FOLDER / part) for kind, part in ((KandinskyV22PriorPipeline, "prior"), (KandinskyV22Pipeline, "decoder")))
    prior.set_progress_bar_config(disable=True)
    decoder.set_progress_bar_config(disable=True)
    prior.image_encoder.float(), prior.text_encoder.float()
    noise = torch.Generator().manual_seed(0)
    made = prior("a filled drawing of a car", num_images_per_prompt=8, generator=noise)
    pictures = decoder(
        image_embeds=made.image_embeds, negative_image_embeds=made.negative_image_embeds, guidance_scale=1.0,
        height=64, width=64, num_inference_steps=12, generator=noise, output_type="np",
    ).images
    assert (read_as(things[0], torch.from_numpy(pictures), ASKED) == ASKED.index("car")).sum() >= 7
