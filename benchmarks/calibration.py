"""Is "1 in 1,000" true? What share of fresh draws is rejected, from six distributions whose density is known exactly.

    python benchmarks/calibration.py [--json FILE] [--quick]

For each distribution and number of samples N, several independent baselines are drawn and learnt from; the same fresh
draws are then read under all of them. Nothing is kept between runs.
"""
from __future__ import annotations

import argparse
import math
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rarity.density import Embeddings, EmbeddingSpace, fit_density
from scipy.stats import spearmanr
from targets import show_targets, write_json
from torch import Tensor
from tqdm import tqdm

LEVELS = {0.01: (0.007, 0.015), 0.001: (0.0005, 0.002)}  # nominal share -> what may be rejected
BASELINES = {2000: 8, 5000: 5, 50_000: 2}  # N -> independent baselines
# Of n calibrating scores n p are rarer than p, so that a baseline's own figure is off by about 1 / sqrt(n p) of itself.
# Where the band's nearer edge is SURE times as far, every single baseline must be inside; elsewhere their mean is.
SURE = 2.5
RANK = 0.95
BATCH = 8192
GAUSSIAN = ("ledoit-wolf", "oas", "full")


@dataclass(frozen=True)
class Truth:
    """A distribution of known density. No rotation is put on top: every estimator here commutes with one.

    draw : (count, generator) -> [count, d] float32.   nats : [n, d] float64 -> -log p, [n], exact.
    contained_by : the estimators that can become exactly this.   variances : of a Gaussian, [d].
    """

    name: str
    draw: Callable[[int, torch.Generator], Tensor]
    nats: Callable[[Tensor], Tensor]
    contained_by: tuple[str, ...] = ()
    variances: Tensor | None = None

    def estimators(self) -> tuple[str, ...]:
        return ("ppca",) if "ppca" in self.contained_by else ("ppca", *self.contained_by[:1])


def truths(width: int) -> list[Truth]:
    """The six. All are centred about 1, as embeddings are not centred about 0."""
    place = torch.arange(1, width + 1, dtype=torch.float64)
    power = 1 / place
    rank = width // 24 + 1
    factors = torch.full((width,), 0.02, dtype=torch.float64)
    factors[:rank] += torch.logspace(0, -1.3, rank, dtype=torch.float64)
    return [
        gaussian("isotropic", torch.ones_like(place), ("ppca", *GAUSSIAN)),
        gaussian("power law", power, GAUSSIAN),
        gaussian("low rank + noise", factors, ("ppca", *GAUSSIAN)),
        student("Student-t", power, 5.0),
        mixture("mixture", factors),
        sheet("curved sheet", factors),
    ]


def gaussian(name: str, variances: Tensor, contained_by: tuple[str, ...]) -> Truth:
    """N(1, diag(variances))."""

    def draw(count: int, g: torch.Generator) -> Tensor:
        return 1 + torch.randn(count, len(variances), generator=g) * variances.sqrt().float()

    return Truth(name, draw, lambda x: normal_nats(x - 1, variances), contained_by, variances)


def student(name: str, scales: Tensor, nu: float) -> Truth:
    """Multivariate t of nu degrees of freedom: a normal vector over one common root of chi-squared / nu.

        -log p = (nu + d)/2 log(1 + D2 / nu) + 1/2 sum log scale + d/2 log(nu pi) + lgamma(nu/2) - lgamma((nu + d)/2)
    """
    d = len(scales)
    constant = 0.5 * float(scales.log().sum()) + 0.5 * d * math.log(nu * math.pi)
    constant += math.lgamma(nu / 2) - math.lgamma((nu + d) / 2)

    def draw(count: int, g: torch.Generator) -> Tensor:
        chi2 = torch.randn(count, int(nu), generator=g, dtype=torch.float64).square().sum(1, keepdim=True)
        return (1 + torch.randn(count, d, generator=g) * scales.sqrt() / (chi2 / nu).sqrt()).float()

    return Truth(name, draw, lambda x: 0.5 * (nu + d) * torch.log1p(((x - 1).square() / scales).sum(1) / nu) + constant)


