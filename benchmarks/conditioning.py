"""Steer a generator by an offset on its condition, on the built-in miniature: what both engines reach, in noise they never saw.

    python benchmarks/conditioning.py [--json FILE] [--letters EGR] [--conditions N]

The generator is the miniature's decoder in a few steps, its condition one vector that nobody may look into; its picture encoder is the vision
encoder. What is usual is learnt from encoded pictures, never from prior samples: those are another population. Each condition is steered with
a few noises and shown with four others. An independent reader, trained on other typefaces than the miniature, judges the pictures; it is loaded
after everything else has finished.
"""
from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from rarity.density import Embeddings, EmbeddingSpace, GaussianDensity
from rarity.density.files import load_embeddings, save_embeddings
from rarity.generators.contrast import contrast_guardrail
from rarity.generators.demo import LETTERS
from rarity.generators.kandinsky import load_kandinsky
from rarity.generators.memory import Placement
from rarity.generators.noise import streams
from rarity.generators.pictures import preprocess
from rarity.generators.steering import steer
from torch import Tensor
from tqdm import tqdm
from valid_rare import ALL, auc, ink_features, vendi, weights_digest

HERE = Path(__file__).resolve().parent
ONE_IN, STEPS, PRIOR_STEPS = 1000, 2, 10
SHOWN = 400  # usual pictures that steered ones are compared with
SEEN, TRIED, FRESH = 6, 3, 4  # noises that gradients watch, that evolution watches, and of the pictures that are judged
CLEAR = 0.2  # the contrast guardrail asks for what this quantile of usual pictures has
DIMENSIONS = 48  # of the subspace that evolution searches


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
        usual, self.shown = encoded(letter, samples, 0, prior, decoder, cache, SHOWN)
        second, _ = encoded(letter, samples, 1, prior, decoder, cache)
        self.density, self.other = GaussianDensity.fit(usual), GaussianDensity.fit(second)
        self.contrast = contrast_guardrail(prior, usual, self.prompt, LETTERS, CLEAR)
        ink = ink_features(self.shown)
        self.pixels = GaussianDensity.fit(Embeddings(ink, EmbeddingSpace("ink 16 x 16", "pixels", ink.shape[1], "raw")))
        samples_of_prior = prior.sample(self.prompt, 1000, seed=2, steps=PRIOR_STEPS).vectors
        self.conditions = samples_of_prior[:conditions]
        # The prompt's own variations: principal directions of its conditions, each as long as they vary along it.
        _, spread, directions = torch.linalg.svd(samples_of_prior - samples_of_prior.mean(0), full_matrices=False)
        self.subspace = (directions[:DIMENSIONS] * spread[:DIMENSIONS, None]).T / math.sqrt(1000)
        self.whole = torch.eye(len(directions)) * float(samples_of_prior.std(0).mean())


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


def methods(iterations: int) -> dict:
    def gradient(q: Subject, world, seed: int):
        return steer(world(q.whole), q.density, ONE_IN, (q.contrast,), engine="gradient", pictures=SEEN, at_once=SEEN,
                     iterations=iterations, step_size=0.05, seed=seed)

    def evolution(q: Subject, world, seed: int):
        return steer(world(q.subspace), q.density, ONE_IN, (q.contrast,), engine="evolution", pictures=TRIED,
                     iterations=iterations, step_size=0.4, seed=seed)

    return {"the condition as it was": None, "gradient, the whole condition": gradient, f"evolution, {DIMENSIONS} directions": evolution}


