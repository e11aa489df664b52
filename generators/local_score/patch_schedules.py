"""The patch size of each step: published, from a list, or as far as the pictures' own pixels depend on each other."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...density.base.errors import RarityError
from .noise_levels import signal_share, times

# Kamb and Ganguli 2025 fitted these to trained networks on pictures of 32 x 32 pixels: 20 steps, clean to noisy. They
# are the scales files of their code (github.com/Kambm/convolutional_diffusion).
PUBLISHED = {
    "photographs": (3, 3, 3, 3, 5, 5, 5, 7, 7, 7, 7, 9, 9, 11, 11, 13, 15, 17, 17, 17),  # CIFAR10, ResNet, zero padding
    "faces": (3, 3, 3, 5, 5, 5, 5, 5, 7, 7, 9, 9, 9, 11, 11, 11, 13, 15, 19, 19),  # CelebA, the same
    "drawings": (3, 3, 5, 5, 5, 7, 7, 7, 9, 9, 11, 11, 11, 11, 13, 15, 15, 15, 15, 15),  # MNIST, the same
}
PUBLISHED_SIZE = 32
ENOUGH = 256  # so many pictures show how far pixels depend on each other


def scaled(name: str, height: int, width: int, steps: int, scale: float = 1.0) -> list[int]:
    """A published schedule for pictures of another size.

    Parameters
    ----------
    name : "photographs", "faces" or "drawings".   height, width : pixels.   steps : of the sampler.
    scale : makes all patches larger or smaller.

    Returns
    -------
    Odd patch sizes, one for each step, noise first. At time t: published(t) * scale * min(height, width) / 32.

    Raises
    ------
    RarityError : an unknown name, steps below 1.
    """
    if name not in PUBLISHED:
        raise RarityError(f"Published patch sizes are there for {', '.join(PUBLISHED)}; got {name!r}.")
    known = PUBLISHED[name]
    grown = scale * min(height, width) / PUBLISHED_SIZE
    return [_odd(_between(known, time) * grown, height, width) for time in times(steps)]


def from_list(text: str, height: int, width: int, steps: int, scale: float = 1.0) -> list[int]:
    """A schedule from a user's list such as "3 3 5 9 15", clean to noisy, of any length, stretched over the steps.

    Raises
    ------
    RarityError : no numbers, even ones, or patches larger than the picture.
    """
    words = text.replace(",", " ").split()
    if not words or not all(word.isdecimal() for word in words):
        raise RarityError(f"Patch sizes are odd whole numbers such as '3 3 5 7 11', from clean to noisy; got {text!r}.")
    sizes = [int(word) for word in words]
    for size in sizes:
        check_patch(size, height, width)
    if len(sizes) == steps and scale == 1:
        return sizes[::-1]
    return [_odd(scale * _between(sizes, time), height, width) for time in times(steps)]


def from_pictures(pictures: Tensor, steps: int, scale: float = 1.0, share: float = 0.9) -> list[int]:
    """Patches as large as the distance over which the pictures' pixels inform about each other at each noise level.

    The best linear estimate of a pixel under noise is the Wiener filter of the pictures' own covariance. In weak noise
    it uses hardly more than the pixel itself. The stronger the noise, the farther it has to look.

        h = F^-1[ S / (S + v / abar) ],    S = mean over pictures of |F[window (y - mean)]|^2 / sum window^2

    Parameters
    ----------
    pictures : [N, C, H, W].   steps : of the sampler.   scale : makes all patches larger or smaller.
    share : the patch is the smallest square that holds this share of the sum of h^2.

    Returns
    -------
    Odd patch sizes, one for each step, noise first.

    Source: Wiener 1949; the periodogram with a Hann window, Welch 1967.
    """
    height, width = pictures.shape[2:]
    spectrum = _spectrum(pictures[:: -(-len(pictures) // ENOUGH)])
    distance = torch.maximum(_apart(height)[:, None], _apart(width))
    sizes = []
    for time in times(steps):
        signal = signal_share(time)
        gain = spectrum / (spectrum + (1 - signal) / signal)
        energy = torch.fft.ifft2(gain).real.square()
        inside = torch.zeros(int(distance.max()) + 1, dtype=energy.dtype)
        inside.index_add_(0, distance.flatten(), energy.flatten())
        held = inside.cumsum(0) / inside.sum().clamp_min(1e-300)
        reach = int((held < share).sum())
        sizes.append(_odd(scale * (2 * reach + 1), height, width))
    return sizes


def check_patch(patch: int, height: int, width: int) -> None:
    """Raise RarityError unless a patch size is odd, at least 1, and at most the picture's shorter side."""
    if patch < 1 or patch % 2 == 0:
        raise RarityError(
            f"A patch has a pixel in its middle: its size must be odd and at least 1, got {patch}. "
            f"Take {max(1, patch - 1)} or {max(1, patch + 1)}."
        )
    if patch > min(height, width):
        raise RarityError(
            f"A patch of {patch} x {patch} pixels is larger than the pictures, which are {width} x {height} pixels. "
            f"Take {_odd(patch, height, width)} or less, or larger pictures."
        )


def _between(known, time: float) -> float:
    """The size at a time, interpolated between the steps' known sizes, clean to noisy; the last is that of t = 1."""
    place = max(0.0, time * len(known) - 1)
    low = min(int(place), len(known) - 1)
    high = min(low + 1, len(known) - 1)
    return known[low] + (place - low) * (known[high] - known[low])


def _odd(size: float, height: int, width: int) -> int:
    """The nearest odd size, from 3 to the largest patch that fits."""
    fits = (min(height, width) - 1) // 2 * 2 + 1
    return max(min(3, fits), min(fits, 2 * round((size - 1) / 2) + 1))


def _spectrum(pictures: Tensor) -> Tensor:
    """The power of each frequency, [H, W] float64: white noise of variance s has power s everywhere."""
    height, width = pictures.shape[2:]
    window = torch.hann_window(height + 2)[1:-1, None] * torch.hann_window(width + 2)[1:-1]
    mean = pictures.mean(dim=(0, 2, 3), keepdim=True)
    power = torch.zeros(height, width, dtype=torch.float64)
    for block in pictures.split(max(1, 4_000_000 // math.prod(pictures.shape[1:]))):
        power += torch.fft.fft2((block - mean) * window.to(block)).abs().square().sum(dim=(0, 1)).cpu().double()
    return power / (pictures.shape[0] * pictures.shape[1] * float(window.square().sum()))


def _apart(length: int) -> Tensor:
    """The distance of each place to the first place, on a circle."""
    places = torch.arange(length)
    return torch.minimum(places, length - places)
