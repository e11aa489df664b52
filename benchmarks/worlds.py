"""The built-in models as worlds to measure in: what each draws, its independent judge, and its baselines, kept on disk."""
from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import torch
from judges import letter_judge, things_judge
from rarity.density import Embeddings
from rarity.density.files.store import load_embeddings, save_embeddings
from rarity.generators.demo import DRAWINGS, LETTERS
from rarity.generators.kandinsky.load import BUILT_IN, MINIATURE, THINGS
from torch import Tensor
from torch.nn.functional import avg_pool2d
from tqdm import tqdm

GUIDANCE = 4.0
PICTURES = 1000  # usual pictures that a density in pixel space learns from


@dataclass(frozen=True)
class World:
    """A built-in model with everything that is known about its pictures.

    Attributes
    ----------
    model : for load_kandinsky.   prompts : by subject, in the order of the judge's answers.
    some : the subjects of a short run.   judge : loads the judge and its accuracy on drawings that nobody has learnt from.
    readable, accuracy : asked of what is made rare, as a share of the usual samples' rate, and of the judge.
    channels : of colour that a density of its pixels sees, 1 or 3.
    """

    model: str
    prompts: dict[str, str]
    some: tuple[str, ...]
    judge: Callable[[], tuple[Callable[[Tensor], Tensor], float]]
    readable: float
    accuracy: float
    channels: int


WORLDS = {
    "letters": World(MINIATURE, dict(zip(ascii_uppercase, LETTERS, strict=True)), tuple("AEGKRS"), letter_judge, 0.96, 0.93, 1),
    "things": World(
        THINGS, {prompt.split()[-1]: prompt for prompt in DRAWINGS},
        ("bag", "boat", "building", "car", "cat", "chair", "guitar", "house"), things_judge, 0.95, 0.90, 3,
    ),
}


def ink_features(pictures: Tensor, channels: int = 1) -> Tensor:
    """Ink of pictures [N, 64, 64, 3] as [N, 256 channels]: 16 x 16 averages of 1 - brightness, or of 1 - each of 3 colours."""
    seen = pictures if channels == 3 else pictures.mean(-1, keepdim=True)
    return avg_pool2d((1 - seen).permute(0, 3, 1, 2), pictures.shape[1] // 16).flatten(1)


def weights_digest(folder: Path) -> str:
    """Eight hexadecimal digits of all weights below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


class Cache:
    """Baselines and their pictures on disk, under names that depend on the weights that made them."""

    def __init__(self, folder: Path, prior, world: World = WORLDS["letters"]):
        self.folder, self.prior, self.world = folder, prior, world
        self.digests = {part: weights_digest(BUILT_IN[world.model] / part) for part in ("prior", "decoder")}
        self.folder.mkdir(parents=True, exist_ok=True)

    def baseline(self, subject: str, count: int, seed: int) -> Embeddings:
        path = self.folder / f"{self.digests['prior']}_{subject}_{count}_{seed}_{GUIDANCE:g}.safetensors"
        if not path.exists():
            bar = tqdm(desc=f"{subject} seed {seed}: {count:,} samples", leave=False, disable=None)

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            save_embeddings(self.prior.sample(self.world.prompts[subject], count, seed=seed, guidance=GUIDANCE, progress=progress), path)
            bar.close()
        return load_embeddings(path)

    def usual_pictures(self, subject: str, baseline: Embeddings, decoder) -> Tensor:
        path = self.folder / f"{self.digests['prior']}_{self.digests['decoder']}_{subject}_{PICTURES}_{self.world.channels}.npy"
        if not path.exists():
            some = baseline.select(torch.arange(PICTURES))
            np.save(path, ink_features(decoder.decode(some, seed=2, batch_size=100), self.world.channels).numpy())
        return torch.from_numpy(np.load(path))
