"""Steer a generator by an offset on its condition, on the built-in miniature: what both engines reach, in noise they watched and in noise
they never saw.

    python benchmarks/conditioning.py [--json FILE] [--letters EGR] [--conditions N]

The generator is the miniature's decoder in a few steps, its condition one vector that nobody may look into; its picture encoder is the vision
encoder. What is usual is learnt from encoded pictures, never from prior samples: those are another population. Each condition is steered with
a few noises, as one steers with the seeds one draws with, and judged in these; and in as many others, in which nobody promised anything. An
independent reader, trained on other typefaces than the miniature, judges the pictures; it is loaded after everything else has finished.
"""
from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from concepts import measure
from rarity.density import Embeddings, EmbeddingSpace, GaussianDensity
from rarity.density.files.store import load_embeddings, save_embeddings
from rarity.generators.demo import LETTERS
from rarity.generators.eyes.contrast_sources import contrast_guardrail
from rarity.generators.eyes.preprocessing import preprocess
from rarity.generators.kandinsky.load import load_kandinsky
from rarity.generators.runtime.memory import Placement
from rarity.generators.runtime.noise import streams
from rarity.generators.steering.loop import steer
from targets import show_targets, write_json
from torch import Tensor
from tqdm import tqdm
from worlds import ink_features, weights_digest

HERE = Path(__file__).resolve().parent
ONE_IN, STEPS, PRIOR_STEPS = 1000, 2, 10
SHOWN = 400  # usual pictures that the density in pixel space learns from
WATCHED = 2  # noises that a condition is steered with
CLEAR = 0.15  # the contrast guardrail asks for what this quantile of usual pictures has
DIMENSIONS = 20  # of the subspace that evolution searches
TRIALS = 200  # conditions that starts are chosen among
NOISES = {"watched": 0, "never seen": 1000}  # the first row of each kind


class World:
    """The miniature's decoder and picture encoder with one condition [d], as `steer` wants them."""

    def __init__(self, prior, decoder, condition: Tensor, basis: Tensor):
        self.prior, self.decoder, self.condition, self.basis = prior, decoder, condition, basis
        self.space, self.size, self.placement = prior.space, basis.shape[1], Placement()

    def pictures(self, offset: Tensor, rows: range) -> Tensor:
        """[n, 3, H, W], 0 to 1, differentiable in the offset."""
        told = (self.condition + self.basis @ offset).expand(len(rows), -1)
        noise, size = streams(7, rows.start, len(rows), "decoder"), self.decoder.size
        latents = self.decoder._denoise(told, None, noise, self.decoder._latent_shape(size, size), STEPS, 1.0, None)
        return (self.decoder.movq.decode(latents, force_not_quantize=True).sample * 0.5 + 0.5).clamp(0, 1)

    def embed(self, offset: Tensor, rows: range) -> Tensor:
        pixels = preprocess(self.pictures(offset, rows).permute(0, 2, 3, 1), self.prior.image_processor)
        return self.prior.image_encoder(pixels).image_embeds


