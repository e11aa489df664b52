"""What learning a concept makes small."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import cosine_similarity

from ..density.band import BandLoss, log_gaussian
from ..density.gaussian import GaussianDensity
from ..density.guardrails import Guardrail
from .kandinsky_prior import Prior

OBJECTIVES = ("band", "paper")


def batch_loss(
    objective, density: GaussianDensity, bits: float, chain: tuple[Guardrail, ...], prior: Prior, prompt: str
) -> Callable[[Tensor], Tensor]:
    """The loss of a batch [b, d], a number."""
    if callable(objective):
        rarity = objective
    elif objective == "band":
        rarity = BandLoss(density, bits)
    else:
        text = prior.encode_text([prompt]).double()  # as it is now, before anything is learnt

        def rarity(x: Tensor) -> Tensor:
            return log_gaussian(density, x) + 1 - cosine_similarity(x, text, dim=1)

    return lambda x: (rarity(x) + sum(rail.penalty(x) for rail in chain)).mean()
