"""Steer a generator that makes pictures, not embeddings: one offset on its condition makes its pictures rare."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError
from ...density.base.log import get_logger
from ...density.base.progress import Progress
from ...density.base.spaces import EmbeddingSpace
from ...density.base.tensors import ordinary
from ...density.calibration.surprisal import bits_from_one_in
from ...density.estimators.contract import Density
from ...density.steering.band import QUIET, BandLoss
from ...density.steering.directions import Direction, Wishes
from ...density.steering.gates import Pullback
from ...density.steering.guardrails import Guardrail
from ...density.steering.optimize import check_spaces, with_defaults
from ...density.steering.readings import read_all, trajectory_of, what_they_say
from ...density.steering.trajectory import Trajectory
from ..judges.validity_gate import ValidityGate
from ..runtime.memory import Placement
from .engines import ENGINES, Tried

# In bits around the wanted rarity: how near pictures are led to it, and how near each has arrived. Both aim at the
# middle of the band and not at its near edge, because other noise and another density move the bits by some tenths.
LED, ARRIVED = 0.25, 0.5

logger = get_logger(__name__)


class Steerable(Protocol):
    """What `steer` needs of a generator. Picture i has its own noise, which is the same for every offset."""

    space: EmbeddingSpace  # of the encoder that looks at the pictures
    size: int  # numbers in an offset
    placement: Placement

    def embed(self, offset: Tensor, rows: range) -> Tensor:
        """The embeddings [n, d] of the pictures `rows` under an offset [k], in units of the condition's own spread.

        An offset of 0 is the unchanged condition. The engine "gradient" needs this to be differentiable in the offset.
        """

    def pictures(self, offset: Tensor, rows: range) -> Tensor:
        """The pictures themselves, [n, H, W, 3], 0 to 1, for a gate."""


@dataclass(frozen=True, eq=False)
class Steering:
    """What `steer` found, checkpoint by checkpoint. The first of the S checkpoints is the unchanged condition.

    Attributes
    ----------
    offsets : [S, k] float32, the best offset so far at every checkpoint; the last is the result.
    trajectory : readings of the same pictures under each offset.
    fresh_bits : the rarity of as many pictures of new noise under the result, [n] bits; None before the end.
    drawn : number of pictures that were made.   notes : what the user should know, in sentences.
    """

    offsets: Tensor
    trajectory: Trajectory
    drawn: int
    fresh_bits: Tensor | None = None
    notes: tuple[str, ...] = ()

    def report(self) -> str:
        """A text: the result, whether it holds for new noise, and how many pictures it took."""
        said = [self.trajectory.report()]
        if self.fresh_bits is not None:
            low, high = self.trajectory.band
            inside = int(((low <= self.fresh_bits) & (self.fresh_bits <= high)).sum())
            said.append(f"Of {len(self.fresh_bits)} with noise it never saw, {inside} are as rare.")
        return " ".join((*said, f"It took {self.drawn:,} pictures.", *self.notes))


def steer(
    generator: Steerable,
    density: Density,
    one_in: float = 1000,
    guardrails: tuple[Guardrail, ...] = (),
    *,
    engine: str = "gradient",
    directions: tuple[Direction, ...] = (),
    pictures: int = 4,
    at_once: int = 1,
    iterations: int = 50,
    step_size: float = 0.02,
    keep_every: int = 5,
    seed: int = 0,
    gate: ValidityGate | None = None,
    progress: Progress | None = None,
    watch: Callable[[Steering], bool | None] | None = None,
) -> Steering:
    """Find one offset under which the pictures of several noises are all as rare as asked, and inside the guardrails.

    x_i is the embedding of picture i under an offset o. The loss is

        mean_i [ band loss(x_i) + sum of the guardrails' penalties(x_i)^2 ] + 1/2 sum over wishes (mean reading - wanted)^2

    Without wishes the search ends when every picture has arrived. The noises stay the same during the search, so that
    the loss depends on the offset alone. The more noises there are, the more surely the offset works for new noise. The
    best offset so far is kept. Norm and residual are always watched.

    Parameters
    ----------
    generator : draws and encodes. It is not changed.   density : what it usually makes, in its encoder's space.
    one_in : the rarity asked for.   guardrails, directions : chains, as for `optimize`.
    engine : "gradient", AdamW through the generator; or "evolution", CMA-ES, which needs only pictures, and a small k.
    pictures : number of noises that are used together.
    at_once : number of pictures in one gradient. Only memory and speed depend on it; it is halved if they do not fit.
    iterations : the most steps, or generations.
    step_size : of AdamW, or the first spread of CMA-ES, in the unit of offsets.
    keep_every : iterations between checkpoints.   seed : of CMA-ES.
    gate : asked about the pictures at every checkpoint; checkpoints are then `gate.every` iterations apart. After a No
        the gate's `on_no` decides. "step back" returns to the last valid checkpoint, with half the step size, and ends
        the search after three No in a row. "stop" ends it at the last valid checkpoint. "go on" ignores the No.
    progress : called with (pictures made, most pictures of the whole search); it may raise to cancel.
    watch : called at every checkpoint with what is found so far, to save or show it. It may return False to end the
        search.

    Returns
    -------
    Steering.

    Raises
    ------
    RarityError : an unknown engine, numbers out of range, a density, guardrail or direction of another space, a
        condition whose pictures are not finite from the start, not enough memory for the gradient of one picture.
    """
    counts = {"pictures": pictures, "at_once": at_once, "iterations": iterations, "keep_every": keep_every, "dimensions": generator.size}
    _check(engine, counts, step_size)
    generator.space.require_same(density.space, "density")
    check_spaces(density, Embeddings(density.frame.mean[None], density.space), guardrails, directions)
    bits = bits_from_one_in(one_in)
    chain = with_defaults(density, guardrails)
    with torch.inference_mode(False), torch.no_grad():
        draw = _Draw(generator, pictures, at_once, progress)
        start = torch.zeros(generator.size)
        first = draw(start)
        if not torch.isfinite(first).all():
            raise RarityError(
                "The pictures of this condition are not finite before anything is changed. "
                "Load the models in float32 or bfloat16, and check that model, VAE and prompt belong together."
            )
        aim = Aim(density, bits, chain, directions, first)
        way = _Way(density, chain, aim.wishes, bits, draw, gate)
        best = Tried(start, first, float(aim(first)))
        way.ask_and_keep(0, best)
        steps = ENGINES[engine](draw, aim, best, step_size, seed)
        draw.most += pictures + iterations * steps.drawn_each
        keep_every = gate.every if gate else keep_every
        for iteration in range(1, iterations + 1):
            if aim.arrived(best.x):
                break
            tried = steps.step()
            if tried is None:
                way.note(f"It stopped at iteration {iteration}: values were no longer finite. Choose a step size below {step_size:g}.")
                break
            best = min(best, tried, key=lambda one: one.loss)
            if iteration % keep_every and iteration < iterations and not aim.arrived(best.x):
                continue
            answer = way.ask_and_keep(iteration, best)
            if answer == "stop":
                break
            if answer == "step back":
                best, step_size = way.tried[-1], step_size / 2
                steps = ENGINES[engine](draw, aim, best, step_size, seed + iteration)
            elif watch and watch(way.steering()) is False:
                break
        return way.end()


class Aim:
    """The loss of `steer`: a number from the embeddings x [n, d] of all pictures, float64, differentiable."""

    def __init__(self, density, bits: float, chain: tuple[Guardrail, ...], directions: tuple[Direction, ...], first: Tensor):
        self.density, self.bits, self.chain = density, bits, chain
        self.rarity = BandLoss(density, bits, LED / QUIET)
        self.wishes = Wishes(density, tuple(directions)) if directions else None
        if self.wishes:  # a wish is a move from the readings of the unchanged condition
            self.missed = self.wishes.missed_from(first)

    def __call__(self, x: Tensor) -> Tensor:
        # Penalties are squared, as the band loss is: a kink would stop AdamW at the edge, where the band pulls weakly.
        loss = (self.rarity(x) + sum(rail.penalty(x).square() for rail in self.chain)).mean()
        if self.wishes:
            loss = loss + self.missed(x)
        return loss

    def arrived(self, x: Tensor) -> bool:
        """Whether the search is done: every picture's bits and their mean are near, and no guardrail is broken."""
        if self.wishes:
            return False
        away = self.density.bits(x) - self.bits
        inside = all(bool(rail.accepts(x).all()) for rail in self.chain)
        return inside and bool((away.abs() <= ARRIVED).all()) and abs(float(away.mean())) <= LED


class _Draw:
    """Draws the pictures of an offset as embeddings [n, d] float64 on the CPU, and counts them."""

    def __init__(self, generator: Steerable, pictures: int, at_once: int, progress: Progress | None):
        self.generator, self.at_once, self.progress = generator, at_once, progress
        self.rows, self.drawn, self.most = range(pictures), 0, pictures

    def __call__(self, offset: Tensor) -> Tensor:
        x = self.generator.embed(offset, self.rows)
        self.count(len(x))
        return ordinary(x)

    def count(self, pictures: int) -> None:
        self.drawn += pictures
        if self.progress:
            self.progress(min(self.drawn, self.most), self.most)


class _Way:
    """The checkpoints so far: the best offset at each, its readings, and notes for the user."""

    def __init__(self, density, chain, wishes, bits: float, draw: _Draw, gate: ValidityGate | None):
        self.density, self.chain, self.wishes, self.bits, self.draw, self.gate = density, chain, wishes, bits, draw, gate
        self.pullback = Pullback(gate) if gate else None
        self.steps, self.tried, self.kept, self.readings = [], [], [], []
        self.notes = what_they_say(*chain, *(wishes.directions if wishes else ()), gate)

    def ask_and_keep(self, iteration: int, best: Tried) -> str:
        """Add a checkpoint unless the gate refuses it. Returns "keep", "step back" or "stop"."""
        said = {}
        if self.gate:
            shown = self.draw.generator.pictures(best.offset, self.draw.rows)
            self.draw.count(len(shown))
            said = {"validity": ordinary(self.gate.validity(shown))}
            answer = self.pullback.follow(iteration, said["validity"])
            if answer != "keep":
                return answer
        self.steps.append(iteration)
        self.tried.append(best)
        self.kept.append(Embeddings(best.x, self.density.space, (), {"kind": "steered"}))
        self.readings.append(read_all(self.density, self.chain, self.wishes, self.kept[-1].vectors) | said)
        return "keep"

    def steering(self, fresh_bits: Tensor | None = None) -> Steering:
        """The result of all checkpoints so far."""
        trajectory = trajectory_of(
            self.density, self.chain, self.gate, self.bits, self.steps, self.kept, self.readings
        )
        offsets = torch.stack([ordinary(one.offset, torch.float32) for one in self.tried])
        return Steering(offsets, trajectory, self.draw.drawn, fresh_bits, self.notes)

    def end(self) -> Steering:
        """The final result, with the rarity of pictures of new noise."""
        if self.gate and self.pullback.refused:
            self.note(self.pullback.note(self.steps[-1]))
        count = len(self.draw.rows)
        self.draw.rows = range(count, 2 * count)
        x = self.draw(self.tried[-1].offset)
        return self.steering(self.density.bits(x) if torch.isfinite(x).all() else torch.full((count,), math.inf))

    def note(self, text: str) -> None:
        logger.warning("%s", text)
        self.notes += (text,)


def _check(engine: str, counts: dict[str, int], step_size: float) -> None:
    if engine not in ENGINES:
        raise RarityError(f"The engine is one of {', '.join(ENGINES)}; got {engine!r}.")
    for name, value in counts.items():
        if value < 1:
            raise RarityError(f"The number {name} must be at least 1, got {value}.")
    if not 0 < step_size < math.inf:
        raise RarityError(f"The step size must be a positive number, got {step_size}.")
