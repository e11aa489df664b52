"""Two engines that search a better offset: gradient descent, and trials with CMA-ES. The caller's aim is the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...density.base.errors import RarityError
from ..runtime.memory import in_pieces

MOST_DIMENSIONS = 200  # above this CMA-ES needs more pictures than anybody waits for
ADVICE = (
    "Make the pictures smaller, take fewer steps, or choose the engine evolution, which takes no gradient and needs no more "
    "memory than drawing does."
)


@dataclass(frozen=True, eq=False)
class Tried:
    """An offset [k], the embeddings x [n, d] of its pictures, and how far they are from the aim."""

    offset: Tensor
    x: Tensor
    loss: float


class Gradient:
    """AdamW on the offset o. The gradient of the aim is computed for `at_once` pictures at a time.

        g_i = d aim / d x_i,    d aim / d o = sum_i (d x_i / d o)' g_i

    This chain rule through the embeddings x_i is exact, however the pictures are divided.
    """

    def __init__(self, draw, aim, start: Tried, step_size: float, seed: int):
        self.draw, self.aim, self.last = draw, aim, start
        self.offset = start.offset.clone().requires_grad_(True)
        # No weight decay: it would pull an offset that has arrived out of the band again.
        self.optimiser = torch.optim.AdamW([self.offset], step_size, weight_decay=0.0)
        self.drawn_each = 2 * len(draw.rows)

    def step(self) -> Tried | None:
        """One step down from the last offset, and the result; None if it is not finite."""
        slope = self.slope(self.last)
        if not torch.isfinite(slope).all():
            return None
        self.offset.grad = slope
        self.optimiser.step()
        offset = self.offset.detach().clone()
        x = self.draw(offset)
        if not torch.isfinite(x).all():
            return None
        self.last = Tried(offset, x, float(self.aim(x)))
        return self.last

    def slope(self, at: Tried) -> Tensor:
        """d aim / d offset, [k] float32."""
        with torch.enable_grad():
            x = at.x.clone().requires_grad_(True)
            (wanted,) = torch.autograd.grad(self.aim(x), x)

        def pull_back(rows: range) -> Tensor:
            with torch.enable_grad():
                offset = at.offset.clone().requires_grad_(True)
                x = self.draw.generator.embed(offset, rows)
                (slope,) = torch.autograd.grad(x, offset, wanted[rows.start:rows.stop].to(x))
            self.draw.count(len(rows))
            return slope

        pieces = in_pieces(self.draw.rows, self.draw.at_once, pull_back, self.draw.generator.placement, ADVICE)
        return torch.stack([slope for _, slope in pieces]).sum(dim=0)


class Evolution:
    """Covariance matrix adaptation: a generation of trials is drawn from a Gaussian, which learns from the better half.

    The library cma does it. Source: Hansen & Ostermeier (2001); Hansen (2016), arXiv 1604.00772.
    """

    def __init__(self, draw, aim, start: Tried, step_size: float, seed: int):
        import cma
        import numpy as np

        k = len(start.offset)
        if k > MOST_DIMENSIONS:
            raise RarityError(
                f"The engine evolution searches at most {MOST_DIMENSIONS} dimensions, got {k:,}. "
                "Give it fewer variations to search among, or choose the engine gradient."
            )
        self.draw, self.aim = draw, aim
        # The library searches two dimensions or more, so an offset of one dimension gets a second one that is not used.
        self.size = k
        source = np.random.RandomState(seed % 2**32)
        options = {
            "verbose": -9, "verb_log": 0, "verb_disp": 0, "seed": math.nan,  # nan: do not touch the global random state
            "randn": lambda *shape: source.standard_normal(shape),
        }
        centre = np.zeros(max(k, 2))
        centre[:k] = start.offset.numpy()
        self.strategy = cma.CMAEvolutionStrategy(centre, step_size, options)
        self.drawn_each = self.strategy.popsize * len(draw.rows)

    def step(self) -> Tried | None:
        """The best trial of one generation; None if none is finite."""
        asked = self.strategy.ask()
        tried = [self._try(torch.as_tensor(one[: self.size], dtype=torch.float32)) for one in asked]
        best = min(tried, key=lambda one: one.loss)
        if not math.isfinite(best.loss):
            return None
        self.strategy.tell(asked, [min(one.loss, 1e30) for one in tried])
        return best

    def _try(self, offset: Tensor) -> Tried:
        x = self.draw(offset)
        loss = float(self.aim(x)) if torch.isfinite(x).all() else math.inf
        return Tried(offset, x, loss if math.isfinite(loss) else math.inf)


ENGINES = {"gradient": Gradient, "evolution": Evolution}
