"""The training of a miniature Kandinsky 2.2, whatever its world: letterforms or things.

Four stages: `encoders` (picture and text encoder), then `prior`; `autoencoder`, then `unet`. Every stage has a fixed number of steps and its own
seed, and saves a checkpoint as it goes: a stopped run continues where it was, with the same draws. A GPU is used where there is one.
"""
from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from miniature_parts import (
    WIDTH,
    make_autoencoder,
    make_decoder_scheduler,
    make_image_encoder,
    make_image_processor,
    make_prior,
    make_prior_scheduler,
    make_text_encoder,
    make_tokenizer,
    make_unet,
    tokenize,
)
from stage import DEVICE, OutOfTime, Stage
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

STAGES = ("encoders", "prior", "autoencoder", "unet")
log = logging.getLogger("training")


class Data(Protocol):
    """What a model learns from."""

    subject: Tensor  # [n], numbers of `plain`
    plain: list[str]  # the shortest caption of each subject

    def __len__(self) -> int: ...

    def pictures(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pictures [n, 3, 64, 64] in -1..1; moved a little when a generator is given."""

    def captions(self, rows: Tensor, generator: torch.Generator) -> tuple[list[str], dict[str, Tensor]]:
        """True captions, and what each of them asks for."""

    def agreement(self, rows: Tensor, asked: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Whether each picture [n] satisfies each caption [m], and whether that is known, as booleans [n, m]."""


@dataclass(frozen=True)
class World:
    """What differs between the models: their data, the sizes of their parts, and how long each stage learns."""

    name: str
    load: Callable[[Path], Data]  # from the folder of the work
    words: tuple[str, ...]
    steps: dict[str, int]
    batch: dict[str, int]
    rate: dict[str, float]
    output: Path
    decoder_defaults: dict[str, float]
    prior_defaults: dict[str, float | list[str]]
    seed: int = 2026
    patch: int = 16  # pixels, of the picture encoder
    latents: int = 8  # channels
    channels: tuple[int, int] = (64, 128)  # of the U-Net
    colours: int = 1  # channels of a picture that an embedding has to keep
    half_on_cpu: bool = True  # bfloat16 for the stages that make pictures; a processor that has none takes a hundred times as long

    def tokenizer(self, work: Path):
        return make_tokenizer(work / "tokenizer", self.words)

    def stage(self, name: str, module: nn.Module, work: Path, until: float) -> Stage:
        half = name in ("autoencoder", "unet") and (self.half_on_cpu or DEVICE == "cuda")
        return Stage(name, module, work, steps=self.steps[name], rate=self.rate[name], seed=self.seed, until=until, half=half)


class Encoders(nn.Module):
    """Picture and text encoder in one space, with the head that makes an embedding keep what a picture looks like."""

    def __init__(self, world: World, tokenizer):
        super().__init__()
        self.vision, self.text = make_image_encoder(world.patch), make_text_encoder(tokenizer)
        self.scale, self.bias = nn.Parameter(torch.tensor(2.3)), nn.Parameter(torch.tensor(-6.0))
        self.pixels = nn.Sequential(nn.Linear(WIDTH, 384), nn.SiLU(), nn.Linear(384, 384), nn.SiLU(), nn.Linear(384, world.colours * 32 * 32))


def train_encoders(world: World, data: Data, tokenizer, work: Path, until: float = math.inf) -> Encoders:
    """Sigmoid contrastive loss over which pictures satisfy which captions, zero-shot reading of the subject, and reconstruction from a noisy embedding."""
    torch.manual_seed(world.seed)
    stage = world.stage("encoders", Encoders(world, tokenizer), work, until)
    plain = tokenize(tokenizer, data.plain)[0].to(DEVICE)

    def loss(model: Encoders, generator: torch.Generator) -> dict[str, Tensor]:
        rows = torch.randint(len(data), (world.batch["encoders"],), generator=generator)
        texts, asked = data.captions(rows, generator)
        pictures = data.pictures(rows, generator)
        e = model.vision(pixel_values=pictures).image_embeds
        t = model.text(input_ids=torch.cat([tokenize(tokenizer, texts)[0].to(DEVICE), plain])).text_embeds
        cosine = F.normalize(e, dim=1) @ F.normalize(t, dim=1).T
        logits = model.scale.exp() * cosine[:, : len(rows)] + model.bias
        true, known = (m.to(DEVICE) for m in data.agreement(rows, asked))
        pairs = F.binary_cross_entropy_with_logits(logits, true.float(), reduction="none") * known
        noise = torch.randn(e.shape, generator=generator).to(DEVICE) * 0.15 * e.std().detach()
        target = 0.5 - 0.5 * F.avg_pool2d(pictures[:, : world.colours], 2)
        return {
            "pairs": pairs.sum(1).mean() * 0.5,
            "subject": F.cross_entropy(20 * cosine[:, len(rows) :], data.subject[rows].to(DEVICE)),
            "pixels": 20 * F.binary_cross_entropy_with_logits(model.pixels(e + noise).view_as(target), target.clamp(0, 1)),
            "size": 0.05 * (e.square().mean() - 1).square(),
        }

    return stage.run(loss)


def train_autoencoder(world: World, data: Data, work: Path, until: float = math.inf) -> nn.Module:
    """Reconstruction through latents with a little noise, so that the decoder forgives what the U-Net gets slightly wrong."""
    torch.manual_seed(world.seed + 1)
    stage = world.stage("autoencoder", make_autoencoder(world.latents), work, until)

    def loss(model, generator: torch.Generator) -> dict[str, Tensor]:
        x = data.pictures(torch.randint(len(data), (world.batch["autoencoder"],), generator=generator), generator)
        z = model.encode(x).latents
        noise = torch.randn(z.shape, generator=generator).to(DEVICE) * 0.1 * z.float().std((0, 2, 3), keepdim=True).detach()
        error = model.decoder(model.post_quant_conv(z + noise)).float() - x
        return {"l1": error.abs().mean(), "l2": 2 * error.square().mean(), "size": 1e-3 * z.float().square().mean()}

    return stage.run(loss)


@torch.no_grad()
def standardise_latents(world: World, model, data: Data) -> None:
    """Fold the latents' mean and spread into the 1 x 1 convolutions around them and fit the codebook; afterwards latents have unit variance."""
    from sklearn.cluster import MiniBatchKMeans

    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(world.seed))[:2000]
    z = torch.cat([model.encode(data.pictures(r)).latents for r in rows.split(250)])
    mean, spread = z.mean((0, 2, 3)), z.std((0, 2, 3))
    model.quant_conv.weight.div_(spread.view(-1, 1, 1, 1))
    model.quant_conv.bias.sub_(mean).div_(spread)
    after = model.post_quant_conv
    after.bias.add_((after.weight[..., 0, 0] * mean).sum(1))
    after.weight.mul_(spread.view(1, -1, 1, 1))
    points = ((z - mean.view(1, -1, 1, 1)) / spread.view(1, -1, 1, 1)).permute(0, 2, 3, 1).reshape(-1, world.latents).cpu().numpy()
    codes = MiniBatchKMeans(512, random_state=world.seed, n_init=1, batch_size=4096).fit(points).cluster_centers_
    model.quantize.embedding.weight.copy_(torch.from_numpy(codes))


