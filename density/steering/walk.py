"""Samples on their way along a shell: where each is, its best point so far, and how it goes on."""

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

# How strongly a sample inside every guardrail is drawn back to its start, against the full step of one outside: results
# stay near their own starts, and so as varied as these.
PULL = 0.5
# Share of the last direction that is kept: the best alternative changes from step to step, and steps would zigzag.
MOMENTUM = 0.9
# How far a sample that was nowhere valid yet is turned away from where it was refused, in radians along the shell.
TURN = 0.8


class Walk:
    """N samples that move along a shell, each from its own start; `optimize` says what for.

        outside the guardrails  g = -grad_u (sum of penalties), its part along the shell at length one,
        inside them             g = PULL * the part of u_start along the shell, and the directions' wishes,
        v <- MOMENTUM v + (1 - MOMENTUM) g,   t = step_size (1 - step / steps) |v|,   u <- cos(t) u + sin(t) v / |v|

    Parameters
    ----------
    shell : the points of one rarity, a radius for each direction.
    chain : the guardrails whose penalties are stepped down.   wishes : the directions, or None.
    steps, step_size : how many steps, and the longest of them in radians.

    Attributes
    ----------
    here : [N, k], where each sample is, as a unit direction.   best : [N, k], its best point so far.
    rank : [N], how good that is: at most 1 inside every guardrail, and the lower the better.
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
        """Rank where the samples are, keep what is better than the best so far, and find where they would go from here.

        The fewest broken guardrails are best, then the smallest penalty; with none broken, the nearest to the start and to
        what is wished for.
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
        """Move every sample by one step, the shorter the later."""
        u = self.here
        self._velocity = MOMENTUM * tangent(self._velocity, u) + (1 - MOMENTUM) * self._pull
        speed = self._velocity.norm(dim=1, keepdim=True)
        left = 1 - (step - self._begun) / (self.steps - self._begun)
        angle = self._stride * self.step_size * left * speed
        self.here = normalize(angle.cos() * u + angle.sin() * self._velocity / speed.clamp_min(1e-300), dim=1)

    def turn(self, refused: Tensor, answers: Answers, step: int) -> None:
        """Set refused samples [N] bool where `answers` says: at what was valid last with half the step, or elsewhere anew."""
        no, back, again = refused[:, None], answers.valid[:, None], answers.another(self.best)
        self.here, self.best = torch.where(no, again, self.here), torch.where(no, again, self.best)
        self.rank = torch.where(refused, torch.where(answers.valid, answers.rank, math.inf), self.rank)
        self._velocity = torch.where(no, 0.0, self._velocity)
        shorter = 0.0 if answers.gate.on_no == "stop" else torch.where(back, self._stride / 2, 1.0)
        self._stride = torch.where(no, shorter, self._stride)
        self._home = torch.where(no & ~back, again, self._home)
        self._begun = torch.where(no & ~back, step + 1.0, self._begun)


class Answers:
    """What a gate has said of N samples that each go their own way over a shell, and where each is to go on.

    Of the points of a sample that it was asked about, the one that counts is the best-ranked inside every guardrail with
    a Yes; before there is one, that with the highest P(yes) inside; before there is any inside, the best-ranked.

    Parameters
    ----------
    gate : a Gate.   start : [N, k] unit directions of the samples.   seed : of the ways to turn.
    basis : [d, k], the axes that directions count along: ways are drawn in the space, which no processor turns.
    """

    def __init__(self, gate: Gate, start: Tensor, seed: int, basis: Tensor):
        self.gate, self._random, self._basis = gate, generator(seed), basis
        self.place, self.rank, self.validity = start, *torch.full((2, len(start)), math.nan, dtype=torch.float64)
        self._merit = torch.full((len(start),), -math.inf, dtype=torch.float64)

    @property
    def valid(self) -> Tensor:
        """[N] bool: there was a Yes inside every guardrail."""
        return self._merit >= 2

    def hear(self, u: Tensor, rank: Tensor, validity: Tensor) -> Tensor:
        """Take in what was said of points u [N, k] of these ranks, at most 1 inside; returns who is refused, [N] bool.

        A No outside the guardrails is none yet: the way inside goes on.
        """
        yes, inside = validity >= self.gate.threshold, rank <= 1
        merit = torch.where(inside, torch.where(yes, 3 - rank, 1 + validity), -rank)
        better = merit > self._merit
        self.place = torch.where(better[:, None], u, self.place)
        self.rank, self.validity = torch.where(better, rank, self.rank), torch.where(better, validity, self.validity)
        self._merit = torch.where(better, merit, self._merit)
        return ~yes & inside

    def another(self, u: Tensor) -> Tensor:
        """Where refused samples go on, [N, k]: at what was valid last, else turned by TURN from u, or at u where they stop."""
        turned = u
        if self.gate.on_no != "stop":
            across = torch.randn(len(u), len(self._basis), generator=self._random, dtype=u.dtype) @ self._basis
            across = normalize(tangent(across, u), dim=1)
            turned = math.cos(TURN) * u + math.sin(TURN) * across
        return torch.where(self.valid[:, None], self.place, turned)


def tangent(v: Tensor, u: Tensor) -> Tensor:
    """The part of v that lies along the sphere at u, [N, k]."""
    return v - (v * u).sum(dim=1, keepdim=True) * u


def _penalties(chain: tuple[Guardrail, ...], x: Tensor) -> tuple[Tensor, Tensor]:
    """Penalties [G, N] and the gradient of their sum [N, d]."""
    with torch.enable_grad():
        x = x.clone().requires_grad_(True)
        penalties = torch.stack([rail.penalty(x) for rail in chain])
        (gradient,) = torch.autograd.grad(penalties.sum(), x)
    return penalties.detach(), gradient
