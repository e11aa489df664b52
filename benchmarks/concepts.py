"""Learnt concepts on the built-in miniature: our objective, the published one, and ConceptLab's, all with equal iterations.

    python benchmarks/concepts.py [--json FILE] [--letters EGR] [--iterations N]

Every concept is asked for new pictures with a seed that learning never saw. Rarity is read under a density learnt from other samples, and
an independent reader, trained on other typefaces than the miniature, judges the pictures.
"""
from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import torch
from rarity.density import Embeddings, EmbeddingSpace, GaussianDensity
from rarity.generators.concepts.learn import learn_concept
from rarity.generators.concepts.sampling import sample_concept
from rarity.generators.demo import LETTERS
from rarity.generators.eyes.contrast_sources import contrast_guardrail
from rarity.generators.kandinsky.load import load_kandinsky
from targets import show_targets, write_json
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm
from valid_rare import auc, vendi
from worlds import ink_features

ONE_IN, STEPS = 1000, 5
STYLES = ("bold", "light", "italic", "serif", "sans", "mono")


class Subject:
    """One letter: what is usual for it, twice, in embeddings and in pixels."""

    def __init__(self, letter: str, samples: int, pictures: int, prior, decoder):
        self.letter, self.prompt = letter, f"a letter {letter}"
        self.baseline = prior.sample(self.prompt, samples, seed=0, steps=STEPS)
        second = prior.sample(self.prompt, samples, seed=1, steps=STEPS)
        self.density, self.other = GaussianDensity.fit(self.baseline), GaussianDensity.fit(second)
        self.contrast = contrast_guardrail(prior, self.baseline, self.prompt, LETTERS)
        shown = decoder.decode(second.select(torch.arange(pictures)), seed=2, batch_size=100)
        ink = ink_features(shown)
        self.pixels = GaussianDensity.fit(Embeddings(ink, EmbeddingSpace("ink 16 x 16", "pixels", ink.shape[1], "raw")))
        self.usual = shown


def conceptlab(prior, subject: Subject) -> Callable[[Tensor], Tensor]:
    """ConceptLab's loss (Richardson et al. 2023): near the category, away from its known members, both clamped."""
    wanted = normalize(prior.encode_text([subject.prompt]).double(), dim=1)
    known = normalize(prior.encode_text([f"a {style} letter {subject.letter}" for style in STYLES]).double(), dim=1)

    def loss(x: Tensor) -> Tensor:
        unit = normalize(x, dim=1)
        away = (unit @ known.T).clamp_min(0.20)
        return 0.5 * (away.mean(dim=1) + away.amax(dim=1)) + 1 - (unit @ wanted.T)[:, 0].clamp_max(0.28)

    return loss


class Gate:
    """The published pullback: every 25 iterations "is this still a letter R?", and a No ends the trial; by zero-shot letters."""

    def __init__(self, subject: Subject):
        self.contrast, self.refused = subject.contrast, False

    def __call__(self, concept) -> bool:
        margins = self.contrast.reading(concept.trajectory.final.vectors)
        self.refused = bool((margins > 0).double().mean() < 0.5)
        return not self.refused


def methods(prior) -> dict[str, Callable[[Subject, dict], Tensor]]:
    def learn(q: Subject, settings: dict, count: int, **options) -> Tensor:
        prompt, word = options.pop("prompt", q.prompt), options.pop("word", q.letter)
        gate = Gate(q) if options.pop("gate", False) else None
        concept = learn_concept(prior, q.density, prompt, word, ONE_IN, watch=gate, steps=STEPS, **settings, **options)
        # What the gate has refused is not used: the checkpoint before it is.
        last = max(len(concept.steps) - 2, 0) if gate and gate.refused else -1
        return sample_concept(prior, concept, count, seed=1000, checkpoint=last).vectors

    def ours(**options):
        return lambda q, settings, count: learn(q, settings, count, guardrails=(q.contrast,), **options)

    def adjective(q: Subject, settings: dict, count: int) -> Tensor:
        return ours(prompt=f"a bold letter {q.letter}", word="bold")(q, settings, count)

    def other(**options):
        return lambda q, settings, count: learn(q, settings, count, **options)

    return {
        "usual prior samples": lambda q, settings, count: prior.sample(q.prompt, count, seed=1000, steps=STEPS).vectors,
        "ours, token": ours(),
        "ours, adjective": adjective,
        "ours, LoRA": ours(kind="lora"),
        "ours, LoRA, places": ours(kind="lora", objective="places"),
        "ours, token + LoRA": ours(kind="token + lora"),
        "paper's objective, token": other(objective="paper"),
        "paper's objective, token, gated": other(objective="paper", gate=True),
        "paper's objective, LoRA": other(objective="paper", kind="lora"),
        "paper's objective, LoRA, gated": other(objective="paper", kind="lora", gate=True),
        "ConceptLab's loss, token": lambda q, settings, count: learn(q, settings, count, objective=conceptlab(prior, q)),
    }


