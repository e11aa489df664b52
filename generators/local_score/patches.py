"""Patches of pictures: which may replace each other at the border, and a few numbers that show how alike they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SAMPLE = 1024  # patches on which the variance of a coefficient is measured
WORKING_VALUES = 4_000_000  # most values of a temporary tensor


@dataclass(frozen=True)
class Region:
    """A block of pixels whose windows the picture's border cuts in the same way, and how far these windows reach.

    The block has the rows top ... bottom - 1 and the columns left ... right - 1. A window reaches `up` pixels above its
    own pixel, `down` below it, `back` to the left and `ahead` to the right.
    """

    top: int
    bottom: int
    left: int
    right: int
    up: int
    down: int
    back: int
    ahead: int

    @property
    def height(self) -> int:
        """Rows of a window."""
        return self.up + 1 + self.down

    @property
    def width(self) -> int:
        """Columns of a window."""
        return self.back + 1 + self.ahead

    @property
    def pixels(self) -> int:
        """Number of pixels of the block in one picture."""
        return (self.bottom - self.top) * (self.right - self.left)

    def places(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Picture, row and column, [P] each, of windows that are numbered through all pictures."""
        wide = self.right - self.left
        inside = index % self.pixels
        return index // self.pixels, self.top + inside // wide, self.left + inside % wide

    def windows(self, pictures: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Windows [P, C, height, width] of pictures [N, C, H, W], and the pixel each belongs to, [P, C]."""
        n, row, column = (place.to(pictures.device) for place in self.places(index))
        view = pictures.unfold(2, self.height, 1).unfold(3, self.width, 1)
        return view[n, :, row - self.up, column - self.back], pictures[n, :, row, column]


def interior(height: int, width: int, patch: int) -> Region:
    """The pixels whose whole patch lies inside the picture."""
    reach = patch // 2
    return Region(reach, height - reach, reach, width - reach, reach, reach, reach, reach)


def border_regions(height: int, width: int, patch: int) -> list[Region]:
    """All pixels outside of the corners, in groups whose patches the border cuts in the same way.

    Away from the border all pixels are one group. Within half a patch of one side, every row (or column) is a group.
    A pixel near two sides has its like only at the same place of other pictures, so the local machine handles it.

    Source: the boundary-broken machine of Kamb and Ganguli 2025 (arXiv 2412.20292), section 5.
    """
    regions = []
    for rows in _cuts(height, patch // 2):
        for columns in _cuts(width, patch // 2):
            if rows.whole or columns.whole:
                regions.append(
                    Region(
                        rows.start,
                        rows.stop,
                        columns.start,
                        columns.stop,
                        rows.before,
                        rows.after,
                        columns.before,
                        columns.after,
                    )
                )
    return regions


def corners(height: int, width: int, patch: int) -> Iterator[tuple[tuple, tuple, tuple]]:
    """The pixels that `border_regions` leaves out, in up to four blocks.

    Yields
    ------
    Three indices into pictures [N, C, H, W]: the block; the area that its patches reach; the block within that area.
    """
    reach = patch // 2
    for rows in _ends(height, reach):
        for columns in _ends(width, reach):
            near = (..., _widen(rows, reach, height), _widen(columns, reach, width))
            yield (..., rows, columns), near, (..., _inside(rows, reach), _inside(columns, reach))


def _ends(length: int, reach: int) -> list[slice]:
    """The places within `reach` of either end, as two stretches, or as one if they meet."""
    if reach == 0:
        return []
    return [slice(0, length)] if length <= 2 * reach else [slice(0, reach), slice(length - reach, length)]


def _widen(part: slice, reach: int, length: int) -> slice:
    return slice(max(0, part.start - reach), min(length, part.stop + reach))


def _inside(part: slice, reach: int) -> slice:
    """`part`, counted from the start of the widened part."""
    start = min(part.start, reach)
    return slice(start, start + part.stop - part.start)


@dataclass(frozen=True)
class _Cut:
    start: int
    stop: int
    before: int
    after: int
    whole: bool


def _cuts(length: int, reach: int) -> list[_Cut]:
    """Split an axis into runs of places whose patches its two ends cut in the same way."""
    runs = []
    if length > 2 * reach:
        runs.append(_Cut(reach, length - reach, reach, reach, True))
    for i in range(length):
        if i < reach or i >= length - reach:
            runs.append(_Cut(i, i + 1, min(i, reach), min(length - 1 - i, reach), False))
    return runs


def spread(total: int, limit: int | None, seed: int) -> Tensor:
    """`limit` of the numbers 0 ... total - 1, one drawn from each of `limit` equal stretches; without a limit all."""
    if limit is None or limit >= total:
        return torch.arange(total)
    g = torch.Generator("cpu").manual_seed(seed % 2**64)
    drawn = torch.rand(limit, generator=g, dtype=torch.float64)
    return ((torch.arange(limit) + drawn) * (total / limit)).long().clamp_max(total - 1)


class Basis:
    """The leading cosine coefficients of windows: a few numbers whose inner products are nearly those of all pixels.

    The cosine transform over rows, columns and channels is orthonormal, so all coefficients together have exactly the
    inner products of the pixels. Nearly all the variance of pictures lies in a few low frequencies. If x = a P0 +
    sqrt(v) noise and the omitted coefficients hold the variance E of the patches P, the exponent a x.P / v changes by
    at most

        sqrt(s (1 + s)) in root mean square,    s = a^2 E / v

    As many coefficients are kept as the tolerance requires: few at high noise, all without noise.
    """

    def __init__(self, windows: Tensor, signal: float, noise: float, tolerance: float):
        """Learn the coefficients' variances from windows [S, C, h, w]; signal is a^2, noise is v."""
        self.mean = windows.mean(dim=0, keepdim=True)
        self.transforms = [_cosines(size, windows) for size in windows.shape[1:]]
        energy = _transform(windows - self.mean, self.transforms).square().mean(dim=0)
        order = energy.flatten().argsort(descending=True)
        rest = energy.flatten()[order].flip(0).cumsum(0).flip(0)  # the variance in this and all smaller coefficients
        share = 0.5 * (math.sqrt(1 + 4 * tolerance**2) - 1)  # s (1 + s) = tolerance^2
        matter = len(order) if tolerance == 0 else int((rest * signal > share * noise).sum())
        self.kept = order[: max(1, matter)]
        columns, rows = self.kept % energy.shape[2], self.kept // energy.shape[2] % energy.shape[1]
        channels = self.kept // energy[0].numel()
        rows_kept, columns_kept = int(rows.max()) + 1, int(columns.max()) + 1
        self.transforms = [self.transforms[0], self.transforms[1][:rows_kept], self.transforms[2][:columns_kept]]
        self.kept = (channels * rows_kept + rows) * columns_kept + columns

    def __len__(self) -> int:
        return len(self.kept)

    def coefficients(self, windows: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """The kept coefficients [P, m] of windows minus `share` of the mean, and the squares of their length [P]."""
        centred = windows - share * self.mean
        few = _transform(centred, self.transforms).flatten(1).index_select(1, self.kept)
        return few, centred.square().sum(dim=(1, 2, 3))


def _cosines(size: int, like: Tensor) -> Tensor:
    """The orthonormal cosine transform (DCT-II) of `size` values, [size frequencies, size]."""
    places = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * (places + 0.5) * places[:, None]) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.to(like)


def _transform(windows: Tensor, transforms: list[Tensor]) -> Tensor:
    """[P, C, h, w] to coefficients [P, C', h', w']."""
    channels, rows, columns = transforms
    across = (windows.reshape(-1, windows.shape[3]) @ columns.T).view(*windows.shape[:3], -1)
    both = rows @ across
    return (channels @ both.flatten(2)).view(len(both), len(channels), *both.shape[2:])
