"""A Gaussian density as JSON values and tensors, and what is checked before they become one again."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base.errors import RarityError
from ..base.spaces import EmbeddingSpace
from ..calibration.surprisal import Calibration
from ..statistics.sufficient_statistics import Statistics
from .cross_fit import ESTIMATORS

TENSORS = ("mean", "basis", "variances", "spectrum", "residual_calibration")


def pack(density) -> tuple[dict, dict[str, Tensor]]:
    """JSON values and tensors that `unpack` makes the same fields of."""
    fields = {
        "space": density.space.to_dict(),
        "estimator": density.estimator,
        "count": density.count,
        "residual_variance": density.residual_variance,
        "norm_range": list(density.norm_range),
        "source": density.source,
        "notes": list(density.notes),
    }
    fields["statistics"], gathered = density.statistics.state()
    tensors = {name: getattr(density, name) for name in TENSORS}
    return fields, {**tensors, **density.calibration.state(), **gathered}


def unpack(fields: dict, tensors: dict[str, Tensor]) -> dict:
    """What `GaussianDensity` is made of, by name, from a file that may hold anything.

    Raises
    ------
    RarityError : shapes that do not fit, a basis that is not orthonormal, variances out of order, ranges reversed.
    """
    space = EmbeddingSpace.from_dict(fields.get("space"))
    wrong = _wrong_shapes(space.width, tensors) or _wrong_values(fields, tensors)
    if wrong:
        raise RarityError(f"The density in this file is damaged: {'; '.join(wrong)}. Learn it again and save it.")
    statistics = Statistics.from_state(space.width, fields.get("statistics"), tensors)
    if statistics.count != fields["count"]:
        raise RarityError(
            f"The density in this file is damaged: it was learnt from {fields['count']:,} samples, and its statistics are of "
            f"{statistics.count:,}. Learn it again and save it."
        )
    return {
        "space": space,
        "statistics": statistics,
        "calibration": Calibration.from_state(tensors),
        "norm_range": tuple(fields["norm_range"]),
        "notes": tuple(fields["notes"]),
        **{name: fields[name] for name in ("estimator", "count", "residual_variance", "source")},
        **{name: tensors[name] for name in TENSORS},
    }


def _wrong_shapes(d: int, tensors: dict[str, Tensor]) -> list[str]:
    k = tensors["variances"].numel()
    shapes = {"mean": (d,), "basis": (d, k), "variances": (k,), "spectrum": (d,)}
    return [
        f"{name} {tuple(tensors[name].shape)}, expected {shape}"
        for name, shape in shapes.items()
        if tuple(tensors[name].shape) != shape
    ]


def _wrong_values(fields: dict, tensors: dict[str, Tensor]) -> list[str]:
    """What no density has, in words; the shapes are right."""
    sigma2, norms, count, notes = (fields.get(name) for name in ("residual_variance", "norm_range", "count", "notes"))
    basis, variances, spectrum, q = (tensors[name] for name in TENSORS[1:])
    d, k = basis.shape
    checks = {
        "its number of components": 1 <= k < d,
        "its count of samples": type(count) is int and count > 0,
        "its estimator": fields.get("estimator") in (*ESTIMATORS, "mixture", "neighbours"),
        "its residual variance": type(sigma2) is float and 0 < sigma2 < math.inf,
        "its range of norms": isinstance(norms, list)
        and len(norms) == 2
        and all(type(v) is float for v in norms)
        and 0 <= norms[0] <= norms[1] < math.inf,
        "its variances": bool((variances > 0).all()) and bool((variances.diff() <= 0).all()),
        "its spectrum": bool((spectrum >= 0).all()) and bool(spectrum.sum() > 0),
        "its basis, which is not orthonormal": bool(((basis.T @ basis - torch.eye(k)).abs() < 1e-6).all()),
        "its held-out residuals": q.dim() == 1 and len(q) > 0 and bool((q >= 0).all() and (q.diff() >= 0).all()),
        "its source": isinstance(fields.get("source"), dict),
        "its notes": isinstance(notes, list) and all(isinstance(n, str) for n in notes),
    }
    return [name for name, good in checks.items() if not good]
