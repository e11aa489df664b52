"""The density map: usual samples, rare samples, and the way between them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.progress import Progress, in_parts, waiting
from ..estimators.contract import Density
from ..estimators.own_samples import calibration_for
from ..steering.trajectory import Trajectory
from .figure import ACCENT, DOTS, FAINT, INK, SOFT, clip, new_figure, render, write

HUB = 0.3  # bits of radius that the centre of the map takes up, so that the most usual samples do not fall on one point


def density_map(
    density: Density,
    baseline: Embeddings | None = None,
    trajectory: Trajectory | None = None,
    *,
    width: int = 1200,
    height: int = 700,
    progress: Progress | None = None,
) -> Tensor:
    """Draw usual samples, rare samples, and the way between them.

    On the left the distance from the centre is the rarity in calibrated bits, and the angle is a direction in whitened
    coordinates. On the right are the other readings: usual samples in grey, rare samples in the accent colour.

    Parameters
    ----------
    baseline : usual samples to draw. None draws the held-out scores of the density instead, at angles without meaning.
    trajectory : paths and results to draw.   width, height : pixels.
    progress : called with (0, 1) several times a second. An exception that it raises ends the drawing.

    Returns
    -------
    [1, height, width, 3] float32, 0 to 1.

    Raises
    ------
    RarityError : embeddings of another space, or a size below 600 x 350.
    """
    if width < 600 or height < 350:
        raise RarityError(f"A density map needs at least 600 x 350 pixels, got {width} x {height}.")
    for other, what in ((baseline, "baseline"), (trajectory and trajectory.final, "trajectory")):
        if other is not None:
            density.space.require_same(other.space, what)
    tick = waiting(progress)
    figure, unit = new_figure(width, height), min(height / 700, width / 1200)
    prompt = density.source.get("prompt")
    title = f"How rare? “{clip(prompt, 48)}”" if isinstance(prompt, str) and prompt else "How rare?"
    write(figure, 32 * unit, height - 44 * unit, title, 20 * unit, INK, weight="bold")
    subtitle = f"Learnt from {density.count:,} samples. The farther from the centre, the rarer."
    write(figure, 32 * unit, height - 72 * unit, subtitle, 11.5 * unit, SOFT)
    room = height - 100 * unit
    side = min(room - 16 * unit, 0.5 * width)
    box = (24 * unit / width, (room - side) / 2 / height, side / width, side / height)
    usual, rare = _rarities(density, baseline, trajectory, tick)
    _draw_map(figure.add_axes(box), density, baseline, trajectory, usual, rare, 11 * unit, tick)
    left = side + 70 * unit
    write(figure, left, height - 72 * unit, "■ usual", 11.5 * unit, DOTS, weight="bold")
    if trajectory is not None:
        text = f"■ {len(trajectory.final)} steered to 1 in {2**trajectory.target_bits:,.0f}"
        write(figure, left + 108 * unit, height - 72 * unit, text, 11.5 * unit, ACCENT, weight="bold")
    strips = _strips(density, baseline, trajectory, usual, rare, tick)
    _draw_strips(figure, strips, trajectory, left / width, 1 - 28 * unit / width, room / height, unit)
    return render(figure)


def _rarities(density: Density, baseline, trajectory, tick=None) -> tuple[Tensor, list[Tensor]]:
    """The bits of the baseline, or of the held-out samples if there is no baseline; and the bits of every checkpoint."""
    usual = density.calibration.bits(density.calibration.scores)
    if baseline is not None:
        usual = calibration_for(density, baseline, tick).bits(in_parts(density.score, baseline.vectors, tick))
    if trajectory is None:
        return usual, []
    calibration = calibration_for(density, trajectory.final, tick)
    return usual, [calibration.bits(in_parts(density.score, step.vectors, tick)) for step in trajectory.embeddings]


def _draw_map(axes, density, baseline, trajectory, usual, rare, size, tick) -> None:
    from matplotlib.patches import Annulus, Circle

    bits = [usual, rare[-1], torch.tensor([trajectory.band[1]])] if trajectory is not None else [usual]
    reach = min(max(float(b.max()) for b in bits) + 0.7, 30.0) + HUB
    plane = _plane(density, trajectory)
    axes.set(xlim=(-1.01, 1.01), ylim=(-1.01, 1.01), aspect="equal")
    axes.axis("off")
    axes.add_patch(Circle((0, 0), 1.0, facecolor="white", edgecolor=FAINT, linewidth=1))
    if trajectory is not None:
        low, high = ((edge + HUB) / reach for edge in trajectory.band)
        axes.add_patch(Annulus((0, 0), high, high - low, facecolor=ACCENT, alpha=0.14, linewidth=0))
    if baseline is not None:
        angle, radius = _polar(density, plane, baseline, usual, reach, tick)
    else:  # the golden angle spreads the points evenly
        angle, radius = torch.arange(len(usual)) * math.pi * (3 - math.sqrt(5)), (usual + HUB) / reach
    dot = min(max(7000 / len(radius), 2.5), 16)
    axes.scatter(radius * angle.cos(), radius * angle.sin(), s=dot, color=DOTS, alpha=0.6, linewidths=0)
    steps = trajectory.embeddings if trajectory is not None else ()
    path = [_polar(density, plane, step, far, reach, tick) for step, far in zip(steps, rare, strict=True)]
    along = _free_direction(path[-1][0]) if path else (0.0, 1.0)
    rings = [10**e for e in range(1, 8) if math.log2(10**e) + HUB < reach - 0.3]
    for one_in in rings:
        ring = (math.log2(one_in) + HUB) / reach
        axes.add_patch(Circle((0, 0), ring, fill=False, edgecolor="#bdbbb5", linewidth=0.9))
        box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}
        spot = (ring * along[0], ring * along[1])
        axes.text(*spot, f"1 in {one_in:,}", ha="center", va="center", color=INK, fontsize=size, bbox=box, zorder=5)
    if path:
        angles, radii = _smooth(torch.stack([a for a, _ in path]), torch.stack([r for _, r in path]))
        axes.plot(radii * angles.cos(), radii * angles.sin(), color=ACCENT, alpha=0.5, linewidth=1.1, zorder=3)
        x, y = radii[-1] * angles[-1].cos(), radii[-1] * angles[-1].sin()
        axes.scatter(x, y, s=size * 4.5, color=ACCENT, edgecolors="white", linewidths=1.0, zorder=6)


def _plane(density: Density, trajectory: Trajectory | None) -> Tensor:
    """Two orthonormal whitened directions [k, 2] in which the results differ most; without results the strongest two.

    Samples spread equally far in all whitened directions, so every plane shows the usual samples equally well.
    """
    k = density.frame.components
    plane = torch.eye(k, 2, dtype=torch.float64)
    if trajectory is None or len(trajectory.final) < 3 or k < 3:
        return plane
    u = normalize(density.frame.whiten(trajectory.final.vectors)[0], dim=1)
    common = normalize(u.mean(dim=0), dim=0)
    plane = torch.linalg.svd(u - torch.outer(u @ common, common), full_matrices=False).Vh[:2].T
    return plane * plane.gather(0, plane.abs().argmax(dim=0, keepdim=True)).sign()


def _polar(
    density: Density, plane: Tensor, rows: Embeddings, bits: Tensor, reach: float, tick
) -> tuple[Tensor, Tensor]:
    """Angle in the plane and radius on the map, [N] each."""
    across, up = in_parts(lambda part: density.frame.whiten(part)[0] @ plane, rows.vectors, tick).T
    return torch.atan2(up, across), ((bits + HUB) / reach).clamp_max(1)


def _free_direction(angles: Tensor) -> tuple[float, float]:
    """The unit direction with most room for labels: within 40 degrees of up or down, and farthest from all angles."""
    lean = torch.linspace(-40, 40, 81, dtype=angles.dtype).deg2rad()
    candidates = torch.cat([lean + math.pi / 2, lean - math.pi / 2])
    apart = torch.remainder(candidates[:, None] - angles + math.pi, 2 * math.pi) - math.pi
    best = float(candidates[apart.abs().amin(dim=1).argmax()])
    return math.cos(best), math.sin(best)


def _smooth(angles: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
    """Points between the kept steps [S, N]. They turn the shorter way round, so that paths bend with the rings."""
    turns = torch.remainder(angles.diff(dim=0) + math.pi, 2 * math.pi) - math.pi
    angles = torch.cat([angles[:1], angles[:1] + turns.cumsum(dim=0)])
    share = torch.linspace(0, 1, 25, dtype=angles.dtype)[:, None]
    between = [
        torch.cat([a + share * (b - a) for a, b in zip(line[:-1], line[1:], strict=True)]) for line in (angles, radii)
    ]
    return between[0], between[1]


def _strips(density, baseline, trajectory, usual, rare, tick) -> list[tuple[str, Tensor | None, Tensor | None]]:
    """The name, the usual values and the rare values of every reading that has some values."""
    readers = {
        "Likeness to the typical sample (cosine)": lambda x: (
            normalize(x.double(), dim=1) @ normalize(density.frame.mean, dim=0)
        ),
        "Length of the embedding": lambda x: x.double().norm(dim=1),
        "Outside the model's main directions (residual)": density.frame.residual,
    }
    held_out = {"Outside the model's main directions (residual)": density.frame.residual_calibration}
    strips = [("Rarity (bits)", usual, rare[-1] if rare else None)]
    for name, read in readers.items():
        known = in_parts(read, baseline.vectors, tick) if baseline is not None else held_out.get(name)
        strips.append((name, known, read(trajectory.final.vectors) if trajectory is not None else None))
    return [strip for strip in strips if strip[1] is not None or strip[2] is not None]


def _draw_strips(figure, strips, trajectory, left, right, top, unit) -> None:
    """One strip for each reading: a grey histogram of the usual samples, and an accent tick for each rare sample."""
    step = (top - 0.02) / max(len(strips), 4)
    for i, (name, usual, rare) in enumerate(strips):
        axes = figure.add_axes((left, top - (i + 0.72) * step, right - left, 0.44 * step))
        axes.set_facecolor("none")
        axes.set_yticks([])
        for edge in ("top", "left", "right"):
            axes.spines[edge].set_visible(False)
        axes.spines["bottom"].set_color("#b9b7b1")
        axes.tick_params(axis="x", labelsize=9.5 * unit, colors=SOFT, length=3)
        axes.set_title(name, loc="left", fontsize=11 * unit, color=INK, pad=5 * unit)
        values = torch.cat([v for v in (usual, rare) if v is not None])
        low, high = float(values.min()), float(values.max())
        if name == "Rarity (bits)":
            low, high = 0.0, max(high, trajectory.band[1] if trajectory is not None else 0.0)
            if trajectory is not None:
                axes.axvspan(*trajectory.band, color=ACCENT, alpha=0.14, linewidth=0)
        pad = max(0.03 * (high - low), 1e-3 * max(abs(low), abs(high)), 1e-9)
        axes.set_xlim(low - pad, high + pad)
        if usual is not None:
            axes.hist(
                usual.tolist(), bins=60 if len(usual) > 200 else 16, range=(low, max(high, low + pad)), color="#b4bac1"
            )
        if rare is not None:
            ticks = axes.get_xaxis_transform()
            axes.vlines(rare.tolist(), 0, 0.62, transform=ticks, color=ACCENT, alpha=0.75, linewidth=1.6 * unit)
        axes.locator_params(axis="x", nbins=6)
