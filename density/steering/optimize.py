"""Make embeddings rare on purpose: tangent steps on the shell of one rarity, inside guardrails."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.log import get_logger
from ..base.progress import Progress
from ..base.tensors import ordinary
from ..calibration.surprisal import bits_from_one_in
from ..estimators.contract import Density, check_shell
from ..estimators.own_samples import are_own, calibration_for, doubts
from .directions import Direction, Wishes
from .gates import Gate
from .guardrails import Guardrail, NormGuardrail, ResidualGuardrail, watches
from .readings import read_all, trajectory_of, what_they_say
from .shells import shell as shell_of
from .trajectory import Trajectory
from .walk import Answers, Walk

logger = get_logger(__name__)


def optimize(
    density: Density,
    starts: Embeddings,
    one_in: float,
    guardrails: tuple[Guardrail, ...] = (),
    *,
    directions: tuple[Direction, ...] = (),
    steps: int = 100,
    step_size: float = 0.4,
    keep_every: int = 10,
    seed: int = 0,
    gate: Gate | None = None,
    progress: Progress | None = None,
) -> Trajectory:
    """Move every start to a place exactly as rare as asked, without leaving the guardrails.

    In whitened coordinates e = mean + U sqrt(lambda) w + r the rarity is a radius: D2 = |w|^2 + |r|^2 / sigma2. The
    start is scaled out once to the shell of the wanted D2. From there it moves only along the shell, on great circles:

        u = w / |w|,   outside the guardrails  g = -grad_u (sum of penalties), its part along the shell at length one,
                       inside them             g = PULL * the part of u_start along the shell, and the directions' wishes,
        v <- MOMENTUM v + (1 - MOMENTUM) g,   u <- cos(t) u + sin(t) v / |v|,   t = step_size (1 - step / steps) |v|

    The wanted D2 is the one that is this rare among new samples. For starts that the density has learnt from, it is the
    one that is this rare among the learnt samples (`own_samples`). The residual r keeps its direction, and its share of
    D2 as far as a residual guardrail allows (`shells`). So rarity and residual hold by construction at every step, and
    gradients pass only through the guardrails' penalties and the directions. In a mixture the rays leave the centre of
    a start's own mode (`MixtureShell`); the rest is the same. Each sample keeps its best point: the one with the fewest
    broken guardrails, then with the smallest penalty, then nearest to its wishes and its start.

    With a gate the best point counts only if the gate says Yes to it. After a No to a point inside the guardrails the
    sample loses its velocity. It continues from its last valid point, with half the step. If it has no valid point yet,
    it is turned by TURN radians in a random direction, and the point reached is its new start. A sample that is nowhere
    valid ends at the point inside the guardrails with the highest P(yes), and is not accepted.

    Parameters
    ----------
    density : what is usual.   starts : N embeddings of its space.   one_in : the rarity asked for, 2 to MAX_ONE_IN.
    guardrails : a chain; the norm and the residual are watched in any case.
    directions : a chain of wishes, each a move from where the result would be without it.
    steps : number of steps.   step_size : the longest step, in radians along the shell.
    keep_every : steps between two checkpoints.
    seed : of the direction of a start at the very centre, and of the random turns after a No.
    gate : asked about every checkpoint; the checkpoints are then `gate.every` steps apart.
    progress : called with (done, total), also while a gate is asked. An exception that it raises cancels the run.

    Returns
    -------
    Trajectory, whose first checkpoint is the starts and whose last is the result. At every checkpoint a row carries the
    key of its start.

    Raises
    ------
    RarityError : a target out of range, starts, a guardrail or a direction of another space, step settings out of
        range, a density of nearest neighbours.
    """
    bits = bits_from_one_in(one_in)
    check_shell(density)
    check_spaces(density, starts, guardrails, directions)
    if steps < 1 or keep_every < 1 or not 0 < step_size <= math.pi / 2:
        raise RarityError(
            f"Choose at least 1 step, keep_every of at least 1 and a step size above 0 and at most {math.pi / 2:.2f}; "
            f"got {steps}, {keep_every} and {step_size}."
        )
    chain = with_defaults(density, guardrails)
    with torch.inference_mode(False), torch.no_grad():
        return _steer(density, starts, bits, chain, tuple(directions), steps, step_size, keep_every, seed, progress, gate)


def check_spaces(
    density: Density,
    starts: Embeddings,
    guardrails: tuple[Guardrail, ...],
    directions: tuple[Direction, ...],
) -> None:
    """Raise a RarityError unless everything belongs to the density's space."""
    density.space.require_same(starts.space, "embeddings to start from")
    for rail in guardrails:
        if rail.space is not None:
            density.space.require_same(rail.space, f"{rail.name} guardrail")
    for direction in directions:
        density.space.require_same(direction.space, f"direction {direction.name!r}")


