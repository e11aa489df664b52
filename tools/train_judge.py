"""Train the benchmarks' independent judge on the judge's typefaces, and draw the sheet of unseen typefaces it is tested on.

    python tools/train_judge.py            writes benchmarks/judge.safetensors and benchmarks/unseen_letters.png

The miniature never saw these typefaces, and the judge sees nothing but them: not one picture or embedding that the miniature made.
"""
from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from letterforms import load_dataset
from PIL import Image
from reader import read, train_reader
from safetensors.torch import save_file
from train_miniature import WORK, make_data

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SEED, EPOCHS = 7, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK, help="folder for fonts and data, shared with train_miniature.py")
    parser.add_argument("--fonts", type=Path, help="folder of unpacked font packages, instead of downloading them")
    arguments = parser.parse_args()
    faces, pictures = load_dataset(make_data(arguments.work, arguments.fonts))
    split = np.array([face.split for face in faces])
    letters = torch.arange(26).repeat(len(faces), 1)
    ink = torch.from_numpy(pictures).float() / 255
    learn, test = (torch.from_numpy(np.nonzero(split == name)[0]) for name in ("judge", "unseen"))
    judge = train_reader(ink[learn].flatten(0, 1), letters[learn].flatten(), epochs=EPOCHS, seed=SEED)
    right = (read(judge, ink[test].flatten(0, 1)).argmax(1) == letters[test].flatten()).float().mean()
    print(f"judge: {len(learn)} typefaces learnt, {right:.1%} of {26 * len(test)} letters of {len(test)} unseen typefaces read")
    weights = {name: value.half() if value.is_floating_point() else value for name, value in judge.state_dict().items()}
    save_file(weights, BENCHMARKS / "judge.safetensors")
    # Sixteen greys are enough for the reader and for the eye, and keep the sheet small.
    rows = (255 - pictures[test].astype(int)) // 17 * 17
    sheet = Image.fromarray(np.concatenate([np.concatenate(list(face), 1) for face in rows], 0).astype(np.uint8))
    sheet.quantize(16).save(BENCHMARKS / "unseen_letters.png", optimize=True)


if __name__ == "__main__":
    main()
