"""Changes to ComfyUI while gradients pass its models: layers lend their weights, and operations are differentiable."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import comfy.model_management
import comfy.ops
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .saved_tensors import Saved


@contextmanager
def gradients_pass(saved: Saved) -> Iterator[None]:
    """A context. Gradients of what is computed inside can be taken later, whatever ComfyUI does with the weights until then.

    A layer whose weights lie on another device or have another type casts them before each use. The cast weights lie in
    memory that the next layer may get (buffers, and the pages of dynamic VRAM). Inside this context the cast runs in
    inference mode, as when a picture is drawn, so that ComfyUI finds its buffers as it left them. The cast weights are only
    lent: the backward pass casts them again, one layer at a time, so that a gradient needs little more memory for weights
    than drawing. Newer versions of ComfyUI have fused operations that are not differentiable, and use others while
    `in_training` is set. Weights are not fetched ahead, and layers are not recorded as CUDA graphs.

    saved : the tensors that the backward pass needs.
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


@contextmanager
def gradients_pass_words(saved: Saved) -> Iterator[None]:
    """The same for text encoders. Those that are language models write a sum into the memory of their input, which has no gradient."""
    with gradients_pass(saved), _NewSums():
        yield


class _NewSums(TorchFunctionMode):
    """Inside, torch.add gives a new tensor in place of writing into `out`."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        told = kwargs or {}
        if function is torch.add and told.get("out") is not None:
            told = {name: value for name, value in told.items() if name != "out"}
        return function(*args, **told)


def _goes_away(weight: Tensor | None, layer) -> bool:
    own = weight is layer.weight or weight is layer.bias
    return weight is not None and (weight.is_inference() or not own)


@contextmanager
def _once_more(cast, place: int, layer, given, told) -> Iterator[Tensor]:
    """The weight (place 0) or the bias (place 1) of a layer, cast again."""
    with torch.inference_mode():
        made = cast(layer, *given, **told)
    try:
        yield made[place]
    finally:
        if len(made) > 2:
            comfy.ops.uncast_bias_weight(layer, *made)


def _blank(given):
    """The argument of a cast without its memory; only its type and device count."""
    return torch.empty(0, dtype=given.dtype, device=given.device) if isinstance(given, Tensor) else given


@contextmanager
def _instead(module, name: str, value) -> Iterator[None]:
    """A context in which an attribute of a module has another value, if the module has the attribute."""
    if not hasattr(module, name):
        yield
        return
    held = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, held)
