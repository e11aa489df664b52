"""The four score machines of the analytic theory of creativity: the clean picture to expect, given a noisy one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from .patches import SAMPLE, WORKING_VALUES, Basis, Region, border_regions, corners, interior, spread

KEYS, QUERIES = 2048, 512  # patches and pixels that are compared at a time: 4 MB stay in the processor's cache
FAR = 16.0  # all skipped patches together may weigh e^-16, about 1e-7

ENOUGH = 256  # fewest patches that are compared at an edge, whatever the limit

Tick = Callable[[int], None]


class SoftmaxMean:
    """The mean of values under softmax weights, computed block by block. It equals the mean of all values at once."""

    def __init__(self):
        self.top: Tensor | None = None

    def add(self, exponents: Tensor, weigh: Callable[[Tensor], Tensor]) -> None:
        """Add a block.

        Parameters
        ----------
        exponents : [B, n, ...], n candidates for each place.
        weigh : takes weights of that shape and returns the sum over the candidates of weight times value, [B, C, ...].
        """
        top = exponents.amax(dim=1, keepdim=True)
        top = top if self.top is None else torch.maximum(top, self.top)
        weights = _exp(exponents - top)
        total, mixed = weights.sum(dim=1, keepdim=True), weigh(weights)
        if self.top is None:
            self.total, self.mixed = total, mixed
        else:
            fade = (self.top - top).exp_()
            self.total = self.total * fade + total
            self.mixed = self.mixed * fade + mixed
        self.top = top

    def mean(self) -> Tensor:
        """[B, C, ...]"""
        return self.mixed / self.total


def ideal(x: Tensor, sources: Tensor, signal: float, tick: Tick | None = None) -> Tensor:
    """The weighted mean of whole sources. This is optimal denoising, and it can only repeat the sources.

    M[x] = sum_n W_n y_n,    W = softmax_n of -|x - a y_n|^2 / (2 v),    a = sqrt(abar), v = 1 - abar

    Parameters
    ----------
    x : [B, C, H, W], noisy.   sources : [N, C, H, W].   signal : abar.   tick : called with multiply-adds done.

    Returns
    -------
    M [B, C, H, W]. The score is (a M - x) / v.

    Source: Kamb and Ganguli 2025 (arXiv 2412.20292), equation 3.
    """
    a, v = math.sqrt(signal), 1 - signal
    rows, mean = x.flatten(1), SoftmaxMean()
    for block in sources.split(_block(x.shape[1:])):
        y = block.reshape(len(block), -1)
        exponents = (a * rows @ y.T - 0.5 * signal * y.square().sum(dim=1)) / v
        mean.add(exponents, lambda weights, y=y: weights @ y)
        _tell(tick, len(rows) * y.numel())
    return mean.mean().view_as(x)


def local(x: Tensor, sources: Tensor, signal: float, patch: int, tick: Tick | None = None) -> Tensor:
    """The LS machine: each pixel knows only its patch, and mixes the sources' pixels at its own place.

    M[x](p) = sum_n W_n(p) y_n(p),    W(p) = softmax_n of -|x_p - a y_n,p|^2 / (2 v)

    x_p and y_n,p are the pixels of the patch around p that lie in the picture. Sums over patches are differences of
    running sums, so the time does not depend on the patch size.

    Parameters
    ----------
    patch : odd. From 2 max(H, W) - 1 on, every patch holds the whole picture, and this is the ideal machine.
    The other parameters and the source are those of `ideal`; equation 7.
    """
    a, v, reach, mean = math.sqrt(signal), 1 - signal, patch // 2, SoftmaxMean()
    for block in sources.split(max(1, _block(x.shape[1:]) // len(x))):
        squares = sum((x[:, None, c] - a * block[None, :, c]).square() for c in range(x.shape[1]))
        exponents = box_sums(squares, reach).mul_(-0.5 / v)
        mean.add(exponents, lambda weights, y=block: _weighted(weights, y))
        _tell(tick, squares.numel() * (2 * x.shape[1] + 4))
    return mean.mean()


def equivariant(
    x: Tensor,
    sources: Tensor,
    signal: float,
    patch: int,
    *,
    wrap_sources: bool = False,
    limit: int | None = None,
    seed: int = 0,
    tolerance: float = 0.0,
    tick: Tick | None = None,
) -> Tensor:
    """The ELS machine: each pixel knows only its patch, and mixes the centres of all patches of all sources.

    M[x](p) = sum over patches P of W_P(p) P_centre,    W(p) = softmax_P of -|x_p - a P|^2 / (2 v)

    The picture is a torus, so results can be tiled without a seam. Patches lie inside their sources. With
    `wrap_sources` the sources are tori, too, as they are to a network with circular padding.

    Parameters
    ----------
    patch : odd, at most min(H, W) of the sources.
    limit : about this many patches are used, spread evenly over the sources and drawn with `seed`; None uses all.
    tolerance : root mean square error allowed in the exponents; 0 is exact.  See patches.Basis.
    The other parameters and the source are those of `ideal`; equation 8.
    """
    reach = (patch // 2,) * 4
    around = pad(x, reach, mode="circular")
    known = pad(sources, reach, mode="circular") if wrap_sources else sources
    mean = _mix(
        around,
        interior(*around.shape[2:], patch),
        known,
        interior(*known.shape[2:], patch),
        signal,
        limit,
        seed,
        tolerance,
        tick,
    )
    return mean.view(len(x), x.shape[2], x.shape[3], -1).movedim(3, 1)


def boundary_broken(
    x: Tensor,
    sources: Tensor,
    signal: float,
    patch: int,
    *,
    limit: int | None = None,
    seed: int = 0,
    tolerance: float = 0.0,
    tick: Tick | None = None,
) -> Tensor:
    """The boundary-broken ELS machine: patches move, but only to places where the border cuts them in the same way.

    It is `equivariant` with patches that are cut off at the border. A pixel is compared only with patches that are cut
    in the same way: a corner of the sources goes to the same corner, an edge to any place of the same edge. Sources and
    x have the same size.

    Parameters
    ----------
    patch : odd; if it is larger than the picture, this is the LS machine.
    The other parameters are those of `equivariant`; section 5.
    """
    height, width = x.shape[2:]
    out = torch.full_like(x, math.nan)
    for region in border_regions(height, width, patch):
        mixed = _mix(x, region, sources, region, signal, _part(limit, region, x), seed, tolerance, tick)
        rows, columns = slice(region.top, region.bottom), slice(region.left, region.right)
        shape = (len(x), region.bottom - region.top, region.right - region.left, -1)
        out[:, :, rows, columns] = mixed.view(shape).movedim(3, 1)
    for corner, near, at in corners(height, width, patch):
        out[corner] = local(x[near], sources[near], signal, patch, tick)[at]
    return out


def _part(limit: int | None, region: Region, x: Tensor) -> int | None:
    """A region's part of the limit: its share of the pixels, but at least ENOUGH."""
    return None if limit is None else max(ENOUGH, math.ceil(limit * region.pixels / (x.shape[2] * x.shape[3])))


