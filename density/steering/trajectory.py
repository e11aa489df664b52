"""The trajectory from usual to rare: checkpoints and the readings at each."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..calibration.surprisal import one_in_from_bits


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The checkpoints of `optimize`. The first is the start as it was given, the last the result.

    Attributes
    ----------
    steps : S step numbers.   embeddings : S sets of N embeddings.
    readings : name -> [S, N]: bits, t2, residual, norm, anchor_cosine, inside (1 where every guardrail accepts, else 0),
        and the reading of every guardrail and direction by its name; with a gate also validity, which is P(yes).
    target_bits : the rarity asked for.   half_width : the band is target_bits -/+ half_width.
    accepted : [N] bool, every guardrail accepts the result, and the gate says Yes to it.
    extrapolated : whether the target is rarer than the density's samples can show.
    allowed : name of a guardrail's reading, or validity -> the lowest and the highest value that is accepted.
    notes : what the user should know, in sentences.
    """

    steps: tuple[int, ...]
    embeddings: tuple[Embeddings, ...]
    readings: dict[str, Tensor]
    target_bits: float
    accepted: Tensor
    extrapolated: bool
    half_width: float = 1.0
    allowed: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def band(self) -> tuple[float, float]:
        """Lowest and highest bits that count as the asked rarity."""
        return self.target_bits - self.half_width, self.target_bits + self.half_width

    @property
    def start(self) -> Embeddings:
        """The embeddings at the start."""
        return self.embeddings[0]

    @property
    def final(self) -> Embeddings:
        """The rare embeddings."""
        return self.embeddings[-1]

    @property
    def in_band(self) -> Tensor:
        """[N] bool: the result's bits lie inside the band."""
        low, high = self.band
        bits = self.readings["bits"][-1]
        return (low <= bits) & (bits <= high)

    def results(self) -> list[dict]:
        """One dictionary of JSON values for each result: bits, one_in, in_band, residual, anchor_cosine."""
        last = {name: self.readings[name][-1].tolist() for name in ("bits", "residual", "anchor_cosine")}
        return [
            {
                "bits": bits,
                "one_in": min(one_in_from_bits(bits), 1e300),
                "in_band": inside,
                "residual": residual,
                "anchor_cosine": cosine,
            }
            for bits, inside, residual, cosine in zip(
                last["bits"], self.in_band.tolist(), last["residual"], last["anchor_cosine"], strict=True
            )
        ]

    def captions(self) -> list[str]:
        """A caption for each result's picture, such as "1 in 1,024"."""
        return [f"1 in {result['one_in']:,.0f}" for result in self.results()]

    def outside(self) -> dict[str, int]:
        """For each guardrail that any result breaks, how many results lie outside what it allows."""
        broken = {}
        for name in [name for name in self.allowed if name in self.readings and name != "validity"]:
            x, (low, high) = self.readings[name][-1], self.allowed[name]
            beyond = (x < low) | (x > high)
            if beyond.any():
                broken[name] = int(beyond.sum())
        return broken

    def report(self) -> str:
        """The results in a sentence or two."""
        count, in_band = len(self.final), int(self.in_band.sum())
        inside = self.readings["inside"][-1] if "inside" in self.readings else self.accepted
        text = (
            f"{in_band} of {count} are about 1 in {2**self.target_bits:,.0f} ({self.target_bits:.1f} bits, "
            f"within {self.half_width:g}), {int(inside.sum())} inside every guardrail."
        )
        if outside := self.outside():
            text += f" Outside: {', '.join(f'{name} {number}' for name, number in outside.items())}."
        if "norm" in outside:
            text += " Theirs is a length that usual samples do not have: take a larger baseline, or dial less."
        if "validity" in self.readings and "validity" in self.allowed:
            threshold = self.allowed["validity"][0]
            valid = int((self.readings["validity"][-1] >= threshold).sum())
            text += f" The gate says Yes to {valid} of {count} (P(yes) of at least {threshold:g})."
        if self.extrapolated:
            text += " The target is rarer than the density's samples can show: the figure is extrapolated."
        return " ".join([text, *self.notes])


def stack(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack the readings of S steps, each name -> [N], into name -> [S, N]."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