def measure(q: Subject, vectors: Tensor, pictures: Tensor, judge) -> dict:
    bits = q.other.bits(vectors.double())
    inside = (bits - math.log2(ONE_IN)).abs() <= 1
    right = judge(pictures).argmax(1) == ascii_uppercase.index(q.letter)
    reference = q.usual[: len(pictures)]
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
    parser.add_argument("--letters", default="EGR")
    parser.add_argument("--iterations", type=int, default=200, metavar="N")
    parser.add_argument("--learning-rate", type=float, default=1e-3, metavar="X", help="of every method; the paper's 1e-4 is for full-size models")
    parser.add_argument("--samples", type=int, default=5000, metavar="N", help="baseline samples a letter and seed")
    parser.add_argument("--count", type=int, default=32, metavar="N", help="new pictures a concept")
    options = parser.parse_args()
    prior, decoder = load_kandinsky()
    subjects = [Subject(letter, options.samples, 400, prior, decoder) for letter in tqdm(options.letters, desc="baselines", disable=None)]
    settings = {"iterations": options.iterations, "learning_rate": options.learning_rate, "keep_every": 25}
    made = []
    for name, make in tqdm(methods(prior).items(), desc="methods", disable=None):
        for q in subjects:
            began = time.perf_counter()
            vectors = make(q, settings, options.count)
            seconds = time.perf_counter() - began
            rows = Embeddings(vectors, prior.space, keys=torch.arange(len(vectors)))  # row i of every method has the same noise
            made.append((name, q, vectors, decoder.decode(rows, seed=1), seconds))
    from judges import letter_judge  # only now: nothing above can have looked at it

    judge, accuracy = letter_judge()
    table = []
    for name in methods(prior):
        own = [(measure(q, vectors, pictures, judge), seconds) for method, q, vectors, pictures, seconds in made if method == name]
        row = {key: float(np.mean([reading[key] for reading, _ in own])) for key in own[0][0]}
        table.append({"method": name, **row, "seconds": float(np.mean([seconds for _, seconds in own]))})
    best = max(row["both"] for row in table if row["method"].startswith("ours"))
    rival = max(row["both"] for row in table[1:] if not row["method"].startswith("ours"))
    asked = [("in band and readable, best of our modes", best, 0.85), ("that over the best of the others", best / max(rival, 1e-9), 2.0)]
    reached = [{"name": n, "value": v, "reach": reach, "ok": bool(v >= reach)} for n, v, reach in asked]
    columns = [key for key in table[0] if key != "method"]
    print(f"\n{'method':34}" + "".join(f"{c:>12}" for c in columns))
    for row in table:
        print(f"{row['method']:34}" + "".join(f"{row[c]:12.3f}" for c in columns))
    print(f"""
median bits   under a density learnt from as many samples of another seed (the target is {math.log2(ONE_IN):.2f})
in band       within 1 bit of the target under that density
readable      an independent reader of other typefaces ({accuracy:.3f} right on unseen ones) reads the letter asked for
contrast      inside the contrast guardrail
visible       AUC of usual against new pictures under a density of usual pictures in pixel space
varied        Vendi score of the pictures' ink, over the usual samples'
seconds       of learning one concept and sampling from it
""")
    show_targets(reached)
    told = {key: value for key, value in vars(options).items() if key != "json"}
    write_json(options.json, settings=told, rows=table, targets=reached)


if __name__ == "__main__":
    main()
