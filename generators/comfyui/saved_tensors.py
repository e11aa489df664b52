"""What the way back of a gradient needs, kept right while layers change tensors in place and a host takes weights away again."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PLAIN = (Tensor, torch.nn.Parameter)  # torch sees the memory of these; others may be made of several tensors


class Saved:
    """A context for a function and its gradient: inside, what is saved for the way back is as it was when it was saved.

    It does what `torch.autograd.graph.allow_mutation_on_saved_tensors` does, and three things that this one does not: it also
    sees what is written through a view that begins further on (where torch's gives a wrong gradient, without a word); tensors of
    inference mode may be changed in place inside (torch's reads their version counter, which they have none of); and weights
    may be lent, see `lend`. Both the function and its gradient run inside the same context.
    """

    def __init__(self):
        self._kept: dict[int, weakref.WeakSet[_Kept]] = {}  # by the memory they lie in
        self._lent: list[_Lent] = []

    def __enter__(self) -> Saved:
        with ExitStack() as stack:
            stack.enter_context(torch.autograd.graph.saved_tensors_hooks(self._keep, lambda kept: kept.tensor))
            stack.enter_context(_BeforeWriting(self._written))
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._exit.close()

    def lend(self, weight: Tensor, again: Callable[[], AbstractContextManager[Tensor]]) -> Tensor:
        """A weight that gradients may pass, for use by the next operation: its memory may be taken for something else later.

        Parameters
        ----------
        weight : may be a tensor of inference mode.
        again : a context that gives the same weight once more. Where the way back needs the weight, it is fetched with this,
            copied, and given back at once, so that only one weight at a time takes memory of its own.
        """
        lent = passable(weight) if type(weight) in PLAIN else weight.detach().clone()
        self._lent.append(_Lent(lent, again))
        return lent

    def _keep(self, tensor: Tensor) -> _Kept | _Part:
        self._lent = [one for one in self._lent if one.in_use()]
        for one in reversed(self._lent):
            if one.holds(tensor):
                return _Part(one, tensor)
        kept = _Kept(tensor.detach())
        self._kept.setdefault(_memory(tensor), weakref.WeakSet()).add(kept)
        return kept

    def _written(self, tensor: Tensor) -> None:
        for kept in self._kept.pop(_memory(tensor), ()):
            kept.tensor = kept.tensor.clone()


def passable(tensor: Tensor) -> Tensor:
    """The same memory as a tensor that gradients may pass, with what the host has written on it; a copy where torch cannot see
    the memory."""
    if type(tensor) not in PLAIN:
        tensor = tensor.detach()
        return tensor.clone() if tensor.is_inference() else tensor
    if tensor.is_inference():
        shared = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        shared = shared.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
    else:
        shared = tensor.detach()
    shared.__dict__.update(tensor.__dict__)
    return shared


class _Kept:
    """A tensor that is needed on the way back; a copy of it from when something is written where it lies."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor


class _Lent:
    """A weight while an operation uses it."""

    def __init__(self, weight: Tensor, again: Callable[[], AbstractContextManager[Tensor]]):
        self.again, self._weight = again, weakref.ref(weight)
        self.start, self._kind = weight.data_ptr(), (type(weight), weight.dtype)

    def in_use(self) -> bool:
        """Afterwards something else may lie there."""
        return self._weight() is not None

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor is the weight, or a part or a transpose of it."""
        weight = self._weight()
        if (type(tensor), tensor.dtype) != self._kind:
            return False
        if type(tensor) is not Tensor:  # such as a quantised one, whose memory is not as large as it says; its parts are copies
            return (tensor.data_ptr(), tensor.shape, tensor.stride()) == (self.start, weight.shape, weight.stride())
        return 0 <= tensor.data_ptr() - self.start < weight.numel() * weight.element_size()

    def copy(self) -> Tensor:
        with self.again() as weight:
            return weight.clone()


class _Part:
    """What is needed of a lent weight, such as its transpose: fetched when it is asked for."""

    def __init__(self, lent: _Lent, tensor: Tensor):
        self._lent, self._place = lent, (tensor.shape, tensor.stride(), (tensor.data_ptr() - lent.start) // tensor.element_size())

    @property
    def tensor(self) -> Tensor:
        weight = self._lent.copy()
        return weight.as_strided(*self._place) if type(weight) is Tensor else weight


class _BeforeWriting(TorchDispatchMode):
    """Tells of every ordinary tensor that is about to be changed in place."""

    def __init__(self, tell: Callable[[Tensor], None]):
        super().__init__()
        self._tell = tell

    def __torch_dispatch__(self, operator, types, given=(), told=None):
        told = told or {}
        for place, argument in enumerate(operator._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                written = given[place] if place < len(given) else told.get(argument.name)
                for tensor in tree_leaves(written):
                    if isinstance(tensor, Tensor) and not tensor.is_inference():
                        self._tell(tensor)
        return operator(*given, **told)


def _memory(tensor: Tensor) -> int:
    """Where the memory begins that a tensor and all views of it lie in."""
    return tensor.data_ptr() - tensor.storage_offset() * tensor.element_size()
