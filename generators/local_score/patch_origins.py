"""Which source each patch of a picture came from, so that the sources of a mosaic can be credited."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...density.base.credits import BETWEEN, credit, names_of, parts_of
from ...density.base.errors import RarityError
from ...density.base.log import get_logger
from .cost import origins_seconds, spoken
from .machine import now_and_then
from .new_pictures import as_sources
from .patch_schedules import check_patch
from .patches import WORKING_VALUES, border_regions, corners
from .score_machines import box_sums, compare

LOG = get_logger(__name__)
TOLERANCE = 0.05  # error of half the squared distance between patches; it confuses only patches that look the same
DUST = 0.005  # shares below this are not named in a table
NAMED = 5  # sources that are named, at most, where many gave a part
PLAIN = 0.02  # a patch with a smaller standard deviation (0 to 1 scale) is credited to no source: paper, sky


@dataclass(frozen=True)
class Origins:
    """For every pixel of B pictures, the patch of the sources that is nearest to the pixel's own patch.

    source, row, column : [B, H, W] int64, the source of that patch, and the place of its middle pixel. A source of -1
        is a plain patch, which could be from anywhere.
    distance : [B, H, W] float32, root mean square difference of the two patches' values (0 to 1 scale).
    sources : number of sources.   patch : the size of the compared patches.
    credits : a line for each source, see `density.base.credits`; sources of one line are one in tables and on the map.
        Empty if nothing is known of the sources but their numbers.
    """

    source: Tensor
    row: Tensor
    column: Tensor
    distance: Tensor
    sources: int
    patch: int
    credits: tuple[str, ...] = ()

    def shares(self) -> Tensor:
        """Each source's share of the pixels of each picture that are not plain, [B, N] float64."""
        counts = torch.stack([torch.bincount(one[one >= 0], minlength=self.sources) for one in self.source]).double()
        return counts / counts.sum(dim=1, keepdim=True).clamp_min(1)

    def credited(self) -> tuple[list[str], Tensor, Tensor]:
        """The lines of all sources, each once; which of them is each source's [N]; each line's shares [B, lines]."""
        every = [line or f"source {n}" for n, line in enumerate(self.credits or [""] * self.sources)]
        lines = list(dict.fromkeys(every))
        place = {line: number for number, line in enumerate(lines)}
        of = torch.tensor([place[line] for line in every])
        shares = self.shares()
        return lines, of, shares.new_zeros(len(shares), len(lines)).index_add_(1, of, shares)

    def table(self) -> str:
        """The credits as text: one line a picture, its sources with their shares, the largest first.

        Where credits are known, those of all pictures follow in full.
        """
        lines, _, shares = self.credited()
        names, order = names_of(lines), shares.sum(dim=0).argsort(descending=True, stable=True)
        full = [lines[n] for n in order if shares[:, n].any() and BETWEEN in lines[n]]
        rows = [f"picture {i}: {_credits(share, names)}" for i, share in enumerate(shares)]
        return "\n".join([*rows, *(["", "Credits", *full] if full else [])])

    def brief(self) -> str:
        """The credits of all pictures together, one line a source: a short list."""
        lines, _, shares = self.credited()
        return _credits(together(shares), names_of(lines), "\n", NAMED)


def together(shares: Tensor) -> Tensor:
    """The mean [N] of shares [B, N] over the pictures that are not plain everywhere; 0 if all are."""
    return shares.sum(dim=0) / shares.any(dim=1).sum().clamp_min(1)


def _credits(share: Tensor, names: list[str], between: str = ", ", most: int | None = None) -> str:
    """Names with their shares [n], the largest first, and what is left in one figure; or that all is plain."""
    if not share.any():
        return "nothing but plain parts"
    order = [int(n) for n in share.argsort(descending=True, stable=True) if share[n] >= DUST][:most]
    rest = float(share.sum() - share[order].sum())
    lines = [f"{names[n]} {share[n]:.0%}" for n in order]
    return between.join([*lines, f"others {rest:.0%}"] if rest >= DUST or not lines else lines)


