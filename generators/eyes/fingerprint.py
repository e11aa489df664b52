"""The two names of an image encoder: a name for people, and a digest of its results, which is the same for every loader."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import torch
from torch import Tensor

KNOWN = {(1664, 48, 14): "ViT-bigG/14", (1280, 32, 14): "ViT-H/14", (1024, 24, 14): "ViT-L/14"}


def clip_name(width: int, layers: int, patch: int) -> str:
    """A name for people, such as ViT-bigG/14 for Kandinsky 2.2's encoder; an unknown encoder is named by its sizes."""
    return "CLIP " + KNOWN.get((width, layers, patch), f"ViT {width}x{layers}/{patch}")


def pattern(size: int) -> Tensor:
    """The picture that fingerprints every encoder: smooth stripes of three slants, [1, 3, size, size], normalised."""
    place = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 * math.pi
    y, x = place[:, None], place[None, :]
    return torch.stack([torch.sin(3 * x + y), torch.sin(x - 2 * y), torch.sin(2 * x + 5 * y)])[None].float()


def fingerprint(embedding: Tensor) -> str:
    """A short digest of what an image encoder does: twelve hexadecimal digits.

    Parameters
    ----------
    embedding : [d], the encoder's embedding of `pattern`, computed in float32.

    Returns
    -------
    SHA-256 of the width and of 16 coarse numbers,  round(2 c_j),  where c is the discrete cosine transform of the
    embedding, scaled so that a typical |c_j| is 1.

    The step of the coarse numbers is 1/2, and float32 rounding is about 1e-6. So the rounding of another machine changes
    a digit with a chance of about 1e-4. Half-precision copies of the same weights (rounding 1e-3) get the same digest in
    nineteen of twenty cases. Another encoder gets the same digest by chance in less than one of a million cases.
    """
    e = embedding.cpu().double()
    width = e.numel()
    e = e / e.norm()
    j = torch.arange(1, min(16, width - 1) + 1, dtype=torch.float64)[:, None]
    places = torch.arange(width, dtype=torch.float64) + 0.5
    coefficients = (2 * torch.cos(math.pi * j * places / width) * e).sum(dim=1) * math.sqrt(0.5)
    digits = [width] + torch.round(2 * coefficients).to(torch.int64).tolist()
    return hashlib.sha256(repr(digits).encode()).hexdigest()[:12]


def weights_name(weights: Iterable[Tensor]) -> str:
    """A short digest of a network: sixteen hexadecimal digits of the sizes and the first numbers of all its weights.

    The numbers are rounded to half precision, so that copies in float32 and float16 get the same name; a copy in another
    precision may get another name. Training changes nearly every number, so a few numbers of each weight are enough.
    """
    digest = hashlib.blake2b(digest_size=8)
    for weight in weights:
        digest.update(repr(tuple(weight.shape)).encode())
        digest.update(weight.detach().flatten()[:8].half().cpu().numpy().tobytes())
    return digest.hexdigest()
