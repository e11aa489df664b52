"""The losses that learning a concept minimises."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ...density.base.embeddings import Embeddings
from ...density.calibration.surprisal import bits_from_one_in
from ...density.estimators.contract import Density
from ...density.steering.band import BandLoss, log_gaussian
from ...density.steering.directions import Direction
from ...density.steering.guardrails import Guardrail
from ...density.steering.optimize import optimize
from ..kandinsky.prior import Prior

OBJECTIVES = ("places", "band", "paper")
BAND = 2.0  # weight of the band and the guardrails; the distance to a sample's place has weight 1
TILT = 0.5  # power of a direction's variance by which a sample is tilted towards it before it is moved outwards
AHEAD = 256  # samples whose places are computed at a time

Loss = Callable[[Tensor], Tensor]


class Objective:
    """The loss of a batch of samples e [b, d], a number.

        places    sum |e - t|^2 / sum |t - mean|^2 + BAND mean of [ band loss + sum of the guardrails' penalties ]
        band      mean of [ band loss + sum of the guardrails' penalties ]
        paper     mean of [ log G(e) + 1 - cos(e, text) + sum of the guardrails' penalties ]

    t is a place on the shell of the wanted rarity, and every noise has its own. A place begins as the sample that the
    model made of its noise before it learnt anything. The sample is tilted towards the directions that vary most,
    because they show most,

        w_i -> w_i (lambda_i / lambda_1)^(TILT / 2)    in whitened coordinates,

    and `optimize` moves it to the shell, inside the guardrails.

    With the band alone the cheapest solution is one common shift along directions of little variance. The embeddings
    are then rare, but their pictures are usual and alike. Distances to places are in units of the embedding, in which
    these directions count as little as they do in a picture. The band then corrects the rarity, which the distances do
    not fix.

    Parameters
    ----------
    kind : one of OBJECTIVES, or a function of a batch, to which the guardrails' penalties are added.
    density, one_in, guardrails, directions : for the band and the shell.   prior, prompt : for the text of "paper".
    """

    def __init__(
        self,
        kind: str | Loss,
        density: Density,
        one_in: float,
        guardrails: tuple[Guardrail, ...],
        directions: tuple[Direction, ...],
        prior: Prior,
        prompt: str,
    ):
        self._density, self._one_in = density, one_in
        self._guardrails, self._directions = guardrails, directions
        self.has_places = kind == "places"
        if callable(kind):
            self._rarity = kind
        elif kind == "paper":
            text = prior.encode_text([prompt]).double()  # encoded before anything is learnt
            self._rarity = lambda x: log_gaussian(density, x) + 1 - cosine_similarity(x, text, dim=1)
        else:
            self._rarity = BandLoss(density, bits_from_one_in(one_in))

    def places(self, before: Tensor) -> Tensor:
        """The places on the shell, [n, d] float64, of samples [n, d] that the model made before learning."""
        frame = self._density.frame
        w, r = frame.whiten(before)
        seen = (frame.variances / frame.variances[0]) ** (TILT / 2)
        starts = Embeddings(frame.unwhiten(w * seen, r).float(), self._density.space)
        rows = optimize(self._density, starts, self._one_in, self._guardrails, directions=self._directions).final
        return rows.vectors.double()

    def __call__(self, x: Tensor, places: Tensor | None = None) -> Tensor:
        """The loss of a batch [b, d] float64. The objective "places" needs the batch's places [b, d]."""
        loss = (self._rarity(x) + sum(rail.penalty(x) for rail in self._guardrails)).mean()
        if not self.has_places:
            return loss
        return (x - places).square().sum() / (places - self._density.frame.mean).square().sum() + BAND * loss


class Places:
    """The places of one batch of noises after the other, computed ahead, because many at a time cost less each.

    Parameters
    ----------
    objective : computes the places.
    before : gives the samples that the model made of a range of noises before learning, [n, d].
    """

    def __init__(self, objective: Objective, before: Callable[[range], Tensor]):
        self._objective, self._before = objective, before
        self._rows, self._found = range(0), torch.zeros(0)

    def of(self, rows: range, last: int) -> Tensor | None:
        """The places of the noises `rows`, [n, d]. No noise from number `last` on will ever be asked for."""
        if not self._objective.has_places:
            return None
        if not (self._rows.start <= rows.start and rows.stop <= self._rows.stop):
            self._rows = range(rows.start, max(rows.stop, min(rows.start + AHEAD, last)))
            self._found = self._objective.places(self._before(self._rows))
        return self._found[rows.start - self._rows.start : rows.stop - self._rows.start]
