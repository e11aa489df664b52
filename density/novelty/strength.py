"""Find how strongly to vary a condition, so that pictures are as varied as asked and still are the subject."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..base.errors import RarityError
from .psychometric import Psychometric

FIRST, FACTOR, STRONGEST = 0.5, 2.5, 4.0  # the first strength, how much stronger the next, and the strongest that is tried
LOOKS = 4  # how many strengths are tried beside 0
PARTS, FAR = (0.5, 1.0), 2.0  # of the steps; and the strength that tells whether a part is enough: a token turns by 63 degrees
CERTAIN, LIKELY = 0.9, 0.7  # how probable it is that the validity is kept: by as much variety as stays the subject, and by a variety that is asked for
INSIDE = 0.1  # a strength between two others stays this share of their distance away from both; too near, it would tell nothing new
BEGINS = 1e9  # what strength 0 weighs beside another look: there the variety is 1, whatever noise says of the others
ALIKE = 1e-6  # of an embedding's length: pictures that lie no farther apart are one picture


@dataclass(frozen=True, eq=False)
class Look:
    """What was seen at one strength: the pictures of n seeds.

    Attributes
    ----------
    strength : 0 is the condition as it is.   x : [n, d], the embeddings of the pictures.
    slack : [n, g], how far each picture is inside what each of g guards allows, in that guard's unit; negative outside.
    """

    strength: float
    x: Tensor
    slack: Tensor

    def without(self, row: int) -> Look:
        """The same without one picture."""
        kept = torch.arange(len(self.x)) != row
        return replace(self, x=self.x[kept], slack=self.slack[kept])

    @property
    def distance(self) -> float:
        """The mean Euclidean distance of two pictures."""
        return float(torch.pdist(self.x.double()).mean())

    @property
    def valid(self) -> int:
        """How many pictures are inside what every guard allows."""
        return int((self.slack >= 0).all(dim=1).sum())


@dataclass(frozen=True, eq=False)
class Curves:
    """Variety and validity over strength, as looks at several strengths tell them; the first look is at strength 0.

    variety    v(s) = mean distance of two pictures at s / the same at 0
    validity   r(s) = share inside at s / the same at 0

    More strength means more variety, so v is the nearest monotone curve (isotonic regression) that begins at 1, and straight
    between looks. r is a `Psychometric` curve. What counts is the share of further seeds, and that a few pictures are all inside
    does not say that every one will be: so r is told by all looks together, and with how sure it is. Source: isotonic regression,
    Barlow et al. (1972).
    """

    looks: tuple[Look, ...]

    @property
    def strengths(self) -> np.ndarray:
        return np.array([look.strength for look in self.looks])

    @cached_property
    def variety(self) -> np.ndarray:
        """v at each look."""
        from sklearn.isotonic import IsotonicRegression

        values, weights = [look.distance / self.looks[0].distance for look in self.looks], [BEGINS, *[1.0] * (len(self.looks) - 1)]
        return IsotonicRegression().fit(self.strengths, values, weights).predict(self.strengths)

    @cached_property
    def validity(self) -> np.ndarray:
        """r at each look, the median of what is probable; 1 where there are no guards."""
        return np.array([self.kept(look.strength) for look in self.looks])

    def kept(self, strength: float, certainty: float = 0.5) -> float:
        """What r at a strength is at least, with this probability."""
        return 1.0 if self._kept is None else self._kept.at_least(strength, certainty)

    @cached_property
    def _kept(self) -> Psychometric | None:
        guarded = self.looks[0].slack.shape[1] > 0
        return Psychometric.of([(look.strength, look.valid, len(look.x)) for look in self.looks]) if guarded else None

    def at(self, strength: float) -> tuple[float, float]:
        """v and r at a strength."""
        return float(np.interp(strength, self.strengths, self.variety)), self.kept(strength)

    def too_much(self, variety: float, validity: float) -> np.ndarray:
        """Whether each look is as varied as asked, or less valid."""
        return (self.variety >= variety) | (self.validity < validity)

    def strongest(self, variety: float, validity: float, certainty: float = 0.5) -> float:
        """The strength up to which v <= variety and, with this probability, r >= validity; at most the strongest look's."""
        varied = _crossing(self.strengths, self.variety, variety)
        if self.kept(varied, certainty) >= validity:
            return varied
        low, high = 0.0, varied
        while high - low > 1e-6:
            middle = (low + high) / 2
            low, high = (middle, high) if self.kept(middle, certainty) >= validity else (low, middle)
        return low



