"""Draw the map of a mosaic: which piece came from which source, with the sources beside it."""

from __future__ import annotations

import torch
from torch import Tensor

from ...density.base.credits import names_of, parts_of
from ...density.base.errors import RarityError
from ...density.base.picture_checks import as_pictures
from ...density.drawing.figure import FAINT, INK, SOFT, clip, fit_tiles, new_figure, new_page, render, rgb, side, write
from .patch_origins import Origins, together

# Eight colours that differ under every colour blindness (Okabe and Ito 2008; the last one is ours), then a grey.
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#0072b2", "#cc79a7", "#f0e442", "#6a51a3")
REST = "#a9adb2"
MARGIN, GAP, THUMB, HEAD, UNDER = 32, 12, 64, 92, 20
SMALLEST, LARGEST = 130, 420  # height of a picture on the map
BESIDE, BROAD = 150, 270  # pixels for the words of the legend, and where they are names and licences
BOLD, LETTER, SAID = 9, 7, 7.5  # pixels of one letter of a name, of what stands below it, and of the sentence on top


def origins_map(pictures: Tensor, images: Tensor, origins: Origins) -> Tensor:
    """Draw each picture beside its map: each source that gave much has a colour, and plain patches stay as they are.

    The legend shows the sources in their colours with their share of all pixels that are not plain. Sources of one
    credit are one; the picture in the legend is the one that gave most.

    Parameters
    ----------
    pictures : [B, H, W, 3], 0 to 1.   images : the sources, [N, H, W, 3].
    origins : of the pictures among the sources.

    Returns
    -------
    [1, height, width, 3] float32, 0 to 1.

    Raises
    ------
    RarityError : pictures that are not those of the origins, or not in RGB.
    """
    pictures, images = as_pictures(pictures), as_pictures(images, "Sources")
    if pictures.shape[:3] != origins.source.shape or len(images) != origins.sources:
        raise RarityError(
            f"The map needs the {len(origins.source)} pictures and {origins.sources} sources that were compared, "
            f"got {tuple(pictures.shape)} and {tuple(images.shape)}."
        )
    lines, of, shares = origins.credited()
    share, own = together(shares), together(origins.shares())
    named = share.argsort(descending=True, stable=True)[: len(COLOURS)]
    named = named[share[named] > 0]
    entries = len(named) + (1 if len(named) < int((share > 0).sum()) else 0)
    across = 1 if len(pictures) < 3 else 2
    rows = -(-len(pictures) // across)
    high = min(LARGEST, max(SMALLEST, entries * (THUMB + GAP) // rows - UNDER))
    tile = (high, side(high, pictures.shape[2], pictures.shape[1]))
    panel = 2 * tile[1] + GAP
    legend = MARGIN + across * (panel + 2 * GAP) + 2 * GAP
    beside = BROAD if origins.credits else BESIDE
    credited = f" with {len(lines):,} credits" if len(lines) < len(images) else ""
    said = f"{len(images):,} sources{credited}, patches of {origins.patch} x {origins.patch} pixels. "
    said += "What is plain has no colour: it could be from anywhere."
    width = max(legend + THUMB + beside, MARGIN + round(len(said) * SAID)) + MARGIN
    height = HEAD + max(rows * (tile[0] + UNDER), entries * (THUMB + GAP)) + MARGIN
    figure, page = new_figure(width, height), new_page(width, height)
    write(figure, MARGIN, height - 46, "Where every piece came from", 17, INK, weight="bold")
    write(figure, MARGIN, height - 70, said, 10.5, SOFT)
    drawn = fit_tiles(pictures, *tile)
    maps = _enlarged(_coloured(pictures, origins.source, of, named), tile)
    for i in range(len(pictures)):
        x, y = MARGIN + (i % across) * (panel + 2 * GAP), HEAD + (i // across) * (tile[0] + UNDER)
        for one, left in ((drawn[i], x), (maps[i], x + tile[1] + GAP)):
            _lay(page, one, y, left, FAINT)
    names = names_of(lines)
    for place, n in enumerate(named.tolist()):
        most = int(torch.where(of == n, own, -1.0).argmax())
        parts = [part for part in parts_of(lines[n])[1:] if "://" not in part] if names[n] != lines[n] else []
        words = [clip(names[n], beside // BOLD), *([clip(", ".join(parts), beside // LETTER)] if parts else [])]
        tile = fit_tiles(images[most : most + 1], THUMB, THUMB)[0]
        _entry(figure, page, place, legend, tile, COLOURS[place], [*words, f"{float(share[n]):.0%}"])
    if entries > len(named):
        others = int((share > 0).sum()) - len(named)
        words = [f"{others} other" + ("s" if others > 1 else ""), f"{1 - float(share[named].sum()):.0%}"]
        _entry(figure, page, len(named), legend, torch.tensor(rgb(REST)).expand(THUMB, THUMB, 3), REST, words)
    return render(figure, page)


def _entry(figure, page: Tensor, place: int, x: int, tile: Tensor, colour: str, words: list[str]) -> None:
    """One entry of the legend: a framed tile with up to three lines of words on its right, the first bold."""
    y = HEAD + place * (THUMB + GAP)
    _lay(page, tile, y, x, colour, 4)
    for i, text in enumerate(words):
        below = (28, 48)[i] if len(words) == 2 else (16, 37, 58)[i]
        style = {"size": 11, "colour": INK, "weight": "bold"} if i == 0 else {"size": 10 if i < len(words) - 1 else 11, "colour": SOFT}
        write(figure, x + THUMB + 16, page.shape[0] - y - below, text, **style)


def _coloured(pictures: Tensor, source: Tensor, of: Tensor, named: Tensor) -> Tensor:
    """The map of each picture, [B, H, W, 3]: the colour of the credit of each pixel's source [B, H, W], darker where the picture is.

    Plain patches, source -1, show the picture itself.
    """
    colours = torch.tensor([rgb(REST), *(rgb(colour) for colour in COLOURS)])
    rank = torch.zeros(int(of.max()) + 1, dtype=torch.long)
    rank[named] = torch.arange(1, len(named) + 1)
    pictures = pictures.cpu().float()
    coloured = colours[rank[of[source]]] * (0.45 + 0.55 * pictures.mean(dim=-1, keepdim=True))
    return torch.where((source < 0)[..., None], pictures, coloured)


def _enlarged(maps: Tensor, tile: tuple[int, int]) -> Tensor:
    """Maps [B, H, W, ...] enlarged to a tile's size without smoothing."""
    rows = (torch.arange(tile[0]) * maps.shape[1] / tile[0]).long()
    columns = (torch.arange(tile[1]) * maps.shape[2] / tile[1]).long()
    return maps[:, rows][:, :, columns]


def _lay(page: Tensor, tile: Tensor, y: int, x: int, frame: str, line: int = 1) -> None:
    height, width = tile.shape[:2]
    page[y - line : y + height + line, x - line : x + width + line] = torch.tensor(rgb(frame))
    page[y : y + height, x : x + width] = tile
