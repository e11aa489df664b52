"""Load OpenCLIP and what takes its encoder, run as ComfyUI runs them."""

import shutil

import pytest
import torch
from rarity import nodes
from rarity.density.base.errors import RarityError
from tiny_open_clip import NAME, SIZE, build_tiny_open_clip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return build_tiny_open_clip(tmp_path_factory.mktemp("open_clip"))


@pytest.fixture
def clip_folder(checkpoint, tmp_path, monkeypatch):
    """ComfyUI's clip_vision folder with one checkpoint, and a file of another format."""
    import folder_paths

    folder = tmp_path / "clip_vision"
    folder.mkdir()
    shutil.copy(checkpoint, folder / "tiny.safetensors")
    (folder / "model.bin").write_bytes(b"\x80\x04.")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "clip_vision", ([str(folder)], {".safetensors", ".bin"}))
    return folder


@pytest.fixture
def encoder(run, clip_folder):
    return run(nodes.RarityLoadOpenCLIP, architecture=NAME, checkpoint="tiny.safetensors")[0]


def pictures(count):
    return torch.rand(count, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0))


def test_the_menus_list_safetensors_and_architectures(clip_folder):
    architecture, checkpoint = nodes.RarityLoadOpenCLIP.define_schema().inputs
    assert checkpoint.options == ["tiny.safetensors"] and architecture.default in architecture.options


def test_pictures_and_words_of_one_encoder(run, encoder):
    baseline = run(nodes.RarityEncodeImages, images=pictures(80), eye=encoder)[0]
    density = run(nodes.RarityFitDensity, embeddings=baseline, components=4)[0]
    rails = run(nodes.RarityContrastGuardrail, embeddings=baseline, eye=encoder, subject="a cat", alternatives="a dog")[0]
    wish = run(nodes.RaritySteerTowards, eye=encoder, towards="a bold cat", away_from="a light cat")[0]
    rare = run(nodes.RarityMakeRare, density=density, embeddings=baseline, one_in=20, count=3, steps=10, guardrail=rails, direction=wish)
    assert rare[0].space == encoder.space and len(rails[0].others) == 1 and wish[0].name == "a bold cat"
    again = run(nodes.RarityEncodeImages, images=pictures(80), eye=encoder)[0]
    assert torch.equal(again.vectors, baseline.vectors)


def test_a_list_of_sizes_is_encoded_one_by_one(run, encoder):
    """ComfyUI runs the node once an item: sizes may differ, each picture's embedding is its own."""
    for height, width in ((SIZE, SIZE), (50, 40), (33, 100)):
        one = run(nodes.RarityEncodeImages, images=torch.rand(1, height, width, 3), eye=encoder)[0]
        assert len(one) == 1 and one.space == encoder.space


def test_what_does_not_belong_together(run, encoder, baseline, density):
    with pytest.raises(RarityError, match="connect an eye that reads the words"):
        run(nodes.RarityContrastGuardrail, embeddings=baseline)
    with pytest.raises(RarityError, match="one source.*got eye, embeddings"):
        run(nodes.RaritySteerTowards, eye=encoder, embeddings_away=baseline)
    seen = run(nodes.RarityEncodeImages, images=pictures(3), eye=encoder)[0]
    both = f"different embedding spaces.*{density.space.fingerprint}.*{encoder.space.fingerprint}"
    with pytest.raises(RarityError, match=both):
        run(nodes.RarityScoreNovelty, embeddings=seen, density=density)
    with pytest.raises(RarityError, match="baseline of the contrast guardrail.*different embedding spaces"):
        run(nodes.RarityContrastGuardrail, embeddings=baseline, eye=encoder)


@pytest.mark.parametrize("shape, message", [
    ((1, 0, 8, 3), r"got shape \(1, 0, 8, 3\)"),
    ((2, 8, 8, 1), "One channel is greyscale: make it RGB"),
    ((2, 8, 8, 4), "alpha channel: drop it"),
    ((8, 8, 3), r"got shape \(8, 8, 3\)"),
])
def test_pictures_that_no_eye_can_read(run, encoder, model, shape, message):
    for eye in (model[0], encoder):
        with pytest.raises(RarityError, match=message):
            run(nodes.RarityEncodeImages, images=torch.zeros(shape), eye=eye)


@pytest.mark.parametrize("name", ["../tiny.safetensors", "/etc/passwd", "model.bin", "none.safetensors", "", "tiny"])
def test_names_that_are_not_listed(run, clip_folder, name):
    (clip_folder.parent / "tiny.safetensors").write_bytes(b"outside")
    with pytest.raises(RarityError, match="There is no checkpoint .* Found: tiny.safetensors"):
        run(nodes.RarityLoadOpenCLIP, architecture=NAME, checkpoint=name)
