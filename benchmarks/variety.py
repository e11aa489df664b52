"""Seeds that draw nearly the same picture, on the built-in miniature: what each way of varying the prompt gives, at equal validity.

    python benchmarks/variety.py [--json FILE] [--letters EGRAKSBHMT] [--pictures N]

The generator is the whole miniature, prompt to picture, with guidance so high that seeds look alike, as distilled models' do. Varied is what
the prior reads of a prompt: its tokens' hidden states and, beside them, the text's embedding (here what a CONDITIONING holds as tokens and
pooled vector). A seed is the noise of the prior and of the decoder. Rows:

* seeds as they are;
* noise of a fixed strength, as SeedVarianceEnhancer adds it: uniform numbers of that scale on a random half of the tokens' values, in the
  first fifth of the steps. At its default, 20, in the unit of whatever text encoder there is; and at the best strength for all prompts
  together: the one that is most varied while it keeps the share of readable pictures that is asked for, as the judge itself says;
* CADS (Sadat et al. 2024, arXiv 2310.17347): noise that is annealed away, gamma from tau_1 to tau_2, rescaled with the mixing factor psi; at
  its scale for text and at the best one, found in the same way;
* ours: for each prompt `find_strength` on 40 pictures, as much as stays the subject, which the miniature's own eye judges by words;
* ours, told: the best single strength of our noise for all prompts together, found as the others' were.

Pictures are of seeds that nothing was chosen by. An independent reader of other typefaces says which are readable.
"""
from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rarity.density import Embeddings
from rarity.density.novelty.strength import LOOKS, Look, find_strength
from rarity.generators.comfyui.varied_condition import varied
from rarity.generators.demo import LETTERS
from rarity.generators.judges.zero_shot import ContrastJudge
from rarity.generators.kandinsky.load import load_kandinsky
from rarity.generators.kandinsky.posterior import step_back, steps_back
from rarity.generators.runtime.noise import streams
from targets import show_targets, write_json
from torch import Tensor
from tqdm import tqdm
from valid_rare import ALL, vendi

GUIDANCE, PRIOR_STEPS, DECODER_STEPS = 12.0, 10, 4
ASKED = 0.95  # of the usual share of readable pictures
UNTIL = 0.5  # ours: the node's default
LOOKED = 8  # pictures at each strength: 8 (1 + LOOKS) = 40
SVE_SHARE, SVE_UNTIL, SVE_DEFAULT = 0.5, 0.2, 20.0
CADS_DEFAULT, TAU, PSI = 0.25, (0.6, 0.9), 1.0
FIXED = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)  # strengths that a best one is chosen of, for every fixed method
FIRST_NEW = 1000  # seeds from here on are those that are judged

Told = Callable[[float], tuple[Tensor, Tensor]]  # the share of the steps that is done, 0 to below 1 -> embeddings [n, d], states [n, T, D]


