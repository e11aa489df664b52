"""Functions of tensors of fixed sizes, captured once on a graphics card and replayed: the card no longer waits for Python.

A captured graph is a list of kernels with the addresses of all they read and write. It therefore belongs to the sizes of
its inputs and to the places of the model's weights, and it holds the memory of everything in between. Few are kept, none
that holds much, and none that a model has moved away from. Where a graph cannot be had, the function runs as it is.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import _get_current_dispatch_mode

from .cuda_recorder import CudaRecorder, NotCaptured

FEW = 3  # graphs that are kept of one model
LITTLE = 256 * 2**20  # bytes; a graph that holds more goes with the work it was made for

logger = logging.getLogger(__name__)

_kept: WeakKeyDictionary[torch.nn.Module, OrderedDict[Hashable, Graph]] = WeakKeyDictionary()
_asked: WeakKeyDictionary[torch.nn.Module, deque[Hashable]] = WeakKeyDictionary()  # for `later`
_refused: set[str] = set()  # kinds of work whose capture has failed


class Graph:
    """Functions that are called in this order, captured together: inputs and outputs are always the same tensors.

    Parameters
    ----------
    recorder : captures.
    state : what it depends on besides its inputs.
    functions : of `inputs`; each gives a tensor, or several. The second may use what the first left behind, as gradients do.
    inputs : what the functions read; their values now are what warms up.
    """

    def __init__(self, recorder, state: tuple, functions: list[Callable], inputs: list[Tensor]):
        self.state = state
        # Tensors of inference mode could not be written to outside of it. Leaving it switches gradients on.
        with torch.inference_mode(False), torch.set_grad_enabled(torch.is_grad_enabled()):
            self._inputs = [torch.empty_like(given, requires_grad=given.requires_grad) for given in inputs]
            self._fill(self._inputs, inputs)
            self._replays, self._outputs, self.held = recorder.record(functions, self._inputs)
        self.turn = 0  # how often the first was replayed

    def replay(self, inputs: tuple[Tensor, ...]):
        """The outputs of the first function for its inputs; they are good until the next replay."""
        self._fill(self._inputs[: len(inputs)], inputs)
        self.turn += 1
        self._replays[0]()
        return self._outputs[0]

    def replay_second(self, inputs: tuple[Tensor, ...]):
        """The outputs of the second function, for the inputs that the first had, and these as the last ones."""
        self._fill(self._inputs[-len(inputs) :], inputs)
        self._replays[1]()
        return self._outputs[1]

    @staticmethod
    def _fill(mine: list[Tensor], given: tuple[Tensor, ...]) -> None:
        with torch.no_grad():
            for one, value in zip(mine, given, strict=True):
                one.copy_(value, non_blocking=True)


class Captured:
    """Calls the functions of a model, captured where the device can. Made anew for each piece of work, on the model's device.

    Parameters
    ----------
    model : whose weights the functions read. It is not kept alive.
    kind : of work, for the log.
    """

    def __init__(self, model: torch.nn.Module, kind: str):
        self._model, self._kind = model, kind
        self._recorder = recorder_of(next(model.parameters()).device) if _fits(model) else None
        self._state = self._recorder and state(model)
        self._marks: deque = deque()
        _drop(model, lambda graph: graph.state != self._state)  # the model has moved, or has other weights
        for graph in _kept.get(model, {}).values():
            graph.state = self._state  # the same values; one tuple is soon compared with itself, and it has thousands

    @property
    def replays(self) -> bool:
        """Whether functions are captured here, as far as one knows before one was."""
        return self._recorder is not None and self._kind not in _refused

    def __call__(self, function: Callable, *inputs: Tensor, depends: Hashable = ()):
        """function(*inputs).

        Parameters
        ----------
        function : of tensors alone. What else it depends on is in `depends`, or never changes.
        inputs : tensors on the device, whose sizes and types are part of what is captured.

        Returns
        -------
        What the function returns; where it was replayed, good until the next call.
        """
        graph = self._graph([function], inputs, depends)
        if graph is None:
            return function(*inputs)
        outputs = graph.replay(inputs)
        self._pace()
        return outputs

    def later(self, function: Callable, *inputs: Tensor, depends: Hashable = ()) -> tuple[Tensor, ...]:
        """function(*inputs), several tensors, captured when it is asked for again: a capture costs as much as three calls.

        The tensors are the caller's own.
        """
        key, asked = self._key(inputs, depends), _asked.setdefault(self._model, deque(maxlen=FEW))
        if key not in asked:
            asked.append(key)
            return function(*inputs)
        return tuple(one.clone() for one in self(function, *inputs, depends=depends))

    def with_gradients(self, function: Callable, learnt: list[Tensor], inputs: tuple[Tensor, ...], like: Tensor) -> Tensor:
        """function(*inputs), a tensor with gradients to `learnt` and to the inputs that want some: one graph there, one back.

        Parameters
        ----------
        function : of tensors alone, which reads `learnt`, too.
        like : a tensor of the type and the sizes of what it returns.

        Returns
        -------
        A tensor whose gradients can be asked for until the next call.
        """
        live = []

        def there(*given: Tensor) -> Tensor:
            live[:] = [function(*given[:-1])]
            return live[0].detach()

        def back(*given: Tensor):
            wanted = [*learnt, *(one for one in given[:-1] if one.requires_grad)]
            return torch.autograd.grad(live.pop(), wanted, given[-1], allow_unused=True)

        graph = self._graph([there, back], (*inputs, torch.zeros_like(like)), "gradients")
        return function(*inputs) if graph is None else _Replay.apply(graph, len(learnt), *learnt, *inputs)

    def _graph(self, functions: list[Callable], inputs: tuple[Tensor, ...], depends: Hashable) -> Graph | None:
        if not self.replays or _watched():
            return None
        key = self._key(inputs, depends)
        graphs = _kept.setdefault(self._model, OrderedDict())
        if key not in graphs or graphs[key].state != self._state:
            graphs.pop(key, None)
            with refusing(self._kind):
                graphs[key] = Graph(self._recorder, self._state, functions, list(inputs))
            if key not in graphs:
                return None
            while len(graphs) > FEW:
                graphs.popitem(last=False)
        graphs.move_to_end(key)
        return graphs[key]

    def _key(self, inputs: tuple[Tensor, ...], depends: Hashable) -> Hashable:
        return (self._kind, depends, *((one.shape, one.dtype) for one in inputs))

    def _pace(self) -> None:
        """Wait for the call before this one: whoever cancels between two calls is heard, and the card always has one to do."""
        self._marks.append(self._recorder.mark())
        if len(self._marks) > 2:
            self._marks.popleft().synchronize()


class _Replay(torch.autograd.Function):
    """A graph's first function on the way there, its second, which gives the gradients, on the way back."""

    @staticmethod
    def forward(ctx, graph: Graph, learnt: int, *tensors: Tensor) -> Tensor:
        outputs = graph.replay(tensors[learnt:])
        ctx.graph, ctx.turn, ctx.wanted = graph, graph.turn, [one.requires_grad for one in tensors]
        return outputs.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor):
        if ctx.turn != ctx.graph.turn:
            raise RuntimeError("What these gradients need has been overwritten by a later call.")
        found = iter(ctx.graph.replay_second((slope,)))
        # Copies: the next replay overwrites what it gives, while somebody may be summing gradients of several.
        slopes = [next(found) if wanted else None for wanted in ctx.wanted]
        return None, None, *(None if one is None else one.clone() for one in slopes)


