"""Does the local score machine make what a trained network makes from the same noise? What does it cost? Are its pictures new?

    python benchmarks/local_score.py [--json FILE] [--minutes M] [--skip-networks] [--skip-speed]

Small ResNets with zero and with circular padding learn to denoise scikit-learn's digits and letterforms that the built-in miniature
draws. Network, score machine and ideal score then go from the same noise through the same DDIM steps. The patch size of each step is
calibrated on other noise, as published: the one whose estimate is nearest to the network's on the network's own path.

How new pictures are is read on the sixty bags that ship with the pack, at several scales of the patches.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import time
from pathlib import Path

import torch
from rarity.generators.eyes.picture_folder import load_pictures
from rarity.generators.kandinsky.load import load_kandinsky
from rarity.generators.local_score.cost import work
from rarity.generators.local_score.machine import LocalScore
from rarity.generators.local_score.new_pictures import BAGS, Recipe, new_pictures
from rarity.generators.local_score.noise_levels import ddim_step, signal_share, times
from rarity.generators.local_score.patch_origins import patch_origins
from rarity.generators.local_score.patch_schedules import scaled
from targets import show_targets, write_json
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, unfold
from tqdm import tqdm

STEPS, PICTURES, CALIBRATION = 20, 50, 8
MACHINES = {"zeros": "boundary-broken", "circular": "equivariant"}
PAPER = "The paper reports 0.94 for MNIST and a ResNet, 0.61 for the ideal score (Pearson's r by their script)."


class ResNet(nn.Module):
    """Denoiser of 3 x 3 convolutions in residual blocks; it is told the time through each block's bias.

    It estimates v = a eps - s x0, so that x0 = a x - s v (a, s the shares of signal and noise in amplitude): well conditioned at both ends
    of the schedule (Salimans and Ho 2022, arXiv 2202.00512).
    """

    def __init__(self, channels: int, width: int, blocks: int, padding: str):
        super().__init__()

        def conv(a, b):
            return nn.Conv2d(a, b, 3, padding=1, padding_mode=padding)

        self.first, self.last = conv(channels, width), conv(width, channels)
        self.blocks = nn.ModuleList(conv(width, width) for _ in range(blocks))
        self.times = nn.ModuleList(
            nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(blocks)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        waves = t[:, None] * math.pi * 2.0 ** torch.arange(-1, 7)
        told = torch.cat([waves.sin(), waves.cos()], dim=1)
        state = self.first(x)
        for conv, time_of in zip(self.blocks, self.times, strict=True):
            state = state + conv(torch.relu(state + time_of(told)[:, :, None, None]))
        return self.last(torch.relu(state))

    def estimate(self, x: Tensor, t: float) -> Tensor:
        """The clean pictures expected from x."""
        signal = signal_share(t)
        with torch.no_grad():
            v = self(x, torch.full((len(x),), t))
        return math.sqrt(signal) * x - math.sqrt(1 - signal) * v


def train(sources: Tensor, padding: str, minutes: float, seed: int, width: int, blocks: int) -> tuple[ResNet, dict]:
    """Adam with a cosine learning rate that ends when the time does; the average of the last weights."""
    torch.manual_seed(seed)
    net = ResNet(sources.shape[1], width, blocks, padding)
    average = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995))
    adam = torch.optim.Adam(net.parameters(), lr=2e-3)
    began, step, losses = time.process_time(), 0, []
    bar = tqdm(total=round(60 * minutes), desc=f"ResNet, {padding}", disable=None)
    while (spent := (time.process_time() - began) / (60 * minutes)) < 1:
        for group in adam.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * spent))
        y = sources[torch.randint(len(sources), (64,))]
        t = torch.rand(64)
        signal = (torch.cos(t / 1.008 * math.pi / 2) ** 2)[:, None, None, None]
        noise = torch.randn_like(y)
        a, s = signal.sqrt(), (1 - signal).sqrt()
        loss = (net(a * y + s * noise, t) - (a * noise - s * y)).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        average.update_parameters(net)
        losses.append(loss.item())
        step += 1
        bar.update(round(60 * minutes * spent) - bar.n)
    bar.close()
    return average.module.eval(), {"training steps": step, "loss": statistics.mean(losses[-200:])}


def draw(estimate, noise: Tensor) -> Tensor:
    """DDIM with any estimate(x, time, step)."""
    x, moments = noise, [*times(STEPS), 0.0]
    for i in range(STEPS):
        x = ddim_step(x, estimate(x, moments[i], i), moments[i], moments[i + 1])
    return x


def calibrate(net: ResNet, machine: LocalScore, noise: Tensor) -> list[int]:
    """The patch size of each step whose noise estimate has the highest cosine with the network's along its path, median over samples."""
    side = machine.sources.shape[2]
    sizes = range(1, (side if machine.kind == "equivariant" else 2 * side - 1) + 1, 2)
    x, moments, chosen = noise, [*times(STEPS), 0.0], []
    for i in tqdm(range(STEPS), desc="calibration", disable=None):
        theirs, signal = net.estimate(x, moments[i]), signal_share(moments[i])
        cosines = []
        for size in sizes:
            ours = machine.estimate(x, signal, size)
            one, other = ((x - math.sqrt(signal) * m).flatten(1) for m in (theirs, ours))
            cosines.append(torch.cosine_similarity(one, other))
        chosen.append(sizes[int(torch.stack(cosines).argmax(dim=0).median())])
        x = ddim_step(x, theirs, moments[i], moments[i + 1])
    return chosen


