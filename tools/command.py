"""The command that trains a world: its stages on one core or two, until they are finished or the time is up; their budget; the finished model."""
from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from miniature_parts import (
    make_decoder_scheduler,
    make_image_processor,
    make_prior,
    make_prior_scheduler,
    make_unet,
)
from stage import DEVICE, OutOfTime
from torch.optim.optimizer import register_optimizer_step_post_hook
from training import (
    Data,
    Encoders,
    World,
    standardise_latents,
    train_autoencoder,
    train_decoder,
    train_encoders,
    train_prior,
    train_unet,
)

log = logging.getLogger("training")


def run_branch(branch: str, world: World, work: Path, until: float = math.inf) -> None:
    """One core's share of the training: `text` (encoders, then prior) or `pictures` (autoencoder, then U-Net)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    data, tokenizer = world.load(work), world.tokenizer(work)
    try:
        if branch == "text":
            train_prior(world, data, train_encoders(world, data, tokenizer, work, until), tokenizer, work, until)
            return
        autoencoder = train_autoencoder(world, data, work, until)
        standardise_latents(world, autoencoder, data)
        if "decoder" in world.steps:
            autoencoder = train_decoder(world, data, autoencoder, work, until)
        while finished(world, work, "encoders") < 1:
            if time.time() > until:
                raise OutOfTime("the U-Net waits for the encoders")
            time.sleep(2)
        train_unet(world, data, train_encoders(world, data, tokenizer, work), autoencoder, work, until)
    except OutOfTime as stopped:
        log.info("%s; the same command goes on from there", stopped)


def finished(world: World, work: Path, name: str) -> float:
    """How far a stage has come, 0 to 1, by its checkpoint."""
    path = work / f"{name}.pt"
    return torch.load(path, map_location="cpu", weights_only=True)["step"] / world.steps[name] if path.exists() else 0.0


def run_stages(world: World, work: Path, *, cores: int = 2, until: float = math.inf) -> bool:
    """All stages, on two cores side by side or on one; returns whether they are finished."""
    if cores == 1:
        for branch in ("text", "pictures"):
            run_branch(branch, world, work, until)
    else:
        spawn = torch.multiprocessing.get_context("spawn").Process
        branches = [spawn(target=run_branch, args=(branch, world, work, until)) for branch in ("text", "pictures")]
        for process in branches:
            process.start()
        for process in branches:
            process.join()
        if any(process.exitcode for process in branches):
            raise SystemExit("a training branch failed; run the same command again to continue from its last checkpoint")
    return all(finished(world, work, name) >= 1 for name in world.steps)


class _First:
    """The first pictures of a world's data."""

    def __init__(self, data: Data, count: int):
        self.data, self.count = data, count

    def __len__(self) -> int:
        return min(self.count, len(self.data))

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return self.data.draw(count, generator) % len(self)

    def __getattr__(self, name: str):
        return getattr(self.data, name)


def print_budget(world: World, work: Path, steps: int = 12, pictures: int = 2000) -> None:
    """Measure a few steps of every stage on this machine, with the first pictures, and print how long all of them take; the work is left as it is."""
    data, tokenizer, seconds = _First(world.load(work), pictures), world.tokenizer(work), {}
    torch.set_num_threads(1)
    few = replace(world, steps=dict.fromkeys(world.steps, steps))
    encoders, autoencoder = Encoders(few, tokenizer).to(DEVICE), few.autoencoder().to(DEVICE)
    trials = {
        "encoders": lambda folder: train_encoders(few, data, tokenizer, folder),
        "prior": lambda folder: train_prior(few, data, encoders, tokenizer, folder),
        "autoencoder": lambda folder: train_autoencoder(few, data, folder),
        "decoder": lambda folder: train_decoder(few, data, autoencoder, folder),
        "unet": lambda folder: train_unet(few, data, encoders, autoencoder, folder),
    }
    for name in world.steps:
        with tempfile.TemporaryDirectory() as folder:
            wall, busy = _seconds_a_step(trials[name], Path(folder))
        seconds[name] = wall
        print(
            f"{name:12} {wall:6.3f} s a step ({busy:6.3f} s of the processor) x {world.steps[name]:6} steps = {wall * world.steps[name] / 3600:5.2f} h "
            f"({busy * world.steps[name] / 3600:5.2f} h), {1 - finished(world, work, name):4.0%} of them left"
        )
    text = {"encoders", "prior"}
    whole = [sum(seconds[name] * world.steps[name] for name in branch) / 3600 for branch in (text, world.steps.keys() - text)]
    print(f"one core each: {whole[0]:.2f} h and {whole[1]:.2f} h; on one core {sum(whole):.2f} h")


