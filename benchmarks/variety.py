"""Seeds that draw nearly the same picture, on the built-in miniature: what each way of varying the condition gives, at equal validity.

    python benchmarks/variety.py [--json FILE] [--letters EGRAKSBHMT] [--pictures N]

The generator is the miniature's decoder with guidance so high that seeds look alike, as distilled models' do. Its condition is one vector, an
embedding of the letter that the prior made: the nearest that the miniature has to a CONDITIONING, with one token. (The prior's own texts will
not do: its samples are as varied at a high guidance as at a usual one.) A seed is the decoder's noise. Rows:

* seeds as they are;
* noise of a fixed strength, as SeedVarianceEnhancer adds it: uniform numbers up to that strength on a random half of the values, in the first
  fifth of the steps, or, as its other setting, in all of them. At its default, 20; and at the best strength for all letters together: the one
  that is most varied while it keeps the share of readable pictures that is asked for, as the judge itself says on the pictures shown;
* CADS (Sadat et al. 2024, arXiv 2310.17347): noise that is annealed away, gamma between tau_1 and tau_2, rescaled with the mixing factor psi;
  at the paper's settings for text, and at its best noise scale, found in the same way;
* ours, noise: for each letter `find_part` on 40 pictures, as much as stays the subject, which the miniature's own eye judges by words;
* ours, other wordings: the same along six wordings of the prompt with a word of style each, `variations` of the node;
* each of ours at one strength: the best single strength in all steps for all letters together, found as the others' were.

Pictures are of seeds that ours was not measured on. An independent reader of other typefaces says which are readable.
"""
from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import torch
from rarity.density.novelty.strength import LOOKS, Look, find_part
from rarity.generators.comfyui.prompts.varied_condition import varied
from rarity.generators.demo import LETTERS
from rarity.generators.judges.zero_shot import ContrastJudge
from rarity.generators.kandinsky.load import load_kandinsky
from rarity.generators.runtime.noise import streams
from targets import show_targets, write_json
from torch import Tensor
from tqdm import tqdm
from valid_rare import vendi

GUIDANCE, STEPS = 2.0, 6
ASKED = 0.95  # of the usual share of readable pictures
LOOKED = 8  # pictures at each strength: 8 (1 + LOOKS) = 40
SVE_SHARE, SVE_UNTIL, SVE_DEFAULT = 0.5, 0.2, 20.0
CADS_DEFAULT, TAU, PSI = 0.25, (0.6, 0.9), 1.0
MORE = 4  # times as many seeds say how often ours is readable: a letter's share is known to 2 points then
SURE = 1e-15  # as the node takes a gate's answers
WORDINGS = ("a bold", "a light", "an italic", "a serif", "a sans", "a mono")
FIRST_NEW = 1000  # seeds from here on are those that are judged

Told = Callable[[float], Tensor]  # the share of the steps that is done, 0 to below 1 -> conditions [n, d]


