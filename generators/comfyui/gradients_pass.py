"""ComfyUI while gradients pass its models: its layers lend their weights, and it takes operations that have a way back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import comfy.model_management
import comfy.ops
import torch
from torch import Tensor

from .saved_tensors import Saved


@contextmanager
def gradients_pass(saved: Saved) -> Iterator[None]:
    """For what is computed inside, a gradient can be taken later, whatever ComfyUI does with the weights until then.

    Layers whose weights lie elsewhere or are of another type cast them before each use, into memory that the next layer may be
    given (buffers, and the pages of dynamic VRAM). Here the casting runs in inference mode, as when a picture is drawn, so that
    ComfyUI finds its buffers as it keeps them; and what comes of it is lent: the way back casts anew, a layer at a time, so
    that a gradient needs little more room for weights than drawing does. Newer servers have fused operations that know no way
    back, and take others while `in_training` is set; weights are not fetched ahead, nor layers recorded as CUDA graphs.

    saved : what the way back needs.
    """
    cast = comfy.ops.cast_bias_weight

    def lent(layer, *given, **told) -> tuple:
        with torch.inference_mode():
            made = cast(layer, *given, **told)
        given, told = [_blank(x) for x in given], {name: _blank(x) for name, x in told.items()}
        return tuple(
            saved.lend(x, partial(_once_more, cast, place, layer, given, told)) if place < 2 and _goes_away(x, layer) else x
            for place, x in enumerate(made)
        )

    prefetch = sys.modules.get("comfy.model_prefetch")
    with (
        _instead(comfy.ops, "cast_bias_weight", lent),
        _instead(comfy.model_management, "in_training", True),
        _instead(prefetch, "make_prefetch_queue", lambda *_, **__: None),
    ):
        yield


def _goes_away(weight: Tensor | None, layer) -> bool:
    own = weight is layer.weight or weight is layer.bias
    return weight is not None and (weight.is_inference() or not own)


@contextmanager
def _once_more(cast, place: int, layer, given, told) -> Iterator[Tensor]:
    """The weight (place 0) or the bias (1) that a layer casts."""
    with torch.inference_mode():
        made = cast(layer, *given, **told)
    try:
        yield made[place]
    finally:
        if len(made) > 2:
            comfy.ops.uncast_bias_weight(layer, *made)


def _blank(given):
    """What was given to a cast, of which only the type and the device count, without its memory."""
    return torch.empty(0, dtype=given.dtype, device=given.device) if isinstance(given, Tensor) else given


@contextmanager
def _instead(module, name: str, value) -> Iterator[None]:
    """A module's value, where it has such a one, for as long as the context lasts."""
    if not hasattr(module, name):
        yield
        return
    held = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, held)
