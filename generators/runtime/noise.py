"""Noise that belongs to a sample and not to a batch: it is the same whatever else is drawn in the batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

# Two uses of one seed must not share numbers. Otherwise the noise of embedding 3 would also be the noise of picture 3.
_PURPOSES = {"prior": 0x5052, "decoder": 0x4445, "local score": 0x4C53, "concept": 0x434F, "variation": 0x5641}
_AHEAD = 4  # rounds of a row's noise that are drawn at once
_THREADS = 4  # threads that draw while a graphics card works; more threads only wait for Python
_MASK32, _MASK64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


def streams(seed: int, start: int, count: int, purpose: str) -> list[torch.Generator]:
    """One CPU random generator for each of the samples start ... start + count - 1 of a seed.

    Parameters
    ----------
    seed : any integer; its low 64 bits count.
    start, count : which samples.
    purpose : "prior", "local score", "concept" or "variation".

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
    """One CPU random generator for the picture of each row. It depends on the row's key and not on its place in a set.

    Parameters
    ----------
    keys : [N] int64, those of `Embeddings`; rows with the same key get the same noise.
    seed : any integer; its low 64 bits count.

    Returns
    -------
    N generators, freshly seeded: the row of key k gets the low 32 bits of mix64(mix64(mix64(seed) + purpose) + k).
    """
    offset = _mix64(_mix64(seed & _MASK64) + _PURPOSES["decoder"])
    return [torch.Generator("cpu").manual_seed(_mix64((offset + key) & _MASK64) & _MASK32) for key in keys.tolist()]


def normals(streams: list[torch.Generator], width: int) -> Iterator[Tensor]:
    """Endless standard normal rows [n, width]: in each round row i is what `torch.randn(1, width)` draws from stream i.

    A few rounds are drawn at once, which saves calls. torch makes normal numbers in groups of 16, so several rows at once
    are the same numbers as row by row only if the width is a multiple of 16.
    """
    while True:
        yield from _rounds(streams, width, _AHEAD)


def normals_beside(streams: list[torch.Generator], width: int, count: int) -> Iterator[Tensor]:
    """The first `count` rounds of `normals`, drawn in threads while a graphics card works.

    They lie in pinned memory, which the card reads directly. Closing the iterator ends the threads.
    """
    share = -(-len(streams) // min(_THREADS, os.cpu_count() or 1))
    parts = [streams[start : start + share] for start in range(0, len(streams), share)]
    with ThreadPoolExecutor(len(parts)) as pool:
        left, coming = count, [pool.submit(_rounds, part, width, min(count, _AHEAD)) for part in parts]
        while left:
            drawn = torch.cat([part.result() for part in coming], dim=1)
            left -= len(drawn)
            coming = [pool.submit(_rounds, part, width, min(left, _AHEAD)) for part in parts if left]
            yield from drawn.pin_memory() if torch.cuda.is_available() else drawn


def _rounds(streams: list[torch.Generator], width: int, count: int) -> Tensor:
    """The next rounds of these streams, [count, n, width]."""
    whole = count if width % 16 == 0 else 1
    drawn = [torch.cat([torch.randn(whole, width, generator=one) for _ in range(count // whole)]) for one in streams]
    return torch.stack(drawn, dim=1)


def _mix64(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)


def _mix32(x: int) -> int:
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & _MASK32
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & _MASK32
    return x ^ (x >> 16)