@contextmanager
def refusing(kind: str):
    """Inside, a capture may fail: it is said once, and not tried again for this kind of work. Other errors pass."""
    try:
        yield
    except NotCaptured as error:
        if kind not in _refused:
            logger.warning("%s runs without a captured graph, more slowly: %s", kind, str(error.__cause__).splitlines()[0])
        _refused.add(kind)


def forget(model: torch.nn.Module | None = None) -> None:
    """Let go of all graphs of a model, or of all models, and of the memory that they held."""
    for one in [model] if model is not None else list(_kept):
        _drop(one, lambda graph: True)


def forget_large(model: torch.nn.Module) -> None:
    """Let go of the graphs of a model that hold much: its work is done, and others may need the room."""
    _drop(model, lambda graph: graph.held > LITTLE)


def state(model: torch.nn.Module) -> tuple:
    """What a captured graph of a model depends on: where its weights and buffers are, and which adapters are switched on.

    Values may change where they are: a replay reads them anew.
    """
    tensors = [*model.parameters(), *model.buffers()]
    switches = [module.disable_adapters for module in model.modules() if hasattr(module, "disable_adapters")]
    return (model.training, *switches, *((one.data_ptr(), one.shape, one.dtype, one.device) for one in tensors))


def recorder_of(device: torch.device):
    """What captures on a device, or None."""
    return CudaRecorder(device) if device.type == "cuda" else None


def _drop(model: torch.nn.Module, which: Callable[[Graph], bool]) -> None:
    graphs = _kept.get(model, {})
    gone = [key for key, graph in graphs.items() if which(graph)]
    for key in gone:
        del graphs[key]
    if gone and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _fits(model: torch.nn.Module) -> bool:
    """Hooks are Python, which a replay would pass by."""
    return not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def _watched() -> bool:
    """Whether something looks at every operation, and would see none in a replay: a profiler, a dispatch mode, autocast."""
    return torch.autograd._profiler_enabled() or _get_current_dispatch_mode() is not None or torch.is_autocast_enabled()
