"""Repeated rounds on the built-in miniature: each run keeps away from what the runs before it made. Are they more varied together?

    python benchmarks/rounds.py [--json FILE] [--letters EGR] [--rounds N] [--count N]

In a graph: Make Rare, Direction with its pictures as `embeddings_away`, Make Rare again. Beside it, in the same table: as many
results of one run, from the very same starts. Both inside the contrast guardrail. An independent reader judges the pictures.
"""
from __future__ import annotations

import argparse
import math
from pathlib import Path
from string import ascii_uppercase

import torch
from rarity.density import Direction, Embeddings, GaussianDensity, choose_starts, optimize, vendi_score
from rarity.generators.demo import LETTERS
from rarity.generators.eyes.contrast_sources import contrast_guardrail
from rarity.generators.kandinsky.load import load_kandinsky
from targets import show_targets, write_json
from tqdm import tqdm
from valid_rare import vendi

ONE_IN = 1000


def in_rounds(density, starts: list[Embeddings], rails, strength: float) -> list[Embeddings]:
    """One run for each set of starts, each away from all results so far."""
    made = []
    for some in starts:
        away = (Direction.away_from(Embeddings.cat(made), strength),) if made else ()
        made.append(optimize(density, some, ONE_IN, rails, directions=away).final)
    return made


def measure(rounds: list[Embeddings], pictures: torch.Tensor, letter: str, density, other, rail, judge) -> dict:
    every = Embeddings.cat(rounds)
    bits, right = other.bits(every.vectors), judge(pictures).argmax(1) == ascii_uppercase.index(letter)
    last, before = rounds[-1].vectors.double(), torch.cat([some.vectors for some in rounds[:-1]]).double()
    spread = float((every.vectors.double() - density.frame.mean).norm(dim=1).mean())
    return {
        "Vendi, embeddings": vendi_score(Embeddings(every.vectors - density.frame.mean.float(), every.space)),
        "Vendi, pictures": vendi(pictures),
        "last to nearest before": float(torch.cdist(last, before).amin(dim=1).mean()) / spread,
        "in band": float(((bits - math.log2(ONE_IN)).abs() <= 1).double().mean()),
        "inside": float(rail.accepts(every.vectors).double().mean()),
        "readable": float(right.double().mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and targets there, too")
    parser.add_argument("--letters", default="EGR")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--count", type=int, default=16, metavar="N", help="results of each round")
    parser.add_argument("--samples", type=int, default=5000, metavar="N", help="baseline samples a letter and seed")
    parser.add_argument("--strengths", type=float, nargs="+", default=[1.0, 2.0, 4.0], metavar="S", help="of the direction away")
    options = parser.parse_args()
    prior, decoder = load_kandinsky()
    names = ["one run", *(f"{options.rounds} rounds, strength {s:g}" for s in options.strengths)]
    made = []
    for letter in tqdm(options.letters, desc="letters", disable=None):
        prompt = f"a letter {letter}"
        baseline, second = (prior.sample(prompt, options.samples, seed=seed, steps=5) for seed in (0, 1))
        density, other = GaussianDensity.fit(baseline), GaussianDensity.fit(second)
        rail = contrast_guardrail(prior, baseline, prompt, LETTERS)
        starts = choose_starts(baseline, density, options.rounds * options.count, "rarer", 0, (rail,))
        sets = [starts.select(range(i, i + options.count)) for i in range(0, len(starts), options.count)]
        for name, strength in zip(names, [0.0, *options.strengths], strict=True):
            # Away with no strength changes nothing: the runs apart are one run of all starts.
            rounds = in_rounds(density, sets, (rail,), strength) if strength else [optimize(density, s, ONE_IN, (rail,)).final for s in sets]
            made.append((name, letter, density, other, rail, rounds, decoder.decode(Embeddings.cat(rounds), seed=1)))
    from judges import letter_judge  # only now: nothing above can have looked at it

    judge, accuracy = letter_judge()
    table = []
    for name in names:
        own = [measure(rounds, pictures, letter, density, other, rail, judge)
               for method, letter, density, other, rail, rounds, pictures in made if method == name]
        table.append({"method": name, **{key: sum(row[key] for row in own) / len(own) for key in own[0]}})
    one, *others = table
    best = max(row["Vendi, pictures"] / one["Vendi, pictures"] for row in others)
    further = max(row["last to nearest before"] / one["last to nearest before"] for row in others)
    asked = [("Vendi of all rounds' pictures over that of one run, best strength", best, 1.0),
             ("distance of the last round to what was made before, over that of one run", further, 1.0),
             ("inside the contrast guardrail, every strength", min(row["inside"] for row in others), 0.98)]
    reached = [{"name": n, "value": v, "reach": reach, "ok": bool(v >= reach)} for n, v, reach in asked]
    columns = [key for key in table[0] if key != "method"]
    print(f"\n{'method':26}" + "".join(f"{c:>24}" for c in columns))
    for row in table:
        print(f"{row['method']:26}" + "".join(f"{row[c]:24.3f}" for c in columns))
    print(f"""
Vendi, embeddings        Vendi score of all results, seen from the middle of what is usual
Vendi, pictures          Vendi score of all pictures' ink
last to nearest before   mean distance of the last round's results to the nearest of earlier rounds, over the mean distance from the middle
in band                  within 1 bit of {math.log2(ONE_IN):.2f} under a density learnt from as many samples of another seed
inside                   inside the contrast guardrail
readable                 an independent reader of other typefaces ({accuracy:.3f} right on unseen ones) reads the letter asked for
""")
    show_targets(reached)
    told = {key: value for key, value in vars(options).items() if key != "json"}
    write_json(options.json, settings=told, rows=table, targets=reached)


if __name__ == "__main__":
    main()
