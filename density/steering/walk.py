"""The walk of samples along a shell: where each sample is, its best point so far, and its next step."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..base.tensors import generator
from .directions import Wishes
from .gates import Gate
from .guardrails import Guardrail
from .shells import GaussianShell, MixtureShell

# Length of the pull of a sample inside every guardrail back to its start; the step of a sample outside has length 1.
# The pull keeps results near their own starts, and so as varied as the starts.
PULL = 0.5
# Share of the last velocity that is kept. The alternative nearest to a sample changes from step to step, and without
# momentum the steps would zigzag.
MOMENTUM = 0.9
# A refused sample that was nowhere valid yet is turned away from there by this angle, in radians along the shell.
TURN = 0.8


class Walk:
    """N samples that move along a shell, each from its own start. `optimize` explains the method.

        outside the guardrails  g = -grad_u (sum of penalties), its part along the shell at length one,
        inside them             g = PULL * the part of u_start along the shell, and the directions' wishes,
        v <- MOMENTUM v + (1 - MOMENTUM) g,   t = step_size (1 - step / steps) |v|,   u <- cos(t) u + sin(t) v / |v|

    Parameters
    ----------
    shell : the points of one rarity, a radius for each direction.
    chain : the guardrails whose penalties the steps reduce.   wishes : the directions, or None.
    steps, step_size : the number of steps, and the longest step in radians.

    Attributes
    ----------
    here : [N, k], where each sample is, as a unit direction.   best : [N, k], its best point so far.
    rank : [N], the rank of that best point; lower is better, and at most 1 is inside every guardrail.
    """

    def __init__(
        self,
        shell: GaussianShell | MixtureShell,
        chain: tuple[Guardrail, ...],
        wishes: Wishes | None,
        steps: int,
        step_size: float,
    ):
        self.shell, self.chain, self.wishes = shell, chain, wishes
        self.steps, self.step_size = steps, step_size
        self.here = self.best = self._home = shell.start
        self.rank = torch.full((len(shell.start),), math.inf, dtype=torch.float64)
        self._velocity = self._pull = torch.zeros_like(shell.start)
        one = torch.ones(len(shell.start), 1, dtype=torch.float64)
        self._stride, self._begun = one, torch.zeros_like(one)
        self._wanted = wishes.read(shell.place(shell.start)) + wishes.strengths[:, None] if wishes else None

    def look(self) -> None:
        """Rank the points where the samples are, keep those that are better than the best so far, find the next pull.

        The point with the fewest broken guardrails is the best, then the one with the smallest penalty. Of points that
        break none, the one nearest to the start and to the wishes is the best.
        """
        u = self.here
        x = self.shell.place(u)
        penalties, gradient = _penalties(self.chain, x)
        penalty, broken = penalties.sum(dim=0), (penalties > 0).sum(dim=0)
        away, pull = (1 - (u * self._home).sum(dim=1)) / 2, PULL * tangent(self._home, u)
        if self.wishes:
            pull, missed = self.wishes.step(x, self._wanted, pull, lambda g: tangent(self.shell.pull_back(g, u), u))
            away = (away + missed) / (1 + away + missed)
        rank = torch.where(broken > 0, broken + penalty / (1 + penalty), away)
        better = rank < self.rank
        self.best = torch.where(better[:, None], u, self.best)
        self.rank = torch.where(better, rank, self.rank)
        downhill = normalize(tangent(-self.shell.pull_back(gradient, u), u), dim=1)
        self._pull = torch.where(broken[:, None] > 0, downhill, pull)

    def go(self, step: int) -> None:
        """Move every sample by one step. Later steps are shorter."""
        u = self.here
        self._velocity = MOMENTUM * tangent(self._velocity, u) + (1 - MOMENTUM) * self._pull
        speed = self._velocity.norm(dim=1, keepdim=True)
        left = 1 - (step - self._begun) / (self.steps - self._begun)
        angle = self._stride * self.step_size * left * speed
        self.here = normalize(angle.cos() * u + angle.sin() * self._velocity / speed.clamp_min(1e-300), dim=1)

    def turn(self, refused: Tensor, answers: Answers, step: int) -> None:
        """Move refused samples [N] bool to where `answers` says.

        A sample with a valid point returns to it and halves its step. Any other sample starts anew at a turned point.
        """
        no, back, again = refused[:, None], answers.valid[:, None], answers.another(self.best)
        self.here, self.best = torch.where(no, again, self.here), torch.where(no, again, self.best)
        self.rank = torch.where(refused, torch.where(answers.valid, answers.rank, math.inf), self.rank)
        self._velocity = torch.where(no, 0.0, self._velocity)
        shorter = 0.0 if answers.gate.on_no == "stop" else torch.where(back, self._stride / 2, 1.0)
        self._stride = torch.where(no, shorter, self._stride)
        self._home = torch.where(no & ~back, again, self._home)
        self._begun = torch.where(no & ~back, step + 1.0, self._begun)


class Answers:
    """A gate's answers about N samples that move separately over a shell, and where each sample continues.

    Of all the points of a sample that the gate was asked about, one is remembered: the best-ranked point inside every
    guardrail with a Yes. If there is no Yes yet, it is the point inside with the highest P(yes); if no point is inside
    yet, the best-ranked one.

    Parameters
    ----------
    gate : a Gate.   start : [N, k] unit directions of the samples.   seed : of the random turns.
    basis : [d, k], the axes of the directions. Turns are drawn in the space and not in the axes, which differ between
        processors.

    Attributes
    ----------
    place, rank, validity : [N, k], [N], [N], the remembered point of each sample, its rank and its P(yes).
    """

    def __init__(self, gate: Gate, start: Tensor, seed: int, basis: Tensor):
        self.gate, self._random, self._basis = gate, generator(seed), basis
        self.place, self.rank, self.validity = start, *torch.full((2, len(start)), math.nan, dtype=torch.float64)
        self._merit = torch.full((len(start),), -math.inf, dtype=torch.float64)

    @property
    def valid(self) -> Tensor:
        """[N] bool: the sample has had a Yes inside every guardrail."""
        return self._merit >= 2

    def hear(self, u: Tensor, rank: Tensor, validity: Tensor) -> Tensor:
        """Take in the answers P(yes) [N] about points u [N, k] of these ranks; returns which are refused, [N] bool.

        A rank of at most 1 is inside the guardrails. A No outside of them refuses nothing: the sample first has to get
        inside.
        """
        yes, inside = validity >= self.gate.threshold, rank <= 1
        merit = torch.where(inside, torch.where(yes, 3 - rank, 1 + validity), -rank)
        better = merit > self._merit
        self.place = torch.where(better[:, None], u, self.place)
        self.rank, self.validity = torch.where(better, rank, self.rank), torch.where(better, validity, self.validity)
        self._merit = torch.where(better, merit, self._merit)
        return ~yes & inside

    def another(self, u: Tensor) -> Tensor:
        """Where refused samples continue, [N, k].

        A sample continues at its remembered point if that is valid, otherwise at u turned by TURN, or at u itself if
        the gate stops.
        """
        turned = u
        if self.gate.on_no != "stop":
            across = torch.randn(len(u), len(self._basis), generator=self._random, dtype=u.dtype) @ self._basis
            across = normalize(tangent(across, u), dim=1)
            turned = math.cos(TURN) * u + math.sin(TURN) * across
        return torch.where(self.valid[:, None], self.place, turned)


def tangent(v: Tensor, u: Tensor) -> Tensor:
    """The part of v [N, k] that lies along the sphere at u [N, k], [N, k]."""
    return v - (v * u).sum(dim=1, keepdim=True) * u


def _penalties(chain: tuple[Guardrail, ...], x: Tensor) -> tuple[Tensor, Tensor]:
    """Penalties [G, N] and the gradient of their sum [N, d]."""
    with torch.enable_grad():
        x = x.clone().requires_grad_(True)
        penalties = torch.stack([rail.penalty(x) for rail in chain])
        (gradient,) = torch.autograd.grad(penalties.sum(), x)
    return penalties.detach(), gradient
