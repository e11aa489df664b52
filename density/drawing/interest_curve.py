"""The interest curve: all readings on the way from usual to rare, with pictures along the way."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base.errors import RarityError
from ..base.picture_checks import as_pictures
from ..steering.trajectory import Trajectory
from .figure import ACCENT, DOTS, FAINT, INK, SOFT, fit_tiles, fonts, new_figure, new_page, render, rgb, side, write

MOST_LINES, MOST_TILES, WIDEST = 64, 12, 150  # most sample lines; most pictures in the row; most pixels of a picture's side
BAND, LIMIT = "#f4e3d5", "#e6e4de"  # the colours of the wanted rarity, and of what a guardrail does not allow
LEFT, RIGHT, HEAD = 84, 116, 92  # pixels beside the curves, and above everything
TALL, STRIP, BETWEEN, FOOT = 190, 84, 44, 66  # pixels of the first curve, of each other curve, of a title, of the axis
TITLES = {
    "bits": "Rarity in bits",
    "inside": "Inside every guardrail (share)",
    "validity": "Still the subject: P(yes) of the gate",
    "how far": "How far from the picture (1: as far as unrelated samples)",
    "anchor": "Anchor: the same way as the subject (cosine)",
    "anchor_cosine": "The same way as the typical sample (cosine)",
    "contrast": "Contrast: ahead of the nearest alternative",
    "repel": "Repel: distance from what is avoided",
    "residual": "Residual: outside the model's main directions (1: as much as is allowed)",
    "norm": "Length of the embedding",
}


def interest_curve(
    trajectory: Trajectory, images: Tensor | None = None, sample: int = 0, *, width: int = 1200
) -> Tensor:
    """Draw every reading over the kept steps, one under the other, with pictures of one sample above.

    Each grey line is a sample. For more than 64 samples two grey areas show their middle half and their middle 90 %. The
    accent line is the median of the samples, or the sample that the pictures show. The wanted rarity is tinted, and what
    a guardrail does not allow is grey. The name is Berlyne's (1971): liking rises with rarity and then falls again. The
    pictures show where it is highest.

    Parameters
    ----------
    trajectory : S checkpoints of N samples.
    images : [S, H, W, 3], 0 to 1, the checkpoints of one sample; or [N S, H, W, 3], those of all samples, one by one.
    sample : the number of the sample that the pictures show, from 0.   width : pixels.

    Returns
    -------
    [1, height, width, 3] float32, 0 to 1; the height follows from the number of readings.

    Raises
    ------
    RarityError : another number of pictures, a sample number that does not exist, a width below 600.
    """
    if width < 600:
        raise RarityError(f"An interest curve needs at least 600 pixels of width, got {width}.")
    tiles = _strip(trajectory, images, sample)
    count, names = len(trajectory.steps), _names(trajectory)
    shown = torch.linspace(0, count - 1, min(count, MOST_TILES)).round().long().unique().tolist()
    unit = width / 1200
    across = (width - (LEFT + RIGHT) * unit) / len(shown)
    wide = min(across - 8 * unit, WIDEST * unit)
    tile = (side(wide, tiles.shape[1], tiles.shape[2]), round(wide)) if tiles is not None else (0, 0)
    above = tile[0] + 36 * unit if tiles is not None else 0
    height = round(above + (HEAD + TALL + (len(names) - 1) * (STRIP + BETWEEN) + BETWEEN + FOOT) * unit)
    figure = new_figure(width, height)
    _head(figure, trajectory, sample if tiles is not None else None, height, unit)

    # Checkpoints have equal distances and begin half a picture from the edge, so that each is below its picture.
    pad = max(count - 1, 1) / (2 * max(len(shown) - 1, 1)) if tiles is not None else 0.02 * max(count - 1, 1)
    top = height - HEAD * unit - above
    for i, name in enumerate(names):
        tall = (TALL if i == 0 else STRIP) * unit
        top -= BETWEEN * unit + tall
        box = (LEFT * unit / width, top / height, 1 - (LEFT + RIGHT) * unit / width, tall / height)
        axes = figure.add_axes(box)
        axes.set_xlim(-pad, count - 1 + pad)
        axes.set_xticks(shown, [f"{trajectory.steps[s]:,}" for s in shown])
        axes.vlines(shown if tiles is not None else [], 0, 1, transform=axes.get_xaxis_transform(), color=FAINT, linewidth=0.8, zorder=0)
        _draw(axes, trajectory, name, sample if tiles is not None else None, unit)
        axes.tick_params(axis="x", labelbottom=i == len(names) - 1)
        if i == len(names) - 1:
            axes.set_xlabel("step", fontsize=10 * unit, color=SOFT)
    return render(figure, None if tiles is None else _lay(figure, trajectory, tiles[shown], shown, tile, unit))


def _strip(trajectory: Trajectory, images: Tensor | None, sample: int) -> Tensor | None:
    """The pictures of one sample's checkpoints, [S, H, W, 3]; None without pictures."""
    count, samples = len(trajectory.steps), len(trajectory.final)
    if not 0 <= sample < samples:
        raise RarityError(f"Choose a sample from 0 to {samples - 1}, got {sample}.")
    if images is None:
        return None
    images = as_pictures(images, "Pictures of an interest curve")
    if len(images) not in (count, count * samples):
        raise RarityError(
            f"Pictures of an interest curve must be the {count} checkpoints of one sample, or those of all {samples}, "
            f"{count * samples}; got {len(images)}. Decode what Pick Step "
            'gives with the mode "all".'
        )
    return images if len(images) == count else images[sample * count : (sample + 1) * count]


