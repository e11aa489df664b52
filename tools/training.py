"""The training of a miniature Kandinsky 2.2, whatever its world: letterforms or things.

Stages: `encoders` (picture and text encoder), then `prior`; `autoencoder`, then `decoder` where a world asks for it, and `unet`. Each
has a fixed number of steps and its own seed, and saves a checkpoint as it goes: a stopped run continues where it was, with the same draws.
A GPU is used where there is one.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from miniature_parts import (
    WIDTH,
    make_autoencoder,
    make_decoder_scheduler,
    make_image_encoder,
    make_prior,
    make_prior_scheduler,
    make_text_encoder,
    make_tokenizer,
    make_unet,
    tokenize,
)
from stage import DEVICE, Stage
from torch import Tensor, nn
from torch.nn import functional as F


class Data(Protocol):
    """What a model learns from."""

    subject: Tensor  # [n], numbers of `plain`
    plain: list[str]  # the shortest caption of each subject

    def __len__(self) -> int: ...

    def pictures(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pictures [n, 3, 64, 64] in -1..1; moved a little when a generator is given."""

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Rows to learn from next, [count]."""

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
    autoencoder_channels: tuple[int, int, int, int] = (16, 32, 48, 64)  # at 64, 32, 16 and 8 pixels
    autoencoder_groups: int = 16  # of channels that are normalised together
    colours: int = 1  # channels of a picture that an embedding has to keep
    half_on_cpu: bool = True  # bfloat16 for the stages that make pictures; a processor that has none takes a hundred times as long

    def autoencoder(self) -> nn.Module:
        model = make_autoencoder(self.latents, self.autoencoder_channels, self.autoencoder_groups)
        if self.colours > 1:  # hue varies less than brightness: what first sees a picture sees it as strongly
            weight = model.encoder.conv_in.weight.data
            brightness = weight.mean(1, keepdim=True)
            weight.copy_(brightness + 4 * (weight - brightness))
        return model

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
        rows = data.draw(world.batch["encoders"], generator)
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
    stage = world.stage("autoencoder", world.autoencoder(), work, until)

    def loss(model, generator: torch.Generator) -> dict[str, Tensor]:
        x = data.pictures(data.draw(world.batch["autoencoder"], generator), generator)
        z = model.encode(x).latents
        noise = torch.randn(z.shape, generator=generator).to(DEVICE) * 0.1 * z.float().std((0, 2, 3), keepdim=True).detach()
        error = model.decoder(model.post_quant_conv(z + noise)).float() - x
        terms = {"l1": error.abs().mean(), "l2": 2 * error.square().mean(), "size": 1e-3 * z.float().square().mean()}
        if world.colours > 1:  # most pixels have no hue, and the absolute error of a hue is least when all pixels are grey
            brightness = error.mean(1, keepdim=True)
            terms |= {"l1": brightness.abs().mean(), "colour": 20 * (error - brightness).square().mean()}
        return terms

    return stage.run(loss)


def train_decoder(world: World, data: Data, autoencoder, work: Path, until: float = math.inf) -> nn.Module:
    """Go on with the half of the autoencoder that draws, from the other half's latents as they stay: lines and hues become sharper.

    `autoencoder` has standardised latents. Its decoder learns for a third of what both halves cost.
    """
    torch.manual_seed(world.seed + 4)
    halves = nn.ModuleDict({"decoder": autoencoder.decoder, "post_quant_conv": autoencoder.post_quant_conv}).requires_grad_(True)
    stage = world.stage("decoder", halves, work, until)
    z = latents_of(autoencoder, data) if stage.step < stage.steps else None

    def loss(model, generator: torch.Generator) -> dict[str, Tensor]:
        rows = data.draw(world.batch["decoder"], generator)
        noisy = z[rows] + 0.05 * torch.randn(z[rows].shape, generator=generator).to(DEVICE)
        error = model["decoder"](model["post_quant_conv"](noisy)).float() - data.pictures(rows)
        brightness = error.mean(1, keepdim=True)
        hue = error - brightness
        edges = brightness.diff(dim=2).abs().mean() + brightness.diff(dim=3).abs().mean()
        return {"l1": brightness.abs().mean(), "edges": 0.5 * edges, "l2": 2 * error.square().mean(), "colour": 10 * hue.square().mean(),
                "hue": 0.5 * hue.abs().mean()}

    learnt = stage.run(loss)
    autoencoder.decoder, autoencoder.post_quant_conv = learnt["decoder"], learnt["post_quant_conv"]
    return autoencoder


@torch.no_grad()
def latents_of(autoencoder, data: Data) -> Tensor:
    """Latents of all training pictures, [n, latents, 8, 8]."""
    return torch.cat([autoencoder.encode(data.pictures(r)).latents for r in torch.arange(len(data)).split(250)])


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
        rows = data.draw(world.batch["prior"], generator)
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
    z = latents_of(autoencoder, data)
    alphas = make_decoder_scheduler().alphas_cumprod.to(DEVICE)
    stage = world.stage("unet", make_unet(world.latents, world.channels), work, until)

    def loss(model, generator: torch.Generator) -> dict[str, Tensor]:
        n = world.batch["unet"]
        rows = data.draw(n, generator)
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
