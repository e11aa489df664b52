"""Noise that belongs to a sample, not to a batch: it is the same whatever is drawn beside it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Two uses of one seed must not share numbers: row 3's embedding noise would otherwise be row 3's picture noise.
_PURPOSES = {"prior": 0x5052, "decoder": 0x4445, "local score": 0x4C53, "concept": 0x434F}
_MASK32, _MASK64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


def streams(seed: int, start: int, count: int, purpose: str) -> list[torch.Generator]:
    """One CPU random generator for each of the samples start ... start + count - 1 of a seed.

    Parameters
    ----------
    seed : any integer; its low 64 bits count.
    start, count : which samples.
    purpose : "prior", "local score" or "concept".

    Returns
    -------
    `count` generators, freshly seeded: sample i gets
    mix32((mix64(mix64(seed) + purpose) + i) mod 2^32).

    torch's CPU generator looks at 32 bits of its seed. Because mix32 is a bijection, no two samples of one seed share a
    stream (plain hashing of (seed, i) would give about one pair of twins in 100,000 samples).
    Source: mix64 is SplitMix64 (Steele, Lea and Flood 2014), mix32 the finaliser of MurmurHash3 (Appleby 2011).
    """
    offset = _mix64(_mix64(seed & _MASK64) + _PURPOSES[purpose])
    return [torch.Generator("cpu").manual_seed(_mix32((offset + i) & _MASK32)) for i in range(start, start + count)]


def picture_streams(keys: Tensor, seed: int) -> list[torch.Generator]:
    """One CPU random generator for the picture of each row by who it is, wherever it stands in a set.

    Parameters
    ----------
    keys : [N] int64, those of `Embeddings`; rows that share one share their noise.
    seed : any integer; its low 64 bits count.

    Returns
    -------
    N generators, freshly seeded: the row of key k gets the low 32 bits of mix64(mix64(mix64(seed) + purpose) + k).
    """
    offset = _mix64(_mix64(seed & _MASK64) + _PURPOSES["decoder"])
    return [torch.Generator("cpu").manual_seed(_mix64((offset + key) & _MASK64) & _MASK32) for key in keys.tolist()]


def normals(streams: list[torch.Generator], width: int) -> Iterator[Tensor]:
    """Standard normal rows [n, width] without end, row i from stream i, as `torch.randn(1, width)` draws them each time.

    Drawn a few rounds ahead, which spares calls; few, so that a graphics card is at work meanwhile. torch makes normal
    numbers in groups of 16: only for whole groups are many rows at once the same numbers as row by row.
    """
    ahead = 4 if width % 16 == 0 else 1
    while True:
        yield from torch.stack([torch.randn(ahead, width, generator=one) for one in streams], dim=1)


def _mix64(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)


def _mix32(x: int) -> int:
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & _MASK32
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & _MASK32
    return x ^ (x >> 16)
