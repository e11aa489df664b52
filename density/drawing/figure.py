"""The page, the colours and the texts that all pictures of this pack share."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from functools import cache
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..base.errors import RarityError

# What is usual is grey. What is rare has the one accent colour: vermilion, which every colour-blind person can tell from grey.
PAGE, INK, SOFT, FAINT, DOTS, ACCENT = "#f6f5f2", "#22262b", "#666c73", "#d9d7d1", "#7d8894", "#d55e00"
DPI = 100
# matplotlib's own font has no Chinese, Japanese or Korean letters. Windows, macOS and Linux have some of these, which do.
EASTERN = (
    "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "PingFang SC", "Hiragino Sans", "Hiragino Sans GB", "Apple SD Gothic Neo",
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "Droid Sans Fallback",
    "Arial Unicode MS",
)
LARGEST = 32_768  # most pixels of a side; the limit of matplotlib is twice as large


def clip(text: str, characters: int) -> str:
    """The text on one line. A longer text is cut and ends with an ellipsis. A Chinese, Japanese or Korean letter is as broad as two."""
    text = " ".join(text.split())
    broad = list(accumulate(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text))
    return text if not text or broad[-1] <= characters else text[: bisect_right(broad, characters - 1)] + "…"


@cache
def fonts() -> list[str]:
    """The font to write with, and those of this machine that lend it the letters it does not have."""
    from matplotlib.font_manager import get_font_names

    known = get_font_names()
    return ["DejaVu Sans", *(name for name in EASTERN if name in known)]


def fit_tiles(images: Tensor, height: int, width: int, tick: Callable[[], None] | None = None) -> Tensor:
    """Pictures [N, H, W, 3] as tiles [N, height, width, 3], 0 to 1. `tick` is called after each tile, and may raise."""
    tiles = []
    for image in images.detach().split(1):
        channels_first = image.cpu().float().movedim(-1, 1)
        # Bicubic and antialiased, whether a picture grows or shrinks: small pictures stay crisp and show no blocks.
        tile = interpolate(channels_first, size=(height, width), mode="bicubic", antialias=True)
        tiles.append(tile.clamp(0, 1).movedim(1, -1))
        if tick:
            tick()
    return torch.cat(tiles)


def side(length: float, of: int, to: int) -> int:
    """A side of a scaled picture in whole pixels, at least one: length * of / to, rounded."""
    return max(1, round(length * of / to))


def new_figure(width: int, height: int):
    """An empty matplotlib figure of this many pixels.

    Raises
    ------
    RarityError : more pixels than can be drawn; no matplotlib (the error says how to get it).
    """
    if max(width, height) > LARGEST:
        raise RarityError(
            f"This would be drawn {width:,} pixels wide and {height:,} high; at most {LARGEST:,} can be. Give fewer pictures, "
            "or crop those that are long and thin."
        )
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RarityError("Pictures of densities need matplotlib. Install it: pip install matplotlib") from error
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAGE)
    FigureCanvasAgg(figure)
    return figure


def write(figure, x: float, y: float, text: str, size: float, colour: str, **more) -> None:
    """Put a text at x, y pixels from the lower left corner."""
    width, height = figure.get_size_inches() * DPI
    # A prompt may hold "$". matplotlib must not read it as mathematics.
    figure.text(
        x / width, y / height, text, fontsize=size, color=colour, family=fonts(), parse_math=False, **more
    )


def rgb(colour: str) -> list[float]:
    """Red, green and blue, 0 to 1, of "#rrggbb"."""
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def new_page(width: int, height: int) -> Tensor:
    """An empty page to lay tiles on, [height, width, 3]."""
    return torch.tensor(rgb(PAGE)).expand(height, width, 3).clone()


def render(figure, page: Tensor | None = None) -> Tensor:
    """The figure as a picture, [1, H, W, 3], 0 to 1: on paper, or on a page of tiles [H, W, 3], whose pixels stay as they are."""
    if page is not None:
        figure.patch.set_alpha(0)
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    pixels = torch.frombuffer(bytearray(figure.canvas.buffer_rgba()), dtype=torch.uint8).reshape(height, width, 4)
    drawn = pixels[..., :3].float() / 255
    # matplotlib could draw the page itself, and would resample every pixel of it, which takes as long as all the rest.
    return (drawn if page is None else torch.lerp(page, drawn, pixels[..., 3:].float() / 255))[None]
