"""Pictures as they come from other nodes: sharpened beyond white, thin, of one channel, or no pictures at all."""

import pytest
import torch
from rarity import nodes
from rarity.density.errors import RarityError
from rarity.density.pictures import as_pictures


def uses(run, model, baseline, rare):
    """Every node that looks at or draws pictures, as a function of two of them."""
    two = rare[0].select([0, 1])
    return {
        "encode": lambda images: run(nodes.RarityEncodeImages, images=images, prior=model[0]),
        "sheet": lambda images: run(nodes.RarityContactSheet, rare=images, usual=images),
        "curve": lambda images: run(nodes.RarityArousalCurve, trajectory=rare[2], images=images),
        "copies": lambda images: run(
            nodes.RarityOriginality, embeddings=two, reference=two, unrelated=baseline, images=images, reference_images=images
        ),
        "local": lambda images: run(nodes.RarityLocalScore, images=images, count=1, steps=2),
        "origins": lambda images: run(nodes.RarityPatchOrigins, images=images, sources=images, patch=1),
    }


def test_what_sharp_resizing_overshoots_is_cut_as_saving_it_would(run, model, baseline, rare):
    edge = torch.zeros(2, 8, 8, 3)
    edge[:, :, 4:] = 1
    sharp = torch.nn.functional.interpolate(edge.movedim(-1, 1), size=(20, 20), mode="bicubic").movedim(1, -1)  # as ImageScale does
    assert sharp.min() < -0.05 and sharp.max() > 1.05
    for name, use in uses(run, model, baseline, rare).items():
        found, expected = use(sharp)[-1], use(sharp.clamp(0, 1))[-1]
        same = torch.equal if isinstance(found, torch.Tensor) else lambda a, b: torch.equal(a.vectors, b.vectors) if hasattr(a, "vectors") else a == b
        assert same(found, expected), name


@pytest.mark.parametrize("spoil, said", [
    (lambda images: images * 255, "Divide 8-bit pictures by 255"),
    (lambda images: images * 65535, "Divide 16-bit pictures by 65535"),
    (lambda images: images * 2, "got 0 to 2. Brighter than 1, which is white, .* divide them by 2"),
    (lambda images: images * 5 - 2, "latents, or pictures made ready for an encoder"),
    (lambda images: images * 2 - 1, "from -1 to 1"),
    (lambda images: images / 0, "finite"),
    (lambda images: images[:, :0], "shape"),
])
def test_what_is_no_picture_is_refused_wherever_pictures_are_taken(run, model, baseline, rare, spoil, said):
    images = torch.rand(2, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    images[:, 0, 0], images[:, 1, 1] = 0, 1
    for use in uses(run, model, baseline, rare).values():
        with pytest.raises(RarityError, match=said):
            use(spoil(images))


def test_thin_pictures_are_drawn_a_pixel_high_and_what_would_be_miles_long_is_refused(run, model, baseline, rare):
    every = uses(run, model, baseline, rare)
    for name in ("sheet", "curve", "copies"):
        every[name](torch.rand(2, 1, 2000, 3))
    for name in ("sheet", "curve"):
        with pytest.raises(RarityError, match="32,768"):
            every[name](torch.rand(2, 2000, 1, 3))
    with pytest.raises(RarityError, match="32,768"):
        every["origins"](torch.rand(2, 1, 2000, 3))


def test_a_sheet_of_thousands_keeps_tiles_that_can_be_seen(run):
    sheet = run(nodes.RarityContactSheet, rare=torch.rand(3000, 1, 1, 3))[0]
    assert sheet.shape[1] > 3000 / 33 * 24


def test_grey_pictures_are_previewed(run):
    assert run(nodes.RarityLocalScore, images=torch.rand(2, 8, 8, 1), count=1, steps=2)[0].shape == (1, 8, 8, 1)


def test_pictures_in_range_are_not_copied():
    images = torch.rand(1, 2, 2, 3)
    assert as_pictures(images) is images
