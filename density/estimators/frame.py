"""The frame around samples: their mean, axes, and a variance along each; and how far out points are in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base.errors import RarityError
from ..base.tensors import here, ordinary
from ..statistics.moments import CHUNK

# How the covariance was learnt, for a sentence.
LEARNT = {
    "ppca": "{k} of {d} directions hold {explained:.0%} of what varies.",
    "full": "All {d} directions have a variance of their own, as the samples show it.",
    "ledoit-wolf": "All {d} directions have a variance of their own, drawn together as Ledoit and Wolf advise.",
    "oas": "All {d} directions have a variance of their own, drawn together by the oracle approximation (OAS).",
    "qis": "All {d} directions have a variance of their own, each drawn to those near it (quadratic-inverse shrinkage).",
}
TENSORS = ("mean", "basis", "variances", "spectrum", "residual_calibration")


@dataclass(eq=False)
class Frame:
    """The one Gaussian around all samples: k axes with a variance each, and one variance for all other directions.

    With y = e - mean, z = U'y and the residual r = y - U z (formed directly):

        D2 = T2 + Q / sigma2,    T2 = sum_i z_i^2 / lambda_i,    Q = |r|^2

    lambda are the k leading eigenvalues of the covariance, sigma2 is the mean of the others (probabilistic PCA, Tipping &
    Bishop 1999). A covariance of all d directions is the same with k = d - 1: sigma2 is then the last variance, and Q is
    what lies in the last direction.

    Every density has a frame. Only the frame of a Gaussian density says how rare a point is; a mixture and a density of
    neighbours have a score of their own.

    Attributes
    ----------
    mean [d], basis [d, k] (orthonormal U), variances [k] (lambda, descending), residual_variance (sigma2): float64.
    spectrum : [d], all eigenvalues, unshrunk.   residual_calibration : [n], held-out `residual`, ascending.
    """

    mean: Tensor
    basis: Tensor
    variances: Tensor
    residual_variance: float
    spectrum: Tensor
    residual_calibration: Tensor

    def __post_init__(self):
        for name in TENSORS:
            setattr(self, name, ordinary(getattr(self, name)))
        self.residual_variance = float(self.residual_variance)

    @property
    def components(self) -> int:
        """k, the number of directions with a variance of their own."""
        return len(self.variances)

    @property
    def has_rest(self) -> bool:
        """Whether more than one direction is left beside the k: then a residual can have any length and direction."""
        return self.components < len(self.mean) - 1

    @property
    def log_volume(self) -> float:
        """The part of -2 log p of the Gaussian that does not depend on the embedding."""
        return log_volume(self.variances, self.residual_variance, len(self.mean))

    def rows(self, x: Tensor) -> Tensor:
        """The rows [N, d] on the CPU in float64; a RarityError where their width is another."""
        if x.dim() != 2 or x.shape[1] != len(self.mean):
            raise RarityError(f"Expected embeddings of shape [N, {len(self.mean)}], got {tuple(x.shape)}.")
        return here(x)

    def whiten(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates in units of the spread, w = U'(x - mean) / sqrt(lambda) [N, k]; and the residual r [N, d]."""
        z, r = split(self.rows(x), self.mean, self.basis)
        return z / self.variances.sqrt(), r

    def unwhiten(self, w: Tensor, r: Tensor) -> Tensor:
        """The inverse of `whiten`: mean + U (sqrt(lambda) w) + r, [N, d] float64."""
        return self.mean + (here(w) * self.variances.sqrt()) @ self.basis.T + here(r)

    def d2(self, x: Tensor) -> Tensor:
        """D2 = T2 + Q / sigma2, [N] float64, differentiable: the squared Mahalanobis distance from the mean."""
        t2, q = distances(self.rows(x), self.mean, self.basis, self.variances)
        return t2 + q / self.residual_variance

    def t2(self, x: Tensor) -> Tensor:
        """Hotelling's T2 = sum z_i^2 / lambda_i, [N]: the part of D2 inside the subspace."""
        return distances(self.rows(x), self.mean, self.basis, self.variances)[0]

    def residual(self, x: Tensor) -> Tensor:
        """Q = |r|^2, [N], in squared units of the embedding: the part that the subspace does not explain.

        If no rest is left (`has_rest` is false), it is max_i z_i^2 / lambda_i instead: the largest deviation along any one
        direction, in squared standard deviations.
        """
        if self.has_rest:
            return distances(self.rows(x), self.mean, self.basis, self.variances)[1]
        w, r = self.whiten(x)
        return torch.maximum(w.square().amax(dim=1), r.square().sum(dim=1) / self.residual_variance)

    def residual_limit(self, percentile: float) -> float:
        """The `residual` that this percentage of held-out samples stays below; above 0, at most 100."""
        if not 0 < percentile <= 100:
            raise RarityError(f"A residual's percentile must be above 0 and at most 100, got {percentile}.")
        return float(torch.quantile(self.residual_calibration, percentile / 100))

    def describe(self, estimator: str) -> str:
        """A sentence: how many directions were learnt, and how."""
        explained = float(self.variances.sum() / self.spectrum.sum())
        sentence = LEARNT.get(estimator, LEARNT["ppca"])
        return sentence.format(k=self.components, d=len(self.mean), explained=explained)

    def state(self) -> tuple[dict, dict[str, Tensor]]:
        """JSON values and tensors that `from_state` makes the same frame of."""
        return {"residual_variance": self.residual_variance}, {name: getattr(self, name) for name in TENSORS}

    @classmethod
    def from_state(cls, fields: dict, tensors: dict[str, Tensor]) -> Frame:
        """The inverse of `state`, for what `damage` finds nothing wrong with."""
        return cls(residual_variance=fields["residual_variance"], **{name: tensors[name] for name in TENSORS})

    @staticmethod
    def damage(d: int, fields: dict, tensors: dict[str, Tensor]) -> list[str]:
        """What is wrong with the frame in a file, in words; nothing if it is a sound frame of d dimensions."""
        k = tensors["variances"].numel()
        shapes = {"mean": (d,), "basis": (d, k), "variances": (k,), "spectrum": (d,)}
        found = {name: tuple(tensors[name].shape) for name in shapes}
        if found != shapes:
            return [f"{name} {found[name]}, expected {shape}" for name, shape in shapes.items() if found[name] != shape]
        sigma2, (basis, variances, spectrum, q) = fields.get("residual_variance"), (tensors[name] for name in TENSORS[1:])
        checks = {
            "its number of components": 1 <= k < d,
            "its residual variance": type(sigma2) is float and 0 < sigma2 < math.inf,
            "its variances": bool((variances > 0).all()) and bool((variances.diff() <= 0).all()),
            "its spectrum": bool((spectrum >= 0).all()) and bool(spectrum.sum() > 0),
            "its basis, which is not orthonormal": bool(((basis.T @ basis - torch.eye(k)).abs() < 1e-6).all()),
            "its held-out residuals": q.dim() == 1 and len(q) > 0 and bool((q >= 0).all() and (q.diff() >= 0).all()),
        }
        return [name for name, good in checks.items() if not good]