def _names(trajectory: Trajectory) -> list[str]:
    """The readings to draw, the rarity first. t2 is left out (it is the rarity in another unit), and so is a second cosine."""
    left_out = {"bits", "t2", "inside", "residual", "norm", *(["anchor_cosine"] if "anchor" in trajectory.readings else [])}
    wished = [name for name in trajectory.readings if name not in left_out]
    return ["bits", *(n for n in ("inside", *wished, "residual", "norm") if n in trajectory.readings)]


def _title(name: str, trajectory: Trajectory) -> str:
    kind, _, number = name.rpartition(" ")
    if name in TITLES or (number.isdigit() and kind in trajectory.allowed):
        return TITLES.get(name) or f"{TITLES.get(kind, kind)} ({number})"
    return name if name in trajectory.allowed else f"Direction “{name}” (standard deviations from usual)"


def _head(figure, trajectory: Trajectory, sample: int | None, height: float, unit: float) -> None:
    count, target = len(trajectory.final), trajectory.target_bits
    write(figure, 32 * unit, height - 44 * unit, f"On the way to 1 in {2**target:,.0f}", 20 * unit, INK, weight="bold")
    y, size = height - 72 * unit, 11.5 * unit
    bold = "median" if sample is None else f"sample {sample}, shown above the curves"
    texts = [(f"— {bold}", ACCENT)] if count > 1 or sample is not None else [("— the sample", ACCENT)]
    texts += [(f"— {count:,} samples" if count <= MOST_LINES else f"■ {count:,} samples", DOTS)] if count > 1 else []
    texts += [("■ the rarity asked for", "#d69c70")]
    by = "a guardrail or the gate" if "validity" in trajectory.allowed else "a guardrail"
    texts += [(f"■ not allowed by {by}", "#a5a299")] if trajectory.allowed else []
    x, renderer = 32 * unit, figure.canvas.get_renderer()
    for text, colour in texts:
        write(figure, x, y, text, size, colour, weight="bold")
        x += figure.texts[-1].get_window_extent(renderer).width + 22 * unit


