"""The two pictures: their sizes, nothing clipped at the edges, and clear errors."""

import warnings

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, RarityError, choose_starts, contact_sheet, density_map, optimize
from rarity.density.drawing import figure

PAGE = torch.tensor([0xF6, 0xF5, 0xF2]) / 255


@pytest.fixture(scope="module")
def trajectory(density, baseline, contrast):
    return optimize(density, choose_starts(baseline, density, 16), 1000, (contrast,), steps=20)


def assert_picture(image, height, width):
    assert image.shape == (1, height, width, 3) and image.dtype == torch.float32
    assert image.min() >= 0 and image.max() <= 1 and image.std() > 0.01


def assert_margin_is_empty(image, pixels=6):
    """Nothing reaches the edge, so nothing is cut off there."""
    for edge in (image[0, :pixels], image[0, -pixels:], image[0, :, :pixels], image[0, :, -pixels:]):
        assert torch.allclose(edge, PAGE.expand(edge.shape), atol=1e-3)


@pytest.mark.parametrize("with_baseline", [True, False])
@pytest.mark.parametrize("with_trajectory", [True, False])
def test_the_map_draws_whatever_is_given(density, baseline, trajectory, with_baseline, with_trajectory):
    image = density_map(density, baseline if with_baseline else None, trajectory if with_trajectory else None)
    assert_picture(image, 700, 1200)
    assert_margin_is_empty(image)
    accent = (image - torch.tensor([0xD5, 0x5E, 0x00]) / 255).abs().amax(-1) < 0.02
    assert bool(accent.any()) == with_trajectory


@pytest.mark.parametrize("width, height", [(600, 350), (1200, 400), (700, 900), (2000, 1200)])
def test_the_map_fits_every_size(density, baseline, trajectory, width, height):
    image = density_map(density, baseline, trajectory, width=width, height=height)
    assert_picture(image, height, width)
    assert_margin_is_empty(image, 3)


def test_the_map_is_the_same_twice(density, baseline, trajectory):
    assert torch.equal(density_map(density, baseline, trajectory), density_map(density, baseline, trajectory))


def test_prompts_are_text_not_mathematics_and_are_shortened(baseline):
    from rarity.density import GaussianDensity

    odd = Embeddings(
        baseline.vectors, baseline.space, source={"prompt": "a $\\frac{ \n" + "very " * 40 + "long prompt"}
    )
    image = density_map(GaussianDensity.fit(odd))
    assert_margin_is_empty(image)


def test_letters_that_the_first_font_lacks_come_from_another_of_the_machine(monkeypatch):
    # matplotlib brings this one along. Here it stands for the fonts of a system with Chinese letters.
    letter, lends = "\u20d2\u1d81", "STIXGeneral"

    def drawn(families):
        monkeypatch.setattr(figure, "EASTERN", families)
        figure.fonts.cache_clear()
        page = figure.new_figure(200, 80)
        figure.write(page, 20, 30, letter, 20, figure.INK)
        return figure.render(page)

    with pytest.warns(UserWarning, match="missing from font"):
        box = drawn(("A font that no machine has",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = drawn(("A font that no machine has", lends))
    figure.fonts.cache_clear()
    assert not torch.equal(box, found)


def test_a_text_is_cut_to_the_room_it_takes():
    assert figure.clip("a  drawing\nof a car", 20) == "a drawing of a car"
    assert figure.clip("a drawing of a car", 9) == "a drawin…"
    assert figure.clip("一只猫的照片", 12) == "一只猫的照片"  # each as broad as two
    assert figure.clip("一只猫的照片", 11) == "一只猫的照…" and figure.clip("一只猫的照片", 10) == "一只猫的…"
    assert figure.clip("", 5) == "" == figure.clip(" \n", 5)


def test_the_map_refuses_other_spaces_and_tiny_sizes(density, baseline):
    with pytest.raises(RarityError, match="at least 600 x 350"):
        density_map(density, width=300)
    foreign = Embeddings(baseline.vectors, EmbeddingSpace("another", "encoder", 16))
    with pytest.raises(RarityError, match="different embedding spaces"):
        density_map(density, foreign)


@pytest.mark.parametrize("count", [1, 2, 16, 30])
@pytest.mark.parametrize("size", [(64, 64), (300, 200)])
@pytest.mark.parametrize("captioned", [True, False])
def test_the_sheet_shows_every_picture(count, size, captioned):
    red, blue = (torch.tensor(c).expand(count, *size, 3) for c in ([1.0, 0, 0], [0, 0, 1.0]))
    captions = [f"1 in {1000 + i:,}" for i in range(count)] if captioned else None
    sheet = contact_sheet(red, blue, captions, "a title")
    assert sheet.shape[2] == 1200
    assert_margin_is_empty(sheet)
    is_red, is_blue = ((sheet[0] - torch.tensor(c)).abs().amax(-1) < 0.01 for c in ([1.0, 0, 0], [0, 0, 1.0]))
    assert is_red.sum() == is_blue.sum() and is_red.sum() % count == 0
    assert is_red.nonzero()[:, 1].max() < is_blue.nonzero()[:, 1].min()  # usual left, rare right


def test_a_long_heading_stays_above_its_own_pictures():
    pictures = torch.rand(4, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    plain = contact_sheet(pictures, pictures, headings=("", "here"))
    titled = contact_sheet(pictures, pictures, headings=("HEADINGS IN CAPITALS " * 9, "here"))
    assert torch.equal(plain[:, :, 600:], titled[:, :, 600:]), "nothing of the left reaches the right"
    assert not torch.equal(plain[:, :, 400:600], titled[:, :, 400:600]), "the left uses its room"
    assert torch.equal(contact_sheet(pictures, pictures),
                       contact_sheet(pictures, pictures, headings=("What it usually makes", "Rare on purpose")))


def test_the_sheet_keeps_pictures_and_inputs_as_they_are():
    g = torch.Generator().manual_seed(0)
    rare = torch.rand(4, 8, 8, 3, generator=g)
    before = rare.clone()
    sheet = contact_sheet(None, rare)
    assert torch.equal(rare, before) and torch.equal(sheet, contact_sheet(None, rare))


def test_the_sheet_refuses_what_does_not_fit():
    pictures = torch.rand(3, 8, 8, 3)
    for arguments, message in [
        ((None, torch.rand(3, 3, 8, 8)), r"shape \[N, H, W, 3\]"),
        ((torch.rand(8, 8, 3), pictures), "shape"),
        ((None, pictures[:0]), "shape"),
        ((pictures, pictures, ["one"]), "Expected 3 captions"),
    ]:
        with pytest.raises(RarityError, match=message):
            contact_sheet(*arguments)
