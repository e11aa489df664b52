"""A score machine with its sources, and the sampler that leads from noise to pictures with it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...density.base.errors import RarityError
from ...density.base.progress import Progress
from ..runtime.noise import streams
from . import score_machines
from .noise_levels import ddim_step, signal_share, times
from .patch_schedules import check_patch

KINDS = ("boundary-broken", "equivariant", "local", "ideal")
TOLERANCE = 0.3  # of the exponents: it halves the products; estimates of photographs (-1 to 1) are off by at most 0.002


@dataclass(frozen=True)
class LocalScore:
    """A score machine and its sources.

    sources : [N, C, H, W], about -1 to 1.
    kind : "boundary-broken" (patches move, borders stay borders), "equivariant" (patches move, the picture is a torus),
        "local" (patches stay where they were), "ideal" (whole pictures).
    limit : number of patches that are compared with a pixel; None is all.   seed : of the choice of these patches.
    tolerance : see patches.Basis; 0 is exact.
    wrap_sources : see score_machines.equivariant.
    """

    sources: Tensor
    kind: str = "boundary-broken"
    limit: int | None = None
    seed: int = 0
    tolerance: float = TOLERANCE
    wrap_sources: bool = False

    def __post_init__(self):
        if self.kind not in KINDS:
            raise RarityError(f"The score machine must be one of {', '.join(KINDS)}, got {self.kind!r}.")
        if self.limit is not None and self.limit < 1:
            raise RarityError(f"At least one patch must be looked at, got {self.limit}.")
        if self.sources.dim() != 4 or 0 in self.sources.shape:
            raise RarityError(
                f"Sources must have the shape [N, channels, height, width], got {tuple(self.sources.shape)}."
            )
        bad = int((~self.sources.isfinite()).flatten(1).any(dim=1).sum())
        if bad:
            raise RarityError(f"{bad} of {len(self.sources)} pictures hold values that are not finite. Leave them out.")

    def estimate(self, x: Tensor, signal: float, patch: int, tick=None) -> Tensor:
        """M[x]: the clean pictures that are expected given the noisy x [B, C, H, W] at abar = `signal`."""
        few = {"limit": self.limit, "seed": self.seed, "tolerance": self.tolerance, "tick": tick}
        if self.kind == "ideal":
            return score_machines.ideal(x, self.sources, signal, tick)
        if self.kind == "local":
            return score_machines.local(x, self.sources, signal, patch, tick)
        if self.kind == "equivariant":
            return score_machines.equivariant(x, self.sources, signal, patch, wrap_sources=self.wrap_sources, **few)
        return score_machines.boundary_broken(x, self.sources, signal, patch, **few)

    def score(self, x: Tensor, signal: float, patch: int) -> Tensor:
        """The gradient of the log-density of noisy pictures at x: (a M - x) / v."""
        return (math.sqrt(signal) * self.estimate(x, signal, patch) - x) / (1 - signal)

    def noise(self, count: int, seed: int) -> Tensor:
        """The noise that pictures start from, [count, C, H, W]: picture i depends on (seed, i) only."""
        drawn = [torch.randn(self.sources.shape[1:], generator=one) for one in streams(seed, 0, count, "local score")]
        return torch.stack(drawn).to(self.sources)

    def sample(self, noise: Tensor, patches: list[int], *, progress: Progress | None = None, preview=None) -> Tensor:
        """Make pictures from noise, with DDIM.

        Parameters
        ----------
        noise : [B, C, H, W], standard normal.   patches : patch sizes, one for each step, noise first.
        progress : called with (steps done, all steps), also within a step; it may raise to cancel.
        preview : called with M [B, C, H, W] after each step.

        Returns
        -------
        [B, C, H, W]

        Raises
        ------
        RarityError : a patch that does not fit.
        """
        for patch in patches if self.kind != "ideal" else ():
            self._check(patch)
        x, moments = noise, [*times(len(patches)), 0.0]
        for i, patch in enumerate(patches):
            tick = progress and now_and_then(lambda i=i: progress(i, len(patches)))
            estimate = self.estimate(x, signal_share(moments[i]), patch, tick)
            x = ddim_step(x, estimate, moments[i], moments[i + 1])
            if preview:
                preview(estimate)
            if progress:
                progress(i + 1, len(patches))
        return x

    def _check(self, patch: int) -> None:
        """Check that a patch fits. One that the border cuts may be larger, until it holds the picture everywhere."""
        height, width = self.sources.shape[2:]
        if self.kind != "equivariant":
            height = width = 2 * max(height, width) - 1
        check_patch(patch, height, width)


def now_and_then(call: Callable[[], None]) -> Callable[[int], None]:
    """A tick that calls at most ten times a second, because a progress bar takes longer than a block of work."""
    last = time.monotonic()

    def tick(_done: int) -> None:
        nonlocal last
        if time.monotonic() - last > 0.1:
            last = time.monotonic()
            call()

    return tick
