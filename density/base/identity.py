"""Who a row is: a 64-bit key made of the row's origin, the same on every device, in every batch and precision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from .keys import stir

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def sample_keys(origin: dict, numbers: Iterable[int], begun: Tensor | None = None) -> Tensor:
    """Keys of samples, made of everything that determines the samples and of their numbers.

    The key of number i is output i + 1 of SplitMix64 (Steele, Lea & Flood 2014) with the digest of the origin as its
    state, so no two numbers of an origin share a key.

    Parameters
    ----------
    origin : JSON values: space, producer, prompt, settings, seed.   numbers : n of them, modulo 2^64.
    begun : [n] int64, keys of the rows that the samples were made from, or None.

    Returns
    -------
    [n] int64.
    """
    state = np.frombuffer(_digest(json.dumps(origin, sort_keys=True).encode()), dtype=np.uint64)
    steps = np.array([(number + 1) % 2**64 for number in numbers], dtype=np.uint64) * GOLDEN
    if begun is not None:
        state = stir(state ^ begun.numpy().view(np.uint64))
    return torch.from_numpy(stir(state + steps).view(np.int64))


def picture_keys(pictures: Tensor, space: dict) -> Tensor:
    """Keys [N] int64 of pictures [N, H, W, 3], values 0 to 1, made of their 8-bit pixels and a space.

    Pixels are cut to whole grey levels, not rounded, as ComfyUI's Save Image does. So a picture that is saved as PNG
    and loaded again keeps its key.
    """
    head = json.dumps([space, list(pictures.shape[1:])], sort_keys=True).encode()
    levels = ((255.0 * picture.detach().float()).to(torch.uint8).cpu().contiguous() for picture in pictures)
    found = b"".join(_digest(head, picture.numpy()) for picture in levels)
    return torch.frombuffer(bytearray(found), dtype=torch.int64)


def digest_of(*parts: Tensor) -> str:
    """A name of 16 hexadecimal digits for the bytes of CPU tensors."""
    return _digest(*(part.detach().contiguous().numpy() for part in parts)).hex()


def _digest(*parts) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.digest()
