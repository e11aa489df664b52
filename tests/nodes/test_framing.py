"""Pictures that are not square, and what is at their edges."""

import pytest
import torch
from rarity import nodes
from tiny_open_clip import NAME, build_tiny_open_clip


@pytest.fixture(params=["kandinsky", "open_clip"])
def eye(request, model, tmp_path):
    """What sees pictures."""
    if request.param == "kandinsky":
        return model[0]
    from rarity.generators.eyes.openclip import load_open_clip

    return load_open_clip(NAME, build_tiny_open_clip(tmp_path))


@pytest.fixture
def wide():
    """Three pictures of 256 x 64, alike but for their left end."""
    images = torch.ones(3, 64, 256, 3)
    images[0, 16:48, 4:36] = 0
    images[1, 16:48, 4:36, 0] = 0
    return images


def usual(run, eye):
    shown = torch.rand(80, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    found = run(nodes.RarityEncodeImages, images=shown, eye=eye)[0]
    return found, run(nodes.RarityFitDensity, embeddings=found, components=4)[0]


def test_what_is_at_the_edge_is_seen_in_the_whole_picture_and_else_it_is_said_that_it_is_not(run, eye, wide):
    reference, density = usual(run, eye)
    middle = run(nodes.RarityEncodeImages, images=wide, eye=eye)[0]
    assert torch.equal(middle.vectors[0], middle.vectors[1]) and torch.equal(middle.vectors[0], middle.vectors[2])
    whole = run(nodes.RarityEncodeImages, images=wide, framing="whole picture", eye=eye)[0]
    assert not torch.allclose(whole.vectors[0], whole.vectors[1]) and not torch.allclose(whole.vectors[1], whole.vectors[2])
    said = "only the middle square was looked at, 25% of the longest"
    seen = run(nodes.RarityExposureUpdate, embeddings=middle.select([0]), keep=1.0)[0]
    for rows, is_said in ((middle, True), (whole, False)):
        table = run(nodes.RarityScoreNovelty, embeddings=rows, density=density, exposure=seen)[1]
        copies = run(nodes.RarityCheckOriginality, embeddings=rows, reference=reference)[1]
        assert (said in table) == (said in copies) == is_said
        assert len(table.splitlines()) == 4 + is_said
    joined = run(nodes.RarityJoinEmbeddings, embeddings=[reference, middle])[0]
    assert said in run(nodes.RarityScoreNovelty, embeddings=joined, density=density)[1]
    mixed = run(nodes.RarityFitDensity, embeddings=joined, components=4)[0]
    assert "looked at whole, others by their middle" in run(nodes.RarityScoreNovelty, embeddings=whole, density=mixed)[1]


def test_the_whole_picture_is_the_picture_on_a_square_of_the_eye_s_mean_colour(run, eye, wide):
    square = torch.tensor(eye.mean).expand(3, 256, 256, 3).clone()
    square[:, 96:160] = wide
    whole = run(nodes.RarityEncodeImages, images=wide, framing="whole picture", eye=eye)[0]
    expected = run(nodes.RarityEncodeImages, images=square, eye=eye)[0]
    assert torch.equal(whole.vectors, expected.vectors)
    assert run(nodes.RarityEncodeImages, images=wide, eye=eye)[0].source["unseen"] == 0.75, "the connected eye is as it was"


def test_square_pictures_are_the_same_by_either_framing(run, eye):
    shown = torch.rand(2, 40, 40, 3, generator=torch.Generator().manual_seed(0))
    by = [run(nodes.RarityEncodeImages, images=shown, framing=framing, eye=eye)[0] for framing in ("middle square", "whole picture")]
    assert torch.equal(*(rows.vectors for rows in by)) and by[0].source == by[1].source == {"kind": "pictures"}