class Subject:
    """One letter: its usual pictures, encoded, twice; and conditions to steer."""

    def __init__(self, letter: str, samples: int, conditions: int, prior, decoder, cache: Path):
        self.letter, self.prompt = letter, f"a letter {letter}"
        first, self.usual = encoded(letter, samples, 0, prior, decoder, cache, 100)
        second, others = encoded(letter, samples, 1, prior, decoder, cache, SHOWN)
        self.density, self.other = GaussianDensity.fit(first), GaussianDensity.fit(second)
        self.contrast = contrast_guardrail(prior, first, self.prompt, LETTERS, CLEAR)
        ink = ink_features(others)
        self.pixels = GaussianDensity.fit(Embeddings(ink, EmbeddingSpace("ink 16 x 16", "pixels", ink.shape[1], "raw")))
        usual_conditions = prior.sample(self.prompt, samples, seed=0, steps=PRIOR_STEPS).vectors  # row by row those of `first`
        self.conditions = self.rarer(usual_conditions[:TRIALS], conditions, prior, decoder)
        # The prompt's own variations: principal directions of its conditions, each as long as they vary along it.
        _, spread, directions = torch.linalg.svd(usual_conditions - usual_conditions.mean(0), full_matrices=False)
        self.variations = (directions * spread[:, None]).T / math.sqrt(samples)


    def rarer(self, candidates: Tensor, count: int, prior, decoder) -> Tensor:
        """Some of the candidates that are among the rarer tenth in the watched noise, and there inside the guardrail: [count, d]."""
        with torch.no_grad():
            drawn = torch.stack([World(prior, decoder, one, torch.eye(len(one))).embed(torch.zeros(len(one)), range(WATCHED)) for one in candidates])
        bits = self.density.bits(drawn.flatten(0, 1)).view(-1, WATCHED).mean(1)
        clear = self.contrast.accepts(drawn.flatten(0, 1)).view(-1, WATCHED).all(1)
        pool = bits.argsort(descending=True)[: max(count, len(bits) // 10)]
        pool = pool[clear[pool].int().argsort(descending=True, stable=True)][: max(count, int(clear[pool].sum()))]
        return candidates[pool[torch.randperm(len(pool), generator=torch.Generator().manual_seed(0))[:count]]]


def encoded(letter: str, samples: int, seed: int, prior, decoder, cache: Path, shown: int = 1) -> tuple[Embeddings, Tensor]:
    """Embeddings of usual pictures of a letter, and the first few of these; kept on disk, named by the weights."""
    digests = "_".join(weights_digest(Path(HERE).parent / "generators" / "miniature" / part) for part in ("prior", "decoder"))
    path = cache / f"encoded_{digests}_{letter}_{samples}_{seed}_{STEPS}.safetensors"
    conditions = prior.sample(f"a letter {letter}", samples, seed=seed, steps=PRIOR_STEPS)
    some = conditions.select(torch.arange(min(samples, shown if path.exists() else samples)))
    pictures = torch.cat([
        decoder.decode(some.select(torch.arange(i, min(i + 100, len(some)))), seed=100 + seed * samples + i, steps=STEPS, guidance=1.0, batch_size=50)
        for i in tqdm(range(0, len(some), 100), desc=f"{letter}, seed {seed}", leave=False, disable=None)
    ])
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        save_embeddings(prior.encode_images(pictures), path)
    return load_embeddings(path), pictures[:shown]


@dataclass(frozen=True)
class Method:
    """An engine with what suits it; none leaves the condition as it was."""

    name: str
    engine: str | None = None
    dimensions: int = 64
    iterations: int = 0
    step_size: float = 0.0

    def steer(self, world: World, q: Subject, seed: int):
        return steer(world, q.density, ONE_IN, (q.contrast,), engine=self.engine, pictures=WATCHED, at_once=WATCHED,
                     iterations=self.iterations, step_size=self.step_size, seed=seed)


METHODS = (
    Method("the condition as it was"),
    Method("gradient", "gradient", 64, 250, 0.08),
    Method("evolution", "evolution", DIMENSIONS, 120, 0.6),
)


@dataclass
class Made:
    """What one method made of one subject's conditions, for one kind of noise each, [n, H, W, 3] and [n, d]; what it took."""

    subject: Subject
    pictures: dict[str, list[Tensor]] = field(default_factory=lambda: {kind: [] for kind in NOISES})
    vectors: dict[str, list[Tensor]] = field(default_factory=lambda: {kind: [] for kind in NOISES})
    drawn: int = 0
    seconds: float = 0.0


def make(method: Method, q: Subject, prior, decoder) -> Made:
    """Steer every condition of a subject, and draw it in both kinds of noise."""
    made = Made(q)
    for number, condition in enumerate(q.conditions):
        world = World(prior, decoder, condition, q.variations[:, : method.dimensions])
        offset = torch.zeros(world.size)
        if method.engine:
            began = time.perf_counter()
            found = method.steer(world, q, number)
            made.seconds += time.perf_counter() - began
            made.drawn += found.drawn
            offset = found.offsets[-1]
        for kind, first in NOISES.items():
            rows = range(first, first + WATCHED)
            with torch.no_grad():
                made.pictures[kind].append(world.pictures(offset, rows).permute(0, 2, 3, 1))
                made.vectors[kind].append(world.embed(offset, rows))
    return made


def row(name: str, kind: str, some: list[Made], judge) -> dict:
    """One row of the table: means over the subjects."""
    own = [measure(one.subject, torch.cat(one.vectors[kind]), torch.cat(one.pictures[kind]), judge) for one in some]
    steered = sum(len(one.pictures[kind]) for one in some)
    return {
        "method": name,
        "noise": kind,
        **{key: float(np.mean([reading[key] for reading in own])) for key in own[0]},
        "model calls": STEPS * sum(one.drawn for one in some) / steered,
        "seconds": sum(one.seconds for one in some) / steered,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and targets there, too")
    parser.add_argument("--letters", default="EGR")
    parser.add_argument("--samples", type=int, default=6000, metavar="N", help="usual pictures a letter and seed")
    parser.add_argument("--conditions", type=int, default=8, metavar="N", help="conditions a letter")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="draw the pictures in watched noise there")
    parser.add_argument("--cache", type=Path, default=HERE / "cache", metavar="DIR", help="where usual pictures are kept")
    options = parser.parse_args()
    prior, decoder = load_kandinsky()
    torch.set_num_threads(1)  # pictures of 64 pixels, a few at a time
    subjects = [Subject(letter, options.samples, options.conditions, prior, decoder, options.cache) for letter in options.letters]
    made = {
        method.name: [make(method, q, prior, decoder) for q in tqdm(subjects, desc=method.name, disable=None)] for method in METHODS
    }
    from judges import letter_judge  # only now: nothing above can have looked at it

    judge, accuracy = letter_judge()
    table = [row(name, kind, some, judge) for kind in NOISES for name, some in made.items()]
    reached = [
        {"name": f"in band and readable: {one['method']}", "value": one["both"], "reach": 0.80, "ok": one["both"] >= 0.80}
        for one in table if one["noise"] == "watched" and one["model calls"]
    ]
    columns = [key for key in table[0] if key not in ("method", "noise")]
    print(f"\n{'method':26}{'noise':12}" + "".join(f"{c:>13}" for c in columns))
    for one in table:
        print(f"{one['method']:26}{one['noise']:12}" + "".join(f"{one[c]:13.3f}" for c in columns))
    print(f"""
noise         watched: the {WATCHED} that a condition was steered with; never seen: as many others under the same result
median bits   under a density learnt from as many pictures of other samples and noise (the target is {math.log2(ONE_IN):.2f})
in band       within 1 bit of the target under that density
readable      an independent reader of other typefaces ({accuracy:.3f} right on unseen ones) reads the letter asked for
contrast      inside the contrast guardrail
visible       AUC of usual against steered pictures under a density of usual pictures in pixel space
varied        Vendi score of the pictures' ink, over as many usual pictures'
model calls   of the U-Net, {STEPS} a picture, to steer one condition; a gradient's pictures are drawn twice
seconds       to steer one condition
""")
    show_targets(reached)
    if options.sheet:
        draw(options.sheet, made)
    told = {key: value for key, value in vars(options).items() if key not in ("json", "sheet", "cache")}
    write_json(options.json, settings=told, rows=table, targets=reached)


def draw(path: Path, made: dict[str, list[Made]]) -> None:
    """One row a letter and method: every condition in the noises it was steered with."""
    from PIL import Image

    rows = [torch.cat(list(torch.cat(one.pictures["watched"])), dim=1) for some in zip(*made.values(), strict=True) for one in some]
    Image.fromarray((torch.cat(rows) * 255).round().byte().numpy()).save(path)


if __name__ == "__main__":
    main()
