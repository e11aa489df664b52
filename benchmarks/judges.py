"""The independent judges, trained on what the built-in models never saw.

Readers of letters and of styles by `tools/train_judge.py` on other typefaces, the reader of things by `tools/train_things.py` on other sets of
pictograms.
"""
from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rarity.generators.demo import DRAWINGS
from safetensors import safe_open
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tools"))
from reader import STYLES, Reader, read  # noqa: E402


def letter_judge() -> tuple[Callable[[Tensor], Tensor], float]:
    """Pictures [N, 64, 64, 3] -> probabilities of the letters [N, 26]; and its accuracy on the typefaces of `unseen_letters.png`."""
    model, _ = _load("judge", 26)
    sheet = 1 - torch.from_numpy(np.asarray(Image.open(HERE / "unseen_letters.png").convert("L")).copy()).float() / 255
    faces = sheet.view(sheet.shape[0] // 64, 64, 26, 64).permute(0, 2, 1, 3)
    right = read(model, faces.flatten(0, 1)).argmax(1) == torch.arange(26).repeat(len(faces))
    return lambda pictures: read(model, 1 - pictures.mean(-1)), float(right.double().mean())


def things_judge() -> tuple[Callable[[Tensor], Tensor], float]:
    """Pictures [N, 64, 64, 3] -> probabilities of the things the built-in model draws, by name; and its accuracy on drawings of unseen sets."""
    model, notes = _load("things_judge", len(DRAWINGS))
    return lambda pictures: read(model, 1 - pictures.min(-1).values), float(notes["accuracy"])


def style_judge() -> tuple[Callable[[Tensor], dict[str, list[str]]], dict[str, float]]:
    """Pictures [N, 64, 64, 3] -> what each is called, by kind (weight, slant, class); and its accuracy on unseen typefaces."""
    sizes = [len(values) for values in STYLES.values()]
    model, accuracy = _load("style_judge", sum(sizes))

    @torch.inference_mode()
    def judge(pictures: Tensor) -> dict[str, list[str]]:
        answers = model(1 - pictures.mean(-1)).split(sizes, 1)
        return {kind: [values[i] for i in answer.argmax(1)] for (kind, values), answer in zip(STYLES.items(), answers, strict=True)}

    return judge, {kind: float(value) for kind, value in accuracy.items() if kind in STYLES}


def _load(name: str, outputs: int) -> tuple[Reader, dict[str, str]]:
    model = Reader(outputs=outputs)
    with safe_open(HERE / f"{name}.safetensors", "pt") as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}
        notes = file.metadata() or {}
    model.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in weights.items()})
    return model.eval(), notes