@torch.no_grad()
def embed(vision, data: Data, batch: int = 500) -> Tensor:
    """Embeddings of all training pictures [n, 64]."""
    return torch.cat([vision(pixel_values=data.pictures(r)).image_embeds for r in torch.arange(len(data)).split(batch)])


def train_prior(world: World, data: Data, encoders: Encoders, tokenizer, work: Path, until: float = math.inf) -> nn.Module:
    """Predict the clean standardised embedding of a picture from a noisy one and a caption; one caption in ten is empty, for guidance."""
    torch.manual_seed(world.seed + 2)
    e = embed(encoders.vision, data)
    prior = make_prior()
    prior.clip_mean.data.copy_(e.mean(0, keepdim=True).cpu())
    prior.clip_std.data.copy_(e.std(0, keepdim=True).cpu())
    prior.clip_mean.requires_grad_(False)
    prior.clip_std.requires_grad_(False)
    clean = (e - e.mean(0)) / e.std(0)
    alphas = make_prior_scheduler().alphas_cumprod.to(DEVICE)
    stage = world.stage("prior", prior, work, until)
    known: dict[str, tuple[Tensor, ...]] = {}

    def encode(texts: list[str]) -> tuple[Tensor, ...]:
        new = sorted({t for t in texts if t not in known})
        if new:
            ids, mask = tokenize(tokenizer, new)
            with torch.no_grad():
                out = encoders.text(input_ids=ids.to(DEVICE))
            known.update({t: (out.text_embeds[i], out.last_hidden_state[i], mask[i].bool().to(DEVICE)) for i, t in enumerate(new)})
        return tuple(torch.stack(column) for column in zip(*(known[t] for t in texts), strict=True))

    def loss(model, generator: torch.Generator) -> dict[str, Tensor]:
        rows = torch.randint(len(data), (world.batch["prior"],), generator=generator)
        texts, _ = data.captions(rows, generator)
        empty = (torch.rand(len(rows), generator=generator) < 0.1).tolist()
        text, hidden, mask = encode(["" if drop else t for t, drop in zip(texts, empty, strict=True)])
        t = torch.randint(1000, (len(rows),), generator=generator).to(DEVICE)
        a = alphas[t][:, None]
        noisy = a.sqrt() * clean[rows] + (1 - a).sqrt() * torch.randn(len(rows), WIDTH, generator=generator).to(DEVICE)
        guess = model(noisy, timestep=t, proj_embedding=text, encoder_hidden_states=hidden, attention_mask=mask).predicted_image_embedding
        return {"clean": (guess - clean[rows]).square().mean()}

    return stage.run(loss)


