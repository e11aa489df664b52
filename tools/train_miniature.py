"""Train the built-in miniature: a complete, tiny Kandinsky 2.2 that draws letterforms, from scratch, on two CPU cores.

    python tools/train_miniature.py            everything; continues where it was stopped
    python tools/train_miniature.py --export   write generators/miniature from the checkpoints there are

Stages: `data` (fonts to pictures), then side by side, one core each, `encoders` (picture and text encoder) followed by `prior`, and `autoencoder`
followed by `unet`. Every stage has a fixed number of steps and its own seed, and saves a checkpoint as it goes: a stopped run continues where it
was, with the same draws. A GPU is used where there is one.
"""
from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import os
import shutil
import time
from pathlib import Path
from string import ascii_lowercase

import torch
from letterforms import (
    LETTERS,
    caption,
    draw_listed_faces,
    fetch_fonts,
    load_dataset,
    save_dataset,
)
from miniature_parts import (
    LATENT_CHANNELS,
    WIDTH,
    WORDS,
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
from torch import Tensor, nn
from torch.nn import functional as F

SEED = 2026
STEPS = {"encoders": 5000, "autoencoder": 2600, "prior": 7000, "unet": 11000}
BATCH = {"encoders": 128, "autoencoder": 48, "prior": 256, "unet": 64}
RATE = {"encoders": 1e-3, "autoencoder": 1e-3, "prior": 1e-3, "unet": 6e-4}
DECODER_DEFAULTS = {"steps": 12, "guidance": 1.0}
PRIOR_DEFAULTS = {"learning_rate": 0.001, "words": [*WORDS, *ascii_lowercase]}  # the rate: of concepts
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WORK = Path.home() / ".cache" / "rarity" / "miniature"
OUTPUT = Path(__file__).parents[1] / "generators" / "miniature"
log = logging.getLogger("miniature")


class Letterforms:
    """The training faces: pictures, captions and batches."""

    def __init__(self, path: Path):
        faces, pictures = load_dataset(path)
        train = [i for i, face in enumerate(faces) if face.split == "train"]
        self.faces = [faces[i] for i in train]
        self.ink = torch.from_numpy(pictures[train]).flatten(0, 1)
        self.letter = torch.arange(26).repeat(len(train))
        self.face = torch.arange(len(train)).repeat_interleave(26)
        # attributes as integers: weight 0 regular 1 light 2 bold; style -1 unknown 0 serif 1 sans 2 mono
        self.weight = torch.tensor([{None: 0, "light": 1, "bold": 2}[f.weight] for f in self.faces])[self.face]
        self.italic = torch.tensor([int(f.italic) for f in self.faces])[self.face]
        self.style = torch.tensor([{None: -1, "serif": 0, "sans": 1, "mono": 2}[f.style] for f in self.faces])[self.face]

    def __len__(self) -> int:
        return len(self.ink)

    def pictures(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pictures [n, 3, 64, 64] in -1..1, black on white; shifted by up to one pixel when a generator is given."""
        x = 1 - self.ink[rows].float() / 127.5
        if generator is not None:
            dy, dx = (int(v) for v in torch.randint(-1, 2, (2,), generator=generator))
            x = x.roll((dy, dx), (1, 2))
        return x[:, None].expand(-1, 3, -1, -1).to(DEVICE)

    def captions(self, rows: Tensor, generator: torch.Generator, keep: float = 0.5) -> tuple[list[str], dict[str, Tensor]]:
        """True captions that name each known attribute with probability `keep`, and what they ask for (-1: nothing)."""
        said = torch.rand(3, len(rows), generator=generator) < keep
        asked = {
            "letter": self.letter[rows],
            "weight": torch.where(said[0] & (self.weight[rows] > 0), self.weight[rows], -1),
            "italic": torch.where(said[1] & (self.italic[rows] > 0), 1, -1),
            "style": torch.where(said[2], self.style[rows], -1),
        }
        form = torch.rand(len(rows), generator=generator)
        columns = [*(asked[k].tolist() for k in ("letter", "weight", "italic", "style")), form.tolist()]
        texts = [
            caption(LETTERS[i], {1: "light", 2: "bold"}.get(w), s == 1, {0: "serif", 1: "sans", 2: "mono"}.get(c), "a" if f < 0.8 else "the" if f < 0.9 else "")
            for i, w, s, c, f in zip(*columns, strict=True)
        ]
        return texts, asked

    def agreement(self, rows: Tensor, asked: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Whether each picture [n] satisfies each caption [m], and whether that is known, as booleans [n, m]."""
        true = self.letter[rows][:, None] == asked["letter"][None]
        known = torch.ones_like(true)
        for name in ("weight", "italic", "style"):
            has, wants = getattr(self, name)[rows][:, None], asked[name][None]
            true &= (wants < 0) | (has == wants)
            known &= (wants < 0) | (has >= 0)
        return true, known | (self.letter[rows][:, None] != asked["letter"][None])


class Stage:
    """A seeded, resumable training loop: AdamW, one-cycle cosine rate, an exponential average of the weights, checkpoints."""

    def __init__(self, name: str, module: nn.Module, work: Path, average: float = 0.999):
        self.name, self.path = name, work / f"{name}.pt"
        self.module = module.to(DEVICE)
        self.averaged = copy.deepcopy(self.module).requires_grad_(False)
        self.average = average
        self.optimiser = torch.optim.AdamW(self.module.parameters(), RATE[name], weight_decay=0.01, betas=(0.9, 0.98))
        self.generator = torch.Generator().manual_seed(SEED)
        self.step = 0
        if self.path.exists():
            state = torch.load(self.path, map_location=DEVICE, weights_only=True)
            self.module.load_state_dict(state["module"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.generator.set_state(state["generator"].cpu())
            self.step = state["step"]

    def save(self) -> None:
        state = {
            "module": self.module.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
        }
        torch.save(state, self.path.with_suffix(".tmp"))
        os.replace(self.path.with_suffix(".tmp"), self.path)

    def run(self, loss_of, steps: int | None = None) -> nn.Module:
        """Minimise `loss_of(module, generator)`, a dict of terms, to the stage's last step; returns the averaged module."""
        total = STEPS[self.name] if steps is None else steps
        started, shown, sums = time.time(), self.step, {}
        self.module.train()
        while self.step < total:
            warm = min(1.0, (self.step + 1) / 200)
            rate = RATE[self.name] * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.step / total)))
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            with torch.autocast(DEVICE, torch.bfloat16, enabled=self.name in ("autoencoder", "unet")):
                terms = loss_of(self.module, self.generator)
            self.optimiser.zero_grad(set_to_none=True)
            sum(terms.values()).backward()
            nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
            self.optimiser.step()
            self.step += 1
            decay = min(self.average, self.step / (self.step + 10))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.averaged.parameters()), list(self.module.parameters()), 1 - decay)
            for key, value in terms.items():
                sums[key] = sums.get(key, 0.0) + float(value.detach())
            if self.step % 250 == 0 or self.step == total:
                pace = (time.time() - started) / max(1, self.step - shown)
                text = "  ".join(f"{k} {v / (self.step % 250 or 250):.4f}" for k, v in sums.items())
                log.info("%s %d/%d  %s  (%.0f min left)", self.name, self.step, total, text, pace * (total - self.step) / 60)
                sums = {}
                self.save()
        self.save()
        return self.averaged.eval()


