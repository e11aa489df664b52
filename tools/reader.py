"""A reader of letters: a small convolutional network on pixels that knows nothing of embeddings.

It has three uses, with different typefaces and different seeds: to leave out faces that nobody could read (cross-fitted, while the list is
made), and, trained on the judge's families only, as the benchmarks' independent judges of letters and of styles.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# What the judge of styles tells apart. A weight between, and a class between, have no name that two people would agree on.
STYLES = {
    "weight": ("light", "bold"),
    "slant": ("upright", "italic"),
    "class": ("serif", "sans"),
}


class Reader(nn.Module):
    """Pictures [N, 64, 64] in 0..1 with ink 1 -> logits [N, outputs], one for each letter unless told otherwise."""

    def __init__(self, width: int = 32, outputs: int = 26):
        super().__init__()

        def block(inputs: int, outputs: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

        self.body = nn.Sequential(*block(1, width), *block(width, 2 * width), *block(2 * width, 4 * width))
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(4 * width * 16, outputs))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.body(F.avg_pool2d(pictures[:, None], 2)))


def jitter(pictures: Tensor, generator: torch.Generator, slant: float) -> Tensor:
    """Shift, scale, slant (up to the given shear) and blur pictures a little, each by its own draw; same shape."""
    n = len(pictures)

    def draw(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, 0, 1] = draw(0.9, 1.12), draw(0.9, 1.12), draw(-slant, slant)
    theta[:, 0, 2], theta[:, 1, 2] = draw(-0.08, 0.08), draw(-0.08, 0.08)
    moved = F.grid_sample(pictures[:, None], F.affine_grid(theta, (n, 1, *pictures.shape[1:]), align_corners=False), align_corners=False)[:, 0]
    soft = F.avg_pool2d(moved[:, None], 3, 1, 1)[:, 0]
    blend = (torch.rand(n, generator=generator) * 0.7).view(-1, 1, 1)
    return moved + blend * (soft - moved)


def train_reader(
    pictures: Tensor, labels: Tensor, *, epochs: int, seed: int, sizes: tuple[int, ...] = (26,), slant: float = 0.12, batch: int = 128
) -> Reader:
    """Fit a `Reader` to pictures [N, 64, 64] (ink 1) with AdamW under a one-cycle rate; seeded.

    labels [N, H] are H answers a picture, the h-th of them one of sizes[h] or -1 for unknown; [N] will do for one.
    """
    labels = labels.view(len(pictures), len(sizes))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Reader(outputs=sum(sizes))
        steps = max(1, epochs * (len(pictures) // batch))
        optimiser = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
        for step in range(steps):
            if step % (len(pictures) // batch) == 0:
                order = torch.randperm(len(pictures), generator=generator)
            rows = order[(step * batch) % (len(pictures) // batch * batch) :][:batch]
            answers = model(jitter(pictures[rows], generator, slant)).split(sizes, 1)
            asked = zip(answers, labels[rows].T, strict=True)
            loss = sum(F.cross_entropy(answer, label, ignore_index=-1, label_smoothing=0.05) for answer, label in asked)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.inference_mode()
def read(model: Reader, pictures: Tensor, batch: int = 512) -> Tensor:
    """Probabilities of the 26 letters [N, 26] for pictures [N, 64, 64] (ink 1)."""
    return torch.cat([model(chunk).softmax(1) for chunk in pictures.split(batch)])


def crossfitted_readability(pictures: np.ndarray, groups: np.ndarray, *, epochs: int = 6, seed: int = 0) -> np.ndarray:
    """Share of its 26 letters that a reader which never saw a face's group reads correctly, for faces uint8 [F, 26, 64, 64]: [F]."""
    ink = torch.from_numpy(pictures).float() / 255
    letters = torch.arange(26).repeat(len(pictures), 1)
    half = torch.from_numpy(np.random.default_rng(seed).permutation(groups.max() + 1) % 2 == 0)[torch.from_numpy(groups)]
    share = torch.zeros(len(pictures))
    for side in (True, False):
        learn, test = half == side, half != side
        model = train_reader(ink[learn].flatten(0, 1), letters[learn].flatten(), epochs=epochs, seed=seed + side)
        right = read(model, ink[test].flatten(0, 1)).argmax(1) == letters[test].flatten()
        share[test] = right.float().view(-1, 26).mean(1)
    return share.numpy()
