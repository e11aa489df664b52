"""Gradients through networks that were not made for it: weights of inference mode, and layers that change tensors in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from .saved_tensors import PLAIN, Saved, passable


def recomputed(function: Callable[..., Tensor], *tensors: Tensor, within: Callable[[Saved], AbstractContextManager] = nullcontext):
    """function(*tensors), of whose inside nothing is kept: on the way back it is called once more.

    Chen et al. (2016), arXiv 1604.06174. The function may change tensors in place. It must be the same when called again. The
    first call is one of inference mode, as if no gradient was wanted.

    within : a context that the second call runs in, made of what is saved for the way back.
    """
    return _Recomputed.apply(function, within, *tensors)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, function, within, *tensors):
        ctx.function, ctx.within = function, within
        ctx.save_for_backward(*tensors)
        with torch.inference_mode():
            made = function(*(x.clone() for x in tensors))
        return made.clone()

    @staticmethod
    def backward(ctx, slope):
        needed = ctx.needs_input_grad[2:]
        with torch.enable_grad(), Saved() as saved:
            leaves = [x.detach().clone().requires_grad_(need) for x, need in zip(ctx.saved_tensors, needed, strict=True)]
            with ctx.within(saved):
                made = ctx.function(*(leaf.clone() for leaf in leaves))  # a leaf may not be changed in place, a copy may
            moving = [leaf for leaf in leaves if leaf.requires_grad]
            size = slope.abs().max().clamp_min(1e-30)  # half precision knows nothing below 6e-8
            slopes = torch.autograd.grad(made, moving, slope / size, materialize_grads=True)
        slopes = (one * size.to(one.device) for one in slopes)
        return None, None, *(next(slopes) if need else None for need in needed)


def frozen(module: torch.nn.Module, function: Callable, load: Callable[[], object]) -> Callable:
    """A function of a module, such as one of its methods, that gradients may pass, with the weights of the moment it is called.

    Weights of layers that cast them (ComfyUI's, while `comfy_cast_weights` is set) and are no plain tensors stay in their places:
    what such a layer makes of its weights is what gradients pass.

    load : brings the module to where it runs, before every call: on the way back another one may have taken its place.
    """
    places = []

    def run(*given, **told):
        with torch.inference_mode():  # as a host does that keeps its weights so
            load()
        if not torch.is_grad_enabled():
            return function(*given, **told)
        places[:] = places or _places(module)
        with _passable_weights(places):
            return function(*given, **told)

    return run


def _places(module: torch.nn.Module) -> list[tuple[torch.nn.Module, dict[str, Tensor | None], str]]:
    """Where a module's weights and buffers are: the layer, the dictionary that it finds them in, and their name there."""
    return [
        (layer, held, name) for layer in module.modules() for held in (layer._parameters, layer._buffers) for name in held
    ]


@contextmanager
def _passable_weights(places: list) -> Iterator[None]:
    """Inside, tensors that gradients may pass lie where a module's weights are.

    `torch.func.functional_call` does the same, by names: for a U-Net of 2,000 weights that takes 30 ms a step, a tenth of it.
    """
    replaced = []
    try:
        for layer, held, name in places:
            x = held.get(name)
            if x is not None and (type(x) in PLAIN or not getattr(layer, "comfy_cast_weights", False)):
                replaced.append((held, name, x))
                held[name] = passable(x)
        yield
    finally:
        for held, name, x in reversed(replaced):
            held[name] = x


def own(told):
    """The same, with every tensor made under inference mode copied; lists and dictionaries in it are new ones."""
    if isinstance(told, Tensor):
        return told.clone() if told.is_inference() else told
    if isinstance(told, dict):
        return {key: own(value) for key, value in told.items()}
    return [own(value) for value in told] if isinstance(told, list) else told