def train_unet(world: World, data: Data, encoders: Encoders, autoencoder, work: Path, until: float = math.inf) -> nn.Module:
    """Predict velocity in latents from an embedding with a little noise on it (rare embeddings are drawn cleanly); one in ten is the null embedding."""
    torch.manual_seed(world.seed + 3)
    e = embed(encoders.vision, data)
    spread = e.std(0, keepdim=True)
    with torch.no_grad():
        null = encoders.vision(pixel_values=torch.zeros(1, 3, 64, 64, device=DEVICE)).image_embeds
        z = torch.cat([autoencoder.encode(data.pictures(r)).latents for r in torch.arange(len(data)).split(250)])
    alphas = make_decoder_scheduler().alphas_cumprod.to(DEVICE)
    stage = world.stage("unet", make_unet(world.latents, world.channels), work, until)

    def loss(model, generator: torch.Generator) -> dict[str, Tensor]:
        n = world.batch["unet"]
        rows = torch.randint(len(data), (n,), generator=generator)
        level = torch.rand(n, 1, generator=generator) * 0.3
        condition = e[rows] + (level * torch.randn(n, WIDTH, generator=generator)).to(DEVICE) * spread
        condition = torch.where((torch.rand(n, 1, generator=generator) < 0.1).to(DEVICE), null, condition)
        t = torch.randint(1000, (n,), generator=generator).to(DEVICE)
        a = alphas[t].view(-1, 1, 1, 1)
        noise = torch.randn(n, world.latents, 8, 8, generator=generator).to(DEVICE)
        noisy, velocity = a.sqrt() * z[rows] + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * z[rows]
        guess = model(noisy, t, encoder_hidden_states=None, added_cond_kwargs={"image_embeds": condition}).sample
        return {"velocity": (guess[:, : world.latents].float() - velocity).square().mean()}

    return stage.run(loss)


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
    return all(finished(world, work, name) >= 1 for name in STAGES)


class _First:
    """The first pictures of a world's data."""

    def __init__(self, data: Data, count: int):
        self.data, self.count = data, count

    def __len__(self) -> int:
        return min(self.count, len(self.data))

    def __getattr__(self, name: str):
        return getattr(self.data, name)


def print_budget(world: World, work: Path, steps: int = 12) -> None:
    """Measure a few steps of every stage on this machine, and print how long all of them take; the work is left as it is."""
    data, tokenizer, seconds = _First(world.load(work), 2000), world.tokenizer(work), {}
    torch.set_num_threads(1)
    few = replace(world, steps=dict.fromkeys(STAGES, steps))
    encoders, autoencoder = Encoders(few, tokenizer).to(DEVICE), make_autoencoder(few.latents).to(DEVICE)
    trials = {
        "encoders": lambda folder: train_encoders(few, data, tokenizer, folder),
        "prior": lambda folder: train_prior(few, data, encoders, tokenizer, folder),
        "autoencoder": lambda folder: train_autoencoder(few, data, folder),
        "unet": lambda folder: train_unet(few, data, encoders, autoencoder, folder),
    }
    for name, trial in trials.items():
        with tempfile.TemporaryDirectory() as folder:
            wall, busy = _seconds_a_step(trial, Path(folder))
        seconds[name] = wall
        print(
            f"{name:12} {wall:6.3f} s a step ({busy:6.3f} s of the processor) x {world.steps[name]:6} steps = {wall * world.steps[name] / 3600:5.2f} h "
            f"({busy * world.steps[name] / 3600:5.2f} h), {1 - finished(world, work, name):4.0%} of them left"
        )
    whole = [sum(seconds[name] * world.steps[name] for name in branch) / 3600 for branch in (STAGES[:2], STAGES[2:])]
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
        "autoencoder": make_autoencoder(world.latents),
        "prior": make_prior(),
        "unet": make_unet(world.latents, world.channels),
    }
    for name, module in modules.items():
        module.load_state_dict(torch.load(work / f"{name}.pt", map_location="cpu", weights_only=True)["averaged"])
        module.eval()
    standardise_latents(world, modules["autoencoder"], data)
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