class World:
    """A letter as a condition of the decoder, and the pictures of seeds under whatever it is told instead."""

    def __init__(self, letter: str, prior, decoder):
        self.letter, self.prior, self.decoder = letter, prior, decoder
        self.judge = ContrastJudge(prior, f"a letter {letter}", LETTERS)
        self.condition = self._usual(f"a letter {letter}")
        self.wordings = [[self._usual(f"{words} letter {letter}")[None, None], {}] for words in WORDINGS]

    def _usual(self, prompt: str) -> Tensor:
        """The most usual embedding of a prompt: of its samples the one nearest to their mean."""
        samples = self.prior.sample(prompt, 64, seed=0, steps=10).vectors
        return samples[(samples - samples.mean(dim=0)).norm(dim=1).argmin()]

    @torch.no_grad()
    def draw(self, told: Told, seeds: list[int]) -> Tensor:
        """The pictures [n, 64, 64, 3] of seeds, whose conditions may differ and may change from step to step."""
        noise, decoder = [streams(seed, 0, 1, "decoder")[0] for seed in seeds], self.decoder
        shape, scheduler = decoder._latent_shape(decoder.size, decoder.size), deepcopy(decoder.scheduler)
        scheduler.set_timesteps(STEPS)
        x = torch.cat([torch.randn(1, *shape, generator=one) for one in noise]) * scheduler.init_noise_sigma
        for done, t in enumerate(scheduler.timesteps):
            condition = torch.cat([decoder._zero.expand(len(seeds), -1), told(done / STEPS)])
            found = decoder.unet(x.repeat(2, 1, 1, 1), t, encoder_hidden_states=None, added_cond_kwargs={"image_embeds": condition}).sample
            unconditional, conditional = found[:, : shape[0]].chunk(2)
            x = scheduler.step(unconditional + GUIDANCE * (conditional - unconditional), t, x, generator=noise).prev_sample
        pixels = decoder.movq.decode(x, force_not_quantize=True).sample
        return (pixels * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)

    def plain(self, seeds: list[int]) -> Told:
        """The condition as it is."""
        return lambda done: self.condition.expand(len(seeds), -1)

    def ours(self, seeds: list[int], strength: float, until: float = 1.0, variations: list | None = None) -> Told:
        """Noise of the token's own size, as the node Seed Variety gives it; or along other wordings, as with its `variations`."""
        first = varied([[self.condition[None, None], {}]], seeds, strength, until, variations)[0][0][:, 0].expand(len(seeds), -1)
        return lambda done: first if done < until else self.plain(seeds)(done)

    def along(self, seeds: list[int], strength: float, until: float = 1.0) -> Told:
        """Along the other wordings."""
        return self.ours(seeds, strength, until, self.wordings)

    def fixed(self, seeds: list[int], strength: float, until: float = SVE_UNTIL) -> Told:
        """SeedVarianceEnhancer: values + U(-strength, strength) Bernoulli(1/2)."""
        width, noise = len(self.condition), []
        for one in self.random(seeds):
            scale = (2 * torch.rand(width, generator=one) - 1) * strength
            noise.append(scale * (torch.rand(width, generator=one) < SVE_SHARE))
        moved = self.condition + torch.stack(noise)
        return lambda done: moved if done < until else self.plain(seeds)(done)

    def fixed_in_all(self, seeds: list[int], strength: float) -> Told:
        """The same in all steps."""
        return self.fixed(seeds, strength, 1.0)

    def cads(self, seeds: list[int], scale: float) -> Told:
        """y' = sqrt(gamma) y + scale sqrt(1 - gamma) n, to the mean and deviation of y again by the share psi; n fresh at each step."""
        random = self.random(seeds)

        def told(done: float) -> Tensor:
            gamma = min(max((TAU[1] - (1 - done)) / (TAU[1] - TAU[0]), 0.0), 1.0)
            noise = torch.stack([torch.randn(len(self.condition), generator=one) for one in random])
            return self.annealed(self.condition, gamma, scale, noise)

        return told

    @staticmethod
    def annealed(y: Tensor, gamma: float, scale: float, noise: Tensor) -> Tensor:
        """A row for each row of noise [n, d]."""
        moved = math.sqrt(gamma) * y + scale * math.sqrt(1 - gamma) * noise
        rescaled = (moved - moved.mean(dim=1, keepdim=True)) / moved.std(dim=1, keepdim=True) * y.std() + y.mean()
        return PSI * rescaled + (1 - PSI) * moved

    @staticmethod
    def random(seeds: list[int]) -> list[torch.Generator]:
        return [streams(seed, 0, 1, "variation")[0] for seed in seeds]

    def find(self, told: Callable[[list[int], float, float], Told]) -> tuple[float, float]:
        """Strength and part of one of ours for this condition, from LOOKED pictures at each strength, of seeds of their own."""
        looks = itertools.count()

        def look(strength: float, until: float) -> Look:
            first = LOOKED * next(looks)
            seeds = list(range(first, first + LOOKED))
            pictures = self.draw(told(seeds, strength, until), seeds)
            probability = self.judge.probability(pictures).clamp(SURE, 1 - SURE)
            return Look(strength, self.prior.encode_images(pictures).vectors, torch.logit(probability)[:, None])

        found, until = find_part(look, 0, ASKED)
        return found.strength, until