class World:
    """A letter: its prompt as the prior reads it, and pictures of seeds under whatever is told instead."""

    def __init__(self, letter: str, prior, decoder):
        self.letter, self.prior, self.decoder = letter, prior, decoder
        with torch.no_grad():
            read, empty = (prior.read([text]) for text in (f"a letter {letter}", ""))
        self.embedding, self.hidden, self.mask, self.empty = read.embedding, read.hidden, read.mask, empty
        self.judge = ContrastJudge(prior, f"a letter {letter}", LETTERS)

    @torch.no_grad()
    def draw(self, told: Told, seeds: list[int]) -> Tensor:
        """The pictures [n, 64, 64, 3] of seeds, whose texts may differ and may change from step to step."""
        noise = [streams(seed, 0, 1, "prior")[0] for seed in seeds]

        def drawn() -> Tensor:
            return torch.stack([torch.randn(self.prior.space.width, generator=one) for one in noise])

        x, n = drawn(), len(seeds)
        for done, step in enumerate(steps_back(self.prior.scheduler, PRIOR_STEPS)):
            embedding, hidden = told(done / PRIOR_STEPS)
            given = [torch.cat([a, b.expand(n, *b.shape[1:])]) for a, b in (
                (embedding, self.empty.embedding), (hidden, self.empty.hidden), (self.mask.expand(n, -1), self.empty.mask))]
            found = self.prior.transformer(
                x.repeat(2, 1), timestep=step.time, proj_embedding=given[0], encoder_hidden_states=given[1], attention_mask=given[2]
            ).predicted_image_embedding
            conditional, unconditional = found.chunk(2)
            x = step_back(x, unconditional + GUIDANCE * (conditional - unconditional), drawn(), (step.clean, step.noisy, step.spread), step.limit)
        vectors = self.prior.transformer.post_process_latents(x)
        return self.decoder.decode(Embeddings(vectors, self.prior.space, keys=torch.tensor(seeds)), seed=1, steps=DECODER_STEPS)

    def plain(self, seeds: list[int]) -> Told:
        """The prompt as it is."""
        return lambda done: (self.embedding.expand(len(seeds), -1), self.hidden.expand(len(seeds), -1, -1))

    def ours(self, seeds: list[int], strength: float, until: float = UNTIL) -> Told:
        """Noise of each token's own size, as the node Vary Seeds gives it."""
        told = varied([[self.hidden, {"pooled_output": self.embedding, "attention_mask": self.mask}]], seeds, strength, until)
        first = [part.expand(len(seeds), *part.shape[1:]) for part in (told[0][1]["pooled_output"], told[0][0])]
        return lambda done: tuple(first) if done < until else self.plain(seeds)(done)

    def fixed(self, seeds: list[int], strength: float) -> Told:
        """SeedVarianceEnhancer: token values + U(-strength, strength) Bernoulli(1/2), in the first fifth."""
        random = [streams(seed, 0, 1, "variation")[0] for seed in seeds]
        shape = self.hidden.shape[1:]
        noise = torch.stack([
            (2 * torch.rand(shape, generator=one) - 1) * strength * (torch.rand(shape, generator=one) < SVE_SHARE) for one in random
        ])
        return lambda done: (self.embedding.expand(len(seeds), -1), self.hidden + noise) if done < SVE_UNTIL else self.plain(seeds)(done)

    def cads(self, seeds: list[int], scale: float) -> Told:
        """y' = sqrt(gamma) y + scale sqrt(1 - gamma) n, to the mean and deviation of y again by the share psi; n fresh at each step."""
        random = [streams(seed, 0, 1, "variation")[0] for seed in seeds]

        def told(done: float) -> tuple[Tensor, Tensor]:
            t = 1 - done
            gamma = min(max((TAU[1] - t) / (TAU[1] - TAU[0]), 0.0), 1.0)
            return tuple(
                torch.stack([self.annealed(y[0], gamma, scale, torch.randn(y.shape[1:], generator=one)) for one in random])
                for y in (self.embedding, self.hidden)
            )

        return told

    @staticmethod
    def annealed(y: Tensor, gamma: float, scale: float, noise: Tensor) -> Tensor:
        moved = math.sqrt(gamma) * y + scale * math.sqrt(1 - gamma) * noise
        rescaled = (moved - moved.mean()) / moved.std() * y.std() + y.mean()
        return PSI * rescaled + (1 - PSI) * moved

    def find(self, variety: float = 0.0) -> float:
        """The strength of ours for this prompt, from the pictures of seeds 0 to LOOKED - 1 at each of its looks."""
        seeds = list(range(LOOKED))

        def look(strength: float) -> Look:
            pictures = self.draw(self.ours(seeds, strength), seeds)
            probability = self.judge.probability(pictures).clamp(1e-6, 1 - 1e-6)
            return Look(strength, self.prior.encode_images(pictures).vectors, torch.logit(probability)[:, None])

        return find_strength(look, variety, ASKED).strength


@dataclass(frozen=True)
class Method:
    """A way of varying: what it tells the prior for a world, seeds and a strength; and the strengths it is tried at."""

    name: str
    told: Callable[[World, list[int], float], Told]
    strengths: tuple[float, ...]


FAMILIES = (
    Method("noise of a fixed strength", World.fixed, FIXED),
    Method("CADS", World.cads, FIXED),
    Method("ours, told", World.ours, FIXED),
)


def distance(pictures: Tensor) -> float:
    """The mean distance of two pictures: root mean square over all pixels, 0 to 1."""
    return float(torch.pdist(pictures.mean(-1).flatten(1).double()).mean()) / pictures.shape[1]


