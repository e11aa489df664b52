"""Variety and validity over the strength of a variation, with pictures of a few seeds at each strength."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from ..base.errors import RarityError
from ..novelty.strength import FoundStrength
from .figure import ACCENT, DOTS, FAINT, INK, PAGE, SOFT, fit_tiles, new_figure, new_page, render, side, write

LEFT, RIGHT, HEAD = 84, 150, 92  # pixels beside the curves, and above everything
CURVE, BETWEEN, LABELS, FOOT, GAP = 170, 54, 66, 30, 6  # heights in pixels; GAP is the room between two pictures
LARGEST_TILE = 150
VALID = "#0072b2"  # blue, which every colour-blind person can tell from the accent colour


def strength_curve(
    found: FoundStrength, tiles: Mapping[float, Tensor], variety: float, validity: float, *, width: int = 1200
) -> Tensor:
    """Draw what was measured at each strength, and where the chosen strength lies.

    The strengths have equal distances. Below each strength are the pictures that were seen at it; a row is one seed.

    Parameters
    ----------
    found : the result of `find_strength`.
    tiles : strength of a look -> pictures [m, H, W, 3], 0 to 1, of seeds of its own.
    variety, validity : the wanted values.   width : pixels.

    Returns
    -------
    [1, height, width, 3] float32, 0 to 1.

    Raises
    ------
    RarityError : a width below 600, pictures of other strengths than were looked at.
    """
    if width < 600:
        raise RarityError(f"A curve of strengths needs at least 600 pixels of width, got {width}.")
    strengths = [look.strength for look in found.looks]
    if sorted(tiles) != strengths:
        raise RarityError(f"Expected pictures of the strengths {strengths}, got some of {sorted(tiles)}.")
    unit, count = width / 1200, len(strengths)
    across = (width - (LEFT + RIGHT) * unit) / count
    rows, (height_of, width_of) = len(tiles[0.0]), tiles[0.0].shape[1:3]
    wide = min(across - GAP * unit, LARGEST_TILE * unit, LARGEST_TILE * unit * width_of / height_of)
    tile = (side(wide, height_of, width_of), max(1, round(wide)))
    strip = round(rows * (tile[0] + GAP * unit))
    curves = 2 if found.guarded else 1
    height = round((HEAD + curves * (CURVE + BETWEEN) + LABELS + FOOT) * unit) + strip
    figure = new_figure(width, height)
    # The place of the chosen strength between the columns, for one strength or for several.
    place = float(np.interp(found.strength, strengths, range(count)))
    _head(figure, found, height, unit)
    top = height - HEAD * unit
    for values, title, colour, asked in _what(found, variety, validity):
        top -= (BETWEEN + CURVE) * unit
        axes = figure.add_axes((LEFT * unit / width, top / height, count * across / width, CURVE * unit / height))
        _draw(axes, values, title, colour, asked, place, strengths, found.strength, unit)
    return render(figure, _lay(figure, [tiles[strength] for strength in strengths], tile, across, unit))


def strength_card(strength: float, *, width: int = 1200) -> Tensor:
    """A card in place of the curve, for a strength that the user gave: nothing was measured."""
    figure = new_figure(width, round(width / 8))
    unit = width / 1200
    write(figure, 32 * unit, 90 * unit, f"Strength {strength:g}, as given", 20 * unit, INK, weight="bold")
    write(figure, 32 * unit, 56 * unit, "Nothing was measured. Set strength to 0 to measure again.", 12 * unit, SOFT)
    return render(figure)


def _what(found: FoundStrength, variety: float, validity: float) -> list[tuple]:
    """For each curve its values at each look, its title, its colour, and the wanted value."""
    shown = [(found.curves.variety, "How far apart the pictures of different seeds lie (1: as drawn without variation)", ACCENT,
              variety if variety > 1 else None)]
    if found.guarded:
        shown.append((found.curves.validity, "Still the subject, as a share of what is without variation", VALID, validity))
    return shown


def _head(figure, found: FoundStrength, height: float, unit: float) -> None:
    write(figure, 32 * unit, height - 44 * unit, f"Strength {found.strength:g}: {found.variety:.2f} times as varied", 20 * unit, INK, weight="bold")
    ends = {"variety": "as varied as was asked for", "validity": "stronger, too few would still be the subject",
            "range": "the strongest that is tried"}
    n = len(found.looks[0].x)
    write(figure, 32 * unit, height - 72 * unit, f"{ends[found.limit]}  ·  measured on {n} pictures at each strength, give or take {found.error:.2f}", 11.5 * unit, SOFT)


def _draw(axes, values, title: str, colour: str, asked: float | None, place: float, strengths, strength: float, unit: float) -> None:
    shown = _percent if colour == VALID else _times
    places = range(len(values))
    at = float(np.interp(place, places, values))
    every = [*values, *([asked] if asked is not None and asked <= 1.5 * max(values) else [])]
    room = max(0.12 * (max(every) - min(every)), 0.05)
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.set_ylim(min(every) - room, max(every) + room)
    if asked is not None and asked in every:
        axes.axhline(asked, color=DOTS, linewidth=unit, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"asked for: {shown(asked)}", (1, asked), xycoords=axes.get_yaxis_transform(), xytext=(8 * unit, 0), textcoords="offset points",
            va="center", fontsize=9.5 * unit, color=SOFT, family="DejaVu Sans", annotation_clip=False,
        )
    axes.vlines(places, 0, 1, transform=axes.get_xaxis_transform(), color=FAINT, linewidth=0.8 * unit, zorder=0)
    axes.plot(places, values, color=colour, linewidth=2.2 * unit, zorder=4)
    axes.scatter(places, values, s=22 * unit**2, color=colour, edgecolors="white", linewidths=0.8 * unit, zorder=5, clip_on=False)
    axes.axvline(place, color=INK, linewidth=1.2 * unit, zorder=3)
    axes.scatter([place], [at], s=95 * unit**2, facecolor=PAGE, edgecolors=INK, linewidths=2.2 * unit, zorder=6, clip_on=False)
    up = at < (min(every) + max(every)) / 2
    axes.annotate(
        f"{shown(at)} at {strength:g}", (place, at), xytext=(9 * unit, (9 if up else -9) * unit), textcoords="offset points",
        va="bottom" if up else "top", fontsize=10.5 * unit, color=INK, weight="bold", family="DejaVu Sans", zorder=7,
        bbox={"facecolor": PAGE, "edgecolor": "none", "pad": 1.5 * unit, "alpha": 0.85},
    )
    axes.set_title(title, loc="left", fontsize=11 * unit, color=INK, pad=7 * unit, parse_math=False)
    axes.set_xticks(list(places), [f"strength {one:.3g}" if one else "as drawn" for one in strengths])
    axes.set_facecolor("none")
    for edge in ("top", "left", "right"):
        axes.spines[edge].set_visible(False)
    axes.spines["bottom"].set_color("#b9b7b1")
    axes.tick_params(labelsize=9.5 * unit, colors=SOFT, length=3)
    axes.locator_params(axis="y", nbins=4)
    axes.yaxis.set_major_formatter(lambda value, _: shown(value))


def _times(value: float) -> str:
    return f"{value:.3g} x"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _lay(figure, columns: list[Tensor], tile: tuple[int, int], across: float, unit: float) -> Tensor:
    """A page with the pictures below the curves, one column for each strength."""
    width, height = figure.canvas.get_width_height()
    gap, page = GAP * unit, new_page(width, height)
    tall = math.ceil(len(columns[0]) * (tile[0] + gap))
    rows = page[height - round(FOOT * unit) - tall : height - round(FOOT * unit)]
    for i, pictures in enumerate(columns):
        x = round(LEFT * unit + (i + 0.5) * across - tile[1] / 2)
        for j, picture in enumerate(fit_tiles(pictures, *tile)):
            y = round(j * (tile[0] + gap))
            rows[y : y + tile[0], x : x + tile[1]] = picture
    write(figure, LEFT * unit, FOOT * unit + tall + 12 * unit, "Pictures at each strength, each of a seed of its own", 11 * unit, INK)
    return page
