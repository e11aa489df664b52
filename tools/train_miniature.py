"""Train the built-in miniature: a complete, tiny Kandinsky 2.2 that draws letterforms, from scratch, on two CPU cores.

    python tools/train_miniature.py            everything; continues where it was stopped
    python tools/train_miniature.py --export   write generators/miniature from the checkpoints there are

The stages are those of `training.py`: side by side, one core each, `encoders` followed by `prior`, and `autoencoder` followed by `unet`.
"""
from __future__ import annotations

from pathlib import Path
from string import ascii_lowercase

from command import main
from letterforms import Letterforms, draw_listed_faces, fetch_fonts, save_dataset
from training import World

WORK = Path.home() / ".cache" / "rarity" / "miniature"
WORDS = ("letter", "bold", "light", "italic", "serif", "sans", "mono", "the", "an")


def load(work: Path) -> Letterforms:
    return Letterforms(work / "letterforms.npz")


LETTERS = World(
    name="miniature",
    load=load,
    words=WORDS,
    steps={"encoders": 5000, "autoencoder": 2600, "prior": 7000, "unet": 11000},
    batch={"encoders": 128, "autoencoder": 48, "prior": 256, "unet": 64},
    rate={"encoders": 1e-3, "autoencoder": 1e-3, "prior": 1e-3, "unet": 6e-4},
    output=Path(__file__).parents[1] / "generators" / "miniature",
    decoder_defaults={"steps": 12, "guidance": 1.0},
    prior_defaults={"learning_rate": 0.001, "words": [*WORDS, *ascii_lowercase]},  # the rate: of concepts
)


def make_data(work: Path, fonts: Path | None) -> Path:
    """Fonts to `letterforms.npz`: the listed faces, drawn."""
    path = work / "letterforms.npz"
    if not path.exists():
        save_dataset(path, *draw_listed_faces(fonts or fetch_fonts(work)))
    return path


if __name__ == "__main__":
    main(LETTERS, __doc__, "fonts", lambda arguments: make_data(arguments.work, arguments.sources))
