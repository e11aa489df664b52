"""What 64-bit keys decide about rows: repeats, folds, which rows are kept, their order; and keys made of bytes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

FOLDS = 5
HASH_BYTES = 1 << 18  # bytes hashed at a time: so many stay in the processor's cache


def row_keys(rows: Tensor) -> Tensor:
    """One int64 key for each row of [n, d] float32 or float64, made of its bytes alone; -0.0 counts as 0.0.

    These keys serve rows of which nothing else is known. Two floats are one 64-bit lane v. The key is
    sum_i m_i (v_i ^ (v_i >> 23)) modulo 2^64 with fixed odd m_i, stirred once more. The shift brings the exponents to
    the low bits, because the low bits of a sum do not depend on its high bits, and the low bits of a half-precision
    number as float32 are all zero. A float64 is one lane.
    """
    (n, d), kind = rows.shape, np.float64 if rows.dtype == torch.float64 else np.float32
    each = 8 // kind().itemsize  # numbers in one lane
    lanes = -(-d // each)
    factors = stir(np.arange(1, lanes + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)
    block = max(1, HASH_BYTES // (8 * lanes))
    floats = np.zeros((min(n, block), each * lanes), dtype=kind)
    words, shifted = floats.view(np.uint64), np.empty((len(floats), lanes), dtype=np.uint64)
    sums = np.empty(n, dtype=np.uint64)
    for start, part in enumerate(rows.split(block)):
        m = len(part)
        np.add(part.numpy(), kind(0), out=floats[:m, :d])
        np.right_shift(words[:m], np.uint64(23), out=shifted[:m])
        np.bitwise_xor(words[:m], shifted[:m], out=shifted[:m])
        np.einsum("ij,j->i", shifted[:m], factors, out=sums[start * block : start * block + m])
    return torch.from_numpy(stir(sums).view(np.int64))


def fold_of(keys: Tensor) -> Tensor:
    """The fold of each key, 0 to 4. It depends on the low bits, because the high bits choose the rows that are kept."""
    return (keys & 0xFFFFFFFF) % FOLDS


def shuffled(keys: Tensor, seed: int) -> Tensor:
    """A random order of keys [n], as indices; the order of any two of them does not depend on the others."""
    mixed = stir(keys.numpy().view(np.uint64) ^ stir(np.array([seed % 2**64], dtype=np.uint64)))
    return torch.from_numpy(mixed.argsort(kind="stable"))


def stir(words: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit words after which every bit depends on every other (Steele, Lea & Flood 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def member(keys: Tensor, ascending: Tensor) -> Tensor:
    """Whether each key is among the ascending ones."""
    if len(ascending) == 0:
        return torch.zeros(len(keys), dtype=torch.bool)
    return ascending[torch.searchsorted(ascending, keys).clamp_max(len(ascending) - 1)] == keys
