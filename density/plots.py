"""The two pictures people see first: the density map and the contact sheet."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from .embeddings import Embeddings
from .errors import RarityError
from .gaussian import GaussianDensity
from .trajectory import Trajectory

# Greys carry what is usual, the one accent (vermilion, distinct under every colour blindness) what is rare.
PAGE, INK, SOFT, FAINT, DOTS, ACCENT = "#f6f5f2", "#22262b", "#666c73", "#d9d7d1", "#7d8894", "#d55e00"
DPI = 100
HUB = 1.2  # bits of radius that the map's centre takes up, so that the commonest samples do not fall on one point


def density_map(
    density: GaussianDensity,
    baseline: Embeddings | None = None,
    trajectory: Trajectory | None = None,
    *,
    width: int = 1200,
    height: int = 700,
) -> Tensor:
    """Draw what is usual, what is rare, and the way between.

    On the left the distance from the centre is rarity in calibrated bits of the whole embedding, the angle its direction
    among the two strongest components. On the right what else was read, usual samples in grey, rare ones in the accent.

    Parameters
    ----------
    baseline : usual samples to draw as dots.   trajectory : paths and results to draw.   width, height : pixels.

    Returns
    -------
    [1, height, width, 3] float32, 0 to 1.

    Raises
    ------
    RarityError : embeddings of another space, or a size below 400 x 300.
    """
    if width < 400 or height < 300:
        raise RarityError(f"A density map needs at least 400 x 300 pixels, got {width} x {height}.")
    for other, what in ((baseline, "baseline"), (trajectory and trajectory.final, "trajectory")):
        if other is not None:
            density.space.require_same(other.space, what)
    figure = _figure(width, height)
    unit = height / 700
    prompt = density.source.get("prompt")
    _text(
        figure,
        32,
        height - 44 * unit,
        f"How rare? “{prompt}”" if prompt else "How rare?",
        20 * unit,
        INK,
        weight="bold",
    )
    subtitle = f"{density.count:,} usual samples; the farther out, the rarer"
    if trajectory is not None:
        subtitle += f"; {len(trajectory.final)} steered to 1 in {2**trajectory.target_bits:,.0f}"
    _text(figure, 32, height - 72 * unit, subtitle, 11.5 * unit, SOFT)
    room = height - 100 * unit
    side = min(room - 16 * unit, width * (0.58 if baseline is not None or trajectory is not None else 0.96))
    _draw_map(
        figure.add_axes(((24) / width, (room - side) / 2 / height, side / width, side / height)),
        density,
        baseline,
        trajectory,
        11 * unit,
    )
    if baseline is not None or trajectory is not None:
        _draw_readings(figure, density, baseline, trajectory, (side + 70) / width, 1 - 28 / width, room / height, unit)
    return _render(figure)


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

    figure = _figure(width, height)
    if title:
        _text(figure, margin, height - 50, title, 18, INK, weight="bold")
    page = _page(width, height)
    for p, (name, images, texts, colour) in enumerate(panels):
        left = margin + p * (panel + gutter)
        _text(figure, left, height - head + 16, name, 13, colour, weight="bold")
        for i, tile in enumerate(_fit_tiles(images, tile_h, tile_w)):
            x, y = round(left + (i % columns) * (tile_w + gap)), head + (i // columns) * (tile_h + under)
            page[y - 1 : y + tile_h + 1, x - 1 : x + tile_w + 1] = torch.tensor(_rgb(FAINT))
            page[y : y + tile_h, x : x + tile_w] = tile
            if texts:
                _text(figure, x + tile_w / 2, height - y - tile_h - 16, texts[i], 9.5, INK, ha="center")
    figure.figimage(page.numpy(), origin="upper")
    return _render(figure)


def _draw_map(axes, density, baseline, trajectory, size) -> None:
    bits = [density.bits(baseline.vectors)] if baseline is not None else []
    bits += [trajectory.readings["bits"][-1], torch.tensor([trajectory.band[1]])] if trajectory is not None else []
    reach = min(max([float(b.max()) for b in bits] or [10.0]) + 0.7, 30.0)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
    axes.axis("off")
    from matplotlib.patches import Annulus, Circle

    def radius(b: float) -> float:
        return min((b + HUB) / (reach + HUB), 1.0)

    axes.add_patch(Circle((0, 0), 1.0, facecolor="white", edgecolor=FAINT, linewidth=1))
    if trajectory is not None:
        low, high = trajectory.band
        axes.add_patch(
            Annulus((0, 0), radius(high), radius(high) - radius(low), facecolor=ACCENT, alpha=0.13, linewidth=0)
        )
    decades = [10.0**e for e in range(1, 8) if math.log2(10**e) < reach - 0.4]
    for one_in in decades:
        axes.add_patch(Circle((0, 0), radius(math.log2(one_in)), fill=False, edgecolor="#c3c1bb", linewidth=0.9))
    if baseline is not None:
        x, y = _positions(density, baseline.vectors, radius)
        axes.scatter(x, y, s=max(3.0, 4000 / max(len(x), 400)), color=DOTS, alpha=0.55, linewidths=0)
    if trajectory is not None:
        paths = [_positions(density, step.vectors, radius) for step in trajectory.embeddings]
        for i in range(len(trajectory.final)):
            axes.plot(
                [p[0][i] for p in paths], [p[1][i] for p in paths], color=ACCENT, alpha=0.45, linewidth=1.1, zorder=3
            )
        axes.scatter(*paths[-1], s=46, color=ACCENT, edgecolors="white", linewidths=1.0, zorder=4)
    for one_in in decades:
        axes.text(
            0,
            radius(math.log2(one_in)),
            f"1 in {one_in:,.0f}",
            ha="center",
            va="center",
            color=INK,
            fontsize=size,
            zorder=5,
            bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        )


def _positions(density: GaussianDensity, x: Tensor, radius) -> tuple[list[float], list[float]]:
    w, _ = density.whiten(x)
    plane = normalize(torch.nn.functional.pad(w[:, :2], (0, 2 - min(2, w.shape[1]))), dim=1)
    radii = torch.tensor([radius(float(b)) for b in density.bits(x)], dtype=plane.dtype)
    return (plane[:, 0] * radii).tolist(), (plane[:, 1] * radii).tolist()


def _draw_readings(figure, density, baseline, trajectory, left, right, top, unit) -> None:
    """One strip a reading: a grey histogram of the usual samples, an accent tick for every rare one."""
    readers = {
        "Rarity (bits)": density.bits,
        "Likeness to the typical sample (cosine)": lambda x: (
            normalize(x.double(), dim=1) @ normalize(density.mean, dim=0)
        ),
        "Length of the embedding": lambda x: x.double().norm(dim=1),
        "Outside the model's main directions (residual)": density.residual,
    }
    rows = [
        (
            name,
            read(baseline.vectors) if baseline is not None else None,
            read(trajectory.final.vectors) if trajectory is not None else None,
        )
        for name, read in readers.items()
    ]
    if trajectory is not None and "contrast" in trajectory.readings:
        usual, rare = trajectory.readings["contrast"][0], trajectory.readings["contrast"][-1]
        rows.append(("Subject against its alternatives (margin)", usual, rare))
    step = (top - 0.02) / len(rows)
    for i, (name, usual, rare) in enumerate(rows):
        axes = figure.add_axes((left, top - (i + 0.72) * step, right - left, 0.44 * step))
        axes.set_facecolor("none")
        axes.set_yticks([])
        for side in ("top", "left", "right"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color("#b9b7b1")
        axes.tick_params(axis="x", labelsize=9.5 * unit, colors=SOFT, length=3)
        axes.set_title(name, loc="left", fontsize=11 * unit, color=INK, pad=5)
        values = torch.cat([v for v in (usual, rare) if v is not None])
        low, high = float(values.min()), float(values.max())
        pad = 0.03 * (high - low) or 0.03 * max(abs(low), 1e-6)
        axes.set_xlim(low - pad, high + pad)
        if usual is not None:
            axes.hist(usual.tolist(), bins=60 if len(usual) > 200 else 16, range=(low, high), color="#b4bac1")
        if rare is not None:
            axes.vlines(
                rare.tolist(), 0, 0.62, transform=axes.get_xaxis_transform(), color=ACCENT, alpha=0.75, linewidth=1.6
            )
        axes.locator_params(axis="x", nbins=6)


def _fit_tiles(images: Tensor, height: int, width: int) -> Tensor:
    channels_first = images.detach().cpu().float().movedim(-1, 1)
    # Smooth and antialiased both up and down: small pictures stay crisp without blocks.
    return interpolate(channels_first, size=(height, width), mode="bicubic", antialias=True).clamp(0, 1).movedim(1, -1)


def _figure(width: int, height: int):
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RarityError("Pictures of densities need matplotlib. Install it: pip install matplotlib") from error
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAGE)
    FigureCanvasAgg(figure)
    return figure


def _text(figure, x: float, y: float, text: str, size: float, colour: str, **more) -> None:
    width, height = figure.get_size_inches() * DPI
    # A prompt may hold "$": it is text, not mathematics.
    figure.text(
        x / width, y / height, text, fontsize=size, color=colour, family="DejaVu Sans", parse_math=False, **more
    )


def _rgb(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def _page(width: int, height: int) -> Tensor:
    return torch.tensor(_rgb(PAGE)).expand(height, width, 3).clone()


def _render(figure) -> Tensor:
    figure.canvas.draw()
    pixels = torch.frombuffer(bytearray(figure.canvas.buffer_rgba()), dtype=torch.uint8)
    width, height = figure.canvas.get_width_height()
    return pixels.reshape(1, height, width, 4)[..., :3].float() / 255