def mixture(name: str, variances: Tensor) -> Truth:
    """Four kinds that differ in place and breadth in the leading 4 dimensions and are alike in all others."""
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    places = 3 * torch.tensor([[0, 0, 0, 0], [1, 0, 1, 0], [-1, 1, 0, 0], [0, -1, -1, 1]], dtype=torch.float64)
    breadths = torch.tensor([1.0, 0.6, 0.8, 0.4], dtype=torch.float64)
    lead = places.shape[1]

    def draw(count: int, g: torch.Generator) -> Tensor:
        kind = torch.multinomial(shares, count, replacement=True, generator=g)
        x = torch.randn(count, len(variances), generator=g, dtype=torch.float64) * variances.sqrt()
        x[:, :lead] = x[:, :lead] * breadths[kind, None] + places[kind]
        return (1 + x).float()

    def nats(x: Tensor) -> Tensor:
        y = x - 1
        kinds = [
            share.log() - normal_nats(y[:, :lead] - place, breadth**2 * variances[:lead])
            for share, place, breadth in zip(shares, places, breadths, strict=True)
        ]
        return normal_nats(y[:, lead:], variances[lead:]) - torch.logsumexp(torch.stack(kinds), dim=0)

    return Truth(name, draw, nats, ("mixture",))


def sheet(name: str, variances: Tensor) -> Truth:
    """A plane of two normal coordinates, bent into the next four dimensions.

    Every bend is added to another coordinate. Such a shear keeps volumes: log p(x) is the log density of x unbent.
    """

    def bends(a: Tensor, b: Tensor) -> Tensor:
        return 2 * torch.stack([a.square() - 1, a * b, torch.sin(2 * a), torch.cos(2 * b)], dim=1)

    spread = variances[:2].sqrt()

    def draw(count: int, g: torch.Generator) -> Tensor:
        x = torch.randn(count, len(variances), generator=g, dtype=torch.float64) * variances.sqrt()
        x[:, 2:6] += bends(*(x[:, :2] / spread).T)
        return (1 + x).float()

    def nats(x: Tensor) -> Tensor:
        y = x - 1
        flat = torch.cat([y[:, :2], y[:, 2:6] - bends(*(y[:, :2] / spread).T), y[:, 6:]], dim=1)
        return normal_nats(flat, variances)

    return Truth(name, draw, nats)


def normal_nats(y: Tensor, variances: Tensor) -> Tensor:
    """-log N(y | 0, diag(variances)), [n]."""
    return 0.5 * ((y.square() / variances).sum(1) + variances.log().sum() + len(variances) * math.log(2 * math.pi))


def measure(truth: Truth, width: int, estimator: str, baselines: dict[int, int], fresh: int) -> list[dict]:
    """One row a number of samples: what share of fresh draws densities learnt from independent baselines reject."""
    space = EmbeddingSpace("known distribution", "0" * 16, width, "raw")
    densities = {}
    for n, count in baselines.items():
        for i in tqdm(range(count), desc=f"{truth.name}, {estimator}, N = {n:,}", leave=False, disable=None):
            drawn = truth.draw(n, torch.Generator().manual_seed(1000 * n + i))
            densities[n, i] = fit_density(Embeddings(drawn, space), estimator, seed=i)
    nats, bits = [], {key: [] for key in densities}
    g = torch.Generator().manual_seed(1)
    batches = range(0, fresh, BATCH)
    for start in tqdm(batches, desc=f"{truth.name}, {estimator}, fresh draws", leave=False, disable=None):
        x = truth.draw(min(BATCH, fresh - start), g).double()
        nats.append(truth.nats(x))
        for key, density in densities.items():
            bits[key].append(density.bits(x))
    rows, true = [], torch.cat(nats).numpy()
    for n, count in baselines.items():
        keys = [(n, i) for i in range(count)]
        read = [torch.cat(bits[key]).numpy() for key in keys]
        rows.append(summary(truth, estimator, n, [densities[key] for key in keys], read, true))
    return rows


def ceiling(truth: Truth, n: int) -> float:
    """The best rank correlation that a Gaussian along the axes of n samples can have, were its variances known to be best.

    Without knowledge of the axes beyond the samples an estimate keeps theirs, U: what it ranks by is y' U diag(b) U' y. For
    y ~ N(0, S) and M = U' S U its correlation with the true y' S^-1 y is b'm / sqrt(d b' (M*M) b), m the diagonal of M and *
    element by element: at most sqrt(m' (M*M)^-1 m / d), for b = (M*M)^-1 m. Sums of so many terms are nearly normal, so
    the rank correlation is 6/pi asin(r/2).
    """
    x = truth.draw(n, torch.Generator().manual_seed(1000 * n)).double()
    axes = torch.linalg.eigh(x.T.cov()).eigenvectors
    within = axes.T @ (truth.variances[:, None] * axes)
    own = within.diagonal()
    r = float((own @ torch.linalg.solve(within.square(), own) / len(own)).sqrt())
    return 6 / math.pi * math.asin(min(r, 1.0) / 2)


