"""One stage of a training: seeded, resumable, and stopped at a checkpoint when its time is up."""
from __future__ import annotations

import copy
import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SAVED_EVERY = 180  # seconds, beside every 250 steps
log = logging.getLogger("training")


class OutOfTime(Exception):
    """The time that was given is over; the last checkpoint holds everything."""


class Stage:
    """A seeded, resumable training loop: AdamW, one-cycle cosine rate, an exponential average of the weights, checkpoints.

    It keeps `NAME.pt` in the folder `work`, and goes on from it. `until` is the time (of `time.time()`) at which it saves and raises `OutOfTime`.
    `half` is for bfloat16 where torch thinks it safe.
    """

    def __init__(
        self, name: str, module: nn.Module, work: Path, *, steps: int, rate: float, seed: int, until: float = math.inf, half: bool = False, average: float = 0.999
    ):
        self.name, self.path = name, work / f"{name}.pt"
        self.steps, self.rate, self.until, self.half = steps, rate, until, half
        self.module = module.to(DEVICE)
        self.averaged = copy.deepcopy(self.module).requires_grad_(False)
        self.average = average
        self.optimiser = torch.optim.AdamW(self.module.parameters(), rate, weight_decay=0.01, betas=(0.9, 0.98))
        self.generator = torch.Generator().manual_seed(seed)
        self.step = 0
        if self.path.exists():
            state = torch.load(self.path, map_location=DEVICE, weights_only=True)
            self.module.load_state_dict(state["module"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.generator.set_state(state["generator"].cpu())
            self.step = state["step"]

    def save(self) -> None:
        state = {
            "module": self.module.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
        }
        torch.save(state, self.path.with_suffix(".tmp"))
        os.replace(self.path.with_suffix(".tmp"), self.path)

    def run(self, loss_of: Callable[[nn.Module, torch.Generator], dict[str, Tensor]]) -> nn.Module:
        """Minimise `loss_of(module, generator)`, a dict of terms, to the stage's last step; returns the averaged module."""
        started, first, saved, sums, counted = time.time(), self.step, time.time(), {}, 0
        self.module.train()
        while self.step < self.steps:
            if time.time() > self.until:
                self.save()
                raise OutOfTime(f"{self.name} stopped at step {self.step} of {self.steps}")
            warm = min(1.0, (self.step + 1) / 200)
            rate = self.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.step / self.steps)))
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            with torch.autocast(DEVICE, torch.bfloat16, enabled=self.half):
                terms = loss_of(self.module, self.generator)
            self.optimiser.zero_grad(set_to_none=True)
            sum(terms.values()).backward()
            nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
            self.optimiser.step()
            self.step += 1
            decay = min(self.average, self.step / (self.step + 10))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.averaged.parameters()), list(self.module.parameters()), 1 - decay)
            counted += 1
            for key, value in terms.items():
                sums[key] = sums.get(key, 0.0) + float(value.detach())
            if self.step % 250 == 0 or self.step == self.steps or self.step == first + 10 or time.time() - saved > SAVED_EVERY:
                pace = (time.time() - started) / (self.step - first)
                text = "  ".join(f"{k} {v / counted:.4f}" for k, v in sums.items())
                left = pace * (self.steps - self.step) / 60
                log.info("%s %d/%d  %s  (%.3f s a step, %.0f min left)", self.name, self.step, self.steps, text, pace, left)
                sums, counted, saved = {}, 0, time.time()
                self.save()
        self.save()
        return self.averaged.eval()
