"""Is what was steered to 1 in N truly that rare? On normal distributions, where the truth is known.

    python benchmarks/starts.py [--json FILE] [--width D] [--each 1 4 16 64 256] [--baselines N] [--estimator NAME]

Steering begins either with samples of the density's own baseline, as the nodes do when one Sample Prior feeds both inputs, or with
new ones; with samples that are rare already ("rarer", as the node does) or with any ("usual"). A sample that was learnt from lies
where the density has learnt to expect it: it is moved as far as is rare among its like, not among new samples.
"""
from __future__ import annotations

import argparse
import math
from itertools import product
from pathlib import Path

import torch
from rarity.density import ESTIMATORS, Embeddings, EmbeddingSpace, choose_starts, fit_density, optimize
from targets import write_json
from torch import Tensor
from tqdm import tqdm

ASKED = (10, 100, 1000)
COUNT, NEW = 32, 2000


class World:
    """Normal embeddings with spreads i^-power along their axes, and how rare any point truly is."""

    def __init__(self, width: int, power: float):
        self.draws = torch.Generator().manual_seed(0)
        self.spread = torch.arange(1, width + 1).float() ** -power
        self.mean = self.spread.norm() * 1.5 * torch.nn.functional.normalize(torch.randn(width, generator=self.draws), dim=0)
        self.space = EmbeddingSpace("normal", "0" * 12, width)

    def draw(self, count: int) -> Embeddings:
        rows = torch.randn(count, len(self.spread), generator=self.draws)
        return Embeddings(self.mean + rows * self.spread, self.space)

    def bits(self, x: Tensor) -> Tensor:
        """-log2 of the share of all points that lie further out: D2 is chi-squared."""
        d2 = ((x.double() - self.mean) / self.spread).square().sum(dim=1)
        return -torch.special.gammaincc(torch.tensor(len(self.spread) / 2).double(), d2 / 2).log2()


def measure(world: World, count: int, baselines: int, estimator: str = "ppca") -> list[dict]:
    """Rows for one size of the baseline: starts that are rare already and any, of its own and new; means over baselines."""
    found = {}
    for _ in range(baselines):
        baseline, new = world.draw(count), world.draw(NEW)
        density = fit_density(baseline, estimator)
        for kind, (whose, source) in product(("rarer", "usual"), (("its own", baseline), ("new", new))):
            starts = choose_starts(source, density, COUNT, kind, seed=0)
            results = [optimize(density, starts, one_in) for one_in in ASKED]
            bits = [float(world.bits(result.final.vectors).median()) for result in results]
            inside = [float(result.accepted.double().mean()) for result in results]
            found.setdefault(f"{kind}, {whose}", []).append((density.frame.components, bits, inside))
    rows = []
    for starts, each in found.items():
        components, bits, inside = (torch.tensor(part).double().mean(dim=0).tolist() for part in zip(*each, strict=True))
        row = {"samples a dimension": count / world.space.width, "components": components, "starts": starts}
        rows.append(row | {"true bits": bits, "inside": inside})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows there, too")
    parser.add_argument("--width", type=int, default=128, metavar="D")
    parser.add_argument("--each", type=float, nargs="+", default=[1, 4, 16, 64, 256], metavar="X", help="samples a dimension")
    parser.add_argument("--baselines", type=int, default=5, metavar="N")
    parser.add_argument("--estimator", choices=(*ESTIMATORS, "mixture"), default="ppca")
    options = parser.parse_args()
    table = []
    for power in (0.5, 1.0):
        world = World(options.width, power)
        for each in tqdm(options.each, desc=f"spreads i^-{power:g}", disable=None):
            rows = measure(world, max(50, round(each * options.width)), options.baselines, options.estimator)
            table += [{"power": power, **row} for row in rows]
    asked = "".join(f"{f'{math.log2(one_in):.1f} asked':>12}" for one_in in ASKED)
    print(f"\n{'spreads':10}{'a dimension':>12}{'components':>12}  {'starts':18}{asked}")
    for row in table:
        print(f"i^-{row['power']:<7g}{row['samples a dimension']:12g}{row['components']:12.0f}  {row['starts']:18}"
              + "".join(f"{bits:12.1f}" for bits in row["true bits"]))
    print(f"true bits: median of {COUNT} results, by the distribution itself; mean over {options.baselines} baselines.")
    write_json(options.json, settings={"width": options.width, "asked": ASKED, "baselines": options.baselines, "estimator": options.estimator}, rows=table, targets=[])


if __name__ == "__main__":
    main()
