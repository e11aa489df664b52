"""How fast and how exact is learning a density? Against scikit-learn in one run, in turns, and against the machine.

    python benchmarks/density_fit.py [--json FILE] [--rows N] [--quick]
    python benchmarks/density_fit.py --fits [--json FILE]     # only the calibrated fits, as Fit Density asks for them

Seconds and the ratio to the arithmetic bound 2 N d^2 / (peak of a float32 matrix product, measured in the same run);
the largest error in log p against the same density in float64, at means that lie 1, 5 and 30 spreads from the origin;
and what a fit of files larger than memory adds to the resident set of a process. Calibrated fits choose their components,
and are timed alone: nobody else's holds samples out.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rarity.density import (
    Embeddings,
    EmbeddingSpace,
    Moments,
    RadialMoments,
    fit_density,
    ledoit_wolf,
    save_embeddings,
    shrink,
)
from rarity.density.files.store import stream_embeddings
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from targets import show_targets, write_json
from torch import Tensor
from tqdm import tqdm

SAMPLES, WIDTHS, OFFSETS = 50_000, (768, 1280), (1, 5, 30)
COMPONENTS = 50
POINTS = 2_000  # where log p is compared; drawn as the samples are, and not among them
ERROR, BOUND, FASTER, MEGABYTES = 1e-4, 1.5, 5.0, 500
FITS = {300: 1.0, 5_000: 2.0}  # samples -> seconds that a calibrated fit may take on two cores
FILE_ROWS = 100_000  # 512 MB a file at 1280 dimensions


def draw(count: int, width: int, offset: float, seed: int) -> Tensor:
    """A power-law spectrum in axes of its own, every coordinate's mean `offset` times the typical spread; float32."""
    g = torch.Generator().manual_seed(seed)
    deviations = torch.arange(1, width + 1).float().rsqrt()
    axes = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(0))).Q
    spread = float(deviations.square().mean().sqrt())
    return (torch.randn(count, width, generator=g) * deviations) @ axes.T + offset * spread


class Gaussian:
    """Mean, axes and a variance for every axis, float64: what each competitor has learnt, read by one formula."""

    def __init__(self, mean, axes, variances):
        fields = (torch.as_tensor(np.asarray(field)).double() for field in (mean, axes, variances))
        self.mean, self.axes, self.variances = fields

    def log_prob(self, x: Tensor) -> Tensor:
        """PPCA where fewer axes than dimensions are kept; the last variance is then that of all others."""
        y = x.double() - self.mean
        z, d, k = y @ self.axes, len(self.mean), self.axes.shape[1]
        depth = (z.square() / self.variances[:k]).sum(1)
        volume = self.variances[:k].log().sum()
        if k < d:
            depth = depth + (y - z @ self.axes.T).square().sum(1) / self.variances[k]
            volume = volume + (d - k) * self.variances[k].log()
        return -0.5 * (depth + volume + d * math.log(2 * math.pi))


