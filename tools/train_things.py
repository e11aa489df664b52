"""Train the model that draws things: a tiny Kandinsky 2.2 of bags, houses and cats, from freely licensed pictograms, on two CPU cores.

    python tools/train_things.py --budget          how long each stage takes on this machine
    python tools/train_things.py --minutes 120     go on for two hours; everything without --minutes
    python tools/train_things.py --export          write generators/things from the checkpoints there are
    python tools/look_at_things.py                 sheets of what it draws, and how often that is what was asked

It needs npm and `pip install resvg_py`. It downloads the pictograms, cleans, splits and draws them, and trains by the stages of `training.py`:
side by side, one core each, `encoders` followed by `prior`, and `autoencoder` followed by `decoder` and `unet`. Last comes the independent judge, which has
seen other families of sets. A stopped run goes on where it was.
"""
from __future__ import annotations

import argparse
import logging
import os
from dataclasses import replace
from pathlib import Path

import torch
from command import main
from pictograms import fetch_sources
from reader import Reader, read, train_reader
from safetensors.torch import load_file, save_file
from things import NAMES, SHIPPED, WORDS, Things, make_things, read_things
from torch import Tensor
from training import World

SEED = 2095  # the split by it leaves no subject with fewer than ten drawings for the judge and six for nobody
log = logging.getLogger("training")


def load(work: Path) -> Things:
    return Things(work / "things.npz")

READ = ("drawing", "of", "an", "the", *(word for words in WORDS.values() for word in words if word != "black"))

THINGS = World(
    name="things",
    load=load,
    words=(*READ, *NAMES),
    # The weights that ship came to these steps in parts, each from the one before in half precision and at a lower rate; one of the priors between
    # is the mean of two. Their image encoder learnt with captions that were measured less exactly and without second inks; the text encoder
    # alone went on for 3,400 steps with these. Their U-Net is the mean of that of these steps and of one that went on for 18,000 with a third of
    # the noise on embeddings: on drawings of unseen families its loss is less than that of either.
    steps={"encoders": 5000, "autoencoder": 6000, "decoder": 12000, "prior": 20000, "unet": 26000},
    batch={"encoders": 64, "autoencoder": 8, "decoder": 8, "prior": 128, "unet": 32},
    rate={"encoders": 1e-3, "autoencoder": 2e-3, "decoder": 1e-3, "prior": 1e-3, "unet": 8e-4},
    output=Path(__file__).parents[1] / "generators" / "things",
    decoder_defaults={"steps": 12, "guidance": 2.5},  # with 1.5, less of what is rare in an embedding shows in the picture
    prior_defaults={"learning_rate": 0.001, "words": ["a", *READ, *SHIPPED]},  # the rate: of concepts
    seed=SEED,
    latents=12,
    autoencoder_channels=(8, 16, 32, 64),
    autoencoder_groups=1,  # a norm of few channels takes their contrast away, and with it the hue
    colours=3,
    half_on_cpu=False,
)
# To see every stage run within a minute; what comes out draws nothing.
QUICK = replace(THINGS, steps=dict.fromkeys(THINGS.steps, 2), batch=dict.fromkeys(THINGS.steps, 4))
RENDERINGS, EPOCHS = 1200, 12


def cover(pictures: Tensor) -> Tensor:
    """What the judge sees of pictures uint8 [n, 64, 64, 3]: how far each pixel is from white, [n, 64, 64] in 0..1."""
    return 1 - pictures.min(3).values.float() / 255


def train_judge(work: Path, epochs: int) -> float:
    """The independent judge: reads the subject, has learnt the judge's families only; returns how many of the unseen families' drawings it reads."""
    path = work / "judge.safetensors"
    if not path.exists():
        pictures, subjects = shipped(work, "judge")
        judge = train_reader(pictures, subjects, epochs=epochs, seed=7, sizes=(len(SHIPPED),), batch=min(128, len(pictures)))
        save_file(judge.state_dict(), path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
    pictures, subjects = shipped(work, "unseen")
    right = read(load_judge(work), pictures).argmax(1) == subjects
    by_subject = {name: float(right[subjects == i].float().mean()) for i, name in enumerate(SHIPPED) if (subjects == i).any()}
    log.info("judge: %.1f %% of %d drawings of unseen families read; %s", 100 * right.float().mean(), len(right),
             ", ".join(f"{name} {share:.0%}" for name, share in sorted(by_subject.items(), key=lambda entry: entry[1])))
    return float(right.float().mean())


def shipped(work: Path, split: str) -> tuple[Tensor, Tensor]:
    """The drawings of one side of what the model is said to draw, as the judge sees them; and the number of each one's subject in SHIPPED."""
    pictures, rows, _ = read_things(work / "things.npz", split)
    numbers = torch.tensor([SHIPPED.index(name) if name in SHIPPED else -1 for name in NAMES])[torch.from_numpy(rows[:, 0]).long()]
    return cover(torch.from_numpy(pictures[(numbers >= 0).numpy()])), numbers[numbers >= 0]


def load_judge(work: Path) -> Reader:
    """The judge that `train_judge` has kept: pictures as `cover` sees them -> logits of the subjects."""
    judge = Reader(outputs=len(SHIPPED))
    judge.load_state_dict(load_file(work / "judge.safetensors"))
    return judge.eval()


def make_data(arguments: argparse.Namespace) -> None:
    """Pictograms to `things.npz`: cleaned, split, drawn."""
    path = arguments.work / "things.npz"
    if not path.exists():
        make_things(arguments.sources or fetch_sources(arguments.work), path, renderings=2 if arguments.quick else RENDERINGS, seed=SEED)


def judge(arguments: argparse.Namespace) -> None:
    """Train the judge, and write it in half precision beside the benchmarks."""
    accuracy = train_judge(arguments.work, 1 if arguments.quick else EPOCHS)
    weights = {key: value.half() if value.is_floating_point() else value for key, value in load_judge(arguments.work).state_dict().items()}
    folder = arguments.work if arguments.quick else Path(__file__).parents[1] / "benchmarks"
    save_file(weights, folder / "things_judge.safetensors", {"accuracy": f"{accuracy:.4f}"})


if __name__ == "__main__":
    main(THINGS, __doc__, "sources", make_data, QUICK, judge)