def with_defaults(density: Density, guardrails: tuple[Guardrail, ...]) -> tuple[Guardrail, ...]:
    """The chain, with the norm and the residual of this density watched in any case."""
    chain = tuple(guardrails)
    for default in (NormGuardrail(density), ResidualGuardrail(density)):
        if not any(watches(rail, type(default), density) for rail in chain):
            chain += (default,)
    return chain


def _steer(
    density: Density,
    starts: Embeddings,
    bits: float,
    chain: tuple[Guardrail, ...],
    directions: tuple[Direction, ...],
    steps: int,
    step_size: float,
    keep_every: int,
    seed: int,
    progress: Progress | None,
    gate: Gate | None,
) -> Trajectory:
    # The shell itself shortens residuals to this density's limit, so these guardrails need no gradient.
    held = [density.frame.has_rest and watches(rail, ResidualGuardrail, density) for rail in chain]
    tightest = min((rail.limit for rail, by_shell in zip(chain, held, strict=True) if by_shell), default=math.inf)
    moving = tuple(rail for rail, by_shell in zip(chain, held, strict=True) if not by_shell)
    calibration = calibration_for(density, starts, progress and (lambda: progress(0, steps)))
    source = {**starts.source, "kind": "rare", "bits": bits}
    target = calibration.score_at(bits)
    shell = shell_of(density, ordinary(starts.vectors), tightest, target, seed)
    wishes = Wishes(density, directions) if directions else None
    walk = Walk(shell, moving, wishes, steps, step_size)
    answers = Answers(gate, shell.start, seed, density.frame.basis) if gate and gate.on_no != "go on" else None
    every = gate.every if gate else keep_every
    kept_steps, kept, readings = [], [], []

    def keep(step: int, rows: Embeddings, validity: Tensor | None) -> None:
        kept_steps.append(step)
        kept.append(rows)
        said = {} if validity is None else {"validity": validity}
        readings.append(read_all(density, chain, wishes, rows.vectors, calibration) | said)

    def ask(step: int, rows: Embeddings) -> Tensor | None:
        return gate and gate.validity_of(rows, progress and (lambda *_: progress(step, steps)))

    def placed(u: Tensor) -> Embeddings:
        return Embeddings(shell.place(u), starts.space, starts.labels, source, starts.keys)

    keep(0, starts, ask(0, starts))
    for step in range(steps + 1):
        walk.look()
        refused = None
        if step > 0 and (step % every == 0 or step == steps):
            rows = placed(walk.best)
            validity = ask(step, rows)
            if answers:
                refused = answers.hear(walk.best, walk.rank, validity)
                if step == steps:
                    rows, validity = placed(answers.place), answers.validity
            keep(step, rows, validity)
        if progress:
            progress(step, steps)
        if step < steps:
            walk.go(step)
            if refused is not None and refused.any():
                walk.turn(refused, answers, step)

    notes = (*what_they_say(*chain, *directions, gate), *doubts(density, are_own(density, starts)))
    if gate:
        said = torch.stack([each["validity"] for each in readings[1:]])
        if said.max() < gate.threshold:
            notes += (gate.never("any of these on their way", said.flatten()),)
    for note in notes:
        logger.warning("%s", note)
    return trajectory_of(density, chain, gate, bits, kept_steps, kept, readings, notes)
