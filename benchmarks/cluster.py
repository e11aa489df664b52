"""What does a cluster cost? One and two workers on this machine, the engine's share of a shard, and the memory of the client.

    python benchmarks/cluster.py [--json FILE] [--rounds N] [--shards N]

Efficiency: samples of the miniature by one worker and by two, each bound to a core, in turns; the client and the engine's scheduler
have no core of their own. Overhead: tasks that do nothing. Memory: what a process gains, from the moment it is connected, while 200
shards of a small random Kandinsky of 1,280 dimensions are drawn and merged by two workers. From these figures, a table on paper of
10 million samples on 8 and 64 graphics cards. The files of the run, a gigabyte, are removed at the end.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rarity.density.files.store import load_density
from rarity.generators.cluster import connect, draw_baseline, shard_folder
from rarity.generators.cluster.shards import cut_samples
from rarity.generators.cluster.tasks import Job, describe, learn, merge_parts, merge_shards
from rarity.generators.cluster.tree import FAN
from rarity.generators.kandinsky.load import MINIATURE
from targets import show_targets, write_json

WIDTH, ROWS = 1280, 1024  # of the shards that the client's memory is measured with
CARD = 2.35 / 5000  # seconds an H200 takes for a sample, its noise included (prior_sampling.py)
SHARD = 4096
DISK = 1e9  # bytes a second that the shared disk is taken to write or read: 10 Gbit/s Ethernet
PROMPT = "a letter G"


def pin(client) -> None:
    """Bind each worker to a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    for number, worker in enumerate(sorted(client.scheduler_info(n_workers=-1)["workers"])):
        client.run(os.sched_setaffinity, 0, {cores[number % len(cores)]}, workers=[worker])


def efficiency(rounds: int, shards: int, folder: Path) -> dict:
    """Samples a second of one worker and of two; and the same from seconds of processors, which other programs hardly change.

    One worker has a core to itself, and the client the other one: it takes the worker's own seconds w_1. Two workers and the
    client share two cores: they take (w_2 + c_2) / 2 at least, so the efficiency is w_1 / (w_2 + c_2) at most.
    """
    rates, used = {1: [], 2: []}, {1: [], 2: []}
    with connect(workers=1) as one, connect(workers=2) as two:
        clients = {1: one, 2: two}
        for client in clients.values():
            pin(client)
            client.run(describe, Job(MINIATURE, {"prompt": PROMPT, "negative_prompt": ""}))  # each has its model then
        for seed in range(rounds):
            for workers, client in clients.items():
                out, size = folder / f"{workers} {seed}.safetensors", 256
                theirs, own, begun = sum(client.run(time.process_time).values()), time.process_time(), time.perf_counter()
                draw_baseline(MINIATURE, PROMPT, shards * size, out, client=client, seed=seed, shard=size, components=8)
                rates[workers].append(shards * size / (time.perf_counter() - begun))
                used[workers].append((sum(client.run(time.process_time).values()) - theirs, time.process_time() - own))
    (w1, _), (w2, c2) = ([statistics.median(part) for part in zip(*used[workers], strict=True)] for workers in (1, 2))
    one, two = (statistics.median(rates[workers]) for workers in (1, 2))
    return {"samples a second, 1 worker": one, "2 workers": two, "efficiency of two": two / (2 * one), "rounds": rates,
            "processor seconds, of workers and client": used, "efficiency of two, by processors": w1 / (w2 + c2)}


def overhead(tasks: int = 1000) -> float:
    """Seconds that the engine takes for a task that does nothing, as one worker does them."""
    from distributed import as_completed

    with connect(workers=1) as client:
        client.submit(len, (), pure=False).result()
        begun = time.perf_counter()
        for future in as_completed([client.submit(len, (), pure=False) for _ in range(tasks)], loop=client.loop):
            future.result()
        return (time.perf_counter() - begun) / tasks


