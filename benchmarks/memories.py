"""Are figures true whatever a viewer has seen? On six distributions whose density is known, with every estimator.

    python benchmarks/memories.py [--json FILE] [--quick]

Of fresh ordinary pictures, those called 1 in N must happen once in N, with any memory; what is steered stays new; intervals hold
the truth; a copy is found beside twins. Means over several baselines. Nothing is kept between runs.
"""
from __future__ import annotations

import argparse
import math
import statistics
import time
from pathlib import Path

import torch
from calibration import Truth, truths
from rarity.density import (
    ESTIMATORS,
    Embeddings,
    EmbeddingSpace,
    ExposureMemory,
    Kinds,
    choose_starts,
    estimate_shares,
    fit_density,
    optimize,
    originality,
    score_novelty,
)
from targets import show_targets, write_json
from tqdm import tqdm

WIDTH = 32
SEEN = (0, 1, 2, 5, 20, 100, 300)  # ordinary pictures in the memory
KIND = "300 of one kind"  # of two: those above the mean along the first axis
CALLED = (8, 64, 512)
KINDS = (*ESTIMATORS, "mixture", "neighbours")
STEERED, ASKED, KEEPS = 16, 1000, 8.0
SLACK = 0.3
INTERVALS = {"width": 12, "samples": 300, "fresh": 4000}  # of the densities whose intervals are counted
LEVELS = (2, 10, 100)
TWINS = (0.02, 1e-3, 1e-5, 0.0)  # distance of a reference picture's twin, as a share of a usual distance


def drawn(truth: Truth, width: int, count: int, seed: int) -> Embeddings:
    space = EmbeddingSpace("known distribution", "0" * 16, width, "raw")
    return Embeddings(truth.draw(count, torch.Generator().manual_seed(seed)), space)


def of_kind(rows: Embeddings, above: bool = True) -> Embeddings:
    """Those of one of two kinds."""
    return rows.select((rows.vectors[:, 0] > 1) == above)


def with_memories(truth: Truth, estimator: str, samples: int, fresh: int, seed: int) -> list[dict]:
    """A row for each memory, of one density: how often fresh pictures are called 1 in N, and what the memory changed."""
    baseline, ordinary = drawn(truth, WIDTH, samples, seed), drawn(truth, WIDTH, 4 * max(SEEN), 10_000 + seed)
    x, density = drawn(truth, WIDTH, fresh, 20_000 + seed), fit_density(baseline, estimator, seed=seed)
    steered = None
    if estimator != "neighbours":  # nothing leads away from neighbours
        steered = optimize(density, choose_starts(baseline, density, STEERED), ASKED, steps=10).final
    empty, rows, before = ExposureMemory(x.space), [], None
    memories = {count: empty.update(ordinary.select(range(count))) if count else empty for count in SEEN}
    memories[KIND] = empty.update(of_kind(ordinary).select(range(max(SEEN))))
    for seen, memory in memories.items():
        novelty = score_novelty(x, density, memory).novelty
        before = novelty if before is None else before
        kinds = [float(novelty[of].median() - first[of].median()) for first in (rows[0]["first"],) for of in halves(x)] if rows else [0, 0]
        row = {"seen": seen, "first": rows[0]["first"] if rows else novelty, "median": float(novelty.median())}
        row |= {f"called 1 in {n}": float((novelty >= math.log2(n)).double().mean()) * n for n in CALLED}
        row |= {"newer by": float((novelty - before).max()), "seen kind": kinds[0], "other kind": kinds[1]}
        if steered is not None:
            read = score_novelty(steered, density, memory)
            row |= {"steered": float(read.novelty[read.clearness == 1].min()), "alike": float((read.clearness < 1).double().mean())}
        rows.append(row)
        before = novelty
    return [{name: value for name, value in row.items() if name != "first"} for row in rows]


def halves(x: Embeddings) -> tuple[torch.Tensor, torch.Tensor]:
    above = x.vectors[:, 0] > 1
    return above, ~above


def memory_rows(baselines: int, samples: int, fresh: int) -> list[dict]:
    """One row an estimator and memory: means over distributions and baselines, the worst distribution beside them."""
    rows = []
    for estimator in tqdm(KINDS, desc="memories", disable=None):
        cells = {
            truth.name: [with_memories(truth, estimator, samples, fresh, seed) for seed in range(baselines)] for truth in truths(WIDTH)
        }
        for place, seen in enumerate([*SEEN, KIND]):
            row = {"estimator": estimator, "seen": seen}
            for n in CALLED:
                means = [statistics.mean(one[place][f"called 1 in {n}"] for one in each) for each in cells.values()]
                row |= {f"called 1 in {n}": statistics.mean(means), f"called 1 in {n}, by distribution": dict(zip(cells, means, strict=True))}
            every = [one for each in cells.values() for one in each]
            row["median moved"] = max(abs(one[place]["median"] - one[0]["median"]) for one in every)
            row["newer by"] = max(one[place]["newer by"] for one in every)
            row["steered"] = min((one[place]["steered"] for one in every if "steered" in one[place]), default=None)
            row["alike"] = statistics.mean(one[place].get("alike", 0.0) for one in every)
            if seen == KIND:
                row |= {name: statistics.mean(one[place][name] for one in every) for name in ("seen kind", "other kind")}
            rows.append(row)
    return rows


