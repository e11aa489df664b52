"""Steer a condition to rarity with ComfyUI's own models: the subspace of the engine, the limit of memory, and the report."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import comfy.model_management
import torch
from torch import Tensor

from ...density.base.errors import RarityError
from ...density.base.tensors import plain
from ...density.estimators.contract import Density
from ...density.steering.guardrails import Guardrail
from ...density.steering.trajectory import Trajectory
from ..runtime.memory import Placement, in_pieces
from ..steering.engines import ADVICE
from ..steering.loop import steer
from .family_advice import unlike_baseline, unsuited
from .model_baseline import ModelPictures
from .model_drawing import NativePictures
from .prompts.condition import Condition

STEP_SIZES = {"gradient": 0.02, "evolution": 0.3}
GIB = 2**30


def optimize_conditioning(
    drawing: ModelPictures,
    eye,
    density: Density,
    one_in: float = 1000,
    guardrails: tuple[Guardrail, ...] = (),
    *,
    engine: str = "gradient",
    variations=None,
    dimensions: int = 8,
    step_size: float = 0.0,
    **settings,
) -> tuple[list, Trajectory, str, Tensor]:
    """Find a CONDITIONING whose pictures, with any seed, are as rare as asked.

    Parameters
    ----------
    drawing : how pictures are drawn, with the unchanged CONDITIONING.
    eye : encodes pictures, such as `clip_vision_eye.eye_of` gives.   density : what is usual for this drawing and this eye.
    one_in, guardrails, engine : see `steer`.
    variations : other wordings of the prompt, a CONDITIONING of several entries. They span the subspace in which evolution
        searches; see `Condition.subspace`.   dimensions : the largest number of its dimensions.
    step_size : 0 is the engine's own step size; see STEP_SIZES.
    settings : those of `steer_condition`.

    Returns
    -------
    The new CONDITIONING; the trajectory; a report in words; the pictures [n, H, W, 3] under it.

    Raises
    ------
    RarityError : as `steer` and `Condition`; gradients that cannot pass, or take more memory than they may.
    """
    condition = Condition(drawing.positive)
    basis = condition.spread if engine == "gradient" else condition.subspace(variations, dimensions)
    change, *found = steer_condition(
        condition, basis, drawing, eye, density, one_in, guardrails, engine=engine,
        step_size=step_size or STEP_SIZES.get(engine, 1.0), **settings,
    )
    with plain():
        return condition.moved(change), *found


def steer_condition(
    condition,
    basis: Tensor,
    drawing: ModelPictures,
    eye,
    density: Density,
    one_in: float = 1000,
    guardrails: tuple[Guardrail, ...] = (),
    *,
    engine: str = "gradient",
    pictures: int = 4,
    memory_gib: float = 0.0,
    placement: Placement | None = None,
    preview: Callable[[Tensor], None] | None = None,
    **settings,
) -> tuple[Tensor, Trajectory, str, Tensor]:
    """Steer a condition within a limit of memory.

    Parameters
    ----------
    condition, basis, drawing, eye, placement : see `NativePictures`.   density : what is usual for this drawing and eye.
    one_in, guardrails, engine, pictures : see `steer`.
    memory_gib : the most memory that gradients may take; 0 is all that ComfyUI says is free.
    preview : called with the first picture at every checkpoint.
    settings : directions, iterations, step_size, keep_every, gate and progress; see `steer`.

    Returns
    -------
    The change [k] of the condition; the trajectory; a report in words; the pictures [n, H, W, 3] under it.

    Raises
    ------
    RarityError : as `steer`; gradients that cannot pass, or take more memory than they may.
    """
    generator = NativePictures(drawing, eye, condition, basis, placement)
    generator.space.require_same(density.space, "density")

    def watch(steering) -> None:
        if preview:
            preview(generator.pictures(steering.offsets[-1], range(1)))

    device = drawing.model.load_device
    at_once = pictures
    if engine == "gradient":
        generator.require_gradients()
        at_once = _at_once(generator, pictures, memory_gib, device)
    with PeakMemory(device) as peak:
        steering = steer(
            generator, density, one_in, guardrails, engine=engine, pictures=pictures, at_once=at_once, seed=drawing.seed,
            watch=watch, **settings,
        )
    chosen, calls = steering.offsets[-1], steering.drawn * drawing.steps
    report = (
        f"{steering.report()} With {drawing.steps} steps each the model was called {calls:,} times. "
        f"At most {peak.gib:.1f} GiB of memory were in use."
    )
    report = " ".join((report, *unlike_baseline(drawing.source, density.source), *unsuited(drawing)))
    with plain():
        change = generator.change(chosen)
    return change, steering.trajectory, report, generator.pictures(chosen, range(pictures))


def _at_once(generator: NativePictures, pictures: int, memory_gib: float, device: torch.device) -> int:
    """For how many pictures gradients fit into the memory at a time. The gradient of one is computed and measured."""

    def try_one(rows: range) -> None:
        with torch.inference_mode(False), torch.enable_grad():
            offset = torch.zeros(generator.size, requires_grad=True)
            torch.autograd.grad(generator.embed(offset, rows).sum(), offset)

    if not 0 <= memory_gib < math.inf:
        raise RarityError(f"Gradients may take 0 GiB or more, got {memory_gib}. 0 takes what ComfyUI says is free.")
    generator.load()  # so that the weights do not count as memory of the gradient
    before = in_use(device)
    with PeakMemory(device) as peak:
        for _ in in_pieces(range(1), 1, try_one, generator.placement, ADVICE):
            pass
    each = max(peak.bytes - before, 2**20)
    if memory_gib and each > memory_gib * GIB:
        raise RarityError(f"The gradient of one picture takes {each / GIB:.3g} GiB, and may take {memory_gib:g}. {ADVICE}")
    free = getattr(generator.drawing.model, "get_free_memory", comfy.model_management.get_free_memory)  # counts dynamic VRAM, too
    room = memory_gib * GIB if memory_gib else free(device)
    return max(1, min(pictures, int(room / each)))


def in_use(device: torch.device) -> int:
    """Bytes in use: on an NVIDIA card those of torch, elsewhere those of this process."""
    import psutil  # ComfyUI needs it, too

    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


class PeakMemory:
    """A context that measures the most bytes in use: exactly on an NVIDIA card, elsewhere by fifty looks a second.

    A context must not lie inside another one, because torch counts for one at a time.
    """

    def __init__(self, device: torch.device):
        self._device, self._done, self.bytes = device, threading.Event(), in_use(device)

    def __enter__(self):
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._sampler = threading.Thread(target=self._sample, daemon=True)
            self._sampler.start()
        return self

    def _sample(self):
        while not self._done.wait(0.02):
            self.bytes = max(self.bytes, in_use(self._device))

    def __exit__(self, *_):
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self._device)
        else:
            self._done.set()
            self._sampler.join()

    @property
    def gib(self) -> float:
        return self.bytes / GIB