def resident(what: str) -> float:
    """VmRSS is what is resident now, VmHWM the most since it was reset; in 10^6 bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024 / 1e6


def be_the_client(address: str, model: str, out: str, shards: int) -> None:
    """In a process of its own: draw, and print what was resident before, and the most there was."""
    with connect(address) as client:
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # resets the mark of the highest resident size
        draw_baseline(model, "a", shards * ROWS, out, client=client, steps=2, guidance=1.0, shard=ROWS, components=64)
        print(before, resident("VmHWM"))


def memory(shards: int, folder: Path) -> tuple[dict, dict]:
    """What the client's memory grows by; and seconds that merging takes, measured on the files it leaves."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    from tiny_kandinsky import build_tiny_kandinsky

    model, out = build_tiny_kandinsky(folder / "model", width=WIDTH), folder / "wide.safetensors"
    with connect(workers=2) as client:
        pin(client)
        begun = time.perf_counter()
        command = [sys.executable, __file__, "--client", client.scheduler.address, str(model), str(out), str(shards)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        took = time.perf_counter() - begun
    before, most = map(float, done.stdout.split())
    assert load_density(out).count == shards * ROWS
    return {"shards": shards, "rows": ROWS, "MB before": before, "MB gained": most - before, "seconds": took}, merging(model, out, shards)


def merging(model: Path, out: Path, shards: int) -> dict:
    """Seconds of one core: to merge a row into its group, two parts of all sizes into one, and to learn."""
    settings = {"prompt": "a", "negative_prompt": "", "seed": 0, "steps": 2, "guidance": 1.0}
    origin, _ = describe(Job(str(model), settings))
    pieces = cut_samples(0, shards * ROWS, ROWS)
    files = [(piece, shard_folder(out) / piece.name(origin)) for piece in pieces]
    import torch

    group, times, parts = 24, [], []
    for start in (0, group):
        begun = time.perf_counter()
        parts.append(merge_shards(files[start : start + group], origin, torch.empty(0, dtype=torch.int64)))
        times.append((time.perf_counter() - begun) / (group * ROWS))
    begun = time.perf_counter()
    merge_parts(parts)
    merged = time.perf_counter()
    learn(parts, origin, out.with_name("again.safetensors"), "ppca", 64, "")
    return {"a row": statistics.mean(times), "two parts": merged - begun, "learning": time.perf_counter() - merged}


def on_paper(count: int, cards: int, engine: float, merge: dict, cores: int = 8) -> dict:
    """Seconds that `count` samples take on so many cards, each beside `cores` cores, part by part: all but the last go on at once."""
    shards = count / SHARD
    written = shards * SHARD * (4 * WIDTH + 8)
    parts = {
        "drawing": count * CARD / cards,
        "merging, beside it": count * merge["a row"] / (cards * cores),
        "the shared disk, written and read": 2 * written / DISK,
        "the engine": (shards + shards / FAN) * engine,
    }
    groups, last = shards / FAN, merge["learning"]
    while groups > 1:  # each level of the tree waits for the one below it
        last, groups = last + FAN * merge["two parts"], groups / FAN
    total = max(parts.values()) + last
    longest = max(parts, key=parts.get)
    return {"cards": cards, **parts, "the last merges and learning": last, "all": total,
            "efficiency": count * CARD / cards / total, "what it waits for": longest}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and targets there, too")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of the comparison of one and two workers")
    parser.add_argument("--shards", type=int, default=200, metavar="N", help="of 1,280 dimensions")
    parser.add_argument("--client", nargs=4, help=argparse.SUPPRESS)  # ADDRESS MODEL OUT SHARDS: the process that is measured
    options = parser.parse_args(arguments)
    if options.client:
        address, model, out, shards = options.client
        return be_the_client(address, model, out, int(shards))
    with tempfile.TemporaryDirectory() as folder:
        speed = efficiency(options.rounds, 16, Path(folder))
        engine = overhead()
        client, merge = memory(options.shards, Path(folder))
    print(f"1 worker {speed['samples a second, 1 worker']:.0f}, 2 workers {speed['2 workers']:.0f} samples a second: an efficiency of "
          f"{speed['efficiency of two']:.2f}; of {speed['efficiency of two, by processors']:.2f} by seconds of processors")
    print(f"the engine takes {1000 * engine:.2f} ms a task; a client that holds {client['MB before']:.0f} MB when it is connected gains "
          f"{client['MB gained']:.0f} MB with {client['shards']} shards of {ROWS:,} x {WIDTH:,}, in {client['seconds']:.0f} s")
    print(f"merging takes a core {1e6 * merge['a row']:.0f} us a row, {merge['two parts']:.2f} s for two parts; learning "
          f"{merge['learning']:.1f} s")
    print("\nOn paper: 10 million samples of 1,280 dimensions, in seconds")
    rows = [on_paper(10_000_000, cards, engine, merge) for cards in (1, 8, 64)]
    for name in rows[0]:
        print(f"{name:36}", *(f"{row[name]:>34}" if isinstance(row[name], str) else f"{row[name]:34.4g}" for row in rows))
    targets = [
        {"name": "efficiency of two workers, of twice one", "value": speed["efficiency of two"], "reach": 0.85},
        {"name": "MB that the client gains with the shards", "value": client["MB gained"], "reach": 300},
    ]
    targets[0]["ok"], targets[1]["ok"] = targets[0]["value"] >= 0.85, targets[1]["value"] <= 300
    show_targets(targets)
    write_json(options.json, rows=[speed, {"engine, s a task": engine}, client, merge, *rows], targets=targets)


if __name__ == "__main__":
    main()
