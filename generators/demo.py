"""The whole path in one function, on a built-in model: what `rarity demo` and the quickstart workflow do."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from torch import Tensor

from ..density.base.embeddings import Embeddings
from ..density.base.errors import RarityError, quoted
from ..density.base.progress import Progress
from ..density.calibration.surprisal import bits_from_one_in
from ..density.drawing.contact_sheet import contact_sheet
from ..density.drawing.density_map import density_map
from ..density.estimators.gaussian import GaussianDensity
from ..density.steering.optimize import optimize
from ..density.steering.starts import choose_starts
from ..density.steering.trajectory import Trajectory
from .eyes.contrast_sources import contrast_guardrail
from .kandinsky.load import MINIATURE, THINGS, load_kandinsky

LETTERS = tuple(f"a letter {letter}" for letter in ascii_uppercase)
_DRAWN = (
    "airplane", "bag", "bell", "bicycle", "boat", "building", "car", "cat", "chair", "clock", "crown", "cup", "flower", "gift", "glasses", "guitar",
    "house", "key", "lamp", "rocket", "shoe", "tree", "trophy", "umbrella",
)
DRAWINGS = tuple(
    f"a drawing of {name}" if name == "glasses" else f"a drawing of {'an' if name[0] in 'aeiou' else 'a'} {name}" for name in _DRAWN
)
EXAMPLES = {MINIATURE: "a letter G", THINGS: "a drawing of a car"}  # a prompt that each built-in model draws well


@dataclass(frozen=True, eq=False)
class Demo:
    """What `demo` made. Pictures are [N, H, W, 3], the two sheets [1, H, W, 3], all with values 0 to 1."""

    baseline: Embeddings
    density: GaussianDensity
    starts: Embeddings
    trajectory: Trajectory
    usual: Tensor
    rare: Tensor
    contact_sheet: Tensor
    density_map: Tensor
    report: dict


def demo(
    prompt: str = EXAMPLES[THINGS],
    *,
    seed: int = 0,
    one_in: int = 1000,
    baseline: int = 2000,
    count: int = 16,
    folder: str | Path = THINGS,
    stage: Callable[[str], Progress] | None = None,
) -> Demo:
    """From a prompt to rare pictures beside usual ones.

    Parameters
    ----------
    prompt : of a thing, such as "an outline drawing of a house"; for other models than THINGS of a letter, such as "a bold serif letter R".
    seed : of every random draw.
    one_in : the rarity to reach, 1 in N.
    baseline : how many usual samples the density learns from.
    count : how many rare pictures to make.
    folder : THINGS; or MINIATURE, or another model that draws letters.
    stage : called with the name of each stage; returns the progress function of that stage.

    Returns
    -------
    Demo, with everything on the way.

    Raises
    ------
    RarityError : a prompt without a letter or a thing that the model draws, or numbers out of range.
    """
    began = time.perf_counter()
    subject, subjects = subject_of(prompt, folder), DRAWINGS if folder == THINGS else LETTERS
    bits_from_one_in(one_in)  # refuses a number out of range now, not after the sampling
    stage = stage or (lambda name: None)
    prior, decoder = load_kandinsky(folder)
    usual = prior.sample(prompt, baseline, seed=seed, progress=stage("sampling what is usual"))
    density = GaussianDensity.fit(usual, progress=stage("learning what is usual"))
    guardrails = (contrast_guardrail(prior, usual, subject, subjects),)
    starts = choose_starts(usual, density, count, "rarer", seed, guardrails)
    beside = choose_starts(usual, density, count, "usual", seed)
    trajectory = optimize(density, starts, one_in, guardrails, seed=seed, progress=stage("making it rare"))
    rare_pictures = decoder.decode(trajectory.final, seed=seed, progress=stage("drawing what is rare"))
    usual_pictures = decoder.decode(beside, seed=seed, progress=stage("drawing what is usual"))
    sheet = contact_sheet(usual_pictures, rare_pictures, trajectory.captions())
    plan = density_map(density, usual, trajectory)
    report = {
        "prompt": prompt,
        "seed": seed,
        "baseline": len(usual),
        "target_one_in": one_in,
        "results": trajectory.results(),
        "seconds": round(time.perf_counter() - began, 2),
    }
    return Demo(usual, density, starts, trajectory, usual_pictures, rare_pictures, sheet, plan, report)


def subject_of(prompt: str, folder: str | Path) -> str:
    """The bare subject of a prompt: "a letter R" of "a bold serif letter R"; for THINGS "a drawing of a car" of "a blue drawing of a car".

    Raises
    ------
    RarityError : the prompt names no letter, or no thing that the model draws.
    """
    if folder == THINGS:
        named = [subject for name, subject in zip(_DRAWN, DRAWINGS, strict=True) if re.search(rf"\b{name}\b", prompt.lower())]
        if len(named) != 1:
            raise RarityError(f"The prompt must name one of {', '.join(_DRAWN)}, as 'a drawing of a car' does, got {quoted(prompt)}.")
        return named[0]
    found = re.search(r"\bletter ([A-Za-z])\b", prompt)
    if not found:
        raise RarityError(f"The miniature draws the letters A to Z. Expected a prompt such as 'a letter R', got {quoted(prompt)}.")
    return f"a letter {found[1].upper()}"
