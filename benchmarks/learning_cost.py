"""What one iteration of learning a concept costs at full size: seconds, peak memory, multiply-adds, share of the machine's peak.

    python benchmarks/learning_cost.py [--json FILE] [--batches 1 8] [--layers N] [--iterations N] [--devices cpu cuda]

A prior as large as Kandinsky 2.2's (20 layers, width 2048, 32 heads, 1280-d embeddings) with random weights learns a LoRA of rank 10 through
5 prior steps, guided, with gradients through all of them: `learn_concept` as it is. A batch of 1 is the published setting, 8 the
node's. The text encoder is a small one, for a LoRA reads its prompt once, before the first iteration. On the CPU one iteration in float32,
on a GPU 50 in bfloat16; the first two, one of which is captured and one counted, are not timed.
"""
from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from prior_sampling import HEADS, PROMPT, WIDTH, gemm_peak, real_width
from rarity.density import Embeddings, GaussianDensity
from rarity.generators.concepts.learn import learn_concept
from rarity.generators.kandinsky.prior import Prior
from targets import add_devices, show_targets, write_json
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

EMBEDDING, LAYERS, STEPS, GUIDANCE, RANK = 1280, 20, 5, 4.0, 10
GPU_ITERATIONS, ASKED, PUBLISHED = 50, 5, 120  # seconds of those: asked for; the paper's on an A100
MOST_GB = 3.5  # of memory at its peak, asked for on a GPU with a batch of 1
SAMPLES, COMPONENTS = 4000, 50


class Enough(Exception):
    """Ends learning from within its progress."""


class Stopwatch:
    """Called with the progress of learning: lets one iteration warm up, counts the second, times the next ones, and ends it."""

    def __init__(self, iterations: int, device: torch.device):
        self.counted, self.first, self.last = 1, 2, 2 + iterations
        self.device, self.counter, self.seen, self.began, self.seconds = device, FlopCounterMode(display=False), -1, 0.0, 0.0

    def __call__(self, iteration: int, total: int) -> None:
        if iteration == self.seen:
            return
        self.seen = iteration
        if iteration == self.counted:
            self.counter.__enter__()
        if iteration == self.first:
            self.counter.__exit__(None, None, None)
            self.began = self._now()
        if iteration == self.last:
            self.seconds = self._now() - self.began
            raise Enough

    @property
    def multiply_adds(self) -> float:
        """Of one iteration, there and back: matrix products and attention, as torch counts them."""
        return self.counter.get_total_flops() / 2

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


class Peak:
    """The most memory that was held since this was made, in bytes: allocated on a GPU, else resident in the process (Linux)."""

    def __init__(self, device: torch.device):
        self.gpu = device.type == "cuda"
        if self.gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # resets the mark of the highest resident size

    def read(self) -> int:
        if self.gpu:
            return torch.cuda.max_memory_allocated()
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024


def density_of(prior: Prior) -> GaussianDensity:
    """A density to learn towards; what it is costs nothing in an iteration, only its size does."""
    draw = torch.Generator().manual_seed(0)
    spread = torch.linspace(2, 0.1, prior.space.width)
    rows = torch.randn(SAMPLES, prior.space.width, generator=draw) * spread
    return GaussianDensity.fit(Embeddings(rows, prior.space), components=min(COMPONENTS, prior.space.width // 2))


def measure(prior: Prior, density: GaussianDensity, batch: int, iterations: int, peak: float) -> dict:
    """One row: learning with this batch."""
    model = prior.transformer
    watch, memory = Stopwatch(iterations, model.device), Peak(model.device)
    settings = {"kind": "lora", "rank": RANK, "steps": STEPS, "guidance": GUIDANCE, "batch": batch, "probes": 1}
    try:
        learn_concept(prior, density, PROMPT, **settings, iterations=watch.last + 1, keep_every=watch.last + 1, progress=watch)
    except Enough:
        pass
    return {
        "device": model.device.type,
        "type": str(model.dtype).removeprefix("torch."),
        "layers": model.config.num_layers,
        "batch": batch,
        "iterations": iterations,
        "seconds": watch.seconds,
        "seconds an iteration": watch.seconds / iterations,
        "multiply-adds an iteration": watch.multiply_adds,
        "share of GEMM peak": watch.multiply_adds * iterations / watch.seconds / peak,
        "peak GB": memory.read() / 1e9,
        "weights GB": sum(weight.numel() * weight.element_size() for weight in model.parameters()) / 1e9,
    }


def reached(rows: list[dict]) -> list[dict]:
    """The figures that were asked for; those that need a GPU say so where there is none."""
    found = [row for row in rows if row["device"] == "cuda" and row["batch"] == 1 and row["layers"] == LAYERS]
    seconds = found[0]["seconds an iteration"] * GPU_ITERATIONS if found else "not measured"
    memory = found[0]["peak GB"] if found else "not measured"
    return [
        {"name": f"seconds for {GPU_ITERATIONS} iterations of 1, full size, GPU, bfloat16 (published, on an A100: {PUBLISHED})",
         "value": seconds, "reach": ASKED, "ok": seconds <= ASKED if found else None},
        {"name": "peak GB of those", "value": memory, "reach": MOST_GB, "ok": memory <= MOST_GB if found else None},
    ]


def show(rows: list[dict], targets: list[dict]) -> None:
    print(f"\n{'device':8}{'type':>10}{'layers':>8}{'batch':>7}{'iterations':>12}{'seconds':>9}{'s/iter':>9}{'multiply-adds':>15}{'of peak':>9}"
          f"{'peak GB':>9}{'weights':>9}")
    for row in rows:
        print(f"{row['device']:8}{row['type']:>10}{row['layers']:8}{row['batch']:7}{row['iterations']:12}{row['seconds']:9.2f}"
              f"{row['seconds an iteration']:9.2f}{row['multiply-adds an iteration']:15.3g}{row['share of GEMM peak']:9.2f}"
              f"{row['peak GB']:9.2f}{row['weights GB']:9.2f}")
    print(f"{STEPS} prior steps, guidance {GUIDANCE:g}, LoRA of rank {RANK}, width {WIDTH}, {HEADS} heads, {EMBEDDING}-d, random weights, a small text encoder.\n"
          "multiply-adds: of one iteration, there and back, as torch counts its matrix products. of peak: those a second over those of\n"
          "one large matrix product on the same device. peak GB: of the whole process on the CPU, allocated on a GPU; weights: of the prior.")
    show_targets(targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and targets there, too")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], metavar="N")
    parser.add_argument("--layers", type=int, default=LAYERS, metavar="N")
    parser.add_argument("--iterations", type=int, default=1, metavar="N", help="on the CPU (50 on a GPU)")
    add_devices(parser)
    options = parser.parse_args()
    ways = {"cpu": (torch.float32, options.iterations), "cuda": (torch.bfloat16, GPU_ITERATIONS)}
    rows = []
    for device in options.devices:
        kind, iterations = ways[device]
        prior, _ = real_width(options.layers, device, kind, EMBEDDING)
        density, peak = density_of(prior), gemm_peak(prior.transformer)
        rows += [measure(prior, density, batch, iterations, peak) for batch in tqdm(options.batches, desc=device, disable=None)]
        del prior
    targets = reached(rows)
    show(rows, targets)
    settings = {"threads": torch.get_num_threads(), "gpu": torch.cuda.is_available() and torch.cuda.get_device_name()}
    write_json(options.json, settings=settings, rows=rows, targets=targets)


if __name__ == "__main__":
    main()