@dataclass(frozen=True)
class Method:
    """A way of varying: what it tells the prior for a world, seeds and a strength; and the strengths it is tried at."""

    name: str
    told: Callable[[World, list[int], float], Told]
    strengths: tuple[float, ...]


FAMILIES = (
    Method("fixed noise, first fifth", World.fixed, (2.0, 4.0, 8.0)),
    Method("fixed noise, all steps", World.fixed_in_all, (1.5, 2.0, 2.5, 3.0, 4.0)),
    Method("CADS", World.cads, (1.0, 4.0, 8.0)),
    Method("ours, noise", World.ours, (0.75, 0.9, 1.0, 1.2)),
    Method("ours, other wordings", World.along, (0.75, 1.0, 1.25, 1.5)),
)


def distance(pictures: Tensor) -> float:
    """The mean distance of two pictures: root mean square over their pixels, 0 to 1."""
    return float(torch.pdist(pictures.mean(-1).flatten(1).double()).mean()) / pictures.shape[1]


def measure(world: World, told: Callable[[list[int]], Told], count: int, judge, more: int = 1) -> dict:
    """What became of as many new seeds; of `more` times as many, how often they are readable."""
    parts = [list(range(first, first + count)) for first in range(FIRST_NEW, FIRST_NEW + more * count, count)]
    drawn = [world.draw(told(seeds), seeds) for seeds in parts]
    right = judge(torch.cat(drawn)).argmax(1) == ascii_uppercase.index(world.letter)
    return {"readable": float(right.double().mean()), "distance": distance(drawn[0]), "vendi": vendi(drawn[0])}


def relative(found: list[dict], usual: list[dict]) -> dict:
    """One row: means over the prompts, each relative to the same prompt's seeds as they are."""
    valid = [one["readable"] / max(plain["readable"], 1e-9) for one, plain in zip(found, usual, strict=True)]
    return {
        "readable": float(np.mean([one["readable"] for one in found])),
        "valid": float(np.mean(valid)),
        "within 2": sum(value >= ASKED - 0.02 for value in valid) / len(valid),
        "within 2 both ways": sum(abs(value - ASKED) <= 0.02 for value in valid) / len(valid),
        **{f"{key} x": float(np.mean([one[key] / plain[key] for one, plain in zip(found, usual, strict=True)])) for key in ("distance", "vendi")},
    }


def best(rows: list[dict]) -> dict:
    """Of rows of one method at several strengths the most varied that is as valid as asked; the most valid one where none is."""
    valid = [row for row in rows if row["valid"] >= ASKED]
    return max(valid, key=lambda row: row["distance x"]) if valid else max(rows, key=lambda row: row["valid"])


def targets(rows: dict[str, dict]) -> list[dict]:
    """What was asked of ours, with what came out."""
    ours = rows["ours, other wordings, each its own"]
    # The better of the two settings of the published noise, and the better for each measure of the two.
    fixed = {key: max(rows[f"fixed noise, {part}, the best"][key] for part in ("first fifth", "all steps")) for key in ("distance x", "vendi x")}
    asked = [
        ("ours: prompts whose validity is within 2 points of what was asked for", ours["within 2 both ways"], 0.9),
        ("ours: prompts whose validity is at most 2 points below", ours["within 2"], 0.9),
        ("ours: variety (distance of pixels) over seeds as they are", ours["distance x"], 1.5),
        ("ours: variety (Vendi score of pixels) over seeds as they are", ours["vendi x"], 1.5),
        ("ours: distance of pixels over the best fixed strength's", ours["distance x"] / fixed["distance x"], 1.15),
        ("ours: Vendi score of pixels over the best fixed strength's", ours["vendi x"] / fixed["vendi x"], 1.15),
    ]
    return [{"name": name, "value": value, "reach": reach, "ok": bool(value >= reach)} for name, value, reach in asked]


