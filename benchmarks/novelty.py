"""Is what a viewer has seen told from what is new? On the built-in miniature's embeddings, and against scikit-learn's neighbours.

    python benchmarks/novelty.py [--json FILE] [--samples N] [--seen N] [--skip-search]

Copies of seen pictures (by noise, by small shifts that all share) and new pictures are scored under one memory for each letter; a
session is shown in several orders; 64 queries are searched among a million rows by us and by scikit-learn, in turns, on the same data.
"""
from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from rarity.density import (
    Embeddings,
    ExposureMemory,
    GaussianDensity,
    information_gain,
    nearest,
    originality,
    score_novelty,
    session_gains,
)
from rarity.generators.kandinsky.load import load_kandinsky
from targets import show_targets, write_json
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm
from valid_rare import auc
from worlds import WORLDS, Cache

HERE = Path(__file__).resolve().parent
# How far the miniature's encoder moves, as a share of the pictures' spread, when a decoded letter of 64 x 64 loses one pixel on each side
# and is enlarged again, and when it moves by one pixel: measured on R and S.
CROP, PIXEL = 0.22, 0.35
NOISE = 0.1  # a blur over 3 x 3 pixels moves it by 0.09, noise of a twentieth of the range by 0.03
STRENGTHS = (0.02, 0.05, NOISE, CROP, PIXEL)
SHOWN = 16
ORDERS = 20
ROWS, WIDTH, QUERIES, NEIGHBOURS = 1_000_000, 768, 64, 10


def copy_by(kind: str, strength: float, seen: Tensor, spread: float) -> Tensor:
    """Seen embeddings moved by `strength` spreads: each its own way (noise), or all the same way (shift), as one crop of every picture does."""
    g = torch.Generator().manual_seed(7)
    way = torch.randn(len(seen) if kind == "noise" else 1, seen.shape[1], generator=g)
    return seen + strength * spread * normalize(way, dim=1)


def told_apart(letters: list[tuple[Embeddings, Embeddings]], count: int) -> list[dict]:
    """One row a kind and strength of copy: AUC of copies against new pictures, mean over the letters."""
    kinds = [(kind, strength) for kind in ("noise", "shift") for strength in STRENGTHS]
    rows = {key: {"AUC novelty": [], "AUC density alone": [], "AUC copy probability": []} for key in kinds}
    for baseline, fresh in tqdm(letters, desc="copies", disable=None):
        density = GaussianDensity.fit(baseline)
        seen, unseen = fresh.select(range(count)), fresh.select(range(count, 3 * count))
        memory, spread = ExposureMemory(seen.space).update(seen), float(density.frame.spectrum.sum().sqrt())
        copies = [copy_by(kind, strength, seen.vectors, spread) for kind, strength in kinds]
        items = Embeddings(torch.cat([unseen.vectors, *copies]), seen.space)  # each is read by itself: one call for all
        reading = score_novelty(items, density, memory, baseline=baseline)
        copied = originality(items, seen, 1, unrelated=baseline).copy_probability[:, 0]
        measures = {"AUC novelty": reading.novelty, "AUC density alone": reading.bits, "AUC copy probability": -copied}
        for name, values in measures.items():
            new, *old = values.split([2 * count] + [count] * len(kinds))
            for key, of_copies in zip(kinds, old, strict=True):
                rows[key][name].append(auc(of_copies, new))
    return [
        {"copy": kind, "strength": strength, **{name: statistics.mean(values) for name, values in row.items()}}
        for (kind, strength), row in rows.items()
    ]


def repeats(letters: list[tuple[Embeddings, Embeddings]]) -> list[dict]:
    """A repeat's information gain over its first showing's, after as many other pictures; the largest of SHOWN pictures a letter."""
    rows = []
    for others in (0, 8, 32, 128, 500):
        shares, firsts = [], []
        for baseline, fresh in letters:
            density = GaussianDensity.fit(baseline)
            memory = ExposureMemory(fresh.space)
            memory = memory.update(fresh.select(range(100, 100 + others))) if others else memory
            gains = information_gain(fresh.select(range(SHOWN)), density, memory).tolist()
            for i, first in enumerate(gains):
                item = fresh.select([i])
                shares.append(float(information_gain(item, density, memory.update(item))) / first)
            firsts += gains
        rows.append({"others seen": others, "first showing, bits": statistics.mean(firsts), "largest share of a repeat": max(shares)})
    return rows


def order_spread(letters: list[tuple[Embeddings, Embeddings]]) -> float:
    """Largest relative difference of a session's total over ORDERS orders of 100 pictures, 10 shown twice, after 0 and 500 others."""
    worst = 0.0
    for baseline, fresh in letters:
        density, empty = GaussianDensity.fit(baseline), ExposureMemory(fresh.space)
        session = fresh.select([*range(100), *range(10)])
        for memory in (empty, empty.update(fresh.select(range(1000, 1500)))):
            totals = []
            for seed in range(ORDERS):
                order = torch.randperm(len(session), generator=torch.Generator().manual_seed(seed))
                totals.append(float(session_gains(session.select(order), density, memory).sum()))
            worst = max(worst, (max(totals) - min(totals)) / min(totals))
    return worst


