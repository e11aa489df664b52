"""Scores as bars, one for each picture, for a sheet without pictures."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base.errors import RarityError
from .figure import ACCENT, INK, SOFT, new_figure, render, write


def bar_chart(
    values: Tensor,
    heading: str,
    name: str,
    *,
    behind: Tensor | None = None,
    behind_name: str = "",
    top: float | None = None,
    width: int = 1200,
    height: int = 420,
) -> Tensor:
    """One accent bar for each value, in their order. A grey bar behind it shows how high it could have been.

    Parameters
    ----------
    values : [N].   heading : the title of the chart.   name : what the accent bars are.
    behind : [N], the heights of the grey bars, which are called `behind_name`; None draws no grey bars.
    top : where the axis ends; None ends it at the highest bar.   width, height : pixels.

    Returns
    -------
    [1, height, width, 3] float32, 0 to 1.

    Raises
    ------
    RarityError : no values, or values that are not finite.
    """
    shown = [values, *([behind] if behind is not None else [])]
    if any(some.dim() != 1 or len(some) != len(values) or len(some) == 0 for some in shown):
        raise RarityError(f"A chart needs one number a picture, got shapes {[tuple(some.shape) for some in shown]}.")
    if not all(bool(some.isfinite().all()) for some in shown):
        raise RarityError("A chart needs finite numbers: leave out pictures whose score is infinite or not a number.")
    figure = new_figure(width, height)
    write(figure, 32, height - 44, heading, 15, INK, weight="bold")
    write(figure, 32, height - 70, f"■ {name}", 11, ACCENT, weight="bold")
    axes = figure.add_axes((64 / width, 52 / height, 1 - 96 / width, 1 - 140 / height))
    axes.set_facecolor("none")
    places = range(len(values))
    if behind is not None:
        write(figure, 32 + 28 + 8.8 * len(name), height - 70, f"■ {behind_name}", 11, SOFT, weight="bold")
        _draw_bars(axes, behind, "#c9cdd1")
    _draw_bars(axes, values, ACCENT)
    highest = max(float(some.max()) for some in shown)
    axes.set_xlim(-0.7, len(values) - 0.3)
    axes.set_ylim(0, top if top is not None else 1.06 * highest if highest > 0 else 1)
    for edge in ("top", "left", "right"):
        axes.spines[edge].set_visible(False)
    axes.spines["bottom"].set_color("#b9b7b1")
    axes.tick_params(labelsize=10, colors=SOFT, length=3)
    step = math.ceil(len(values) / 32)  # there is room for 32 numbers under the bars
    axes.set_xticks(list(places)[::step])
    axes.locator_params(axis="y", nbins=5)
    return render(figure)


def _draw_bars(axes, values: Tensor, colour: str) -> None:
    """A bar from 0 to each value. All bars are one object, because matplotlib takes a millisecond for each object."""
    from matplotlib.collections import PolyCollection

    middle, top = torch.arange(len(values), dtype=torch.float64), values.cpu().double()
    left, right, foot = middle - 0.28, middle + 0.28, torch.zeros_like(top)
    corners = [(left, foot), (left, top), (right, top), (right, foot)]
    shapes = torch.stack([torch.stack(corner, dim=1) for corner in corners], dim=1)
    axes.add_collection(PolyCollection(shapes.numpy(), facecolors=colour, linewidths=0))
