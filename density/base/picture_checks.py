"""The check that a tensor holds pictures: red, green and blue from 0 to 1, as nodes pass them on."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import RarityError

# Bicubic resizing leaves 0 to 1 by up to 0.4 at sharp edges; 8-bit pictures and those from -1 to 1 leave it by more.
OVERSHOOT = 0.5
BRIGHT = 16  # a rendered scene may be this bright, where 1 is white; 8-bit pictures go much further


def as_pictures(images: Tensor, what: str = "Pictures") -> Tensor:
    """Pictures as they would be saved: values a little outside 0 to 1, as after sharp resizing, are cut to 0 or 1.

    Parameters
    ----------
    images : [N, H, W, 3] of any precision.   what : names them in an error.

    Returns
    -------
    [N, H, W, 3] float32, 0 to 1; the same tensor if it is that already. Half precision is converted, because ComfyUI
    may be set to keep pictures in it and processors cannot resize in it.

    Raises
    ------
    RarityError : another shape, no pixels, or values that are not finite or further outside than resizing takes them.
    """
    if not isinstance(images, Tensor) or images.dim() != 4 or images.shape[-1] != 3 or 0 in images.shape:
        got = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise RarityError(f"{what} must be a tensor of shape [N, H, W, 3] (RGB, values 0 to 1), got {got}. {_advice(images)}")
    return _in_range(images.to(torch.float32), what)


def _in_range(images: Tensor, what: str) -> Tensor:
    """The same values, cut at 0 and 1.

    Raises
    ------
    RarityError : values that are not finite, or further outside than resizing takes them.
    """
    low, high = images.amin().item(), images.amax().item()  # whatever the order in memory
    if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):  # written so that NaN is refused, too
        raise RarityError(f"{what} must have values from 0 to 1, got {low:g} to {high:g}. {_cure(low, high)}")
    return images if low >= 0 and high <= 1 else images.clamp(0, 1)


def _cure(low: float, high: float) -> str:
    if not abs(low) + abs(high) < float("inf"):
        return "Leave out those that are not finite, and find out why they were made: half precision often does."
    if low >= -OVERSHOOT:
        if high <= BRIGHT:
            return f"Brighter than 1, which is white, cannot be shown: cut the values at 1, or divide them by {high:g}."
        return "Divide 8-bit pictures by 255." if high <= 255 * (1 + OVERSHOOT) else "Divide 16-bit pictures by 65535."
    if low >= -1 - OVERSHOOT and high <= 1 + OVERSHOOT:
        return "Move pictures from -1 to 1 to (x + 1) / 2."
    return "These are latents, or pictures made ready for an encoder: connect what VAE Decode or Load Image gives."


def _advice(images) -> str:
    if isinstance(images, Tensor) and images.dim() == 4 and 0 not in images.shape:
        channels = images.shape[-1]
        if channels == 4:
            return "The fourth is an alpha channel: drop it, with Split Image with Alpha."
        if channels > 4:
            return "Split Image with Alpha takes the first three of its channels, where those are the colours."
        what = "One channel is greyscale" if channels == 1 else "Two channels are greyscale and alpha"
        return f"{what}: make it RGB, with Convert Image to Mask (channel red) and then Convert Mask to Image."
    return "A picture needs a height, a width, and its colours last."
