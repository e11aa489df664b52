"""Draw the map of a mosaic: which piece came from which source, with the sources beside it."""

from __future__ import annotations

import torch
from torch import Tensor

from ...density.base.errors import RarityError
from ...density.base.picture_checks import as_pictures
from ...density.drawing.figure import FAINT, INK, SOFT, fit_tiles, new_figure, new_page, render, rgb, side, write
from .patch_origins import Origins

# Eight colours that differ under every colour blindness (Okabe and Ito 2008; the last one is ours), then a grey.
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#0072b2", "#cc79a7", "#f0e442", "#6a51a3")
REST, PLAIN = "#a9adb2", "#ffffff"
MARGIN, GAP, THUMB, HEAD, UNDER = 32, 12, 64, 92, 20
SMALLEST, LARGEST = 130, 420  # height of a picture on the map


def origins_map(pictures: Tensor, images: Tensor, origins: Origins) -> Tensor:
    """Draw each picture beside its map: each source that gave much has a colour, and plain patches are white.

    The legend shows the sources in their colours with their share of all pixels that are not plain.

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
    share = origins.shares().mean(dim=0)
    named = share.argsort(descending=True, stable=True)[: len(COLOURS)]
    named = named[share[named] > 0]
    entries = len(named) + (1 if len(named) < int((share > 0).sum()) else 0)
    across = 1 if len(pictures) < 3 else 2
    rows = -(-len(pictures) // across)
    high = min(LARGEST, max(SMALLEST, entries * (THUMB + GAP) // rows - UNDER))
    tile = (high, side(high, pictures.shape[2], pictures.shape[1]))
    panel = 2 * tile[1] + GAP
    legend = MARGIN + across * (panel + 2 * GAP) + 2 * GAP
    width = legend + THUMB + 150 + MARGIN
    height = HEAD + max(rows * (tile[0] + UNDER), entries * (THUMB + GAP)) + MARGIN
    figure, page = new_figure(width, height), new_page(width, height)
    write(figure, MARGIN, height - 46, "Where every piece came from", 17, INK, weight="bold")
    said = f"{len(share):,} sources, patches of {origins.patch} x {origins.patch} pixels. "
    said += "White is plain: it could be from anywhere."
    write(figure, MARGIN, height - 70, said, 10.5, SOFT)
    drawn = fit_tiles(pictures, *tile)
    maps = _enlarged(_coloured(pictures, origins, named), tile)
    for i in range(len(pictures)):
        x, y = MARGIN + (i % across) * (panel + 2 * GAP), HEAD + (i // across) * (tile[0] + UNDER)
        for one, left in ((drawn[i], x), (maps[i], x + tile[1] + GAP)):
            _lay(page, one, y, left, FAINT)
    for place, n in enumerate(named):
        y = HEAD + place * (THUMB + GAP)
        _lay(page, fit_tiles(images[n : n + 1], THUMB, THUMB)[0], y, legend, COLOURS[place], 4)
        write(figure, legend + THUMB + 16, height - y - 28, f"source {int(n)}", 11, INK, weight="bold")
        write(figure, legend + THUMB + 16, height - y - 48, f"{float(share[n]):.0%}", 11, SOFT)
    if entries > len(named):
        y = HEAD + len(named) * (THUMB + GAP)
        _lay(page, torch.tensor(rgb(REST)).expand(THUMB, THUMB, 3), y, legend, REST, 4)
        others = int((share > 0).sum()) - len(named)
        write(
            figure,
            legend + THUMB + 16,
            height - y - 28,
            f"{others} other" + ("s" if others > 1 else ""),
            11,
            INK,
            weight="bold",
        )
        write(figure, legend + THUMB + 16, height - y - 48, f"{1 - float(share[named].sum()):.0%}", 11, SOFT)
    return render(figure, page)


def _coloured(pictures: Tensor, origins: Origins, named: Tensor) -> Tensor:
    """The map of each picture, [B, H, W, 3]: the colour of each pixel's source, darker where the picture is darker."""
    colours = torch.tensor([rgb(PLAIN), rgb(REST), *(rgb(colour) for colour in COLOURS)])
    rank = torch.ones(origins.sources + 1, dtype=torch.long)
    rank[-1] = 0  # source -1, a plain patch, reads the last entry
    rank[named] = torch.arange(2, len(named) + 2)
    light = pictures.cpu().mean(dim=-1, keepdim=True)
    return colours[rank[origins.source]] * (0.45 + 0.55 * light)


def _enlarged(maps: Tensor, tile: tuple[int, int]) -> Tensor:
    """Maps [B, H, W, ...] enlarged to a tile's size without smoothing."""
    rows = (torch.arange(tile[0]) * maps.shape[1] / tile[0]).long()
    columns = (torch.arange(tile[1]) * maps.shape[2] / tile[1]).long()
    return maps[:, rows][:, :, columns]


def _lay(page: Tensor, tile: Tensor, y: int, x: int, frame: str, line: int = 1) -> None:
    height, width = tile.shape[:2]
    page[y - line : y + height + line, x - line : x + width + line] = torch.tensor(rgb(frame))
    page[y : y + height, x : x + width] = tile
