"""Train the benchmarks' independent judges on the judge's typefaces, and draw the sheet of unseen typefaces they are tested on.

    python tools/train_judge.py            writes judge.safetensors, style_judge.safetensors and unseen_letters.png into benchmarks/

The miniature never saw these typefaces, and the judges see nothing but them: not one picture or embedding that the miniature made. One judge
reads the letter; the other tells weight, slant and class, as the font's own tables name them.
"""
from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from letterforms import Face, load_dataset
from PIL import Image
from reader import STYLES, read, train_reader
from safetensors.torch import save_file
from torch import Tensor
from train_miniature import WORK, make_data

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SEED, EPOCHS = 7, 30


def style_labels(face: Face) -> list[int]:
    """What a face is, by the numbers of `STYLES`; -1 where its tables do not say."""
    values = (face.weight, "italic" if face.italic else "upright", face.style)
    return [options.index(value) if value in options else -1 for options, value in zip(STYLES.values(), values, strict=True)]


def save(model: torch.nn.Module, name: str, notes: dict[str, str]) -> None:
    """Write a reader's weights in half precision beside the benchmarks."""
    weights = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    save_file(weights, BENCHMARKS / f"{name}.safetensors", notes)


def train_letter_judge(ink: Tensor, letters: Tensor, learn: Tensor, test: Tensor) -> None:
    """Learn the letters of the judge's faces; say how many of the unseen ones are read."""
    judge = train_reader(ink[learn].flatten(0, 1), letters[learn].flatten(), epochs=EPOCHS, seed=SEED)
    right = (read(judge, ink[test].flatten(0, 1)).argmax(1) == letters[test].flatten()).float().mean()
    print(f"judge: {len(learn)} typefaces learnt, {right:.1%} of {26 * len(test)} letters of {len(test)} unseen typefaces read")
    save(judge, "judge", {})


def train_style_judge(ink: Tensor, styles: Tensor, learn: Tensor, test: Tensor) -> None:
    """Learn what the judge's faces are called; say how often that is right for the unseen ones."""
    sizes = tuple(len(values) for values in STYLES.values())
    judge = train_reader(ink[learn].flatten(0, 1), styles[learn].flatten(0, 1), epochs=EPOCHS // 2, seed=SEED, sizes=sizes, slant=0.0)
    with torch.inference_mode():
        answers = torch.cat([judge(part) for part in ink[test].flatten(0, 1).split(512)]).split(sizes, 1)
    accuracy = {}
    for name, answer, label in zip(STYLES, answers, styles[test].flatten(0, 1).T, strict=True):
        known = label >= 0
        accuracy[name] = f"{(answer.argmax(1) == label)[known].float().mean():.4f}"
    print(f"style judge on unseen typefaces: {accuracy}")
    save(judge, "style_judge", accuracy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK, help="folder for fonts and data, shared with train_miniature.py")
    parser.add_argument("--fonts", type=Path, help="folder of unpacked font packages, instead of downloading them")
    arguments = parser.parse_args()
    faces, pictures = load_dataset(make_data(arguments.work, arguments.fonts))
    ink = torch.from_numpy(pictures).float() / 255
    letters = torch.arange(26).repeat(len(faces), 1)
    styles = torch.tensor([style_labels(face) for face in faces])[:, None].expand(-1, 26, -1)
    split = np.array([face.split for face in faces])
    learn, test = (torch.from_numpy(np.nonzero(split == name)[0]) for name in ("judge", "unseen"))

    train_letter_judge(ink, letters, learn, test)
    train_style_judge(ink, styles, learn, test)
    # Sixteen greys are enough for the reader and for the eye, and keep the sheet small.
    shades = (255 - pictures[test].astype(int) + 8) // 17
    sheet = Image.fromarray(np.concatenate([np.concatenate(list(face), 1) for face in shades], 0).astype(np.uint8), "P")
    sheet.putpalette([17 * shade for shade in range(16) for _ in range(3)])
    sheet.save(BENCHMARKS / "unseen_letters.png", bits=4, optimize=True)


if __name__ == "__main__":
    main()
