"""What a viewer has already seen: enough to say what would still surprise them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .embeddings import Embeddings
from .errors import RarityError
from .gaussian import GaussianDensity
from .moments import Moments
from .progress import waiting
from .spaces import EmbeddingSpace
from .tensors import ordinary

PRIOR_ITEMS = 1.0  # kappa_0: the density's mean weighs as much as one picture seen
PART = 2048  # pictures taken in at a time
FORGOTTEN = 1e-3  # an item remembered less than this is no longer kept by itself; the statistics still hold it


@dataclass(frozen=True, eq=False)
class Belief:
    """Where a viewer expects the next picture: m ~ N(mean, Sigma / kappa), Sigma the density's covariance."""

    mean: Tensor
    kappa: float


class ExposureMemory:
    """Pictures a viewer has seen: how many, their mean and scatter, and their embeddings.

    A memory is never changed; `update`, `merge` and `forget` return another one. Its statistics are kept in the
    embedding's own coordinates, so the same memory is read under any density of its space.

    Parameters
    ----------
    space : of all embeddings it will ever see. A new memory is empty.

    Attributes
    ----------
    n_eff : the sum of the weights of everything seen, faded by `forget`.
    mean [d], scatter [d, d] : float64, weighted; scatter is the sum of w (x - mean)(x - mean)'.
    vectors [n, d] float32, weights [n] float64, labels : the items still remembered one by one.
    """

    def __init__(self, space: EmbeddingSpace):
        self.space = space
        self.vectors = torch.empty(0, space.width)
        self.weights = torch.empty(0, dtype=torch.float64)
        self.labels: tuple[str, ...] = ()
        self._moments = Moments(space.width)

    @property
    def n_eff(self) -> float:
        return float(self._moments.count)

    @property
    def mean(self) -> Tensor:
        return self._moments.mean

    @property
    def scatter(self) -> Tensor:
        return self._moments.scatter

    def __len__(self) -> int:
        """Number of items remembered one by one."""
        return len(self.vectors)

    def update(
        self,
        seen: Embeddings,
        weights: Tensor | Sequence[float] | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> ExposureMemory:
        """The memory after seeing these pictures, too.

        Parameters
        ----------
        seen : N embeddings.   weights : N, 1 for a full look (the default), less for a glance, 0 for not seen at all.
        progress : called with (0, 1) several times a second; what it raises ends the update.

        Raises
        ------
        RarityError : another space; weights that are not N finite numbers of 0 or more.
        """
        self.space.require_same(seen.space, "pictures seen")
        w = torch.ones(len(seen)) if weights is None else torch.as_tensor(weights)
        if w.shape != (len(seen),) or not bool((torch.isfinite(w) & (w >= 0)).all()):
            raise RarityError(
                f"Weights must be {len(seen):,} finite numbers of 0 or more, one a picture; got "
                + (f"shape {tuple(w.shape)}." if w.shape != (len(seen),) else "others.")
            )
        w = ordinary(w)
        shown = w > 0
        labels = seen.labels or ("",) * len(seen)
        x, w = seen.vectors[shown], w[shown]
        after = self._copy()
        after.vectors = torch.cat([self.vectors, x])
        after.weights = torch.cat([self.weights, w])
        after.labels = self.labels + tuple(text for text, kept in zip(labels, shown.tolist(), strict=True) if kept)
        tick = waiting(progress)
        for part, its in zip(x.split(PART), w.split(PART), strict=True):
            after._moments.absorb(*_weighted(part.double(), its))
            tick()
        return after

    def merge(self, other: ExposureMemory) -> ExposureMemory:
        """What two memories hold together; either order gives the same statistics.

        Raises
        ------
        RarityError : different spaces.
        """
        self.space.require_same(other.space, "other memory")
        after = self._copy()
        after.vectors = torch.cat([self.vectors, other.vectors])
        after.weights = torch.cat([self.weights, other.weights])
        after.labels = self.labels + other.labels
        after._moments = self._moments.merge(other._moments)
        return after

    def forget(self, keep: float) -> ExposureMemory:
        """The memory faded: every weight times `keep`, so that repeated forgetting decays exponentially.

        Parameters
        ----------
        keep : 1 forgets nothing, 0 everything; 0.5 ** (1 / 20) once a picture halves a memory every 20 pictures.

        Raises
        ------
        RarityError : `keep` outside 0 to 1.
        """
        if isinstance(keep, bool) or not isinstance(keep, (int, float)) or not 0 <= keep <= 1:
            raise RarityError(f"What is kept must be a share from 0 to 1, got {keep!r}.")
        after = ExposureMemory(self.space)
        if keep == 0:
            return after
        kept = self.weights * keep >= FORGOTTEN
        after.vectors, after.weights = self.vectors[kept], self.weights[kept] * keep
        after.labels = tuple(text for text, there in zip(self.labels, kept.tolist(), strict=True) if there)
        after._moments.absorb(self.n_eff * keep, self.mean, self.scatter * keep)
        return after

    def belief(self, density: GaussianDensity) -> Belief:
        """Where the viewer expects the next picture: kappa = 1 + n_eff, mean = (mu + n_eff m) / kappa.

        The conjugate posterior of a normal mean with known covariance, from the prior N(mu, Sigma).

        Raises
        ------
        RarityError : a density of another space.
        """
        density.space.require_same(self.space, "memory")
        kappa = PRIOR_ITEMS + self.n_eff
        return Belief((PRIOR_ITEMS * density.mean + self.n_eff * self.mean) / kappa, kappa)

    def state(self) -> tuple[dict, dict[str, Tensor]]:
        """JSON values and tensors that `from_state` makes the same memory of, bit for bit."""
        fields = {"space": self.space.to_dict(), "count": len(self), "n_eff": self.n_eff, "source": {}}
        labels = torch.frombuffer(bytearray(json.dumps(self.labels).encode()), dtype=torch.uint8)
        tensors = {name: getattr(self, name) for name in ("vectors", "weights", "mean", "scatter")}
        return fields, {**tensors, "labels": labels}

    @classmethod
    def from_state(cls, fields: dict, tensors: dict[str, Tensor]) -> ExposureMemory:
        """The inverse of `state`, checked: a file may hold anything.

        Raises
        ------
        RarityError : shapes that do not fit, weights or statistics that nothing seen can have.
        """
        memory = cls(EmbeddingSpace.from_dict(fields.get("space")))
        total, mean, scatter = fields.get("n_eff"), tensors["mean"], tensors["scatter"]
        vectors, weights = tensors["vectors"], tensors["weights"]
        n, d = len(weights), memory.space.width
        try:
            labels = json.loads(tensors["labels"].numpy().tobytes())
        except (ValueError, RecursionError):
            labels = None
        variances = scatter.diagonal() if scatter.shape == (d, d) else torch.full((1,), -1.0)
        checks = {
            "its embeddings": vectors.shape == (n, d),
            "its weights": bool((weights > 0).all()),
            "its mean": mean.shape == (d,),
            "its scatter": bool((variances >= 0).all())
            and torch.allclose(scatter, scatter.T, rtol=1e-6, atol=1e-9 * float(variances.max()))
            # Cauchy and Schwarz: no covariance exceeds the geometric mean of its two variances.
            and bool((scatter.abs() <= (1 + 1e-6) * variances.sqrt()[:, None] * variances.sqrt() + 1e-300).all()),
            "its n_eff": type(total) is float
            and 0 <= total < math.inf
            and float(weights.sum()) <= total * (1 + 1e-9)
            and (total > 0 or not bool(mean.any() or scatter.any())),
            "its labels": isinstance(labels, list) and len(labels) == n and all(isinstance(v, str) for v in labels),
        }
        wrong = [name for name, good in checks.items() if not good]
        if wrong:
            raise RarityError(f"The exposure memory in this file is damaged: {'; '.join(wrong)}. Start a new memory.")
        memory.vectors, memory.weights, memory.labels = vectors, weights, tuple(labels)
        memory._moments.absorb(total, mean, scatter)
        return memory

    def _copy(self) -> ExposureMemory:
        after = ExposureMemory(self.space)
        after.vectors, after.weights, after.labels = self.vectors, self.weights, self.labels
        after._moments = self._moments.merge(Moments(self.space.width))
        return after


def _weighted(x: Tensor, w: Tensor) -> tuple[float, Tensor, Tensor]:
    """Sum of the weights, weighted mean [d] and weighted scatter about it [d, d] of rows x [n, d]."""
    total = float(w.sum())
    mean = (w @ x) / total if total else torch.zeros(x.shape[1], dtype=torch.float64)
    y = x - mean
    return total, mean, (y * w[:, None]).T @ y