def run(worlds: list[World], count: int, judge) -> tuple[dict[str, dict], dict[str, list[tuple[float, float]]]]:
    """The rows of the table by their names, and what each of ours chose, (strength, part) a letter."""
    usual = [measure(world, world.plain, count, judge) for world in tqdm(worlds, desc="as they are", disable=None)]

    def row(name: str, told: Callable[[World, list[int]], Told], strength: float | str = "", more: int = 1) -> dict:
        found = [
            measure(world, lambda seeds, world=world: told(world, seeds), count, judge, more) for world in tqdm(worlds, desc=name, disable=None)
        ]
        return {"strength": strength, **relative(found, usual)}

    table = {
        "seeds as they are": {"strength": "", **relative(usual, usual)},
        "fixed noise, first fifth, its default": row("default", lambda w, seeds: w.fixed(seeds, SVE_DEFAULT), SVE_DEFAULT),
        "fixed noise, all steps, its default": row("default, all", lambda w, seeds: w.fixed_in_all(seeds, SVE_DEFAULT), SVE_DEFAULT),
        "CADS, its default": row("CADS", lambda w, seeds: w.cads(seeds, CADS_DEFAULT), CADS_DEFAULT),
    }
    for family in FAMILIES:
        tried = [row(f"{family.name} {s:g}", lambda w, seeds, s=s, family=family: family.told(w, seeds, s), s) for s in family.strengths]
        table[f"{family.name}, the best"] = best(tried)
    chosen = {}
    for name, told in (("ours, noise", World.ours), ("ours, other wordings", World.along)):
        own = {world: world.find(partial(told, world)) for world in tqdm(worlds, desc=f"{name}: finding", disable=None)}
        table[f"{name}, each its own"] = row(name, lambda w, seeds, told=told, own=own: told(w, seeds, *own[w]), "each its own", MORE)
        chosen[name] = list(own.values())
    return table, chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and targets there, too")
    parser.add_argument("--letters", default="EGRAKSBHMT")
    parser.add_argument("--pictures", type=int, default=32, metavar="N", help="new seeds that each method is judged by, a letter")
    options = parser.parse_args()
    prior, decoder = load_kandinsky()
    torch.set_num_threads(1)
    from judges import letter_judge

    judge, accuracy = letter_judge()
    table, chosen = run([World(letter, prior, decoder) for letter in options.letters], options.pictures, judge)
    reached = targets(table)
    columns = [key for key in table["seeds as they are"] if key != "strength"]
    print(f"\n{'method':40}{'strength':>14}" + "".join(f"{column:>20}" for column in columns))
    for name, one in table.items():
        print(f"{name:40}{one['strength']:>14}" + "".join(f"{one[column]:20.3f}" for column in columns))
    print(f"""
readable        an independent reader of other typefaces ({accuracy:.3f} right on unseen ones) reads the letter asked for
valid           the same, as a share of the prompt's seeds as they are; {ASKED:g} is asked for
within 2        prompts whose valid is at most 2 points below that; both ways: no more above it, either
distance x      mean distance of two pictures, pixel by pixel, over that of the seeds as they are; vendi x: their Vendi scores' ratio
chosen          {'; '.join(f"{name}: " + ', '.join(f'{strength:g} in {until:.0%}' for strength, until in own) for name, own in chosen.items())}
                of the steps, on {LOOKED * (1 + LOOKS)} pictures a letter
the best        of {'; '.join(f"{one.name}: {', '.join(f'{s:g}' for s in one.strengths)}" for one in FAMILIES)}
""")
    show_targets(reached)
    settings = {"letters": options.letters, "pictures": options.pictures, "guidance": GUIDANCE, "steps": STEPS}
    write_json(options.json, settings=settings, rows=[{"method": name, **one} for name, one in table.items()], chosen=chosen, targets=reached)


if __name__ == "__main__":
    main()