def summary(truth: Truth, estimator: str, n: int, densities: list, bits: list[np.ndarray], true: np.ndarray) -> dict:
    """The row of one cell, mean and spread over its baselines."""
    learnt = Counter(density.estimator for density in densities).most_common(1)[0][0]
    row = {
        "distribution": truth.name,
        "estimator": estimator,
        "learnt": learnt,
        "N": n,
        "baselines": len(densities),
        "components": statistics.median(density.frame.components for density in densities),
        "contained": all(density.estimator in truth.contained_by for density in densities),
        "calibrating": min(len(density.calibration.scores) for density in densities),
    }
    for level in LEVELS:
        row[f"rejected at {level:g}"] = [float((b >= -math.log2(level)).mean()) for b in bits]
    row["rank correlation"] = [float(spearmanr(b, true).statistic) for b in bits]
    row["ceiling"] = ceiling(truth, n) if truth.variances is not None and learnt in GAUSSIAN else None
    return row


def targets(rows: list[dict]) -> list[dict]:
    """Bands for the mean over baselines, for single ones where there are enough rare samples; the rank correlation."""
    reached = []
    for row in rows:
        cell = f"{row['distribution']}, {row['estimator']}, N = {row['N']:,}"
        for level, (low, high) in LEVELS.items():
            shares = row[f"rejected at {level:g}"]
            asked = [("mean", [statistics.mean(shares)])]
            if math.log(min(level / low, high / level)) * math.sqrt(row["calibrating"] * level) >= SURE:
                asked.append(("every baseline, the worst", shares))
            for which, values in asked:
                worst = max(values, key=lambda v: abs(math.log(max(v, 1e-9) / level)))
                ok = all(low <= v <= high for v in values)
                name = f"rejected at {level:.1%}, {which}: {cell}"
                reached.append({"name": name, "value": worst, "reach": [low, high], "ok": ok})
        if row["contained"]:
            least = min(row["rank correlation"])
            name = f"rank correlation, the worst: {cell}"
            if row["ceiling"] is not None:
                name += f", where {row['ceiling']:.3f} is the most that these samples allow"
            reached.append({"name": name, "value": least, "reach": RANK, "ok": least >= RANK})
    return reached


def show(rows: list[dict], reached: list[dict]) -> None:
    heads = "".join(f"{f'{level:.1%}':>9}{'sd':>8}" for level in LEVELS)
    print(f"\n{'distribution':18}{'estimator':13}{'learnt':13}{'N':>7}{'k':>5}{heads}{'rank':>9}{'ceiling':>9}{'in family':>11}")
    for row in rows:
        shares = [row[f"rejected at {level:g}"] for level in LEVELS]
        shown = "".join(f"{statistics.mean(each):9.3%}{statistics.pstdev(each):8.3%}" for each in shares)
        name, learnt, k = row["distribution"], row["learnt"], row["components"]
        print(f"{name:18}{row['estimator']:13}{learnt:13}{row['N']:7,}{k:5.0f}{shown}", end="")
        most = "" if row["ceiling"] is None else f"{row['ceiling']:.4f}"
        print(f"{statistics.mean(row['rank correlation']):9.4f}{most:>9}{'yes' if row['contained'] else '':>11}")
    print("""
learnt, k         what the estimator chose (most often), and its number of components (median)
1.0%, 0.1%        share of fresh draws called at least so rare: mean over independent baselines; sd over them
rank              Spearman correlation of bits with the exact -log p of the fresh draws, mean over the baselines
ceiling           the most that a covariance of all d directions can reach which knows its axes from these samples only
in family         the density learnt can become exactly the distribution; only there a rank correlation is asked for
""")
    show_targets(reached)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and targets there, too")
    names = "how to learn; by default ppca, and what contains the distribution where ppca does not"
    parser.add_argument("--estimators", nargs="+", metavar="NAME", help=names)
    parser.add_argument("--width", type=int, default=768, metavar="D", help="dimensions")
    known_to = "fresh draws; 100,000 know a share of 0.1 %% to 10 %% of itself"
    parser.add_argument("--fresh", type=int, default=100_000, metavar="M", help=known_to)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the distributions")
    parser.add_argument("--quick", action="store_true", help="24 dimensions, 500 samples: does it run?")
    options = parser.parse_args(arguments)
    width, fresh, baselines = (24, 10_000, {500: 2}) if options.quick else (options.width, options.fresh, BASELINES)
    known = [truth for truth in truths(width) if not options.only or truth.name in options.only]
    cells = [(truth, name) for truth in known for name in options.estimators or truth.estimators()]
    rows = [row for truth, name in cells for row in measure(truth, width, name, baselines, fresh)]
    reached = targets(rows)
    show(rows, reached)
    settings = {"width": width, "fresh": fresh, "baselines": baselines}
    write_json(options.json, settings=settings, rows=rows, targets=reached)


if __name__ == "__main__":
    main()
