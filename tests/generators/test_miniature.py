"""The built-in miniature: its size, what it learnt from, and that diffusers' own pipelines draw with it."""

import json
from pathlib import Path

import pytest
import torch
from rarity.generators.demo import LETTERS
from rarity.generators.kandinsky.load import load_kandinsky, miniature_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def miniature():
    return load_kandinsky()


def test_it_fits_in_twelve_megabytes_and_holds_no_pickle():
    files = [path for path in miniature_folder().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt", ".md"}


def test_no_group_of_families_stands_on_two_sides_and_every_package_has_a_licence():
    listed = json.loads((ROOT / "tools" / "typefaces.json").read_text(encoding="utf-8"))
    sides = {}
    for face in listed["faces"]:
        sides.setdefault(face["group"], set()).add(face["split"])
    assert all(len(splits) == 1 for splits in sides.values())
    assert {split for splits in sides.values() for split in splits} == {"train", "judge", "unseen"}
    licences = {entry["package"]: entry["licence"] for entry in listed["packages"]}
    assert {face["package"] for face in listed["faces"]} == set(licences) and all(licences.values())


def test_diffusers_own_pipelines_draw_the_letter_that_was_asked_for(miniature):
    from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline

    prior = KandinskyV22PriorPipeline.from_pretrained(miniature_folder() / "prior")
    decoder = KandinskyV22Pipeline.from_pretrained(miniature_folder() / "decoder")
    prior.set_progress_bar_config(disable=True)
    decoder.set_progress_bar_config(disable=True)
    prior.image_encoder.float(), prior.text_encoder.float()
    noise = torch.Generator().manual_seed(0)
    made = prior("a bold letter K", num_images_per_prompt=8, generator=noise)
    pictures = decoder(
        image_embeds=made.image_embeds, negative_image_embeds=made.negative_image_embeds, guidance_scale=1.0,
        height=64, width=64, num_inference_steps=12, generator=noise, output_type="np",
    ).images
    assert pictures.shape == (8, 64, 64, 3)
    ours, _ = miniature
    seen = ours.encode_images(torch.from_numpy(pictures)).vectors
    likeness = torch.nn.functional.normalize(seen, dim=1) @ torch.nn.functional.normalize(ours.encode_text(list(LETTERS)), dim=1).T
    assert (likeness.argmax(dim=1) == 10).sum() >= 7


def test_words_change_what_is_drawn(miniature):
    """Bold has more ink than light, and italics lean: the ink's upper half lies to the right of its lower half."""
    prior, decoder = miniature

    def ink(prompt):
        return 1 - decoder.decode(prior.sample(prompt, 8, seed=3), seed=3).mean(dim=-1)

    def lean(x):
        across = torch.arange(64.0)
        halves = [(half.sum(1) * across).sum(1) / half.sum((1, 2)) for half in (x[:, :32], x[:, 32:])]
        return (halves[0] - halves[1]).mean()

    assert ink("a bold letter H").mean() > 1.5 * ink("a light letter H").mean()
    assert lean(ink("an italic letter H")) > lean(ink("a bold letter H")) + 2