def correlations(one: Tensor, other: Tensor) -> list[float]:
    """Pearson's r of each pair of pictures over their pixels."""
    rows = [(x - x.mean(dim=(1, 2, 3), keepdim=True)).flatten(1) for x in (one, other)]
    return torch.cosine_similarity(*rows).tolist()


def compare(name: str, sources: Tensor, padding: str, options) -> dict:
    net, training = train(sources, padding, options.minutes, 0, options.width, options.blocks)
    shape = sources.shape[1:]
    g = torch.Generator().manual_seed(1)
    learn, noise = torch.randn(CALIBRATION, *shape, generator=g), torch.randn(PICTURES, *shape, generator=g)
    theirs = draw(lambda x, t, i: net.estimate(x, t), noise)
    row = {"pictures": name, "padding": padding, **training}
    for kind in (MACHINES[padding], "local", "ideal"):
        machine = LocalScore(sources, kind, wrap_sources=padding == "circular", tolerance=0.0)
        patches = calibrate(net, machine, learn) if kind != "ideal" else [1] * STEPS
        found = correlations(theirs, machine.sample(noise, patches))
        r = statistics.median(found)
        row[kind] = {
            "r": r,
            "r2": statistics.median(v * v for v in found),
            "patches": patches if kind != "ideal" else None,
        }
    return row


def digits() -> Tensor:
    from sklearn.datasets import load_digits

    return torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1


