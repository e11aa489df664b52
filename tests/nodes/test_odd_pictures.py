"""Pictures as they come from other nodes: sharpened beyond white, in half precision, thin, of one channel, or no pictures at all."""

import pytest
import torch
from rarity import nodes
from rarity.density.base.errors import RarityError
from rarity.density.base.picture_checks import as_pictures


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    from rarity.generators.eyes.openclip import load_open_clip
    from tiny_open_clip import NAME, build_tiny_open_clip

    return load_open_clip(NAME, build_tiny_open_clip(tmp_path_factory.mktemp("openclip")))


def uses(run, model, baseline, rare, encoder):
    """Every node that looks at or draws pictures, as a function of two of them."""
    two = rare[0].select([0, 1])
    density = run(nodes.RarityFitDensity, embeddings=baseline, components=4)[0]
    return {
        "encode": lambda images: run(nodes.RarityEncodeImages, images=images, eye=model[0]),
        "encode, OpenCLIP": lambda images: run(nodes.RarityEncodeImages, images=images, eye=encoder),
        "novelty": lambda images: run(nodes.RarityScoreNovelty, embeddings=two, density=density, images=images),
        "sheet": lambda images: run(nodes.RarityContactSheet, rare=images, usual=images),
        "curve": lambda images: run(nodes.RarityInterestCurve, trajectory=rare[2], images=images),
        "copies": lambda images: run(
            nodes.RarityCheckOriginality, embeddings=two, reference=two, unrelated=baseline, images=images, reference_images=images
        ),
        "local": lambda images: run(nodes.RarityLocalScore, images=images, count=1, steps=2),
        "origins": lambda images: run(nodes.RarityPatchOrigins, images=images, sources=images, patch=1),
    }


def test_what_sharp_resizing_overshoots_is_cut_as_saving_it_would(run, model, baseline, rare, encoder):
    edge = torch.zeros(2, 8, 8, 3)
    edge[:, :, 4:] = 1
    sharp = torch.nn.functional.interpolate(edge.movedim(-1, 1), size=(20, 20), mode="bicubic").movedim(1, -1)  # as ImageScale does
    assert sharp.min() < -0.05 and sharp.max() > 1.05
    for name, use in uses(run, model, baseline, rare, encoder).items():
        assert same(use(sharp), use(sharp.clamp(0, 1))), name


def same(found, expected):
    """Whether a node gave twice the same."""
    for one, other in zip(found, expected, strict=True):
        one, other = getattr(one, "vectors", one), getattr(other, "vectors", other)
        if not (torch.equal(one, other) and one.dtype == other.dtype if isinstance(one, torch.Tensor) else one == other):
            return False
    return True


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_pictures_of_another_precision_are_seen_as_the_same_numbers_in_single(run, model, baseline, rare, encoder, dtype):
    """A ComfyUI that is told so keeps its pictures in half precision."""
    images = torch.rand(2, 20, 30, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    for name, use in uses(run, model, baseline, rare, encoder).items():
        assert same(use(images), use(images.float())), name


def test_kept_pictures_stay_as_precise_as_they_came(run, baseline):
    images = torch.rand(2, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    for parts in ([images.half()], [images.half(), images]):
        some = [baseline.select([0, 1])] * len(parts)
        kept = run(nodes.RarityRankImages, images=parts, embeddings=some, scores=[1.0, 2.0] * len(parts), keep=[9], floor=[0.0])[0]
        assert kept.dtype == parts[-1].dtype and torch.equal(kept[-1].half(), images[0].half())
        assert kept.dtype == torch.float16 or any(torch.equal(one, images[1]) for one in kept)


@pytest.mark.parametrize("spoil, said", [
    (lambda images: images * 255, "Divide 8-bit pictures by 255"),
    (lambda images: images * 65535, "Divide 16-bit pictures by 65535"),
    (lambda images: images * 2, "got 0 to 2. Brighter than 1, which is white, .* divide them by 2"),
    (lambda images: images * 5 - 2, "latents, or pictures made ready for an encoder"),
    (lambda images: images * 2 - 1, "from -1 to 1"),
    (lambda images: images / 0, "finite"),
    (lambda images: images[:, :0], "shape"),
])
def test_what_is_no_picture_is_refused_wherever_pictures_are_taken(run, model, baseline, rare, encoder, spoil, said):
    images = torch.rand(2, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    images[:, 0, 0], images[:, 1, 1] = 0, 1
    for use in uses(run, model, baseline, rare, encoder).values():
        with pytest.raises(RarityError, match=said):
            use(spoil(images))


def test_thin_pictures_are_drawn_a_pixel_high_and_what_would_be_miles_long_is_refused(run, model, baseline, rare, encoder):
    every = uses(run, model, baseline, rare, encoder)
    for name in ("sheet", "curve", "copies"):
        every[name](torch.rand(2, 1, 2000, 3))
    for name in ("sheet", "curve"):
        with pytest.raises(RarityError, match="32,768"):
            every[name](torch.rand(2, 2000, 1, 3))
    with pytest.raises(RarityError, match="32,768"):
        every["origins"](torch.rand(2, 1, 2000, 3))


def test_a_sheet_of_thousands_keeps_tiles_that_can_be_seen(run):
    sheet = run(nodes.RarityContactSheet, rare=torch.rand(3000, 1, 1, 3))[0]
    height, width = sheet.shape[1:3]
    assert width > height > 3000 / 74 * 24 and width > 74 * 24


@pytest.mark.parametrize("channels, cure", [
    (1, r"Convert Image to Mask \(channel red\) and then Convert Mask to Image"),
    (2, r"Convert Image to Mask \(channel red\) and then Convert Mask to Image"),
    (4, "Split Image with Alpha"),
    (5, "Split Image with Alpha"),
])
def test_pictures_that_no_node_could_save_are_refused_with_a_cure_wherever_pictures_are_taken(
    run, model, baseline, rare, encoder, channels, cure
):
    for name, use in uses(run, model, baseline, rare, encoder).items():
        with pytest.raises(RarityError, match=cure):
            use(torch.rand(2, 8, 8, channels))
            pytest.fail(name)
    parts = [torch.rand(1, 8, 8, n) for n in (3, channels)]
    with pytest.raises(RarityError, match="Split Image with Alpha" if channels > 3 else cure):
        run(nodes.RarityRankImages, images=parts, embeddings=[baseline.select([0, 1])], scores=[1.0, 2.0], keep=[9], floor=[0.0])


def test_pictures_in_range_are_not_copied():
    images = torch.rand(1, 2, 2, 3)
    assert as_pictures(images) is images
