"""What was seen at several strengths, in a form that can be kept in a file: the strength is chosen again from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base.errors import RarityError
from .strength import STRONGEST, FoundStrength, Look, choose_strength

SAME = 1e-4  # of its largest slack: what a guardrail may say otherwise of the same embeddings, where float32 sums in another order
MOST = 1024  # looks, pictures at each, guards, and pixels of a side


@dataclass(frozen=True, eq=False)
class MeasuredStrength:
    """The looks of `find_strength`, what they were made for, and some of their pictures.

    Attributes
    ----------
    looks : by strength, the first at 0.   variety, validity : what was asked for.   until : the part of the steps that is varied.
    tiles : strength -> small pictures [m, H, W, 3] uint8 of the same m seeds.
    source : everything else that the looks depend on, as JSON values.
    """

    looks: tuple[Look, ...]
    variety: float
    validity: float
    until: float
    tiles: dict[float, Tensor]
    source: dict

    @property
    def found(self) -> FoundStrength:
        """What `find_strength` found with these looks."""
        return choose_strength(self.looks, self.variety, self.validity)

    def other_than(self, source: dict, rails: Callable[[Tensor], Sequence[Tensor]], guards: int) -> list[str]:
        """What this was measured for otherwise: keys of the source, or "guardrail"; nothing if it was measured for the same.

        Parameters
        ----------
        source : as `source`.   guards : the number of guards.
        rails : gives the slack of each guardrail for embeddings [n, d]. They come first of the guards. A guardrail has no name:
            what it says of the kept embeddings tells it from others.
        """
        keys = sorted(self.source.keys() | source.keys())
        other = [key for key in keys if self.source.get(key) != source.get(key)]
        if other or self.looks[0].slack.shape[1] != guards:
            return other or ["guardrail"]
        for look in self.looks:
            for now, before in zip(rails(look.x), look.slack.T, strict=False):  # further guards are no guardrails
                if not ((now - before).abs() <= SAME * before.abs().max()).all():
                    return ["guardrail"]
        return []

    def state(self) -> tuple[dict, dict[str, Tensor]]:
        """JSON values and tensors from which `from_state` makes the same again, bit for bit."""
        fields = {"variety": self.variety, "validity": self.validity, "until": self.until, "source": self.source}
        return fields, {
            "strengths": torch.tensor([look.strength for look in self.looks], dtype=torch.float64),
            "x": torch.stack([look.x for look in self.looks]).float(),
            "slack": torch.stack([look.slack for look in self.looks]).double(),
            "tiles": torch.stack([self.tiles[look.strength] for look in self.looks]),
        }

    @classmethod
    def from_state(cls, fields: dict, tensors: dict[str, Tensor]) -> MeasuredStrength:
        """The inverse of `state`. Everything is checked, because a file may hold anything.

        Raises
        ------
        RarityError : shapes that do not fit, numbers out of range, looks from which no strength can be chosen.
        """
        strengths, x, slack, tiles = (tensors[name] for name in ("strengths", "x", "slack", "tiles"))
        variety, validity, until, source = (fields.get(name) for name in ("variety", "validity", "until", "source"))
        numbers = [variety, validity, until]
        checks = {
            "its numbers": all(type(number) in (int, float) for number in numbers) and 0 < until <= 1,
            "its source": isinstance(source, dict),
            "its strengths": 1 <= len(strengths) <= MOST and float(strengths[0]) == 0 and bool((strengths.diff() > 0).all())
            and float(strengths[-1]) <= STRONGEST,
            "its embeddings": len(x) == len(strengths) and max(x.shape[:2]) <= MOST,
            "its guards": slack.shape[:2] == x.shape[:2] and slack.shape[2] <= MOST,
            "its pictures": len(tiles) == len(strengths) and tiles.shape[-1] == 3 and 0 < min(tiles.shape) and max(tiles.shape) <= MOST,
        }
        wrong = [name for name, good in checks.items() if not good]
        if wrong:
            raise RarityError(f"The measured strength in this file is damaged: {'; '.join(wrong)}. Delete the file, and it is measured anew.")
        keys = strengths.tolist()
        looks = tuple(Look(*one) for one in zip(keys, x, slack, strict=True))
        made = cls(looks, float(variety), float(validity), float(until), dict(zip(keys, tiles, strict=True)), source)
        _ = made.found  # it refuses looks that `find_strength` refuses
        return made

    def summary(self) -> dict:
        """The strength, for `inspect_file`."""
        return {"strength": self.found.strength}
