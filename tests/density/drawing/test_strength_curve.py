"""The curve of a measured strength: what was measured has its place, the choice is marked, nothing is cut off, clear errors."""

import pytest
import torch
from rarity.density import RarityError
from rarity.density.drawing.figure import ACCENT, PAGE, rgb
from rarity.density.drawing.strength_curve import VALID, strength_card, strength_curve
from rarity.density.novelty.strength import Look, find_strength


def found(variety=2.0, guards=1, pictures=6):
    g = torch.Generator().manual_seed(0)
    own, added, edge = (torch.randn(pictures, width, generator=g) for width in (16, 16, guards))
    return find_strength(lambda s: Look(s, own + s * added, 3 + edge - s), variety, 0.9)


def tiles_of(measured, rows=3, height=24, width=16):
    """Of each strength a red of its own, which the figure has nowhere else."""
    shade = torch.linspace(0.5, 1, len(measured.looks))
    return {look.strength: torch.tensor([red, 0, 0]).expand(rows, height, width, 3) for look, red in zip(measured.looks, shade, strict=True)}


def near(image, colour):
    return (image[0] - torch.as_tensor(colour, dtype=torch.float32)).abs().amax(-1) < 0.01


@pytest.mark.parametrize("width", [600, 1200])
@pytest.mark.parametrize("guards", [0, 1])
def test_every_look_s_pictures_stand_in_order_below_the_curves(width, guards):
    measured = found(guards=guards)
    tiles = tiles_of(measured)
    image = strength_curve(measured, tiles, 2.0, 0.9, width=width)
    assert image.dtype == torch.float32 and image.shape[0] == 1 and image.shape[2:] == (width, 3)
    assert image.min() >= 0 and image.max() <= 1
    places = [near(image, one[0, 0, 0]).nonzero().double().mean(dim=0) for one in tiles.values()]
    across = torch.stack(places)[:, 1]
    assert (across.diff() > 0).all() and across.diff().std() < 2, "at equal distances"
    lowest_curve = near(image, rgb(ACCENT)).nonzero()[:, 0].max()
    assert min(place[0] for place in places) > lowest_curve
    assert near(image, rgb(VALID)).any() == bool(guards)
    for edge in (image[0, :4], image[0, -4:], image[0, :, :4], image[0, :, -4:]):
        assert torch.allclose(edge, torch.tensor(rgb(PAGE)).expand(edge.shape), atol=1e-3), "nothing is cut off"


def test_one_look_alone_can_be_drawn():
    measured = found(variety=1.0)
    assert len(measured.looks) == 1 and strength_curve(measured, tiles_of(measured), 1.0, 0.9).std() > 0.01


def test_wide_and_tall_pictures_keep_their_shape():
    measured = found()
    for height, width in ((10, 40), (40, 10)):
        shown = near(strength_curve(measured, tiles_of(measured, 1, height, width), 2.0, 0.9), torch.tensor([0.5, 0, 0])).nonzero()
        (top, left), (bottom, right) = shown.min(dim=0).values.tolist(), shown.max(dim=0).values.tolist()
        assert (bottom - top + 1) / (right - left + 1) == pytest.approx(height / width, rel=0.05)


def test_a_given_strength_has_a_card_in_the_curve_s_place():
    card = strength_card(0.62)
    assert card.shape == (1, 150, 1200, 3) and not torch.equal(card, strength_card(0.63))


def test_what_cannot_be_drawn_is_an_error():
    measured = found()
    with pytest.raises(RarityError, match="at least 600 pixels of width, got 599"):
        strength_curve(measured, tiles_of(measured), 2.0, 0.9, width=599)
    with pytest.raises(RarityError, match="Expected pictures of the strengths"):
        strength_curve(measured, {0.0: torch.ones(1, 8, 8, 3)}, 2.0, 0.9)