class Encoders(nn.Module):
    """Picture and text encoder in one space, with the head that makes an embedding keep what a picture looks like."""

    def __init__(self, tokenizer):
        super().__init__()
        self.vision, self.text = make_image_encoder(), make_text_encoder(tokenizer)
        self.scale, self.bias = nn.Parameter(torch.tensor(2.3)), nn.Parameter(torch.tensor(-6.0))
        self.pixels = nn.Sequential(nn.Linear(WIDTH, 384), nn.SiLU(), nn.Linear(384, 384), nn.SiLU(), nn.Linear(384, 32 * 32))


def train_encoders(data: Letterforms, tokenizer, work: Path) -> Encoders:
    """Sigmoid contrastive loss over which pictures satisfy which captions, 26-way zero-shot reading, and reconstruction from a noisy embedding."""
    torch.manual_seed(SEED)
    stage = Stage("encoders", Encoders(tokenizer), work)
    plain = tokenize(tokenizer, [caption(letter) for letter in LETTERS])[0].to(DEVICE)

    def loss(model: Encoders, generator: torch.Generator) -> dict[str, Tensor]:
        rows = torch.randint(len(data), (BATCH["encoders"],), generator=generator)
        texts, asked = data.captions(rows, generator)
        pictures = data.pictures(rows, generator)
        e = model.vision(pixel_values=pictures).image_embeds
        t = model.text(input_ids=torch.cat([tokenize(tokenizer, texts)[0].to(DEVICE), plain])).text_embeds
        cosine = F.normalize(e, dim=1) @ F.normalize(t, dim=1).T
        logits = model.scale.exp() * cosine[:, : len(rows)] + model.bias
        true, known = (m.to(DEVICE) for m in data.agreement(rows, asked))
        pairs = F.binary_cross_entropy_with_logits(logits, true.float(), reduction="none") * known
        noise = torch.randn(e.shape, generator=generator).to(DEVICE) * 0.15 * e.std().detach()
        target = 0.5 - 0.5 * F.avg_pool2d(pictures[:, :1], 2)
        return {
            "pairs": pairs.sum(1).mean() * 0.5,
            "letter": F.cross_entropy(20 * cosine[:, len(rows) :], data.letter[rows].to(DEVICE)),
            "pixels": 20 * F.binary_cross_entropy_with_logits(model.pixels(e + noise).view_as(target), target.clamp(0, 1)),
            "size": 0.05 * (e.square().mean() - 1).square(),
        }

    return stage.run(loss)


