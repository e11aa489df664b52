"""Gradients through networks that were not made for it: weights of inference mode, and layers that change tensors in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

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
    call = _Call(module, function)

    def run(*given, **told):
        with torch.inference_mode():  # as a host does that keeps its weights so
            load()
        if not torch.is_grad_enabled():
            return function(*given, **told)
        weights = {name: passable(x) for name, x in _weights(call)}
        return torch.func.functional_call(call, weights, given, told)

    return run


def _weights(module: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    casts = {name for name, layer in module.named_modules() if getattr(layer, "comfy_cast_weights", False)}
    for name, x in (*module.named_parameters(), *module.named_buffers()):
        if type(x) in PLAIN or name.rpartition(".")[0] not in casts:
            yield name, x


class _Call(torch.nn.Module):
    """A function of a module as a forward, as `functional_call` wants it."""

    def __init__(self, module: torch.nn.Module, function: Callable):
        super().__init__()
        self.module, self._function = module, function

    def forward(self, *given, **told):
        return self._function(*given, **told)


def own(told):
    """The same, with every tensor made under inference mode copied; lists and dictionaries in it are new ones."""
    if isinstance(told, Tensor):
        return told.clone() if told.is_inference() else told
    if isinstance(told, dict):
        return {key: own(value) for key, value in told.items()}
    return [own(value) for value in told] if isinstance(told, list) else told