def measure(q: Subject, pictures: Tensor, vectors: Tensor, judge) -> dict:
    bits = q.other.bits(vectors.double())
    inside = (bits - math.log2(ONE_IN)).abs() <= 1
    right = judge(pictures).argmax(1) == ALL.index(q.letter)
    reference = q.shown[: len(pictures)]
    scores = [q.pixels.score(ink_features(p).double()) for p in (reference, pictures)]
    return {
        "median bits": float(bits.median()),
        "in band": float(inside.double().mean()),
        "readable": float(right.double().mean()),
        "both": float((inside & right).double().mean()),
        "contrast": float(q.contrast.accepts(vectors).double().mean()),
        "visible": auc(*scores),
        "varied": vendi(pictures) / vendi(reference),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and targets there, too")
    parser.add_argument("--letters", default="RG")
    parser.add_argument("--samples", type=int, default=6000, metavar="N", help="usual pictures a letter and seed")
    parser.add_argument("--conditions", type=int, default=8, metavar="N", help="conditions a letter")
    parser.add_argument("--iterations", type=int, default=80, metavar="N", help="steps or generations at most")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="draw some of the pictures there")
    parser.add_argument("--cache", type=Path, default=HERE / "cache", metavar="DIR", help="where usual pictures are kept")
    options = parser.parse_args()
    prior, decoder = load_kandinsky()
    torch.set_num_threads(1)  # pictures of 64 pixels, a few at a time
    subjects = [Subject(letter, options.samples, options.conditions, prior, decoder, options.cache) for letter in options.letters]
    made = {name: [] for name in methods(0)}
    for name, make in methods(options.iterations).items():
        for q in tqdm(subjects, desc=name, disable=None):
            shown, vectors, drawn, seconds = [], [], 0, 0.0
            for number, condition in enumerate(q.conditions):
                def world(basis: Tensor, condition: Tensor = condition) -> World:
                    return World(prior, decoder, condition, basis)

                began = time.perf_counter()
                found = make and make(q, world, number)
                seconds += time.perf_counter() - began
                drawn += found.drawn if found else 0
                basis = q.subspace if name.startswith("evolution") else q.whole
                offset = found.offsets[-1] if found else torch.zeros(basis.shape[1])
                rows = range(1000 + FRESH * number, 1000 + FRESH * (number + 1))  # noise that no steering has seen
                with torch.no_grad():
                    shown.append(world(basis).pictures(offset, rows).permute(0, 2, 3, 1))
                    vectors.append(world(basis).embed(offset, rows))
            each = len(q.conditions)
            made[name].append((q, torch.cat(shown), torch.cat(vectors), STEPS * drawn / each, seconds / each))
    from judges import letter_judge  # only now: nothing above can have looked at it

    judge, accuracy = letter_judge()
    table = []
    for name, some in made.items():
        own = [measure(q, pictures, vectors, judge) | {"model calls": calls, "seconds": s} for q, pictures, vectors, calls, s in some]
        table.append({"method": name, **{key: float(np.mean([reading[key] for reading in own])) for key in own[0]}})
    reached = [
        {"name": f"in band and readable in fresh noise: {row['method']}", "value": row["both"], "reach": 0.80, "ok": row["both"] >= 0.80}
        for row in table[1:]
    ]
    columns = [key for key in table[0] if key != "method"]
    print(f"\n{'method':32}" + "".join(f"{c:>13}" for c in columns))
    for row in table:
        print(f"{row['method']:32}" + "".join(f"{row[c]:13.3f}" for c in columns))
    print(f"""
median bits   under a density learnt from as many pictures of other samples and noise (the target is {math.log2(ONE_IN):.2f})
in band       within 1 bit of the target under that density
readable      an independent reader of other typefaces ({accuracy:.3f} right on unseen ones) reads the letter asked for
contrast      inside the contrast guardrail
visible       AUC of usual against steered pictures under a density of usual pictures in pixel space
varied        Vendi score of the pictures' ink, over as many usual pictures'
model calls   of the U-Net, {STEPS} a picture, to steer one condition; a gradient's pictures are drawn twice
seconds       to steer one condition
""")
    for target in reached:
        print(f"{'reached' if target['ok'] else 'MISSED ':8} {target['value']:.3f} (asked: {target['reach']:.2f})  {target['name']}")
    if options.sheet:
        draw(options.sheet, made)
    if options.json:
        told = {key: value for key, value in vars(options).items() if key not in ("json", "sheet", "cache")}
        options.json.write_text(json.dumps({"settings": told, "rows": table, "targets": reached}, indent=2) + "\n")


def draw(path: Path, made: dict) -> None:
    """One row a letter and method: every condition in the first of its fresh noises."""
    from PIL import Image

    rows = [torch.cat(list(pictures[::FRESH]), dim=1) for k in range(len(next(iter(made.values())))) for _, pictures, *_ in [some[k] for some in made.values()]]
    Image.fromarray((torch.cat(rows) * 255).round().byte().numpy()).save(path)


if __name__ == "__main__":
    main()