def letterforms(count: int, side: int) -> Tensor:
    prior, decoder = load_kandinsky()
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    each = -(-count // len(letters))
    rows = [
        decoder.decode(prior.sample(f"a letter {c}", each, seed=i), seed=i)
        for i, c in enumerate(tqdm(letters, desc="letterforms", disable=None))
    ]
    grey = torch.cat(rows).mean(dim=-1)[:, None]
    return interpolate(grey, size=(side, side), mode="area") * 2 - 1


def literal_step(x: Tensor, sources: Tensor, signal: float, patch: int, rows: int) -> Tensor:
    """The interior of the boundary-broken machine as its formula stands: every difference of every pixel of every patch; `rows` pixels."""
    a, v = math.sqrt(signal), 1 - signal
    mine = unfold(x, patch)[0].T[:rows]
    top, total, mixed = torch.full((rows, 1), -math.inf), torch.zeros(rows, 1), torch.zeros(rows, x.shape[1])
    middle = [c * patch * patch + patch * patch // 2 for c in range(x.shape[1])]
    for source in sources:
        theirs = unfold(source[None], patch)[0].T
        for block in theirs.split(max(1, 4_000_000 // (rows * theirs.shape[1]))):
            exponents = -(mine[:, None] - a * block).square().sum(dim=2) / (2 * v)
            new = torch.maximum(top, exponents.amax(dim=1, keepdim=True))
            weights = torch.exp(exponents - new)
            fade = torch.exp(top - new)
            total, mixed, top = (
                total * fade + weights.sum(dim=1, keepdim=True),
                mixed * fade + weights @ block[:, middle],
                new,
            )
    return mixed / total


def by_shifts(x: Tensor, sources: Tensor, signal: float, patch: int) -> Tensor:
    """The same interior, one shift between picture and source at a time: squared differences of all pixels, then box sums over the patch."""
    a, v, reach = math.sqrt(signal), 1 - signal, patch // 2
    side, (height, width) = patch - 1, x.shape[2:]
    n, m = height - side, width - side
    top, total = torch.full((n, m), -math.inf), torch.zeros(n, m)
    mixed = torch.zeros(x.shape[1], n, m)
    for source in sources:
        for dy in range(1 - n, n):
            for dx in range(1 - m, m):
                rows, columns = slice(max(0, -dy), min(n, n - dy)), slice(max(0, -dx), min(m, m - dx))
                ys, xs = slice(rows.start, rows.stop + side), slice(columns.start, columns.stop + side)
                theirs = source[:, ys.start + dy : ys.stop + dy, xs.start + dx : xs.stop + dx]
                squares = (x[0, :, ys, xs] - a * theirs).square().sum(dim=0)
                boxes = avg_pool2d(squares[None, None], patch, 1, divisor_override=1)[0, 0]
                exponents, here = boxes / (-2 * v), (rows, columns)
                new = torch.maximum(top[here], exponents)
                weight, fade = torch.exp(exponents - new), torch.exp(top[here] - new)
                middle = theirs[:, reach : reach + boxes.shape[0], reach : reach + boxes.shape[1]]
                total[here] = total[here] * fade + weight
                mixed[:, rows, columns] = mixed[:, rows, columns] * fade + weight * middle
                top[here] = new
    return (mixed / total).flatten(1).T


def by_fft(x: Tensor, sources: Tensor, signal: float, patch: int) -> Tensor:
    """The same interior, one patch of the sources at a time (in batches): its correlation with the whole picture by FFT."""
    a, v, size = math.sqrt(signal), 1 - signal, x.shape[2:]
    n, m = size[0] - patch + 1, size[1] - patch + 1
    mine = avg_pool2d(x.square().sum(dim=1, keepdim=True), patch, 1, divisor_override=1).flatten()
    spectrum = torch.fft.rfft2(x)
    top, total, mixed = torch.full((n * m, 1), -math.inf), torch.zeros(n * m, 1), torch.zeros(n * m, x.shape[1])
    for source in sources:
        theirs = unfold(source[None], patch)[0].T.reshape(-1, x.shape[1], patch, patch)
        for block in theirs.split(256):
            product = (spectrum * torch.fft.rfft2(block, size).conj()).sum(dim=1)
            alike = torch.fft.irfft2(product, size)[:, :n, :m].flatten(1).T
            far = mine[:, None] - 2 * a * alike + a * a * block.square().sum(dim=(1, 2, 3))
            exponents = far / (-2 * v)
            new = torch.maximum(top, exponents.amax(dim=1, keepdim=True))
            weights, fade = torch.exp(exponents - new), torch.exp(top - new)
            total, top = total * fade + weights.sum(dim=1, keepdim=True), new
            mixed = mixed * fade + weights @ block[:, :, patch // 2, patch // 2]
    return mixed / total


def photographs(count: int, side: int) -> Tensor:
    """Crops of the two photographs that come with scikit-learn, in RGB."""
    from sklearn.datasets import load_sample_image

    g = torch.Generator().manual_seed(0)
    whole = [
        torch.from_numpy(load_sample_image(name).copy()).float().permute(2, 0, 1) / 127.5 - 1
        for name in ("china.jpg", "flower.jpg")
    ]
    crops = []
    for i in range(count):
        picture = whole[i % 2]
        row, column = (int(torch.randint(size - side, (1,), generator=g)) for size in picture.shape[1:])
        crops.append(picture[:, row : row + side, column : column + side])
    return torch.stack(crops)


def speed(counts, sides, peak: float) -> list[dict]:
    rows = []
    for side in sides:
        patches = scaled("photographs", side, side, STEPS)
        for count in counts:
            sources = photographs(count, side)
            for kind, limit in (("local", None), ("boundary-broken", 20_000)):
                machine = LocalScore(sources, kind, limit)
                noise, done = machine.noise(1, 0), []
                began = time.process_time()
                x, moments = noise, [*times(STEPS), 0.0]
                for i, patch in enumerate(patches):
                    x = ddim_step(
                        x, machine.estimate(x, signal_share(moments[i]), patch, done.append), moments[i], moments[i + 1]
                    )
                spent = time.process_time() - began
                parts = work(machine, 1, patches)
                rows.append(
                    {
                        "sources": count,
                        "side": side,
                        "machine": kind,
                        "patches": limit,
                        "seconds": spent,
                        "multiply-adds": sum(done),
                        "literal multiply-adds": parts["literal"],
                        "literal at peak, seconds": parts["literal"] / peak,
                        "memory, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                    }
                )
                tqdm.write(str(rows[-1]))
    return rows


def against_literal() -> list[dict]:
    """Seconds of the formula written out, and of two other fast forms, beside ours: one step of 4 sources at three noise levels."""
    from rarity.generators.local_score.patches import interior
    from rarity.generators.local_score.score_machines import _mix

    rows, sources = [], photographs(20, 64)
    for t, patch in ((0.9, 33), (0.5, 15), (0.2, 7)):
        region, signal = interior(64, 64, patch), signal_share(t)
        g = torch.Generator().manual_seed(2)
        x = math.sqrt(signal) * sources[:1] + math.sqrt(1 - signal) * torch.randn(sources[:1].shape, generator=g)
        asked = min(64, region.pixels)
        began = time.process_time()
        slow = literal_step(x, sources[:4], signal, patch, asked)
        middle = time.process_time()
        few = _mix(x, region, sources[:4], region, signal, None, 0, 0.1, None)
        spent = time.process_time() - middle
        literal = (middle - began) * region.pixels / asked
        others = {}
        for name, form in (("box sums over shifts", by_shifts), ("FFT", by_fft)):
            began = time.process_time()
            form(x, sources[:1], signal, patch)
            others[f"{name}, seconds"] = 4 * (time.process_time() - began)
        rows.append(
            {
                "time": t,
                "patch": patch,
                "literal, seconds": literal,
                "ours, seconds": spent,
                **others,
                "ratio": literal / spent,
                "difference": float((few[:asked] - slow).square().mean().sqrt()),
            }
        )
    return rows


def how_new(scales=(0.5, 0.8, 1.0, 1.3, 1.6), count: int = 64) -> list[dict]:
    """New bags from the sixty, pieces from the same place, sizes as for drawings: how much of each is from one source, how many are copies.

    A copy differs from its nearest source by less than 0.05 in root mean square, 1 from black to white.
    """
    bags, rows = load_pictures(BAGS).images, []
    for scale in scales:
        made = new_pictures(bags, count, Recipe("local", "drawings", scale), seed=1)
        most = patch_origins(made, bags, 15, moved=False).shares().amax(dim=1)
        nearest = torch.cdist(made.flatten(1), bags.flatten(1)).amin(dim=1) / math.sqrt(made[0].numel())
        rows.append({
            "scale": scale, "largest share of one source, median": float(most.median()), "more than half from one source": float((most > 0.5).float().mean()),
            "copies": float((nearest < 0.05).float().mean()),
        })
    return rows


def peak_rate() -> float:
    """Multiply-adds a second of one large product."""
    a = torch.randn(1024, 1024)
    best = math.inf
    for _ in range(5):
        began = time.process_time()
        a @ a
        best = min(best, time.process_time() - began)
    return 1024**3 / best


def reached(networks: list[dict], fast: list[dict], quick: list[dict]) -> list[dict]:
    asked = []
    for row in networks:
        kind = MACHINES[row["padding"]]
        best = max((kind, "local"), key=lambda name: row[name]["r"])
        asked.append(
            (
                f"{row['pictures']}, {row['padding']} padding: median r of the {best} machine with the network "
                f"(ideal score: {row['ideal']['r']:.2f})",
                row[best]["r"],
                0.9,
                row[best]["r"] >= 0.9,
            )
        )
    if fast:
        worst = min(row["ratio"] for row in fast)
        asked.append(
            ("seconds of the formula written out over ours, the least of three noise levels", worst, 10, worst >= 10)
        )
    if quick:
        memory = max(row["memory, GB"] for row in quick)
        asked.append(("memory of the whole run, GB", memory, 2, memory < 2))
    return [{"name": name, "value": value, "reach": reach, "ok": bool(ok)} for name, value, reach, ok in asked]


def show(networks: list[dict], fast: list[dict], quick: list[dict], new: list[dict], targets: list[dict]) -> None:
    print(
        f"\nMedian over {PICTURES} pictures of Pearson's r (in brackets r^2) with the network's from the same noise, {STEPS} DDIM steps. {PAPER}"
    )
    for row in networks:
        cells = "".join(
            f"  {name} {row[name]['r']:.3f} ({row[name]['r2']:.3f})"
            for name in (MACHINES[row["padding"]], "local", "ideal")
        )
        print(f"{row['pictures']:14}{row['padding']:10}{cells}   ({row['training steps']} training steps)")
        print(f"{'':24}patches, noise first: {row[MACHINES[row['padding']]]['patches']}")
    for rows, heading in (
        (quick, "One picture of 20 steps, photographs in RGB, on one core (processor time):"),
        (fast, "One step, the formula written out against ours:"),
        (new, "64 new bags from sixty, shares of the pictures:"),
    ):
        if rows:
            print(f"\n{heading}")
            for row in rows:
                print(
                    "  "
                    + "  ".join(
                        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                        for name, value in row.items()
                    )
                )
    print()
    show_targets(targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and targets there, too")
    parser.add_argument(
        "--minutes", type=float, default=4.0, metavar="M", help="processor time to train each of the four networks"
    )
    parser.add_argument("--width", type=int, default=48, metavar="N", help="channels of the networks")
    parser.add_argument("--blocks", type=int, default=4, metavar="N", help="residual blocks of the networks")
    parser.add_argument("--letters", type=int, default=520, metavar="N", help="letterforms to learn from")
    parser.add_argument("--only", choices=("digits", "letterforms"), help="networks on these pictures only")
    parser.add_argument("--skip-networks", action="store_true", help="leave out the networks")
    parser.add_argument("--skip-speed", action="store_true", help="leave out seconds and memory")
    options = parser.parse_args()
    torch.set_num_threads(1)  # small convolutions; threads that wait for each other cost more than they bring
    networks = []
    if not options.skip_networks:
        makers = {"digits": digits, "letterforms": lambda: letterforms(options.letters, 16)}
        for name, make in makers.items():
            if options.only in (None, name):
                sources = make()
                networks += [compare(name, sources, padding, options) for padding in MACHINES]
    quick, fast = [], []
    if not options.skip_speed:
        quick, fast = speed((100, 1000), (64, 128), peak_rate()), against_literal()
    new, targets = how_new(), reached(networks, fast, quick)
    show(networks, fast, quick, new, targets)
    settings = {"steps": STEPS, "pictures": PICTURES, "minutes": options.minutes, "width": options.width, "blocks": options.blocks}
    rows = {"networks": networks, "speed": quick, "literal": fast, "bags": new}
    write_json(options.json, settings=settings, rows=rows, targets=targets)


if __name__ == "__main__":
    main()
