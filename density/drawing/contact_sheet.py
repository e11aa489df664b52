"""Sheets of pictures: usual beside rare pictures, pictures with scores, and pictures beside what they resemble."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base.errors import RarityError
from ..base.picture_checks import as_pictures
from ..base.progress import Progress, waiting
from ..calibration.surprisal import one_in_from_bits
from ..steering.trajectory import Trajectory
from .figure import ACCENT, FAINT, INK, PAGE, SOFT, clip, fit_tiles, new_figure, new_page, render, rgb, side, write

MARGIN, GUTTER, GAP = 32, 44, 10  # pixels around the page, between panels, between tiles
LINE = 17  # pixels of one line of a caption
NARROWEST, WIDEST = 24, 360  # pixels of a tile
WIDEST_PAGE = 4000  # pixels of a sheet of many pictures
HEADINGS = ("What it usually makes", "Rare on purpose")  # the two default titles of a contact sheet
UNUSUAL = 3.0  # bits, 1 in 8: a picture that is seen more often is not rare, whatever was asked for
BOLD = 14  # pixels of one letter of a heading, if it is a capital
LETTER, READABLE = 8, 16  # pixels of one letter of a caption; how many letters always have room


def contact_sheet(
    usual: Tensor | None,
    rare: Tensor,
    captions: list[str] | None = None,
    title: str = "",
    *,
    headings: tuple[str, str] = HEADINGS,
    width: int = 1200,
    progress: Progress | None = None,
) -> Tensor:
    """Lay out usual pictures on the left and rare pictures on the right, each rare picture with its caption.

    Parameters
    ----------
    usual, rare : [N, H, W, 3], 0 to 1.   captions : one text for each rare picture, such as "1 in 1,024".
    headings : the titles above the usual and above the rare pictures.
    width : pixels. Many pictures make a wider sheet, which stays a landscape and keeps its captions readable.
    progress : called with (0, 1) after every picture. An exception that it raises ends the drawing.

    Returns
    -------
    [1, height, width, 3] float32, 0 to 1; the height follows from the number of pictures.

    Raises
    ------
    RarityError : pictures of another shape, or another number of captions than rare pictures.
    """
    left, right = headings
    panels = [(left, usual, None, SOFT)] if usual is not None else []
    panels.append((right, rare, captions, ACCENT))
    return _sheet(panels, title, width, progress)


def headings_of(usual: str, rare: str, trajectory: Trajectory | None) -> tuple[str, str]:
    """The titles of a contact sheet. The title "Rare on purpose" is replaced if the pictures are not known to be rare.

    The pictures are rare if their median is inside the wanted band or beyond it, and if it is at least UNUSUAL.

    Parameters
    ----------
    usual, rare : the titles that the user chose; a title of the user's own for the rare pictures is never replaced.
    trajectory : of the rare pictures; None if nothing says how rare they are.
    """
    if rare != HEADINGS[1]:
        return usual, rare
    if trajectory is None:
        return usual, "Not known to be rare"
    middle = float(trajectory.readings["bits"][-1].median())
    if middle >= max(trajectory.band[0], UNUSUAL):
        return usual, rare
    return usual, f"Moved to 1 in {one_in_from_bits(middle):,.0f}"


def annotated(
    images: Tensor,
    captions: list[str],
    heading: str = "",
    *,
    width: int = 1200,
    progress: Progress | None = None,
) -> Tensor:
    """Lay out pictures in their order, each with its caption. Small pictures are enlarged.

    Parameters
    ----------
    images : [N, H, W, 3], 0 to 1.   captions : one text for each picture; all lines after the first are paler.
    width : the most pixels; a few pictures make a narrower sheet.   progress : as for `contact_sheet`.

    Returns
    -------
    [1, height, width or less, 3] float32, 0 to 1.

    Raises
    ------
    RarityError : pictures of another shape, or another number of captions than pictures.
    """
    images = _checked(heading, images, captions)
    columns = _columns(len(images), alone=True)
    most = 2 * MARGIN + columns * WIDEST + (columns - 1) * GAP
    return _sheet([(heading, images, captions, SOFT)], "", min(width, most), progress)


def beside_nearest(
    images: Tensor,
    nearest: Tensor,
    captions: list[str],
    *,
    width: int = 1200,
    progress: Progress | None = None,
) -> Tensor:
    """Lay out each picture with the picture that it resembles most on its right, and a caption under both.

    Parameters
    ----------
    images : [N, H, W, 3], 0 to 1.   nearest : [N, h, w, 3], the picture to set beside each.   captions : N texts.
    progress : as for `contact_sheet`.

    Raises
    ------
    RarityError : as `annotated`; another number of nearest pictures.
    """
    heading = "Each picture, and on its right the one it resembles most"
    images, nearest = (_checked(heading, some, captions) for some in (images, nearest))
    height = min(WIDEST, max(images.shape[1], nearest.shape[1]))
    left, right = (
        fit_tiles(some, height, side(height, some.shape[2], some.shape[1]), waiting(progress)) for some in (images, nearest)
    )
    hinge = torch.tensor(rgb(PAGE)).expand(len(left), height, max(1, height // 32), 3)
    return annotated(torch.cat([left, hinge, right], dim=2), captions, heading, width=width, progress=progress)


def _sheet(panels: list[tuple[str, Tensor, list[str] | None, str]], title: str, width: int, progress) -> Tensor:
    """Panels side by side. A panel is (heading, pictures, captions, colour of the heading)."""
    panels = [(name, _checked(name, images, texts), texts, colour) for name, images, texts, colour in panels]
    lines = max((text.count("\n") + 1 for _, _, texts, _ in panels for text in texts or ()), default=0)
    under = 9 + LINE * lines if lines else 10
    most = max(len(images) for _, images, _, _ in panels)
    panel = (width - 2 * MARGIN - GUTTER * (len(panels) - 1)) / len(panels)
    longest = max((len(line) for _, _, texts, _ in panels for text in texts or () for line in text.split("\n")), default=0)
    narrowest = max(NARROWEST, LETTER * min(longest, READABLE))
    columns = _columns(most, alone=len(panels) == 1)
    # Tiles with room for their captions, in a landscape as long as the page may be so wide.
    widest = (max(width, WIDEST_PAGE) - 2 * MARGIN - GUTTER * (len(panels) - 1)) / len(panels)
    panel = min(max(panel, columns * (narrowest + GAP) - GAP), widest)
    width = round(2 * MARGIN + GUTTER * (len(panels) - 1) + len(panels) * panel)
    columns = min(columns, int((panel + GAP) / (narrowest + GAP)))
    tile_w = int((panel - GAP * (columns - 1)) / columns)
    tile_h = max(side(tile_w, images.shape[1], images.shape[2]) for _, images, _, _ in panels)
    rows = math.ceil(most / columns)
    head = (64 if title else 20) + (40 if any(name for name, *_ in panels) else 12)
    height = head + rows * (tile_h + under) - (0 if lines else GAP) + MARGIN - 8

    figure, page = new_figure(width, height), new_page(width, height)
    if title:
        write(figure, MARGIN, height - 50, clip(title, 64), 18, INK, weight="bold")
    for p, (name, images, texts, colour) in enumerate(panels):
        left = MARGIN + p * (panel + GUTTER)
        heading = clip(name, int(panel / BOLD)) if len(panels) > 1 else name
        write(figure, left, height - head + 16, heading, 13, colour, weight="bold")
        for i, tile in enumerate(fit_tiles(images, tile_h, tile_w, waiting(progress))):
            x, y = round(left + (i % columns) * (tile_w + GAP)), head + (i // columns) * (tile_h + under)
            page[y - 1 : y + tile_h + 1, x - 1 : x + tile_w + 1] = torch.tensor(rgb(FAINT))
            page[y : y + tile_h, x : x + tile_w] = tile
            for line, text in enumerate(texts[i].split("\n") if texts else ()):
                text = clip(text, max(8, tile_w // LETTER))
                place = (x + tile_w / 2, height - y - tile_h - 16 - LINE * line)
                write(figure, *place, text, 9.5, SOFT if line else INK, ha="center")
    return render(figure, page)


def _columns(count: int, alone: bool) -> int:
    most = math.ceil(math.sqrt((1.8 if alone else 1) * count))
    return math.ceil(count / math.ceil(count / most))  # the fewest columns that need the same number of rows


def _checked(name: str, images: Tensor, captions: list[str] | None) -> Tensor:
    pictures = as_pictures(images, f'Pictures for "{name}"')
    if captions is not None and len(captions) != len(images):
        raise RarityError(f"Expected {len(images)} captions, one for each picture, got {len(captions)}.")
    return pictures