def train_autoencoder(data: Letterforms, work: Path) -> nn.Module:
    """Reconstruction through latents with a little noise, so that the decoder forgives what the U-Net gets slightly wrong."""
    torch.manual_seed(SEED + 1)
    stage = Stage("autoencoder", make_autoencoder(), work)

    def loss(model, generator: torch.Generator) -> dict[str, Tensor]:
        x = data.pictures(torch.randint(len(data), (BATCH["autoencoder"],), generator=generator), generator)
        z = model.encode(x).latents
        noise = torch.randn(z.shape, generator=generator).to(DEVICE) * 0.1 * z.float().std((0, 2, 3), keepdim=True).detach()
        error = model.decoder(model.post_quant_conv(z + noise)).float() - x
        return {"l1": error.abs().mean(), "l2": 2 * error.square().mean(), "size": 1e-3 * z.float().square().mean()}

    return stage.run(loss)


@torch.no_grad()
def standardise_latents(model, data: Letterforms) -> None:
    """Fold the latents' mean and spread into the 1 x 1 convolutions around them and fit the codebook; afterwards latents have unit variance."""
    from sklearn.cluster import MiniBatchKMeans

    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED))[:2000]
    z = torch.cat([model.encode(data.pictures(r)).latents for r in rows.split(250)])
    mean, spread = z.mean((0, 2, 3)), z.std((0, 2, 3))
    model.quant_conv.weight.div_(spread.view(-1, 1, 1, 1))
    model.quant_conv.bias.sub_(mean).div_(spread)
    after = model.post_quant_conv
    after.bias.add_((after.weight[..., 0, 0] * mean).sum(1))
    after.weight.mul_(spread.view(1, -1, 1, 1))
    points = ((z - mean.view(1, -1, 1, 1)) / spread.view(1, -1, 1, 1)).permute(0, 2, 3, 1).reshape(-1, LATENT_CHANNELS).cpu().numpy()
    codes = MiniBatchKMeans(512, random_state=SEED, n_init=1, batch_size=4096).fit(points).cluster_centers_
    model.quantize.embedding.weight.copy_(torch.from_numpy(codes))


@torch.no_grad()
def embed(vision, data: Letterforms, batch: int = 500) -> Tensor:
    """Embeddings of all training pictures [n, 64]."""
    return torch.cat([vision(pixel_values=data.pictures(r)).image_embeds for r in torch.arange(len(data)).split(batch)])


def train_prior(data: Letterforms, encoders: Encoders, tokenizer, work: Path) -> nn.Module:
    """Predict the clean standardised embedding of a picture from a noisy one and a caption; one caption in ten is empty, for guidance."""
    torch.manual_seed(SEED + 2)
    e = embed(encoders.vision, data)
    prior = make_prior()
    prior.clip_mean.data.copy_(e.mean(0, keepdim=True).cpu())
    prior.clip_std.data.copy_(e.std(0, keepdim=True).cpu())
    prior.clip_mean.requires_grad_(False)
    prior.clip_std.requires_grad_(False)
    clean = (e - e.mean(0)) / e.std(0)
    alphas = make_prior_scheduler().alphas_cumprod.to(DEVICE)
    stage = Stage("prior", prior, work)
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
        rows = torch.randint(len(data), (BATCH["prior"],), generator=generator)
        texts, _ = data.captions(rows, generator)
        empty = (torch.rand(len(rows), generator=generator) < 0.1).tolist()
        text, hidden, mask = encode(["" if drop else t for t, drop in zip(texts, empty, strict=True)])
        t = torch.randint(1000, (len(rows),), generator=generator).to(DEVICE)
        a = alphas[t][:, None]
        noisy = a.sqrt() * clean[rows] + (1 - a).sqrt() * torch.randn(len(rows), WIDTH, generator=generator).to(DEVICE)
        guess = model(noisy, timestep=t, proj_embedding=text, encoder_hidden_states=hidden, attention_mask=mask).predicted_image_embedding
        return {"clean": (guess - clean[rows]).square().mean()}

    return stage.run(loss)


