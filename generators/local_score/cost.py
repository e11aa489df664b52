"""Estimate how long the local score machine and the search for origins take on this computer, before they start."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from .machine import LocalScore
from .patches import WORKING_VALUES, Basis, border_regions, interior, spread
from .score_machines import ENOUGH, KEYS, QUERIES

FEATURES = 32  # coefficients that a patch usually keeps, measured on photographs and letterforms at most steps


def work(machine: LocalScore, count: int, patches: list[int]) -> dict[str, float]:
    """The amount of work in a run.

    Parameters
    ----------
    machine : its kind, sources and limit matter.   count : pictures to make.
    patches : patch sizes, one for each step.

    Returns
    -------
    "pairs" : pixels times patches that are compared.   "values" : pixels of patches that are gathered.
    "literal" : multiply-adds of the formulas as they are written: patches x pixels x channels x the patch's pixels.
    "sums" : source pixels that are summed where patches stay at their own place.
    """
    sources, channels, height, width = machine.sources.shape
    total = {"pairs": 0.0, "values": 0.0, "literal": 0.0, "sums": 0.0}
    everywhere = float(count * sources * channels * height * width)
    for patch in patches:
        if machine.kind in ("ideal", "local"):
            total["sums"] += everywhere
            total["literal"] += everywhere * (patch**2 if machine.kind == "local" else 1)
            continue
        if machine.kind == "equivariant":
            known = [interior(height, width, patch)]
            pixels = [height * width]
        else:
            known = border_regions(height, width, patch)
            pixels = [region.pixels for region in known]
            corner = min(height, patch - 1) * min(width, patch - 1)  # both ends together: 2 (patch // 2) = patch - 1
            total["sums"] += 4 * count * sources * channels * corner
            total["literal"] += count * sources * channels * corner * patch**2
        for region, asked in zip(known, pixels, strict=True):
            keys = sources * region.pixels
            if machine.limit is not None:
                keys = min(keys, max(ENOUGH, machine.limit * region.pixels / (height * width)))
            size = channels * region.height * region.width
            total["pairs"] += keys * count * asked
            total["values"] += (keys + count * asked) * size
            total["literal"] += keys * count * asked * size
    return total


def seconds(machine: LocalScore, count: int, patches: list[int]) -> float:
    """The seconds a run takes here, within about a factor of two: its work times the speed of a short trial."""
    parts, device = work(machine, count, patches), machine.sources.device
    found = torch.ones(KEYS, FEATURES, device=device)
    asked = found[:QUERIES]

    def compare():
        (asked @ found.T).amax(dim=1)
        torch.exp_(asked @ found.T).sum(dim=1)

    view = machine.sources[:1].unfold(2, 3, 1).unfold(3, 3, 1) if min(machine.sources.shape[2:]) >= 3 else None
    rows = torch.zeros(KEYS, dtype=torch.long, device=device)
    per_pair = _time(compare) / (KEYS * QUERIES)
    per_value = (
        _time(lambda: view[rows, :, rows, rows].square().sum()) / (KEYS * 9 * machine.sources.shape[1])
        if view is not None
        else 0.0
    )
    return parts["pairs"] * per_pair + parts["values"] * per_value + parts["sums"] * 8 * per_pair


def origins_seconds(made: Tensor, sources: Tensor, patch: int, tolerance: float) -> float:
    """The seconds that `patch_origins` takes if patches move, within about a factor of two.

    Without noise nearly all coefficients are compared. Their number is counted on the sources themselves.

    Parameters
    ----------
    made : [B, C, H, W].   sources : [N, C, H, W], about -1 to 1.   patch : odd, at most H and W.
    tolerance : see patches.Basis.
    """
    parts, region = work(LocalScore(sources), len(made), [patch]), interior(*sources.shape[2:], patch)
    size = sources.shape[1] * patch**2
    rows = spread(len(sources) * region.pixels, max(2, min(KEYS, WORKING_VALUES // size)), 0)
    windows = region.windows(sources, rows)[0]
    basis = Basis(windows, 1.0, 1.0, tolerance)
    found, squares = basis.coefficients(windows)
    asked = found[torch.arange(QUERIES, device=found.device) % len(found)]
    per_pair = _time(lambda: torch.addmm(squares, asked, found.T).max(dim=1)) / (len(found) * len(asked))
    per_value = _time(lambda: basis.coefficients(region.windows(sources, rows)[0])) / windows.numel()
    return parts["pairs"] * per_pair + parts["values"] * per_value + parts["sums"] * 4 * per_value


def spoken(duration: float) -> str:
    """A duration in words: "40 seconds", "12 minutes", "5 hours"."""
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if duration >= 1.5 * size:
            return f"{round(duration / size):,} {name}s"
    return f"{max(1, math.ceil(duration))} seconds"


def _time(run) -> float:
    """Seconds of the fastest of three runs, because other work on the computer can only make a run slower."""
    best = math.inf
    for _ in range(3):
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best
