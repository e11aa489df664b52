"""The readings at a checkpoint: rarity, the density's other numbers, and those of guardrails and directions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Container

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..base.embeddings import Embeddings
from ..calibration.surprisal import Calibration
from ..estimators.contract import Density
from ..estimators.own_samples import RowCalibration
from .directions import Direction, Wishes
from .gates import Gate
from .guardrails import AnchorGuardrail, Guardrail, ResidualGuardrail, watches
from .trajectory import Trajectory, stack


def read_all(
    density: Density,
    chain: tuple[Guardrail, ...],
    wishes: Wishes | None,
    x: Tensor,
    calibration: Calibration | RowCalibration | None = None,
) -> dict[str, Tensor]:
    """Every reading of embeddings x, name -> [N]. Without a calibration the bits are those of new samples."""
    x = x.double()
    anchors = [rail.anchor for rail in chain if isinstance(rail, AnchorGuardrail)] or [density.frame.mean]
    readings = {
        "bits": (calibration or density.calibration).bits(density.score(x).detach()),
        "t2": density.frame.t2(x),
        "residual": density.frame.residual(x),
        "norm": x.norm(dim=1),
        "anchor_cosine": normalize(x, dim=1) @ normalize(anchors[0], dim=0),
        "inside": torch.stack([rail.accepts(x) for rail in chain]).all(dim=0).double(),
    }
    for rail, name in zip(chain, names_of(density, chain), strict=True):
        readings[name] = rail.reading(x)
    for direction, reading in zip(wishes.directions, wishes.read(x), strict=True) if wishes else ():
        readings[_free(direction.name, readings)] = reading
    return readings


def names_of(density: Density, chain: tuple[Guardrail, ...]) -> list[str]:
    """The name of every guardrail's reading. All norms share one name, and so do all residuals of this density."""
    names: list[str] = []
    for rail in chain:
        shared = rail.name == "norm" or watches(rail, ResidualGuardrail, density)
        names.append(rail.name if shared else _free(rail.name, {"residual", *names}))
    return names


def allowed_by(density: Density, chain: tuple[Guardrail, ...]) -> dict[str, tuple[float, float]]:
    """The lowest and the highest accepted value of every guardrail's reading, by its name."""
    allowed = {}
    for rail, name in zip(chain, names_of(density, chain), strict=True):
        low, high = allowed.get(name, (-math.inf, math.inf))
        allowed[name] = max(low, rail.allowed[0]), min(high, rail.allowed[1])
    return allowed


def what_they_say(*parts: Guardrail | Direction | Gate | None) -> tuple[str, ...]:
    """The notes of guardrails, directions and a gate for the user, each sentence once."""
    return tuple(dict.fromkeys(note for part in parts if part is not None for note in part.notes))


def trajectory_of(
    density: Density,
    chain: tuple[Guardrail, ...],
    gate: Gate | None,
    bits: float,
    steps: list[int],
    embeddings: list[Embeddings],
    readings: list[dict[str, Tensor]],
    notes: tuple[str, ...] = (),
) -> Trajectory:
    """The trajectory of S checkpoints. A result is accepted if every guardrail, and the gate if any, accepts it.

    Parameters
    ----------
    bits : the rarity asked for.   steps, embeddings : S step numbers and S sets of N.
    readings : S results of `read_all`, name -> [N], with "validity" if there is a gate.
    notes : what the user should know, in sentences.
    """
    read, allowed = stack(readings), allowed_by(density, chain)
    accepted = read["inside"][-1] > 0
    if gate:
        accepted &= read["validity"][-1] >= gate.threshold
        allowed["validity"] = (gate.threshold, math.inf)
    extrapolated = density.calibration.extrapolated(bits)
    return Trajectory(tuple(steps), tuple(embeddings), read, bits, accepted, extrapolated, allowed=allowed, notes=notes)


def _free(name: str, taken: Container[str]) -> str:
    """The name if it is free, otherwise the first free one of "name 2", "name 3" ..."""
    names = (name if number == 1 else f"{name} {number}" for number in itertools.count(1))
    return next(free for free in names if free not in taken)