def components(width: int) -> int:
    return min(COMPONENTS, width // 2)


def truncated(mean, axes, spectrum) -> Gaussian:
    """PPCA of a whole spectrum, descending."""
    k = components(len(spectrum))
    return Gaussian(mean, axes[:, :k], torch.cat([spectrum[:k], spectrum[k:].mean()[None]]))


def oracle(x: Tensor) -> tuple[Gaussian, Gaussian]:
    """PPCA and Ledoit-Wolf of float32 samples, all in float64, centred before anything is multiplied."""
    mean = x.double().mean(0)
    y = x.double() - mean
    covariance = y.T @ y / len(x)
    d, m = len(covariance), covariance.diagonal().mean()
    delta = (covariance - m * torch.eye(d, dtype=torch.float64)).square().sum() / d
    beta = (y.square().sum(1).square().mean() - covariance.square().sum()) / (d * len(x))
    values, vectors = torch.linalg.eigh(covariance)
    rho = min(float(beta), float(delta)) / float(delta)
    shrunk = (1 - rho) * values.flip(0) + rho * m
    return truncated(mean, vectors.flip(1), values.flip(0)), Gaussian(mean, vectors.flip(1), shrunk)


def our_spectrum(x: Tensor) -> Gaussian:
    moments = Moments(x.shape[1]).update(x)
    values, vectors = torch.linalg.eigh(moments.covariance())
    return truncated(moments.mean, vectors.flip(1), values.flip(0))


def our_ledoit_wolf(x: Tensor) -> Gaussian:
    radial = RadialMoments(x.shape[1]).update(x)
    values, vectors = torch.linalg.eigh(radial.moments.covariance())
    return Gaussian(radial.moments.mean, vectors.flip(1), shrink(values.flip(0), ledoit_wolf(radial)))


def their_pca(x: Tensor, solver: str, kind: type) -> Gaussian:
    k = components(x.shape[1])
    pca = PCA(k, svd_solver=solver, random_state=0).fit(x.numpy().astype(kind, copy=False))
    variances = np.append(pca.explained_variance_, pca.noise_variance_).astype(np.float64)
    return Gaussian(pca.mean_, pca.components_.T, variances * (len(x) - 1) / len(x))  # theirs is over N - 1


def their_ledoit_wolf(x: Tensor) -> Gaussian:
    learnt = LedoitWolf().fit(x.numpy())
    values, vectors = np.linalg.eigh(learnt.covariance_.astype(np.float64))
    return Gaussian(learnt.location_, vectors, values)


def our_fit(x: Tensor):
    space = EmbeddingSpace("benchmark", "0" * 16, x.shape[1], "raw")
    return fit_density(Embeddings(x, space), components=components(x.shape[1]))


# name -> (how it learns, what float64 oracle it is compared with)
LEARNERS: dict[str, tuple[Callable, str]] = {
    "ours, moments and spectrum": (our_spectrum, "ppca"),
    "PCA covariance_eigh float32": (lambda x: their_pca(x, "covariance_eigh", np.float32), "ppca"),
    "PCA covariance_eigh float64": (lambda x: their_pca(x, "covariance_eigh", np.float64), "ppca"),
    "PCA randomized float32": (lambda x: their_pca(x, "randomized", np.float32), "ppca"),
    "ours, Ledoit-Wolf": (our_ledoit_wolf, "ledoit-wolf"),
    "scikit-learn's Ledoit-Wolf": (their_ledoit_wolf, "ledoit-wolf"),
    "ours, the whole calibrated fit": (our_fit, "ppca"),
}


def peak(x: Tensor) -> float:
    """The best rate of several float32 products of the shapes at hand, in operations a second."""
    n, d = x.shape
    square = torch.randn(min(4 * d, 4096), d)
    best = 0.0
    for left, right in ((x.T, x), (x[:4096].T, x[:4096]), (square, square.T)):
        for _ in range(3):
            began = time.perf_counter()
            left @ right
            operations = 2 * left.shape[0] * left.shape[1] * right.shape[1]
            best = max(best, operations / (time.perf_counter() - began))
    return best


def race(samples: int, width: int, rounds: int) -> list[dict]:
    """One row a learner: median seconds of rounds in turns, and the largest errors at every offset."""
    x = draw(samples, width, OFFSETS[0], 1)
    seconds, rate = {name: [] for name in LEARNERS}, peak(x)
    for _ in tqdm(range(rounds), desc=f"{width} wide, rounds", disable=None):
        for name, (learn, _) in LEARNERS.items():
            began = time.perf_counter()
            learn(x)
            seconds[name].append(time.perf_counter() - began)
        rate = max(rate, peak(x))
    errors = {name: [] for name in LEARNERS}
    for offset in tqdm(OFFSETS, desc=f"{width} wide, errors", disable=None):
        x, points = draw(samples, width, offset, 1), draw(POINTS, width, offset, 2)
        exact = dict(zip(("ppca", "ledoit-wolf"), (g.log_prob(points) for g in oracle(x)), strict=True))
        for name, (learn, which) in LEARNERS.items():
            errors[name].append(float((learn(x).log_prob(points) - exact[which]).abs().max()))
    bound = 2 * samples * width**2 / rate
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return [
        {"learner": name, "width": width, "samples": samples, "seconds": medians[name], "bound": medians[name] / bound,
         "errors": dict(zip(map(str, OFFSETS), errors[name], strict=True))}
        for name in LEARNERS
    ]


def calibrated(width: int, rounds: int) -> list[dict]:
    """One row for each number of samples and estimator: median seconds, on the clock and of the processor."""
    space, found = EmbeddingSpace("benchmark", "0" * 16, width, "raw"), []
    for samples in FITS:
        drawn = Embeddings(draw(samples, width, OFFSETS[0], 1), space)
        for estimator in ("ppca", "ledoit-wolf"):
            taken = []
            for _ in tqdm(range(rounds), desc=f"{samples:,} x {width}, {estimator}", disable=None):
                began = time.perf_counter(), time.process_time()
                fit_density(drawn, estimator)
                taken.append((time.perf_counter() - began[0], time.process_time() - began[1]))
            seconds, processor = map(statistics.median, zip(*taken, strict=True))
            found.append({"samples": samples, "width": width, "estimator": estimator, "seconds": seconds, "processor": processor})
    return found


def stream(rows: int, width: int) -> dict:
    """Files written by another process, learnt from in a fresh one: what that adds to its resident set."""
    with tempfile.TemporaryDirectory() as folder:
        for task in ("write", "learn"):
            command = [sys.executable, __file__, "--task", task, folder, str(rows), str(width)]
            found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {"rows": rows, "width": width, **json.loads(found.stdout)}


def write(folder: Path, rows: int, width: int) -> dict:
    space = EmbeddingSpace("benchmark", "0" * 16, width, "raw")
    for i, start in enumerate(range(0, rows, FILE_ROWS)):
        count = min(FILE_ROWS, rows - start)
        save_embeddings(Embeddings(draw(count, width, 1, 10 + i), space), folder / f"{i:03}.safetensors")
    return {}


def learn(folder: Path, rows: int, width: int) -> dict:
    """A first fit of few rows, yet more than dimensions, brings the libraries in, so that only the stream is counted."""
    our_fit(draw(2 * width, width, 1, 1))
    before, began = resident("VmRSS"), time.perf_counter()
    files = sorted(folder.iterdir())
    density = fit_density(part for file in files for part in stream_embeddings(file)[-1])
    seconds = time.perf_counter() - began
    if density.count != rows:
        raise RuntimeError(f"{density.count:,} of {rows:,} rows were learnt from")
    added = resident("VmHWM") - before
    gigabytes = sum(file.stat().st_size for file in files) / 1e9
    return {"files": len(files), "gigabytes": gigabytes, "added megabytes": added, "seconds": seconds}


def resident(field: str) -> float:
    """VmRSS is what is resident now, VmHWM the most there ever was; in 10^6 bytes. Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"this system does not say its {field}")


def fit_targets(fits: list[dict]) -> list[dict]:
    return [
        {"name": f"calibrated fit of {fit['samples']:,} x {fit['width']}, {fit['estimator']}: seconds", "value": fit["seconds"],
         "reach": FITS[fit["samples"]], "ok": fit["seconds"] <= FITS[fit["samples"]]}
        for fit in fits
    ]


def show_fits(fits: list[dict]) -> None:
    print(f"\n{'calibrated fit':34}{'width':>6}{'seconds':>10}{'processor':>11}")
    for fit in fits:
        print(f"{fit['samples']:>12,} samples, {fit['estimator']:12}{fit['width']:6}{fit['seconds']:10.2f}{fit['processor']:11.2f}")
    print(f"\nMedians, {torch.get_num_threads()} threads; processor: seconds of all cores together, which other programs do not disturb")


def targets(rows: list[dict], streamed: dict) -> list[dict]:
    found = {(row["learner"], row["width"]): row for row in rows}
    asked = []
    for width in dict.fromkeys(row["width"] for row in rows):
        for name in LEARNERS:
            if name.startswith("ours"):
                worst = max(found[name, width]["errors"].values())
                asked.append((f"{name}, {width} wide: largest error in log p, nats", worst, ERROR, worst <= ERROR))
        ratio = found["ours, moments and spectrum", width]["bound"]
        asked.append((f"moments and spectrum, {width} wide: times the arithmetic bound", ratio, BOUND, ratio <= BOUND))
    ours, theirs = (found[name, width]["seconds"] for name in ("ours, Ledoit-Wolf", "scikit-learn's Ledoit-Wolf"))
    asked.append((f"Ledoit-Wolf, {width} wide: times faster", theirs / ours, FASTER, theirs / ours >= FASTER))
    added = streamed["added megabytes"]
    what = f"a stream of {streamed['rows']:,} x {streamed['width']}: megabytes added to the resident set"
    asked.append((what, added, MEGABYTES, added <= MEGABYTES))
    return [{"name": name, "value": value, "reach": reach, "ok": bool(ok)} for name, value, reach, ok in asked]


def show(rows: list[dict], streamed: dict, reached: list[dict]) -> None:
    heads = "".join(f"{f'error {offset}x':>12}" for offset in OFFSETS)
    print(f"\n{'learner':34}{'width':>6}{'bound':>8}{'seconds':>10}{heads}")
    for row in rows:
        errors = "".join(f"{error:12.1e}" for error in row["errors"].values())
        print(f"{row['learner']:34}{row['width']:6}{row['bound']:8.2f}{row['seconds']:10.2f}{errors}")
    print(f"""
N = {rows[0]["samples"]:,}, {torch.get_num_threads()} threads.
bound       seconds over 2 N d^2 / peak, the peak of a float32 product being measured in the same run
seconds     median of rounds in turns. The calibrated fit holds every fifth of the samples out once, and two fifths once
error       largest difference in log p, nats, from the same density in float64, on {POINTS:,} new points; the mean lies
            1, 5 and 30 times the spread from the origin in every coordinate

A stream of {streamed["rows"]:,} x {streamed["width"]} from {streamed["files"]} files, {streamed["gigabytes"]:.1f} GB:\
 {streamed["added megabytes"]:.0f} MB added to the resident set, {streamed["seconds"]:.0f} s
""")
    show_targets(reached)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and targets there, too")
    parser.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="rows of the stream, 5 KB each")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds that the seconds are the median of")
    parser.add_argument("--quick", action="store_true", help="64 dimensions and 2,000 samples: does it run?")
    parser.add_argument("--fits", action="store_true", help="only the calibrated fits")
    parser.add_argument("--task", nargs=4, help=argparse.SUPPRESS)  # the two processes of the stream
    options = parser.parse_args(arguments)
    if options.task:
        task, folder, rows, width = options.task
        print(json.dumps({"write": write, "learn": learn}[task](Path(folder), int(rows), int(width))))
        return
    full = (SAMPLES, WIDTHS, 1280, options.rows)
    samples, widths, wide, count = (2_000, (64,), 64, 20_000) if options.quick else full
    fits = calibrated(wide, options.rounds)
    show_fits(fits)
    if options.fits:
        show_targets(fit_targets(fits))
        write_json(options.json, threads=torch.get_num_threads(), fits=fits, targets=fit_targets(fits))
        return
    rows = [row for width in widths for row in race(samples, width, options.rounds)]
    streamed = stream(count, wide)
    reached = targets(rows, streamed) + fit_targets(fits)
    show(rows, streamed, reached)
    settings = {"samples": samples, "widths": widths, "rounds": options.rounds, "threads": torch.get_num_threads()}
    write_json(options.json, settings=settings, rows=rows, fits=fits, stream=streamed, targets=reached)


if __name__ == "__main__":
    main()
