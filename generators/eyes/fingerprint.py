"""What an image encoder is called: a name for people, and a digest of what it does, whoever loaded it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import torch
from torch import Tensor

KNOWN = {(1664, 48, 14): "ViT-bigG/14", (1280, 32, 14): "ViT-H/14", (1024, 24, 14): "ViT-L/14"}


def clip_name(width: int, layers: int, patch: int) -> str:
    """A name for people: ViT-bigG/14 for Kandinsky 2.2's encoder, the measures of one that is not known."""
    return "CLIP " + KNOWN.get((width, layers, patch), f"ViT {width}x{layers}/{patch}")


def pattern(size: int) -> Tensor:
    """The picture every encoder is shown, as it enters the network: smooth stripes of three slants, [1, 3, size, size]."""
    place = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 * math.pi
    y, x = place[:, None], place[None, :]
    return torch.stack([torch.sin(3 * x + y), torch.sin(x - 2 * y), torch.sin(2 * x + 5 * y)])[None].float()


def fingerprint(embedding: Tensor) -> str:
    """A short digest of what an image encoder does: twelve hexadecimal digits.

    Parameters
    ----------
    embedding : [d], what the encoder makes of `pattern`, computed in float32.

    Returns
    -------
    SHA-256 of the width and of 16 coarse numbers,  round(2 c_j),  where c is the discrete cosine transform of the
    embedding, scaled so that a typical |c_j| is 1.

    A step of 1/2 against float32 rounding of about 1e-6 leaves a chance of some 1e-4 that another machine's rounding
    changes a digit; half-precision copies of the same weights (1e-3) agree in nineteen cases of twenty. Another encoder
    agrees by chance in one of more than a million.
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

    Numbers are rounded to half precision, so that copies in float32 and float16 are one; another precision may be another
    network. Training changes nearly every number, so a few of each weight tell.
    """
    digest = hashlib.blake2b(digest_size=8)
    for weight in weights:
        digest.update(repr(tuple(weight.shape)).encode())
        digest.update(weight.detach().flatten()[:8].half().cpu().numpy().tobytes())
    return digest.hexdigest()