def train_unet(data: Letterforms, encoders: Encoders, autoencoder, work: Path) -> nn.Module:
    """Predict velocity in latents from an embedding with a little noise on it (rare embeddings are drawn cleanly); one in ten is the null embedding."""
    torch.manual_seed(SEED + 3)
    e = embed(encoders.vision, data)
    spread = e.std(0, keepdim=True)
    with torch.no_grad():
        null = encoders.vision(pixel_values=torch.zeros(1, 3, 64, 64, device=DEVICE)).image_embeds
        z = torch.cat([autoencoder.encode(data.pictures(r)).latents for r in torch.arange(len(data)).split(250)])
    alphas = make_decoder_scheduler().alphas_cumprod.to(DEVICE)
    stage = Stage("unet", make_unet(), work)

    def loss(model, generator: torch.Generator) -> dict[str, Tensor]:
        n = BATCH["unet"]
        rows = torch.randint(len(data), (n,), generator=generator)
        level = torch.rand(n, 1, generator=generator) * 0.3
        condition = e[rows] + (level * torch.randn(n, WIDTH, generator=generator)).to(DEVICE) * spread
        condition = torch.where((torch.rand(n, 1, generator=generator) < 0.1).to(DEVICE), null, condition)
        t = torch.randint(1000, (n,), generator=generator).to(DEVICE)
        a = alphas[t].view(-1, 1, 1, 1)
        noise = torch.randn(n, LATENT_CHANNELS, 8, 8, generator=generator).to(DEVICE)
        noisy, velocity = a.sqrt() * z[rows] + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * z[rows]
        guess = model(noisy, t, encoder_hidden_states=None, added_cond_kwargs={"image_embeds": condition}).sample
        return {"velocity": (guess[:, :LATENT_CHANNELS].float() - velocity).square().mean()}

    return stage.run(loss)


def make_data(work: Path, fonts: Path | None) -> Path:
    """Fonts to `letterforms.npz`: the listed faces, drawn."""
    path = work / "letterforms.npz"
    if not path.exists():
        save_dataset(path, *draw_listed_faces(fonts or fetch_fonts(work)))
    return path


def run_branch(branch: str, work: Path) -> None:
    """One core's share of the training: `text` (encoders, then prior) or `pictures` (autoencoder, then U-Net)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    data, tokenizer = Letterforms(work / "letterforms.npz"), make_tokenizer(work / "tokenizer")
    if branch == "text":
        train_prior(data, train_encoders(data, tokenizer, work), tokenizer, work)
        return
    autoencoder = train_autoencoder(data, work)
    standardise_latents(autoencoder, data)
    while not _finished("encoders", work):
        time.sleep(2)
    train_unet(data, train_encoders(data, tokenizer, work), autoencoder, work)


def _finished(name: str, work: Path) -> bool:
    path = work / f"{name}.pt"
    return path.exists() and torch.load(path, map_location="cpu", weights_only=True)["step"] >= STEPS[name]


def export(work: Path, output: Path) -> None:
    """Write both halves as ordinary diffusers pipeline folders, weights in float16, from the checkpoints in `work`."""
    from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline

    data, tokenizer = Letterforms(work / "letterforms.npz"), make_tokenizer(work / "tokenizer")
    modules = {"encoders": Encoders(tokenizer), "autoencoder": make_autoencoder(), "prior": make_prior(), "unet": make_unet()}
    for name, module in modules.items():
        module.load_state_dict(torch.load(work / f"{name}.pt", map_location="cpu", weights_only=True)["averaged"])
        module.eval()
    standardise_latents(modules["autoencoder"], data)
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
    (output / "prior" / "rarity.json").write_text(json.dumps(PRIOR_DEFAULTS) + "\n")
    (output / "decoder" / "rarity.json").write_text(json.dumps(DECODER_DEFAULTS) + "\n")
    size = sum(p.stat().st_size for p in output.rglob("*") if p.is_file()) / 1e6
    log.info("wrote %s, %.1f MB", output, size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK, help="folder for fonts, data and checkpoints")
    parser.add_argument("--fonts", type=Path, help="folder of unpacked font packages, instead of downloading them")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the finished model goes")
    parser.add_argument("--export", action="store_true", help="only write the model from the checkpoints there are")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    arguments.work.mkdir(parents=True, exist_ok=True)
    if not arguments.export:
        make_data(arguments.work, arguments.fonts)
        branches = [torch.multiprocessing.get_context("spawn").Process(target=run_branch, args=(b, arguments.work)) for b in ("text", "pictures")]
        for process in branches:
            process.start()
        for process in branches:
            process.join()
        if any(process.exitcode for process in branches):
            raise SystemExit("a training branch failed; run the same command again to continue from its last checkpoint")
    export(arguments.work, arguments.output)


if __name__ == "__main__":
    main()