def measure(world: World, told: Callable[[list[int]], Told], count: int, judge) -> dict:
    """What became of as many new seeds."""
    seeds = list(range(FIRST_NEW, FIRST_NEW + count))
    pictures = world.draw(told(seeds), seeds)
    return {"readable": float((judge(pictures).argmax(1) == ALL.index(world.letter)).double().mean()), "distance": distance(pictures),
            "vendi": vendi(pictures)}


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
    ours, fixed = rows["ours"], rows["noise of a fixed strength, the best"]
    asked = [
        ("ours: prompts whose validity is within 2 points of what was asked for", ours["within 2 both ways"], 0.9),
        ("ours: prompts whose validity is at most 2 points below", ours["within 2"], 0.9),
        ("ours: variety (distance of pixels) over seeds as they are", ours["distance x"], 1.5),
        ("ours: variety (Vendi score of pixels) over seeds as they are", ours["vendi x"], 1.5),
        ("ours: distance of pixels over the best fixed strength's", ours["distance x"] / fixed["distance x"], 1.15),
        ("ours: Vendi score of pixels over the best fixed strength's", ours["vendi x"] / fixed["vendi x"], 1.15),
    ]
    return [{"name": name, "value": value, "reach": reach, "ok": bool(value >= reach)} for name, value, reach in asked]


def run(worlds: list[World], count: int, judge) -> tuple[dict[str, dict], list[float]]:
    """The rows of the table by their names, and the strengths that ours chose."""
    usual = [measure(world, world.plain, count, judge) for world in tqdm(worlds, desc="as they are", disable=None)]

    def row(name: str, told: Callable[[World, list[int]], Told], strength: float | str = "") -> dict:
        found = [measure(world, lambda seeds, world=world: told(world, seeds), count, judge) for world in tqdm(worlds, desc=name, disable=None)]
        return {"strength": strength, **relative(found, usual)}

    table = {
        "seeds as they are": {"strength": "", **relative(usual, usual)},
        "noise of a fixed strength, its default": row("default", lambda w, seeds: w.fixed(seeds, SVE_DEFAULT), SVE_DEFAULT),
        "CADS, its default": row("CADS", lambda w, seeds: w.cads(seeds, CADS_DEFAULT), CADS_DEFAULT),
    }
    for family in FAMILIES:
        tried = [row(f"{family.name} {s:g}", lambda w, seeds, s=s, family=family: family.told(w, seeds, s), s) for s in family.strengths]
        table[f"{family.name}, the best"] = best(tried)
    chosen = {world: world.find() for world in tqdm(worlds, desc="ours: finding", disable=None)}
    table["ours"] = row("ours", lambda w, seeds: w.ours(seeds, chosen[w]), "each its own")
    return table, list(chosen.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and targets there, too")
    parser.add_argument("--letters", default="EGRAKSBHMT")
    parser.add_argument("--pictures", type=int, default=64, metavar="N", help="new seeds that each method is judged by, a letter")
    options = parser.parse_args()
    prior, decoder = load_kandinsky()
    torch.set_num_threads(1)
    from judges import letter_judge

    judge, accuracy = letter_judge()
    table, chosen = run([World(letter, prior, decoder) for letter in options.letters], options.pictures, judge)
    reached = targets(table)
    columns = [key for key in table["ours"] if key != "strength"]
    print(f"\n{'method':40}{'strength':>14}" + "".join(f"{column:>20}" for column in columns))
    for name, one in table.items():
        print(f"{name:40}{one['strength']:>14}" + "".join(f"{one[column]:20.3f}" for column in columns))
    print(f"""
readable        an independent reader of other typefaces ({accuracy:.3f} right on unseen ones) reads the letter asked for
valid           the same, as a share of the prompt's seeds as they are; {ASKED:g} is asked for
within 2        prompts whose valid is at most 2 points below that; both ways: no more above it, either
distance x      mean distance of two pictures, pixel by pixel, over that of the seeds as they are; vendi x: their Vendi scores' ratio
ours chose      {', '.join(f'{strength:g}' for strength in chosen)} on {LOOKED * (1 + LOOKS)} pictures a prompt
the best        of the strengths {', '.join(f'{strength:g}' for strength in FIXED)}, by the judge and on the pictures that the row shows
""")
    show_targets(reached)
    settings = {"letters": options.letters, "pictures": options.pictures, "guidance": GUIDANCE, "prior steps": PRIOR_STEPS}
    write_json(options.json, settings=settings, rows=[{"method": name, **one} for name, one in table.items()], chosen=chosen, targets=reached)


if __name__ == "__main__":
    main()