def search(rounds: int) -> dict:
    """64 queries, half of them near duplicates, against ROWS x WIDTH: seconds of both, in turns; errors against distances known."""
    from sklearn.neighbors import NearestNeighbors

    g = torch.Generator().manual_seed(0)
    seen = torch.randn(ROWS, WIDTH, generator=g).add_(1.0)
    at = torch.randint(ROWS, (QUERIES // 2,), generator=g)
    near = seen[at] + 1e-3 * torch.randn(QUERIES // 2, WIDTH, generator=g)
    queries = torch.cat([near, 1.0 + torch.randn(QUERIES // 2, WIDTH, generator=g)])
    true = (near.double() - seen[at].double()).norm(dim=1)
    array, asked = seen.numpy(), queries.numpy()
    theirs = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(array)
    seconds = {"ours": [], "scikit-learn": []}
    for _ in tqdm(range(rounds), desc="search", disable=None):
        began = time.perf_counter()
        ours, indices = nearest(queries, seen, NEIGHBOURS)
        middle = time.perf_counter()
        other, other_indices = theirs.kneighbors(asked)
        seconds["ours"].append(middle - began)
        seconds["scikit-learn"].append(time.perf_counter() - middle)
    half = QUERIES // 2
    return {
        "threads": torch.get_num_threads(),
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ratio": statistics.median(seconds["scikit-learn"]) / statistics.median(seconds["ours"]),
        "same neighbours": float((indices == torch.from_numpy(other_indices)).double().mean()),
        "worst near-duplicate error": float(((ours[:half, 0] - true) / true).abs().max()),
        "worst near-duplicate error, scikit-learn": float(((torch.from_numpy(other)[:half, 0] - true) / true).abs().max()),
    }


def reached(copies: list[dict], again: list[dict], spread: float, found: dict | None) -> list[dict]:
    measures = ("AUC novelty", "AUC copy probability")
    noise = {name: min(row[name] for row in copies if row["copy"] == "noise" and row["strength"] <= NOISE) for name in measures}
    shifts = {
        (name, row["strength"]): row[name]
        for name in measures for row in copies if row["copy"] == "shift" and row["strength"] in (CROP, PIXEL)
    }
    asked = [
        *((f"{name}, copies by noise up to {NOISE:g} of the spread, the worst", v, 0.99, v >= 0.99) for name, v in noise.items()),
        *(
            (f"{name}, copies shifted by {strength:g} of the spread, as a " + ("crop" if strength == CROP else "shift") + " of one pixel does",
             v, 0.99, v >= 0.99)
            for (name, strength), v in shifts.items()
        ),
        *(
            (f"a repeat's information gain over its first showing's, {row['others seen']} others seen",
             row["largest share of a repeat"], 0.05, row["largest share of a repeat"] < 0.05)
            for row in again
        ),
        ("a session's total in another order, relative difference", spread, 1e-9, spread <= 1e-9),
    ]
    if found:
        asked += [
            ("search of a million: scikit-learn's seconds over ours", found["ratio"], 1.0, found["ratio"] >= 1),
            ("near-duplicate distances, worst relative error", found["worst near-duplicate error"], 0.01,
             found["worst near-duplicate error"] <= 0.01),
        ]
    return [{"name": name, "value": value, "reach": reach, "ok": bool(ok)} for name, value, reach, ok in asked]


def show(copies: list[dict], again: list[dict], spread: float, found: dict | None, targets: list[dict]) -> None:
    print(f"\n{'copy by':10}{'strength':>10}{'novelty':>12}{'density':>12}{'copy prob.':>12}")
    for row in copies:
        columns = "".join(f"{row[name]:12.4f}" for name in ("AUC novelty", "AUC density alone", "AUC copy probability"))
        print(f"{row['copy']:10}{row['strength']:10.2f}{columns}")
    print("AUC of copies against new pictures, mean over the letters; strength in units of the pictures' spread.")
    print(f"\n{'others seen':>12}{'first, bits':>14}{'repeat':>10}")
    for row in again:
        print(f"{row['others seen']:12}{row['first showing, bits']:14.2f}{row['largest share of a repeat']:10.4f}")
    print("Information gain of a first showing, and the largest share of it that a repeat still gains.")
    print(f"\nTotal of a session over {ORDERS} orders: relative difference {spread:.1e}")
    if found:
        print(f"\n{QUERIES} queries against {ROWS:,} x {WIDTH}, k = {NEIGHBOURS}, {found['threads']} threads:")
        for name, value in found.items():
            print(f"  {name}: {value}")
    print()
    show_targets(targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and targets there, too")
    parser.add_argument("--samples", type=int, default=20_000, metavar="N", help="baseline samples a letter and seed")
    parser.add_argument("--seen", type=int, default=500, metavar="N", help="pictures in the memory, and copies of them")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds of the search of a million")
    parser.add_argument("--skip-search", action="store_true", help="leave out the search of a million (6 GB of memory)")
    parser.add_argument("--cache", type=Path, default=HERE / "cache", metavar="DIR", help="where baselines are kept")
    options = parser.parse_args()
    cache = Cache(options.cache, load_kandinsky()[0])
    letters = [
        tuple(cache.baseline(letter, options.samples, seed) for seed in (0, 1))
        for letter in tqdm(WORLDS["letters"].some, desc="baselines", disable=None)
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small matrices: threads that wait for each other cost more than they bring
    copies, again, spread = told_apart(letters, options.seen), repeats(letters), order_spread(letters)
    torch.set_num_threads(threads)
    found = None if options.skip_search else search(options.rounds)
    targets = reached(copies, again, spread, found)
    show(copies, again, spread, found, targets)
    settings = {"letters": list(WORLDS["letters"].some), "samples": options.samples, "seen": options.seen, "orders": ORDERS}
    rows = {"copies": copies, "repeats": again, "order": spread, "search": found or "not measured"}
    write_json(options.json, settings=settings, rows=rows, targets=targets)


if __name__ == "__main__":
    main()