def coverage(draws: int) -> list[dict]:
    """One row an estimator: in how many draws the 90 % interval of 1 in N holds the share of fresh pictures that is so rare."""
    rows, known = [], truths(INTERVALS["width"])
    for estimator in tqdm(ESTIMATORS, desc="intervals", disable=None):
        hits = dict.fromkeys(LEVELS, 0)
        for draw in range(draws):
            truth = known[draw % len(known)]
            baseline, fresh = (drawn(truth, INTERVALS["width"], INTERVALS[of], seed)
                               for of, seed in (("samples", draw), ("fresh", 90_000 + draw)))
            density = fit_density(baseline, estimator, seed=draw)
            score = density.score(fresh.vectors.double())
            for one_in in LEVELS:
                reached = max(0.5, float((score >= density.score_at(math.log2(one_in))).sum()))
                low, high = density.interval(math.log2(one_in))
                hits[one_in] += float(low) <= -math.log2(reached / len(score)) <= float(high)
        rows.append({"estimator": estimator, "draws": draws, **{f"1 in {n}": hit / draws for n, hit in hits.items()},
                     "covered": statistics.mean(hits.values()) / draws})
    return rows


def copies() -> dict:
    """Is a copy's probability monotone in its distance, 1 for an exact one, and unmoved by twins in the reference?"""
    worst = {"rises with distance by": 0.0, "least of exact copies": 1.0, "twins move it by": 0.0}
    for truth in truths(WIDTH):
        reference, fresh = drawn(truth, WIDTH, 300, 1), drawn(truth, WIDTH, 100, 2)
        usual = float(torch.cdist(fresh.vectors, reference.vectors).min(dim=1).values.median())
        way = torch.nn.functional.normalize(drawn(truth, WIDTH, 40, 3).vectors - 1, dim=1)
        asked = {far: Embeddings(reference.vectors[:40] + far * usual * way, reference.space)
                 for far in (0.0, 1e-3, 0.02, 0.1, 0.2, 0.4, 0.8)}
        asked["fresh"] = fresh
        plain = {far: originality(rows, reference, 1).copy_probability[:, 0] for far, rows in asked.items()}
        moved = [plain[far] for far in asked if far != "fresh"]
        rises = max(float((after - first).max()) for first, after in zip(moved, moved[1:], strict=False))
        worst["rises with distance by"] = max(worst["rises with distance by"], rises)
        worst["least of exact copies"] = min(worst["least of exact copies"], float(plain[0.0].min()))
        for apart in TWINS:
            more = Embeddings(reference.vectors[100:140] + apart * usual * way, reference.space)
            twins = Embeddings.cat([reference, more])
            for far, rows in asked.items():
                change = (originality(rows, twins, 1).copy_probability[:, 0] - plain[far]).abs()
                worst["twins move it by"] = max(worst["twins move it by"], float(change.max()))
    return worst


def shares(draws: int) -> list[dict]:
    """In how many draws the interval of a share that was mixed, 30 of 100, holds it; by how far two kinds lie apart."""
    rows = []
    for apart in (2.0, 4.0, 8.0):
        hits = 0
        for draw in range(draws):
            g = torch.Generator().manual_seed(draw)
            space = EmbeddingSpace("two kinds", "0" * 16, WIDTH)
            step = apart * torch.eye(WIDTH)[0]
            examples = [Embeddings(torch.randn(64, WIDTH, generator=g) + kind * step, space) for kind in (0, 1)]
            which = (torch.rand(200, 1, generator=g) < 0.7).float()
            kinds = Kinds(examples)
            read = kinds.read(Embeddings(torch.randn(200, WIDTH, generator=g) + which * step, space))
            found = estimate_shares(read, 2, kinds.confusion, seed=draw)
            hits += bool(found.low[0] <= 0.3 <= found.high[0])
        rows.append({"deviations apart": apart, "draws": draws, "covered": hits / draws})
    return rows


