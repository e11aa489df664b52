"""OpenCLIP from a file: the same space as other loaders make, words and pictures, and one clear error each."""

import logging

import pytest
import safetensors.torch
import torch
from PIL import Image
from rarity.density.base.embeddings import Embeddings
from rarity.density.base.errors import RarityError
from rarity.generators.eyes import openclip as module
from rarity.generators.eyes.contrast_sources import contrast_guardrail
from rarity.generators.eyes.direction_sources import text_direction
from rarity.generators.eyes.openclip import architectures, load_open_clip
from rarity.generators.kandinsky.image_encoder import encoder_fingerprint, encoder_name
from rarity.generators.runtime.memory import Placement
from tiny_open_clip import NAME, SIZE, WIDTH, build_tiny_open_clip, transformers_models


@pytest.fixture(scope="module")
def models():
    return transformers_models()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, models):
    return build_tiny_open_clip(tmp_path_factory.mktemp("open_clip"), models=models)


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return load_open_clip(NAME, checkpoint)


def pictures(count, height=SIZE, width=SIZE, seed=0):
    """Eight-bit pictures that are smooth enough to be resized: a few waves each."""
    g = torch.Generator().manual_seed(seed)
    y, x = torch.linspace(0, 6.28, height)[:, None], torch.linspace(0, 6.28, width)[None, :]
    a, b = torch.randint(1, 9, (2, count, 3, 1, 1), generator=g).float()
    waves = 0.5 + 0.5 * torch.sin(a * x + b * y + 6.28 * torch.rand(count, 3, 1, 1, generator=g))
    return (waves.movedim(1, -1) * 255).round() / 255