def split(x: Tensor, mean: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Scores z = U'y [N, k] and residual r = y - U z [N, d] of y = x - mean. r is computed directly, not from norms."""
    y = x - mean
    z = y @ basis
    return z, y - z @ basis.T


def distances(x: Tensor, mean: Tensor, basis: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """T2 = sum_i z_i^2 / lambda_i and Q = |r|^2, [N] each."""
    z, r = split(x, mean, basis)
    return (z.square() / variances).sum(dim=1), r.square().sum(dim=1)


def log_volume(variances: Tensor, residual_variance: float, width: int) -> float:
    """d log 2 pi + sum_i log lambda_i + (d - k) log sigma2."""
    rest = (width - len(variances)) * math.log(residual_variance)
    return width * math.log(2 * math.pi) + float(variances.log().sum()) + rest


def depths(x: Tensor, mean: Tensor, axes: Tensor, variances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """D2 of rows under k axes and one variance for the rest, and the number that a residual guardrail watches; [N] each.

    That number is Q. If no more than one direction is left beside the k, it is max_i z_i^2 / lambda_i instead: the
    largest deviation along any one direction, in squared standard deviations. D2 is a sum over all directions; among
    many of them a deviation of 50 standard deviations along one hardly shows. The largest deviation shows it.

    Parameters
    ----------
    x : [N, d].   mean : [d].   variances : [d], of all axes.   k : the number of leading axes.
    axes : [d, d]; or only the first k of them, if k is less than half of d. Q is then computed in all dimensions.
    """
    d, sigma2, found = len(mean), variances[k:].mean(), []
    for part in x.split(CHUNK // 4):  # each float64 copy of a part is as large as a covariance
        if axes.shape[1] < d:
            t2, q = distances(part.double(), mean, axes, variances[:k])
            found.append((t2 + q / sigma2, q))
            continue
        squares = ((part.double() - mean) @ axes).square()
        q = squares[:, k:].sum(dim=1)
        beside = q if k < d - 1 else (squares / variances).amax(dim=1)
        found.append((squares[:, :k] @ (1 / variances[:k]) + q / sigma2, beside))
    d2, beside = zip(*found, strict=True)
    return torch.cat(d2), torch.cat(beside)
