"""Directions: which way a result should be rare, and how far it should move that way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.spaces import EmbeddingSpace
from ..base.tensors import here, ordinary
from ..estimators.contract import Density
from .repel import distance

MOST_STRENGTH = 100.0
DRAWS = 1000  # usual samples whose distances to a target are measured


@dataclass(frozen=True, eq=False)
class Direction:
    """A wish for `optimize`: a result should move by `strength` along a direction.

    One number says where an embedding stands along the direction:

        place(x) = v'x along a vector v,    -distance(x, target) towards a density or examples

    It is read in standard deviations of usual samples, from their mean. The strength is a move from where the result
    would be without the wish: 0 changes nothing, and below 0 goes the other way. Every result moves by the same amount,
    so results stay as varied as they were. A chain is a tuple of directions. Guardrails take precedence over wishes.

    Parameters
    ----------
    name : for readings.   strength : in standard deviations, -100 to 100.   space : of the embeddings.
    vector : [d], scaled to length one here.   target : a density or examples. Give either a vector or a target.
    notes : what the user should know, in sentences.

    Raises
    ------
    RarityError : neither a vector nor a target, or both; a vector of another width, zero or not finite; a strength out
        of range.
    """

    name: str
    strength: float
    space: EmbeddingSpace
    vector: Tensor | None = None
    target: Density | Embeddings | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if not (math.isfinite(self.strength) and abs(self.strength) <= MOST_STRENGTH):
            raise RarityError(
                f"A direction's strength must be from -{MOST_STRENGTH:g} to {MOST_STRENGTH:g} standard deviations, "
                f"got {self.strength}. 2 is clearly visible, 5 is extreme."
            )
        if (self.vector is None) == (self.target is None):
            raise RarityError("A direction needs either a vector or a density or examples to go towards; give one.")
        if self.target is not None:
            self.space.require_same(self.target.space, f"target of the direction {self.name!r}")
            return
        v = self.vector
        if v.shape != (self.space.width,) or not torch.isfinite(v).all() or not v.norm() > 0:
            got = "some that are not finite" if v.any() else "zeros"
            got = f"shape {tuple(v.shape)}" if v.shape != (self.space.width,) else got
            raise RarityError(
                f"The direction {self.name!r} must be {self.space.width} finite numbers that are not all zero, "
                f"got {got}. Its two ends must differ: give other words or other pictures for one of them."
            )
        object.__setattr__(self, "vector", ordinary(normalize(here(v), dim=0)))

    @classmethod
    def between(
        cls, start: Tensor, end: Tensor, space: EmbeddingSpace, strength: float = 1.0, name: str = "direction"
    ) -> Direction:
        """The direction from the mean of one set [M, d] to the mean of another [N, d]: both pictures, or both texts.

        Texts lie apart from pictures by a gap that is nearly the same for every text. A difference of two texts does
        not contain this gap, so it is a direction among pictures, too. The difference of a text and a picture would be
        mostly the gap; it is never used. Rows are scaled to length one first.
        """
        for rows in (start, end):
            if rows.dim() != 2 or rows.shape[1] != space.width or len(rows) == 0:
                raise RarityError(
                    f"Both ends of the direction {name!r} must be of shape [N, {space.width}], got {tuple(rows.shape)}."
                )
        means = [normalize(here(rows), dim=1).mean(dim=0) for rows in (start, end)]
        apart = means[1] - means[0]
        # Identical sets differ only by rounding, and rounding is not a direction.
        return cls(name, strength, space, apart if apart.norm() > 1e-6 else torch.zeros_like(apart))

    @classmethod
    def component(cls, density: Density, number: int, strength: float = 1.0) -> Direction:
        """The direction of one principal component of a density, counted from 1 in the order of variance.

        The sign of an eigenvector is arbitrary; here its entry of the largest size is positive.
        """
        frame = density.frame
        if not 1 <= number <= frame.components:
            raise RarityError(f"Choose a component from 1 to {frame.components}, got {number}.")
        vector = frame.basis[:, number - 1]
        sign = vector[vector.abs().argmax()].sign()
        return cls(f"component {number}", strength, density.space, sign * vector)

    @classmethod
    def towards(
        cls, target: Density | Embeddings, strength: float = 1.0, name: str = "towards"
    ) -> Direction:
        """A wish to be nearer to what a density calls usual, or to the nearest of some examples."""
        return cls(name, strength, target.space, target=target)

    @classmethod
    def away_from(
        cls, target: Density | Embeddings, strength: float = 1.0, name: str = "away from"
    ) -> Direction:
        """A wish to be further from what a density calls usual, or from the nearest of some examples."""
        return cls(name, -strength, target.space, target=target)

    def place(self, x: Tensor) -> Tensor:
        """Where rows [N, d] stand, [N] float64, differentiable, in the unit of the embedding or of the distance."""
        return here(x) @ self.vector if self.target is None else -distance(x, self.target)

    def usual(self, density: Density) -> tuple[float, float]:
        """Mean and standard deviation of `place` among usual samples.

        Along a vector:  v'mean  and  sqrt(v' Sigma v),  with  Sigma = U lambda U' + sigma2 (1 - U U').  For a target
        they are measured on DRAWS samples of the density.
        """
        if self.target is not None:
            places = self.place(density.sample(DRAWS).vectors)
            return float(places.mean()), max(float(places.std()), 1e-9)
        frame = density.frame
        inside = frame.basis.T @ self.vector
        outside = max(0.0, 1 - float(inside.square().sum()))
        variance = float((frame.variances * inside.square()).sum()) + frame.residual_variance * outside
        return float(frame.mean @ self.vector), math.sqrt(variance)


class Wishes:
    """A chain of directions with what `optimize` needs of them: readings in one unit, and a step that serves all.

    Parameters
    ----------
    density : the spread of its samples is the unit of every reading.   directions : M of them.
    """

    def __init__(self, density: Density, directions: tuple[Direction, ...]):
        self.directions = directions
        self.usual = [direction.usual(density) for direction in directions]
        self.strengths = torch.tensor([direction.strength for direction in directions], dtype=torch.float64)

    def read(self, x: Tensor) -> Tensor:
        """Where rows [N, d] stand, in standard deviations of usual samples from their mean, [M, N], differentiable."""
        places = [d.place(x) for d in self.directions]
        return torch.stack([(p - mean) / spread for p, (mean, spread) in zip(places, self.usual, strict=True)])

    def missed_from(self, start: Tensor) -> Callable[[Tensor], Tensor]:
        """A loss: how far the mean of every reading is from the start's mean reading plus the wished strength.

            1/2 sum over wishes (mean reading - (mean reading of the start + strength))^2

        Parameters
        ----------
        start : [N, d], embeddings before any change.

        Returns
        -------
        A function of rows [n, d] that gives one number, differentiable.
        """
        wanted = self.read(start).mean(dim=1) + self.strengths
        return lambda x: (self.read(x).mean(dim=1) - wanted).square().sum() / 2

    def step(
        self, x: Tensor, wanted: Tensor, home: Tensor, pull_back: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """A step along the shell towards the `wanted` readings [M, N], and how far the readings still are from them.

        T [M, k] are the slopes of the readings along the shell. e [M] are the missing amounts, each cut to one standard
        deviation.

            step = T' (T T' + 1)^-1 e + (1 - T' (T T')^-1 T) home,    at most one radian long

        The wishes are served first; the pull home acts only in the directions that change no reading. The 1, one
        standard deviation a radian, keeps steps short where a reading hardly changes. This is so at the point of the
        shell that is furthest along a direction.

        Parameters
        ----------
        home : [N, k], the step without any wish.
        pull_back : turns gradients in x [N, d] into steps along the shell [N, k].

        Returns
        -------
        The step [N, k]; the sum of the squared missing amounts [N].
        """
        with torch.enable_grad():
            x = x.clone().requires_grad_(True)
            readings = self.read(x)
            gradients = [torch.autograd.grad(r.sum(), x, retain_graph=True)[0] for r in readings]
        slopes = torch.stack([pull_back(g) for g in gradients], dim=1)
        missing = (wanted - readings.detach()).T
        gram = slopes @ slopes.transpose(1, 2)
        eye = torch.eye(len(self.directions), dtype=torch.float64)
        there = torch.linalg.solve(gram + eye, missing.clamp(-1, 1)[:, :, None])
        tiny = 1e-9 * (gram.diagonal(dim1=1, dim2=2).sum(dim=1) + 1)[:, None, None]
        against = torch.linalg.solve(gram + tiny * eye, slopes @ home[:, :, None])
        step = home + ((there - against).transpose(1, 2) @ slopes)[:, 0]
        return step / step.norm(dim=1, keepdim=True).clamp_min(1), missing.square().sum(dim=1)