def _seconds_a_step(trial: Callable[[Path], object], folder: Path) -> tuple[float, float]:
    """The median seconds of a step by the clock, and those that the processor worked on it; from one step of the optimiser to the next."""
    times: list[tuple[float, float]] = []
    hook = register_optimizer_step_post_hook(lambda *_: times.append((time.perf_counter(), time.process_time())))
    try:
        trial(folder)
    finally:
        hook.remove()
    wall, busy = torch.tensor(times, dtype=torch.float64).diff(dim=0).median(0).values.tolist()
    return wall, busy


def export(world: World, work: Path, output: Path) -> None:
    """Write both halves as ordinary diffusers pipeline folders, weights in float16, from the checkpoints in `work`."""
    from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline

    data, tokenizer = world.load(work), world.tokenizer(work)
    modules = {
        "encoders": Encoders(world, tokenizer),
        "autoencoder": world.autoencoder(),
        "prior": make_prior(),
        "unet": make_unet(world.latents, world.channels),
    }
    for name, module in modules.items():
        module.load_state_dict(torch.load(work / f"{name}.pt", map_location="cpu", weights_only=True)["averaged"])
        module.eval()
    standardise_latents(world, modules["autoencoder"], data)
    if "decoder" in world.steps:  # finished, so it only reads what it has learnt
        train_decoder(world, data, modules["autoencoder"], work).eval()
    encoders = modules["encoders"]
    prior = KandinskyV22PriorPipeline(
        prior=modules["prior"].half(),
        image_encoder=encoders.vision.half(),
        text_encoder=encoders.text.half(),
        tokenizer=tokenizer,
        scheduler=make_prior_scheduler(),
        image_processor=make_image_processor(),
    )
    decoder = KandinskyV22Pipeline(unet=modules["unet"].half(), scheduler=make_decoder_scheduler(), movq=modules["autoencoder"].half())
    prior.save_pretrained(output / "prior")
    for name in ("vocab.json", "merges.txt"):  # which transformers 4 reads, and 5 no longer writes
        shutil.copy(work / "tokenizer" / name, output / "prior" / "tokenizer" / name)
    decoder.save_pretrained(output / "decoder")
    (output / "prior" / "rarity.json").write_text(json.dumps(world.prior_defaults) + "\n")
    (output / "decoder" / "rarity.json").write_text(json.dumps(world.decoder_defaults) + "\n")
    size = sum(p.stat().st_size for p in output.rglob("*") if p.is_file()) / 1e6
    log.info("wrote %s, %.1f MB", output, size)


def main(
    world: World,
    description: str,
    source: str,
    make_data: Callable[[argparse.Namespace], object],
    quick: World | None = None,
    judge: Callable[[argparse.Namespace], None] | None = None,
) -> None:
    """The command that trains a world: `source` names the option for a folder of sources, of which `make_data` makes what `world.load` reads.

    `quick` is the same world with hardly any steps; `judge` trains and tests what reads the pictures, after all stages.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "rarity" / world.name, help="folder for sources, data and checkpoints")
    parser.add_argument(f"--{source}", dest="sources", type=Path, help="folder of unpacked sources, instead of downloading them")
    parser.add_argument("--output", type=Path, default=world.output, help="where the finished model goes")
    parser.add_argument("--export", action="store_true", help="only write the model from the checkpoints there are")
    parser.add_argument("--budget", action="store_true", help="only measure a few steps of each stage, and say how long all take")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop at a checkpoint after so many minutes; the same command goes on")
    parser.add_argument("--cores", type=int, choices=(1, 2), default=2, help="train the two branches one after the other, or side by side")
    parser.add_argument("--quick", action="store_true", help="hardly any steps, in WORK/quick: shows that everything runs, and draws nothing")
    arguments = parser.parse_args()
    if arguments.quick and quick is None:
        parser.error("this model has no --quick")
    if arguments.quick:  # beside the real work, which it leaves as it is
        world, arguments.work = quick, arguments.work / "quick"
        arguments.output = arguments.work / "model"
    until = time.time() + 60 * arguments.minutes
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    arguments.work.mkdir(parents=True, exist_ok=True)
    make_data(arguments)
    if arguments.budget:
        print_budget(world, arguments.work)
    elif arguments.export or run_stages(world, arguments.work, cores=arguments.cores, until=until):
        export(world, arguments.work, arguments.output)
        if judge:
            judge(arguments)