def patch_origins(
    pictures: Tensor,
    images: Tensor,
    patch: int = 9,
    *,
    moved: bool = True,
    minutes: float = 10.0,
    credits: str = "",
    progress=None,
) -> Origins:
    """Find, for every pixel, the nearest patch of the sources among those that the border cuts in the same way.

    At low noise the local score machine took the pixel from there (theorem 4.1 of Kamb and Ganguli 2025).

    Parameters
    ----------
    pictures : [B, H, W, 3], 0 to 1.   images : the sources, [N, H, W, 3], 0 to 1.   patch : odd, at most the picture.
    moved : whether patches may come from another place; if not, only patches at the same place are compared.
    minutes : a search for moved patches that would take longer here is refused.
    credits : whose the sources are, a line for each, as `load_pictures` gives them; "" names sources by their numbers.
    progress : called with (done, 100), several times a second; it may raise to cancel.

    Returns
    -------
    Origins. Distances are compared with leading cosine coefficients (see patches.Basis, tolerance 0.05 at unit noise).

    Raises
    ------
    RarityError : sizes that differ, pictures not in RGB, a patch that is even or larger than the picture, a search that
        would take longer than allowed, another number of credits than sources.
    """
    made, sources = as_sources(pictures), as_sources(images)
    if made.shape[1:] != sources.shape[1:]:
        raise RarityError(
            f"Pictures and sources must be of one size, got {made.shape[3]} x {made.shape[2]} and "
            f"{sources.shape[3]} x {sources.shape[2]} pixels. "
            "Connect the pictures that Local Score was given."
        )
    lines = tuple(credit(*parts_of(line)) for line in credits.rstrip("\n").split("\n")) if credits.strip() else ()
    if lines and len(lines) != len(sources):
        raise RarityError(
            f"There are {len(sources):,} sources and {len(lines):,} lines of credits; there must be one line for each source. "
            "Connect both from the same Load Pictures, or connect no credits."
        )
    count, _, height, width = made.shape
    check_patch(patch, height, width)
    best = made.new_full((count, height, width), math.inf)
    found = torch.zeros(3, count, height, width, dtype=torch.long, device=made.device)
    with torch.no_grad():
        if moved:
            _check_time(made, sources, patch, minutes)
        regions = border_regions(height, width, patch) if moved else []
        done, tell = 0, progress or (lambda done, total: None)
        tick = now_and_then(lambda: tell(done, 100))
        for number, region in enumerate(regions, start=1):
            _search(made, sources, region, best, found, tick)
            done = round(100 * number / (len(regions) + 1))
            tell(done, 100)
        everywhere = (..., slice(0, height), slice(0, width))
        for block, near, at in corners(height, width, patch) if moved else [(everywhere,) * 3]:
            _search_in_place(made, sources, block, near, at, patch, best, found, tick)
        found[0][_contrast(made, patch) < PLAIN] = -1
    size = box_sums(torch.ones(1, height, width), patch // 2) * made.shape[1] * 4  # -1 to 1 is twice 0 to 1
    distance = (best.cpu().clamp_min(0) / size).sqrt()
    return Origins(*found.cpu(), distance, len(sources), patch, lines)


def _check_time(made: Tensor, sources: Tensor, patch: int, minutes: float) -> None:
    expected = origins_seconds(made, sources, patch, TOLERANCE)
    size = f"{len(made):,} pictures among {len(sources):,} sources of {made.shape[3]} x {made.shape[2]} pixels"
    LOG.info("Origins of %s: about %s", size, spoken(expected))
    if expected <= 60 * minutes:
        return
    one = f"one picture at a time (about {spoken(expected / len(made))}), " if len(made) > 1 else ""
    raise RarityError(
        f"To seek pieces of {size} anywhere would keep this machine busy for about {spoken(expected)}; allowed are "
        f"{minutes:g} minutes. Try pieces from the same place, which takes seconds, {one}or pictures and sources "
        f"scaled to half their width (about {spoken(expected / 16)}); or allow more minutes."
    )


def _search(made, sources, region, best, found, tick) -> None:
    total = len(made) * region.pixels
    high, where = made.new_full((total,), -math.inf), torch.zeros(total, dtype=torch.long, device=made.device)
    for pixels, patches, _, exponents in compare(made, region, sources, region, 1.0, 1.0, tolerance=TOLERANCE, tick=tick):
        value, at = exponents.max(dim=1)
        better = value > high[pixels]
        high[pixels] = torch.where(better, value, high[pixels])
        where[pixels] = torch.where(better, patches.to(where.device)[at], where[pixels])
    window = (slice(None), slice(region.top, region.bottom), slice(region.left, region.right))
    shape = (len(made), region.bottom - region.top, region.right - region.left)
    squares = torch.empty_like(high)
    own = torch.arange(total)
    step = max(1, WORKING_VALUES // (made.shape[1] * region.height * region.width))
    for part in own.split(step):
        mine, _ = region.windows(made, part)
        theirs, _ = region.windows(sources, where[part].cpu())
        squares[part] = (mine - theirs).square().sum(dim=(1, 2, 3))
        tick(0)
    best[window] = squares.view(shape)
    for held, place in zip(found, region.places(where), strict=True):
        held[window] = place.view(shape)


def _search_in_place(made, sources, block, near, at, patch, best, found, tick) -> None:
    """Search the source of patches that stay at their own place."""
    rows, columns = block[1:]
    for n, source in enumerate(sources[near]):
        squares = box_sums((made[near] - source).square().sum(dim=1), patch // 2)[at]
        window = (slice(None), rows, columns)
        better = squares < best[window]
        best[window] = torch.where(better, squares, best[window])
        found[0][window][better] = n
        tick(0)
    found[1][:, rows, columns] = torch.arange(rows.start, rows.stop, device=made.device)[:, None]
    found[2][:, rows, columns] = torch.arange(columns.start, columns.stop, device=made.device)


def _contrast(made: Tensor, patch: int) -> Tensor:
    """The standard deviation over every pixel's patch, the largest of all channels, [B, H, W], on the 0 to 1 scale."""
    reach = patch // 2
    pixels = box_sums(torch.ones_like(made[:1, :1]), reach)
    spread = box_sums(made.square(), reach) / pixels - (box_sums(made, reach) / pixels).square()
    return 0.5 * spread.amax(dim=1).clamp_min(0).sqrt()
