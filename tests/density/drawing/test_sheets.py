"""Sheets and charts: every picture is there, in its place, with nothing cut off, and clear errors."""

import pytest
import torch
from rarity.density import RarityError, annotated, bar_chart, beside_nearest
from rarity.density.drawing.figure import ACCENT, PAGE, rgb


def assert_margin_is_empty(image, pixels=6):
    for edge in (image[0, :pixels], image[0, -pixels:], image[0, :, :pixels], image[0, :, -pixels:]):
        assert torch.allclose(edge, torch.tensor(rgb(PAGE)).expand(edge.shape), atol=1e-3)


def is_colour(image, colour):
    return (image[0] - torch.tensor(colour)).abs().amax(-1) < 0.01


def one_colour(count, height, width, colour):
    return torch.tensor(colour).expand(count, height, width, 3)


@pytest.mark.parametrize("count, columns, rows", [(1, 1, 1), (3, 3, 1), (6, 3, 2), (24, 6, 4), (50, 10, 5)])
def test_every_picture_is_on_the_sheet_in_full_rows(count, columns, rows):
    blue = one_colour(count, 16, 16, [0.0, 0.0, 1.0])
    sheet = annotated(blue, [f"{i} · 3.0 bits\n1 in 8" for i in range(count)], "How new")
    assert sheet.shape[0] == 1 and sheet.shape[2] <= 1200
    assert_margin_is_empty(sheet)
    seen = is_colour(sheet, [0.0, 0.0, 1.0])
    across, down = (int((seen.any(axis).int().diff(prepend=torch.zeros(1, dtype=torch.int)) == 1).sum()) for axis in (0, 1))
    assert (across, down) == (columns, rows) and seen.sum() % count == 0


def test_pictures_stay_in_their_order_and_small_ones_are_enlarged():
    greys = (torch.arange(6) / 6).view(6, 1, 1, 1).expand(6, 4, 4, 3)
    sheet = annotated(greys, [""] * 6)
    height, width = sheet.shape[1:3]
    tile = (width - 64 - 20) // 3
    found = [float(sheet[0, 32 + 40 + (tile + 26) * (i // 3), 32 + tile // 2 + (tile + 10) * (i % 3), 0]) for i in range(6)]
    assert found == pytest.approx((torch.arange(6) / 6).tolist(), abs=1e-6), "not even rounded to 8 bits"
    assert tile > 300


def test_a_longer_caption_is_cut_not_overlapping():
    pictures = one_colour(30, 8, 8, [0.0, 0.0, 1.0])
    assert_margin_is_empty(annotated(pictures, ["a very long caption that has no room at all under a small picture"] * 30))


def test_each_picture_stands_left_of_what_it_resembles():
    red, blue = one_colour(5, 8, 8, [1.0, 0, 0]), one_colour(5, 20, 10, [0, 0, 1.0])
    sheet = beside_nearest(red, blue, ["0 · nearest is 3\ncopied: 97%"] * 5)
    assert_margin_is_empty(sheet)
    reds, blues = is_colour(sheet, [1.0, 0, 0]), is_colour(sheet, [0, 0, 1.0])
    assert int(reds.sum()) == pytest.approx(2 * int(blues.sum()), rel=0.1), "as high, twice as wide"
    row = reds.any(1).nonzero()[0]
    assert reds[row[0]].nonzero()[0] < blues[row[0]].nonzero()[0]


@pytest.mark.parametrize("count", [1, 7, 40, 500])
def test_the_chart_has_a_bar_for_each_value(count):
    values = torch.linspace(1, 2, count)
    chart = bar_chart(values, "How new each picture is", "novelty in bits", behind=values + 1, behind_name="surprise")
    assert chart.shape == (1, 420, 1200, 3)
    assert_margin_is_empty(chart, 3)
    accent = is_colour(chart, rgb(ACCENT))[150:360].any(0)
    bars = int((accent.int().diff(prepend=torch.zeros(1, dtype=torch.int)) == 1).sum())
    assert bars == count if count < 100 else bars > 50
    assert torch.isfinite(bar_chart(torch.zeros(count), "nothing", "novelty")).all()


def test_errors_say_what_does_not_fit():
    pictures = torch.rand(3, 8, 8, 3)
    for call, message in (
        (lambda: annotated(pictures, ["one"]), "Expected 3 captions"),
        (lambda: annotated(pictures[0], ["one"] * 3), r"shape \[N, H, W, 3\]"),
        (lambda: beside_nearest(pictures, pictures[1:], [""] * 3), "Expected 2 captions"),
        (lambda: bar_chart(torch.zeros(0), "", ""), "one number a picture"),
        (lambda: bar_chart(torch.zeros(3), "", "", behind=torch.zeros(2)), "one number a picture"),
        (lambda: bar_chart(torch.tensor([1.0, float("inf")]), "", ""), "finite"),
    ):
        with pytest.raises(RarityError, match=message):
            call()


def test_captions_of_many_pictures_have_room(monkeypatch):
    """A hundred small tiles would cut "99 · 14.2 bits"; wider ones do not. Without captions they may be small."""
    from rarity.density.drawing import contact_sheet

    written = []
    write = contact_sheet.write
    monkeypatch.setattr(contact_sheet, "write", lambda figure, x, y, text, *given, **told: (written.append(text), write(figure, x, y, text, *given, **told)))
    captions = [f"{i} · 14.2 bits\n1 in 18,820" for i in range(100)]
    sheet = contact_sheet.annotated(torch.rand(100, 8, 8, 3), captions, "heading")
    assert set(written[1:]) == {line for text in captions for line in text.split("\n")}
    assert sheet.shape[2] > sheet.shape[1], "a landscape"
