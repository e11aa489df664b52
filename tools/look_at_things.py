"""Look at the model of things: sheets of what it draws, and how often it draws what was asked.

    python tools/look_at_things.py [--model FOLDER] [--out FOLDER]

Writes `usual.png` (a row for each subject) and `styles.png` (a row for each word of style), both with seed 0 and nothing chosen. Prints for how many
pictures the independent judge reads the subject, and how many are drawn as the word of style asks, by measurement.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rarity.generators.kandinsky.load import load_kandinsky
from things import SHIPPED, WORDS, caption, measure
from train_things import THINGS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from judges import things_judge  # noqa: E402

STYLED = ("house", "boat", "bag", "cat", "car", "chair", "rocket", "flower")


def sheet(rows: list[np.ndarray], path: Path) -> None:
    """Rows of pictures uint8 [n, 64, 64, 3] as one picture."""
    Image.fromarray(np.concatenate([np.concatenate(list(row), 1) for row in rows], 0)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=THINGS.output, help="the folder that train_things.py has written")
    parser.add_argument("--out", type=Path, default=Path("things_sheets"), help="where the sheets go")
    parser.add_argument("--count", type=int, default=32, help="pictures of each prompt")
    look(**vars(parser.parse_args()))


def look(model: Path, out: Path, count: int, subjects: Sequence[str] = SHIPPED) -> None:
    out.mkdir(parents=True, exist_ok=True)
    prior, decoder = load_kandinsky(model)
    judge, accuracy = things_judge()
    print(f"The judge reads {accuracy:.1%} of drawings that neither it nor the model has seen.")

    def draw(prompt: str) -> np.ndarray:
        pictures = decoder.decode(prior.sample(prompt, count, seed=0), seed=0)
        return (255 * pictures.clamp(0, 1)).round().byte().numpy()

    def read_as(pictures: np.ndarray, subject: str) -> float:
        return float((judge(torch.from_numpy(pictures) / 255).argmax(1) == SHIPPED.index(subject)).float().mean())

    usual = {subject: draw(caption(subject)) for subject in subjects}
    sheet([row[:24] for row in usual.values()], out / "usual.png")
    shares = {subject: read_as(pictures, subject) for subject, pictures in usual.items()}
    for subject, share in sorted(shares.items(), key=lambda entry: entry[1]):
        print(f"{subject:10} read in {share:4.0%}")
    print(f"all        read in {np.mean(list(shares.values())):6.1%} of {count * len(subjects)} pictures")
    rows = []
    for kind, words in WORDS.items():
        for number, word in enumerate(words):
            if word != "black":
                pictures = np.concatenate([draw(caption(subject, [word]))[: max(1, count // 4)] for subject in STYLED if subject in subjects])
                rows.append(pictures[:: max(1, len(pictures) // 24)][:24])
                print(f"{word:10} obeyed in {np.mean([measure(picture)[kind] == number for picture in pictures]):4.0%} of {len(pictures)} pictures")
    sheet(rows, out / "styles.png")


if __name__ == "__main__":
    main()