def reached(rows: list[dict], intervals: list[dict], found: dict, mixed: list[dict]) -> list[dict]:
    asked = []
    for estimator in KINDS:
        own = [row for row in rows if row["estimator"] == estimator]
        for n in CALLED:
            worst = max((row[f"called 1 in {n}"] for row in own), key=lambda v: abs(math.log(max(v, 1e-9))))
            asked.append((f"{estimator}: called 1 in {n}, times as often, the worst memory", worst, [0.7, 1.5], 0.7 <= worst <= 1.5))
        moved = next(row["median moved"] for row in own if row["seen"] == 100)
        asked.append((f"{estimator}: the median moved by, 100 seen, the worst", moved, SLACK, moved <= SLACK))
        newer = max(row["newer by"] for row in own if row["seen"] != KIND)
        asked.append((f"{estimator}: a picture became newer by, more seen, the worst", newer, SLACK, newer <= SLACK))
        one = own[-1]
        gap = one["seen kind"] - one["other kind"]
        asked.append((f"{estimator}: the seen kind against the other, change of the median", gap, 0.0, gap < 0))
        if own[0]["steered"] is not None:
            least = min(row["steered"] for row in own if row["seen"] != KIND)
            asked.append((f"{estimator}: bits of what is steered to 1 in {ASKED:,}, the least", least, KEEPS, least >= KEEPS))
    for row in intervals:
        name = f"{row['estimator']}: the interval holds the truth, of {row['draws']} draws"
        asked.append((name, row["covered"], [0.85, 0.95], 0.85 <= row["covered"] <= 0.95))
    limits = {"rises with distance by": (1e-9, True), "least of exact copies": (1.0, False), "twins move it by": (0.05, True)}
    for name, (limit, below) in limits.items():
        asked.append((f"probability of a copy: {name}", found[name], limit, found[name] <= limit if below else found[name] >= limit))
    for row in mixed:
        name = f"share of a kind {row['deviations apart']:g} deviations apart: the interval holds it, of {row['draws']} draws"
        asked.append((name, row["covered"], [0.85, 0.95], 0.85 <= row["covered"] <= 0.95))
    return [{"name": name, "value": value, "reach": reach, "ok": bool(ok)} for name, value, reach, ok in asked]


def show(rows: list[dict], intervals: list[dict], targets: list[dict]) -> None:
    print(f"\n{'estimator':13}{'seen':>16}" + "".join(f"{f'1 in {n}':>10}{'worst':>8}" for n in CALLED) + f"{'median':>9}{'newer':>8}{'steered':>9}{'alike':>8}")
    for row in rows:
        shown = ""
        for n in CALLED:
            worst = max(row[f"called 1 in {n}, by distribution"].values(), key=lambda v: abs(math.log(max(v, 1e-9))))
            shown += f"{row[f'called 1 in {n}']:10.2f}{worst:8.2f}"
        newer = "-" if row["seen"] == KIND else f"{row['newer by']:.2f}"
        steered = "-" if row["steered"] is None else f"{row['steered']:.1f}"
        print(f"{row['estimator']:13}{row['seen']!s:>16}{shown}{row['median moved']:9.2f}{newer:>8}{steered:>9}{row['alike']:8.1%}")
    print("""
1 in N            fresh pictures called at least so rare, times as many as one in N: mean over distributions and baselines
worst             the same of the distribution that lies furthest from 1, mean over its baselines
median            how far the median moved from that of no memory; newer: how much newer a picture became than with the row
                  before; steered: least bits of what was steered to 1 in 1,000 and resembles nothing seen; the worst of all
alike             share of what was steered that resembles something seen, at most one in 10,000 for each picture seen by chance
""")
    for row in intervals:
        print(f"{row['estimator']:13}" + "".join(f"{f'1 in {n}':>10}{row[f'1 in {n}']:7.2f}" for n in LEVELS) + f"   all {row['covered']:.3f}")
    print("Share of draws in which the 90 % interval holds the truth.\n")
    show_targets(targets)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and targets there, too")
    parser.add_argument("--quick", action="store_true", help="one small baseline, few draws: does it run?")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    torch.set_num_threads(1)
    baselines, samples, fresh, draws = (1, 400, 500, 12) if options.quick else (3, 4000, 4000, 300)
    rows = memory_rows(baselines, samples, fresh)
    intervals, found, mixed = coverage(draws), copies(), shares(draws)
    targets = reached(rows, intervals, found, mixed)
    show(rows, intervals, targets)
    settings = {"width": WIDTH, "baselines": baselines, "samples": samples, "fresh": fresh, "draws": draws}
    settings["seconds"] = time.perf_counter() - began
    write_json(options.json, settings=settings, rows={"memories": rows, "intervals": intervals, "copies": found, "shares": mixed}, targets=targets)


if __name__ == "__main__":
    main()