def compare(x, region, sources, known, a, v, limit=None, seed=0, tolerance=0.0, tick=None) -> Iterator:
    """Blocks of the exponents -|x_p - a P|^2 / (2 v) between pixels of x and patches of the sources.

    They omit the term |x_p - a m|^2 / (2 v), where m is the mean patch: it is the same for all patches of a pixel.

    Yields
    ------
    slice of the pixels, numbered through all pictures; index [n] of the patches, numbered through all sources; their
    centres [n, C]; exponents [pixels, n], which the next block overwrites.
    """
    index = spread(len(sources) * known.pixels, limit, seed)
    values = x.shape[1] * region.height * region.width
    few = max(2, min(SAMPLE, WORKING_VALUES // values))
    basis = Basis(known.windows(sources, index[:: max(1, len(index) // few)][:few])[0], a * a, v, tolerance)
    step = max(1, min(KEYS, WORKING_VALUES // values))
    pixels = torch.arange(len(x) * region.pixels)
    asked = []
    for part in pixels.split(step):
        asked.append(basis.coefficients(region.windows(x, part)[0], a)[0])
        _tell(tick, 0)
    asked = torch.cat(asked) * (a / v)
    room = torch.empty(QUERIES * step, dtype=x.dtype, device=x.device)
    for part in index.split(step):
        windows, centres = known.windows(sources, part)
        found, squares = basis.coefficients(windows)
        offset, found = squares.mul_(-0.5 * a * a / v), found.T.contiguous()
        for start in range(0, len(asked), QUERIES):
            some = asked[start : start + QUERIES]
            exponents = room[: len(some) * len(part)].view(len(some), len(part))
            torch.addmm(offset, some, found, out=exponents)
            yield slice(start, start + len(some)), part, centres, exponents
            _tell(tick, exponents.numel() * len(basis))


def _mix(x, region: Region, sources, known: Region, signal, limit, seed, tolerance, tick) -> Tensor:
    """The mean patch centre of each pixel of a region under its softmax weights, [B * pixels, C].

    Patches are skipped if they weigh so little beside the best so far that all of them together stay below e^-FAR.
    """
    count, channels = len(x) * region.pixels, x.shape[1]
    far = FAR + math.log(len(sources) * known.pixels)
    best = x.new_full((count, 1), -math.inf)
    sums = x.new_zeros(count, channels + 1)  # of weight times centre, and of the weights
    blocks = compare(x, region, sources, known, math.sqrt(signal), 1 - signal, limit, seed, tolerance, tick)
    for pixels, _, centres, exponents in blocks:
        values = torch.cat([centres, torch.ones_like(centres[:, :1])], dim=1)
        old, high = best[pixels], exponents.amax(dim=1, keepdim=True)
        matter = (high > old - far).flatten()
        if not matter.any():
            continue
        if matter.float().mean() < 0.5:
            rows = matter.nonzero().flatten()
            exponents, old, high = exponents[rows], old[rows], high[rows]
            rows = rows + pixels.start
        else:
            rows = pixels
        top = torch.maximum(old, high)
        sums[rows] = sums[rows] * (old - top).exp_() + _exp(exponents.sub_(top)) @ values
        best[rows] = top
    return sums[:, :channels] / sums[:, channels:]


def box_sums(values: Tensor, reach: int) -> Tensor:
    """Sums over every pixel's window, cut at the border, [..., H, W]: running sums, equally fast for every window."""
    for dim in (-1, -2):
        length = values.shape[dim]
        if reach >= length - 1:
            values = values.sum(dim=dim, keepdim=True).expand_as(values)
            continue
        sums = pad(values.cumsum(dim=dim), (1, 0) if dim == -1 else (0, 0, 1, 0))
        last = (torch.arange(length) + reach + 1).clamp_max(length).to(values.device)
        first = (torch.arange(length) - reach).clamp_min(0).to(values.device)
        values = sums.index_select(dim, last) - sums.index_select(dim, first)
    return values.clone() if reach else values


def _exp(exponents: Tensor) -> Tensor:
    """exp, in place, of at least -60: e^-60 counts as nothing, and subnormal floats take twenty times as long."""
    return exponents.clamp_min_(-60).exp_()


def _weighted(weights: Tensor, sources: Tensor) -> Tensor:
    """Sums of weights [B, n, H, W] times sources [n, C, H, W] over n, [B, C, H, W]."""
    return torch.stack([(weights * sources[:, c]).sum(dim=1) for c in range(sources.shape[1])], dim=1)


def _block(shape) -> int:
    """Number of sources of this shape that are processed together."""
    return max(1, WORKING_VALUES // math.prod(shape))


def _tell(tick: Tick | None, done: int) -> None:
    if tick:
        tick(done)
