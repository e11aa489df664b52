"""Prepare pictures for an image encoder as CLIPImageProcessor does, in torch and in batches."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from ...density.base.errors import RarityError
from ...density.base.picture_checks import as_pictures
from ...density.base.progress import Progress, waiting

_MODES = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}  # the keys are PIL's numbers, which the files use


def preprocess(images: Tensor, config: dict, device: torch.device | None = None) -> Tensor:
    """Resize, crop in the middle and normalise.

    Parameters
    ----------
    images : [N, H, W, 3], values 0 to 1.
    config : the fields of a preprocessor_config.json of CLIPImageProcessor; and `round_size`: whether the longer side is
        rounded to the nearest whole number of pixels, as in ComfyUI, or down.
    device : where the result goes; None leaves it where the pictures are. NVIDIA cards do the resizing themselves; other
        devices cannot do all of it.

    Returns
    -------
    [N, 3, h, w] float32 on the device,  (crop(resize(x)) - mean) / std.

    Unlike PIL this does not round to 8 bits after resizing; the difference is at most half a grey level.
    """
    if device is not None and device.type == "cuda":  # before the resizing, which takes the processor longer than the copy to the card
        images = images.to(device)
    x = images.to(torch.float32).permute(0, 3, 1, 2)
    if config.get("do_resize", True):
        x = _resize(x, config.get("size", 224), config.get("resample", 3), config.get("round_size", False))
    x = x.clamp(0, 1)  # bicubic overshoots at edges
    if config.get("do_center_crop", True):
        x = _crop(x, config.get("crop_size", 224))
    if config.get("do_normalize", True):
        mean = torch.tensor(config["image_mean"], device=x.device).view(1, -1, 1, 1)
        std = torch.tensor(config["image_std"], device=x.device).view(1, -1, 1, 1)
        x = (x - mean) / std
    return x if device is None else x.to(device)


def crops_middle(config: dict) -> bool:
    """Whether `preprocess` takes the middle square of a picture; otherwise it squashes the picture to a square."""
    size = config.get("size", 224)
    return config.get("do_center_crop", True) and not (isinstance(size, dict) and "height" in size)


def _resize(x: Tensor, size, resample: int, round_size: bool) -> Tensor:
    height, width = x.shape[-2:]
    if isinstance(size, dict) and "height" in size:
        target = (size["height"], size["width"])
    else:
        short = size["shortest_edge"] if isinstance(size, dict) else size
        least, most = min(height, width), max(height, width)
        # Rounding down needs whole numbers: as floats 18 / 33 * 55 is slightly less than 30.
        longer = round(short / least * most) if round_size else short * most // least
        target = (short, longer) if height <= width else (longer, short)
    if target == (height, width):
        return x
    if resample not in _MODES:
        raise RarityError(f"The image processor resizes with PIL filter {resample}; known are {sorted(_MODES)}.")
    mode = _MODES[resample]
    return F.interpolate(x, size=target, mode=mode, antialias=mode != "nearest-exact")


def _crop(x: Tensor, size) -> Tensor:
    height, width = (size["height"], size["width"]) if isinstance(size, dict) else (size, size)
    pad_y, pad_x = max(0, height - x.shape[-2]), max(0, width - x.shape[-1])
    x = F.pad(x, (pad_x // 2, pad_x - pad_x // 2, pad_y // 2, pad_y - pad_y // 2))
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top:top + height, left:left + width]


def join_pictures(parts: list[Tensor], *, progress: Progress | None = None) -> Tensor:
    """Join batches of pictures to one, [N, H, W, 3], in their order and in the highest of their precisions.

    A single batch is returned itself. progress : called with (0, 1) after every batch. An exception that it raises ends
    the joining.

    Raises
    ------
    RarityError : no batch; batches of different sizes.
    """
    if not parts:
        raise RarityError(
            "Expected at least one picture, got an empty list: the node that is connected left none. Let it keep more, or connect "
            "pictures themselves, from Decode Kandinsky or Load Image."
        )
    sizes = {tuple(part.shape[1:]) for part in parts}
    if len({size[-1] for size in sizes}) > 1:  # a batch is not red, green and blue; `as_pictures` refuses it and says what to do
        parts = [as_pictures(part) for part in parts]
    if len(sizes) != 1:
        raise RarityError(
            f"Pictures of different sizes cannot be one batch: {', '.join(f'{width} x {height}' for height, width, _ in sorted(sizes))}. "
            "Scale them to one size first."
        )
    if len(parts) == 1:
        return parts[0]
    precise = functools.reduce(torch.promote_types, (part.dtype for part in parts))
    joined = torch.empty(sum(map(len, parts)), *parts[0].shape[1:], dtype=precise, device=parts[0].device)
    start, tick = 0, waiting(progress)
    for part in parts:
        joined[start : start + len(part)] = part
        start += len(part)
        tick()
    return joined