@dataclass(frozen=True, eq=False)
class FoundStrength:
    """What `find_strength` chose, and all that it saw.

    Attributes
    ----------
    strength : three digits behind the point, so that it can be written down and given again.
    variety, validity : what the curves say there.   error : the standard error of the variety, by leaving out each seed in turn.
    limit : what ended it: "variety", as much as was asked for; "validity", it would no longer be sure enough that more is still
        the subject; "range", the strongest that is tried.
    looks : by strength, the weakest first.
    """

    strength: float
    variety: float
    validity: float
    error: float
    limit: str
    looks: tuple[Look, ...]

    @property
    def curves(self) -> Curves:
        return Curves(self.looks)

    @property
    def guarded(self) -> bool:
        """Whether anything was asked whether pictures are still the subject."""
        return self.looks[0].slack.shape[1] > 0


def find_strength(
    look: Callable[[float], Look], variety: float = 2.0, validity: float = 0.95, *, looks: int = LOOKS, seen: Sequence[Look] = ()
) -> FoundStrength:
    """The strength at which pictures are as varied as asked, or else the strongest at which they stay the subject.

    It looks at strength 0, then at stronger ones until one is too much, and then where the curves cross what was asked for. As much
    variety as validity allows keeps the validity with a probability of CERTAIN. Each look shows seeds of its own: seeds that are seen again
    at another strength say less.

    Parameters
    ----------
    look : shows the pictures at a strength.
    variety : times as far apart as at strength 0, at least 1; or 0, as much as validity allows.
    validity : the least share inside the guards, of the share at strength 0; above 0, at most 1.
    looks : how many strengths it looks at beside 0.   seen : looks that there are already, the first at strength 0.

    Raises
    ------
    RarityError : numbers out of range; a variety of 0 without guards; fewer than 3 pictures, pictures that are all the same,
        not finite, or none of them inside at strength 0.
    """
    _check_numbers(variety, validity)
    had = list(seen) or [look(0.0)]
    _check(had[0], variety)
    wanted = variety or math.inf
    for _ in range(looks if wanted > 1 else 0):
        had.append(look(_next(Curves(tuple(had)), wanted, validity)))
        had.sort(key=lambda one: one.strength)
    return choose_strength(had, variety, validity)


def choose_strength(looks: Sequence[Look], variety: float, validity: float) -> FoundStrength:
    """The last step of `find_strength`: the strength that its looks, the weakest first, speak for. Raises as it."""
    _check_numbers(variety, validity)
    _check(looks[0], variety)
    wanted, curves = variety or math.inf, Curves(tuple(looks))
    # A strength at the edge is chosen because its few pictures looked good, and they mostly looked better than further ones will.
    certainty = LIKELY if variety else CERTAIN
    # Downwards: three digits more must not be a step over the edge.
    strength = math.floor(1000 * curves.strongest(wanted, validity, certainty) + 1e-6) / 1000
    reached, valid = curves.at(strength)
    varied = _crossing(curves.strengths, curves.variety, wanted)
    limit = "validity" if varied - strength >= 2e-3 else "variety" if curves.variety.max() >= wanted else "range"
    return FoundStrength(strength, reached, valid, _error(curves, strength), limit, tuple(looks))