def test_equal_weights_are_an_equal_space_and_equal_embeddings(encoder, models):
    vision, text = models
    assert encoder.space.to_dict() == {
        "encoder": encoder_name(vision.config), "fingerprint": encoder_fingerprint(vision), "width": WIDTH, "kind": "raw",
    }
    shown = pictures(3)
    mean, std = (torch.tensor(value) for value in (module.MEAN, module.STD))
    with torch.no_grad():
        expected = vision(((shown - mean) / std).movedim(-1, 1)).image_embeds
        tokens = encoder.tokenizer(["a letter r", "a cat"])
        read = text(tokens).text_embeds
    # the same sums in another order, in float32
    torch.testing.assert_close(encoder.encode_images(shown).vectors, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(encoder.encode_text(["a letter r", "a cat"]), read, rtol=1e-4, atol=1e-4)


def test_other_weights_are_another_space_of_the_same_name(encoder, tmp_path):
    other = load_open_clip(NAME, build_tiny_open_clip(tmp_path, seed=1)).space
    assert other.encoder == encoder.space.encoder and other != encoder.space
    with pytest.raises(RarityError, match=f"Expected .*{encoder.space.fingerprint}.*, got .*{other.fingerprint}"):
        encoder.space.require_same(other, "density")


def test_the_way_of_resizing_moves_an_embedding_by_less_than_a_hundredth(encoder):
    """OpenCLIP's own way (PIL, eight bits after resizing) beside ours (torch, no rounding), from 150 x 150 down to 32 x 32.

    Of other shapes the two may place the middle a pixel apart.
    """
    import open_clip

    shown = pictures(4, 150, 150)
    theirs = open_clip.image_transform(SIZE, is_train=False, mean=module.MEAN, std=module.STD)
    pixels = torch.stack([theirs(Image.fromarray((one * 255).byte().numpy())) for one in shown])
    with torch.no_grad():
        expected = encoder.model.encode_image(pixels)
    got = encoder.encode_images(shown).vectors
    moved = (got - expected).norm(dim=1) / expected.norm(dim=1)
    assert 0 < moved.max() < 0.01


def test_words_make_contrasts_and_directions(encoder):
    baseline = encoder.encode_images(pictures(40))
    rail = contrast_guardrail(encoder, baseline, "a cat", ["a dog", "a car"])
    assert len(rail.others) == 2 and len(rail.reading(baseline.vectors)) == 40
    assert text_direction(encoder, "a bold cat", "a light cat").name == "a bold cat"
    stranger = Embeddings(baseline.vectors, load_space(encoder, "another"))
    with pytest.raises(RarityError, match="different embedding spaces"):
        contrast_guardrail(encoder, stranger, "a cat", ["a dog"])


def load_space(encoder, name):
    return type(encoder.space)(name, encoder.space.fingerprint, encoder.space.width)


def test_texts_are_checked_and_long_ones_named(encoder, caplog):
    for wrong in ([], [""], ["a", "  "]):
        with pytest.raises(RarityError, match="text"):
            encoder.encode_text(wrong)
    with caplog.at_level(logging.WARNING):
        encoder.encode_text(["a cat"])
        assert not caplog.records
        encoder.encode_text(["cat " * 100])
    assert "reads the first 77 of 102 tokens" in caplog.text


def test_batches_progress_and_too_little_memory(encoder, monkeypatch):
    shown, calls, asked = pictures(5), [], []
    whole = encoder.encode_images(shown, batch_size=2, progress=lambda *call: calls.append(call))
    assert calls == [(2, 5), (4, 5), (5, 5)] and whole.source == {"kind": "pictures"}
    real = encoder.model.encode_image

    def small(pixels):
        if len(pixels) > 2:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return real(pixels)

    class Room(Placement):
        def make_room(self):
            asked.append(True)

    monkeypatch.setattr(encoder.model, "encode_image", small)
    monkeypatch.setattr(encoder, "placement", Room())
    halved = encoder.encode_images(shown, batch_size=5)
    torch.testing.assert_close(halved.vectors, whole.vectors)  # equal up to the order of sums
    assert asked == [True, True], "five, three, two at a time"


def test_half_precision_stays_in_the_same_space(checkpoint, encoder):
    half = load_open_clip(NAME, checkpoint, dtype=torch.bfloat16)
    assert half.space == encoder.space and next(half.model.parameters()).dtype == torch.bfloat16
    got, expected = half.encode_images(pictures(3)).vectors, encoder.encode_images(pictures(3)).vectors
    assert ((got - expected).norm(dim=1) / expected.norm(dim=1)).max() < 0.05  # bfloat16 keeps 8 bits, through 2 layers
    assert half.encode_text(["a"]).dtype == torch.float32


def test_loading_leaves_the_global_random_state_alone_and_makes_ordinary_weights(checkpoint):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with torch.inference_mode():
        loaded = load_open_clip(NAME, checkpoint)
        assert len(loaded.encode_images(pictures(1))) == 1 and len(loaded.encode_text(["a"])) == 1
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(p.is_inference() or p.requires_grad for p in loaded.model.parameters())


def test_the_menu_has_architectures_that_need_no_download():
    names = architectures()
    assert {"ViT-L-14-quickgelu", "ViT-H-14", "ViT-bigG-14"} <= set(names)
    assert not any("SigLIP" in name or "coca" in name or "worldwide" in name for name in names)


@pytest.mark.parametrize("architecture, message", [
    ("ViT-H-41", "knows no architecture 'ViT-H-41'; near it are ViT-H-"),
    ("../../etc/passwd", "knows no architecture"),
    ("hf-hub:someone/something", "knows no architecture"),
    ("ViT-B-16-SigLIP", "would have to be downloaded"),
    ("roberta-ViT-B-32", "would have to be downloaded"),
    ("coca_ViT-B-32", "captions"),
])
def test_architectures_that_cannot_be_loaded(checkpoint, architecture, message):
    with pytest.raises(RarityError, match=message):
        load_open_clip(architecture, checkpoint)


def test_files_that_are_no_such_checkpoint(checkpoint, tmp_path, models):
    good = safetensors.torch.load_file(checkpoint)
    name = "visual.conv1.weight"
    cases = {
        "other.safetensors": (good | {name: torch.zeros(48, 3, 4, 4)},
                              r"no ViT-tiny-rarity: visual\.conv1\.weight is 48 x 3 x 4 x 4, expected 48 x 3 x 8 x 8 \(1 of "),
        "positions.safetensors": (good | {"visual.positional_embedding": torch.zeros(50, 48)},
                                  r"visual\.positional_embedding is 50 x 48, expected 17 x 48"),
        "less.safetensors": ({key: value for key, value in good.items() if key != name}, rf"lacks 1 of \d+ tensors \(first: {name}"),
        "more.safetensors": (good | {"more": torch.zeros(1)}, r"1 tensors more \(first: more\)"),
        "theirs.safetensors": (models[0].state_dict(), "as transformers does"),
    }
    for file, (tensors, message) in cases.items():
        safetensors.torch.save_file(tensors, tmp_path / file)
        with pytest.raises(RarityError, match=message):
            load_open_clip(NAME, tmp_path / file)
    (tmp_path / "broken.safetensors").write_bytes(checkpoint.read_bytes()[:100])
    (tmp_path / "model.bin").write_bytes(b"\x80\x04.")
    for file, message in (("broken.safetensors", "cannot be read as safetensors"), ("model.bin", "can run code and are never opened"),
                          ("none.safetensors", "There is no checkpoint")):
        with pytest.raises(RarityError, match=message):
            load_open_clip(NAME, tmp_path / file)


@pytest.mark.parametrize("shape, message", [
    ((1, 0, 8, 3), r"got shape \(1, 0, 8, 3\)"),
    ((0, 8, 8, 3), r"got shape \(0, 8, 8, 3\)"),
    ((1, 8, 8, 1), "greyscale"),
    ((1, 8, 8, 4), "alpha"),
    ((1, 8, 8), r"got shape \(1, 8, 8\)"),
])
def test_pictures_that_are_none(encoder, shape, message):
    with pytest.raises(RarityError, match=message):
        encoder.encode_images(torch.zeros(shape))
