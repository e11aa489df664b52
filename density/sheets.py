"""Sheets of pictures: usual beside rare, each picture with what it scored, and each beside what it resembles."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .drawing import ACCENT, FAINT, INK, SOFT, clip, fit_tiles, new_figure, new_page, render, rgb, write
from .errors import RarityError


def contact_sheet(
    usual: Tensor | None, rare: Tensor, captions: list[str] | None = None, title: str = "", *, width: int = 1200
) -> Tensor:
    """Lay out usual pictures on the left and rare ones on the right, each rare one with its caption.

    Parameters
    ----------
    usual, rare : [N, H, W, 3], 0 to 1.   captions : one text a rare picture, such as "1 in 1,024".   width : pixels.

    Returns
    -------
    [1, height, width, 3] float32, 0 to 1; the height follows from the number of pictures.

    Raises
    ------
    RarityError : pictures of another shape, or another number of captions than rare pictures.
    """
    panels = [("What it usually makes", usual, None, SOFT)] if usual is not None else []
    panels.append(("Rare on purpose", rare, captions, ACCENT))
    for name, images, texts, _ in panels:
        if images.dim() != 4 or images.shape[-1] != 3 or len(images) == 0:
            raise RarityError(f'Pictures for "{name}" must have the shape [N, H, W, 3], got {tuple(images.shape)}.')
        if texts is not None and len(texts) != len(images):
            raise RarityError(f"Expected {len(images)} captions, one for each rare picture, got {len(texts)}.")
    margin, gutter, gap, under = 32, 44, 10, 26 if captions else 10
    most = max(len(images) for _, images, _, _ in panels)
    columns = min(most, math.ceil(math.sqrt(most)) if len(panels) == 2 else math.ceil(math.sqrt(1.8 * most)))
    panel = (width - 2 * margin - gutter * (len(panels) - 1)) / len(panels)
    tile_w = int((panel - gap * (columns - 1)) / columns)
    tile_h = max(round(tile_w * images.shape[1] / images.shape[2]) for _, images, _, _ in panels)
    rows = math.ceil(most / columns)
    head = (64 if title else 20) + 40
    height = head + rows * (tile_h + under) - (0 if captions else gap) + margin - 8

    figure = new_figure(width, height)
    if title:
        write(figure, margin, height - 50, clip(title, 64), 18, INK, weight="bold")
    page = new_page(width, height)
    for p, (name, images, texts, colour) in enumerate(panels):
        left = margin + p * (panel + gutter)
        write(figure, left, height - head + 16, name, 13, colour, weight="bold")
        for i, tile in enumerate(fit_tiles(images, tile_h, tile_w)):
            x, y = round(left + (i % columns) * (tile_w + gap)), head + (i // columns) * (tile_h + under)
            page[y - 1 : y + tile_h + 1, x - 1 : x + tile_w + 1] = torch.tensor(rgb(FAINT))
            page[y : y + tile_h, x : x + tile_w] = tile
            if texts:
                write(
                    figure,
                    x + tile_w / 2,
                    height - y - tile_h - 16,
                    clip(texts[i], max(8, tile_w // 8)),
                    9.5,
                    INK,
                    ha="center",
                )
    figure.figimage(page.numpy(), origin="upper")
    return render(figure)