def find_part(
    look: Callable[[float, float], Look], variety: float = 2.0, validity: float = 0.95, parts: Sequence[float] = PARTS, *, looks: int = LOOKS
) -> tuple[FoundStrength, float]:
    """The shortest part of the steps that is long enough to vary in, and the strength for it.

    What is varied in the first steps alone, the other steps may take back. So it looks first at what the strength FAR does in
    the shortest part: if pictures are neither as varied as asked nor lost to the subject then, it goes on to the next one.

    Parameters
    ----------
    look : shows the pictures at a strength and a part.   parts : shares of the steps, the shortest first.
    variety, validity, looks : see `find_strength`; the looks at FAR count.

    Raises
    ------
    RarityError : as `find_strength`.
    """
    _check_numbers(variety, validity)
    first, *others = parts
    plain = look(0.0, first)
    _check(plain, variety)
    while others and (variety == 0 or variety > 1):
        far, looks = look(FAR, first), looks - 1
        lost = plain.slack.shape[1] > 0 and far.valid < validity * plain.valid
        if lost or far.distance >= (variety or math.inf) * plain.distance:
            return find_strength(lambda strength: look(strength, first), variety, validity, looks=looks, seen=(plain, far)), first
        first, *others = others
    return find_strength(lambda strength: look(strength, first), variety, validity, looks=looks, seen=(plain,)), first


def _next(curves: Curves, variety: float, validity: float) -> float:
    """Where to look next."""
    strengths, too_much = curves.strengths, curves.too_much(variety, validity)
    if not too_much.any():
        if len(strengths) == 1 or strengths[-1] < STRONGEST:
            return min(FACTOR * float(strengths[-1]) or FIRST, STRONGEST)
        return float(strengths[-2:].mean())  # nowhere left to go: more is learnt of what is near the end
    high = int(too_much.argmax())
    low, high = float(strengths[high - 1]), float(strengths[high])
    room = INSIDE * (high - low)
    return min(max(curves.strongest(variety, validity), low + room), high - room)


def _crossing(strengths: np.ndarray, rising: np.ndarray, level: float) -> float:
    """The first strength at which a curve that rises, straight between its points, reaches a level; else the last strength."""
    above = rising > level
    if not above.any():
        return float(strengths[-1])
    i = int(above.argmax())
    if i == 0:
        return float(strengths[0])
    share = (level - rising[i - 1]) / (rising[i] - rising[i - 1])
    return float(strengths[i - 1] + share * (strengths[i] - strengths[i - 1]))


def _error(curves: Curves, strength: float) -> float:
    """The standard error of v at a strength, by the jackknife: sqrt((n - 1) / n sum_i (v_i - mean)^2), v_i without row i of all looks."""
    n = len(curves.looks[0].x)
    fewer = (Curves(tuple(look.without(i) for look in curves.looks)) for i in range(n))
    without = [np.interp(strength, one.strengths, one.variety) for one in fewer]
    return float(np.std(without) * math.sqrt(n - 1))


def _check_numbers(variety: float, validity: float) -> None:
    if not (variety == 0 or 1 <= variety < math.inf) or not 0 < validity <= 1:
        raise RarityError(
            f"The variety must be 1 or more, or 0 for as much as stays the subject, and the validity above 0 and at most 1; got {variety:g} "
            f"and {validity:g}."
        )


def _check(first: Look, variety: float) -> None:
    n = len(first.x)
    if n < 3:
        raise RarityError(f"At least 3 pictures at each strength say how far pictures lie apart, got {n}.")
    if not torch.isfinite(first.x).all():
        raise RarityError("The pictures of this prompt are not finite before anything is varied. Load the models in float32 or bfloat16.")
    if not first.distance > ALIKE * float(first.x.norm(dim=1).mean()):
        raise RarityError(
            "All seeds give the same picture, as far as the eye can tell, before anything is varied: nothing can be so many times as varied. "
            "Look at the pictures: are they black, or does the model draw at all with these settings?"
        )
    if first.slack.shape[1] == 0 and variety == 0:
        raise RarityError(
            "As much variety as stays the subject needs something that knows the subject: connect a guardrail or a gate, or ask for a "
            "variety of 2."
        )
    if first.slack.shape[1] and first.valid == 0:
        raise RarityError(
            f"None of the {n} pictures as they are drawn is inside what the guardrails and the gate allow, so they cannot say what stays the "
            "subject. Loosen them, or name the subject as the prompt does."
        )