def _draw(axes, trajectory: Trajectory, name: str, sample: int | None, unit: float) -> None:
    from matplotlib.collections import LineCollection

    values, places = trajectory.readings[name].double(), range(len(trajectory.steps))
    low, high = trajectory.band if name == "bits" else trajectory.allowed.get(name, (-math.inf, math.inf))
    if name == "residual" and 0 < high < math.inf:
        values, low, high = values / high, -math.inf, 1.0
    bold = values.median(dim=1).values if sample is None else values[:, sample]
    if name == "inside":
        bold, values, sample = values.mean(dim=1), values[:, :0], None
    edges = [edge for edge in (low, high) if math.isfinite(edge)]
    every = torch.cat([values.flatten(), bold, torch.tensor(edges, dtype=torch.float64)])
    bottom, top = (0.0, 1.0) if name in ("inside", "validity") else (float(every.min()), float(every.max()))
    room = max(0.08 * (top - bottom), 1e-3 * max(abs(bottom), abs(top)), 1e-9)
    axes.set_ylim(bottom - room, top + room)
    if name == "bits":
        axes.axhspan(low, high, color=BAND, linewidth=0, zorder=-1)
    else:
        if low > bottom - room:
            axes.axhspan(bottom - room, low, color=LIMIT, linewidth=0, zorder=-1)
        if high < top + room:
            axes.axhspan(high, top + room, color=LIMIT, linewidth=0, zorder=-1)
    if 0 < values.shape[1] <= MOST_LINES:
        paths = [list(zip(places, column, strict=True)) for column in values.T.tolist()]
        axes.add_collection(LineCollection(paths, colors=DOTS, alpha=max(0.25, 0.6 - values.shape[1] / 80), linewidths=unit))
    elif values.shape[1]:
        shares = torch.tensor([0.05, 0.25, 0.75, 0.95], dtype=torch.float64)
        q = torch.quantile(values, shares, dim=1).tolist()
        axes.fill_between(places, q[0], q[3], color=DOTS, alpha=0.22, linewidth=0)
        axes.fill_between(places, q[1], q[2], color=DOTS, alpha=0.32, linewidth=0)
    axes.plot(places, bold.tolist(), color=ACCENT, linewidth=2.2 * unit, zorder=4)
    dot = min(20.0, 1500 / len(places)) * unit**2
    axes.scatter(places, bold.tolist(), s=dot, color=ACCENT, edgecolors="white", linewidths=0.8 * unit, zorder=5, clip_on=False)
    end = f"1 in {2 ** float(bold[-1]):,.0f}" if name == "bits" and float(bold[-1]) < 40 else f"{float(bold[-1]):.3g}"
    end = f"{float(bold[-1]):.0%}" if name == "inside" else end
    axes.annotate(
        end, (1, float(bold[-1])), xycoords=axes.get_yaxis_transform(), xytext=(8 * unit, 0), textcoords="offset points",
        va="center", fontsize=10.5 * unit, color=ACCENT, weight="bold", family="DejaVu Sans", annotation_clip=False,
    )
    axes.set_title(
        _title(name, trajectory), loc="left", fontsize=11 * unit, color=INK, pad=6 * unit, family=fonts(), parse_math=False
    )
    axes.set_facecolor("none")
    for edge in ("top", "left", "right"):
        axes.spines[edge].set_visible(False)
    axes.spines["bottom"].set_color("#b9b7b1")
    axes.tick_params(labelsize=9.5 * unit, colors=SOFT, length=3)
    axes.locator_params(axis="y", nbins=6 if name == "bits" else 3)


def _lay(figure, trajectory: Trajectory, tiles: Tensor, shown: list[int], tile: tuple[int, int], unit: float) -> Tensor:
    """A page with the pictures in a row, each above its checkpoint."""
    width, height = figure.canvas.get_width_height()
    page = new_page(width, height)
    across, below = (width - (LEFT + RIGHT) * unit) / len(shown), round(height - HEAD * unit - tile[0] - 1)
    row = page[height - below - tile[0] - 2 : height - below]
    for i, (s, picture) in enumerate(zip(shown, fit_tiles(tiles, *tile), strict=True)):
        middle = LEFT * unit + (i + 0.5) * across
        x = round(middle - tile[1] / 2)
        row[:, x - 1 : x + tile[1] + 1] = torch.tensor(rgb(FAINT))
        row[1:-1, x : x + tile[1]] = picture
        write(figure, middle, below - 16 * unit, f"{s}", 10 * unit, INK, ha="center", weight="bold")
        write(figure, middle, below - 30 * unit, f"step {trajectory.steps[s]:,}", 9 * unit, SOFT, ha="center")
    return page
