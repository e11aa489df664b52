"""New pictures from a few pictures, or from a VAE's latents of them, without a network that makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ...density.base.errors import RarityError
from ...density.base.log import get_logger
from ...density.base.picture_checks import as_pictures
from ...density.base.progress import Progress
from ...density.base.tensors import ordinary
from .cost import seconds, spoken
from .machine import LocalScore
from .patch_schedules import PUBLISHED, from_list, from_pictures, scaled

LOG = get_logger(__name__)
BAGS = Path(__file__).parent / "bags"  # sixty pictograms with credits, to try it on; made by tools/credited_pictures.py
TOGETHER = 1 << 18  # pixels of new pictures that are made at a time; this bounds the memory


@dataclass(frozen=True)
class Recipe:
    """How new pictures are made.

    kind, limit : see LocalScore.   steps : of DDIM.
    schedule : of the patch sizes: "pictures" (as far as the pictures' own pixels depend on each other), "list"
        (`sizes`), or a published one: "photographs", "faces", "drawings".   sizes : "3 3 5 7 11", clean to noisy.
    scale : makes all patches larger (more faithful) or smaller (more inventive).
    minutes : a run that would take longer here is refused.
    """

    kind: str = "boundary-broken"
    schedule: str = "pictures"
    scale: float = 1.0
    steps: int = 20
    limit: int | None = 20_000
    sizes: str = ""
    minutes: float = 10.0

    def patches(self, sources: Tensor) -> list[int]:
        """The patch sizes for sources [N, C, H, W], one for each step, noise first.

        Raises
        ------
        RarityError : an unknown schedule, a scale that is not positive, sizes that do not fit.
        """
        if not 0 < self.scale < 1000:
            raise RarityError(
                f"The scale of the patches must be above 0, 1 leaves them as they are; got {self.scale:g}."
            )
        if self.schedule == "pictures":
            return from_pictures(sources, self.steps, self.scale)
        make = from_list if self.schedule == "list" else scaled
        if make is scaled and self.schedule not in PUBLISHED:
            known = ", ".join(("pictures", "list", *PUBLISHED))
            raise RarityError(f"The patch sizes come from one of {known}; got {self.schedule!r}.")
        return make(self.sizes if make is from_list else self.schedule, *sources.shape[2:], self.steps, self.scale)


def new_pictures(
    images: Tensor,
    count: int,
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    preview: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """New pictures that are locally like the given ones, and as a whole like none of them.

    Parameters
    ----------
    images : [N, H, W, 3], values 0 to 1, at least two.   count : number of new pictures.   recipe : None is Recipe().
    seed : of the noise at the start; picture i depends on (seed, i) only.
    progress : see LocalScore.sample.   preview : called with the pictures expected so far, [B, H, W, 3], 0 to 1.

    Returns
    -------
    [count, H, W, 3] float32, values 0 to 1, on the CPU.

    Raises
    ------
    RarityError : fewer than two pictures; pictures of several sizes, not in RGB or not finite; a number out of range; a
        run that would take longer than allowed.
    """
    sources = as_sources(images)
    show = preview and (lambda estimate: preview(_as_images(estimate)))
    return _as_images(_make(sources, count, recipe or Recipe(), seed, progress, show))


def new_latents(
    latents: Tensor, count: int, recipe: Recipe | None = None, *, seed: int = 0, progress: Progress | None = None
) -> Tensor:
    """`new_pictures` for a VAE's latents [N, C, h, w]. Each channel is scaled to mean 0 and deviation 1, and back.

    Returns
    -------
    [count, C, h, w] float32 on the CPU.   Everything else as `new_pictures`.
    """
    if not isinstance(latents, Tensor) or latents.dim() != 4:
        got = f"shape {tuple(latents.shape)}" if isinstance(latents, Tensor) else type(latents).__name__
        raise RarityError(f"Latents must have the shape [N, channels, height, width], got {got}.")
    latents = latents.float()
    mean = latents.mean(dim=(0, 2, 3), keepdim=True)
    deviation = latents.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-6)
    drawn = _make((latents - mean) / deviation, count, recipe or Recipe(), seed, progress, None)
    return ordinary(drawn * deviation + mean, torch.float32)


def new_from_either(
    images: Tensor | None,
    latents: Tensor | None,
    decode: Callable[[Tensor], Tensor] | None,
    count: int,
    recipe: Recipe | None = None,
    *,
    device: torch.device,
    preview: Callable[[Tensor], None] | None = None,
    **settings,
) -> Tensor:
    """`new_pictures` of pictures, or what `decode` makes of `new_latents`: whichever is given, computed on the device.

    Parameters
    ----------
    images : [N, H, W, 3], 0 to 1; or None.   latents, decode : [N, C, h, w] and their VAE's decoder; or None for both.
    count, recipe, preview : as for `new_pictures`; latents have no preview.   settings : its seed and progress.

    Raises
    ------
    RarityError : both or neither are given, or only one of latents and decode; and as `new_pictures`.
    """
    if (images is None) == (latents is None) or (latents is None) != (decode is None):
        raise RarityError("Local Score needs either images, or latent and vae together. Connect one or the other.")
    if images is not None:
        return new_pictures(images.to(device), count, recipe, preview=preview, **settings)
    return decode(new_latents(latents.to(device), count, recipe, **settings))


def as_sources(images: Tensor | list[Tensor]) -> Tensor:
    """Pictures [N, H, W, 3], 0 to 1, as sources [N, 3, H, W], -1 to 1.

    Raises
    ------
    RarityError : pictures of several sizes, not in RGB, or with values that are not finite or far outside 0 to 1.
    """
    parts = [_sound(one) for one in (images if isinstance(images, (list, tuple)) else [images])]
    shapes = sorted({tuple(one.shape[1:]) for one in parts})
    if len(shapes) > 1:
        sizes = ", ".join(f"{width} x {height}" for height, width, _ in shapes[:5])
        raise RarityError(f"All pictures must be of one size, got {sizes}. Crop or scale them first.")
    return torch.cat(parts).movedim(-1, 1).contiguous() * 2 - 1


def _sound(images: Tensor) -> Tensor:
    """`as_pictures` of [n, H, W, 3]; the error says how many pictures are not finite."""
    if isinstance(images, Tensor) and images.dim() == 4 and 0 not in images.shape:
        bad = int((~images.isfinite()).flatten(1).any(dim=1).sum())
        if bad:
            raise RarityError(f"{bad} of {len(images)} pictures hold pixels that are not finite. Leave them out.")
    return as_pictures(images)


def _make(sources: Tensor, count: int, recipe: Recipe, seed: int, progress: Progress | None, preview) -> Tensor:
    if count < 1:
        raise RarityError(f"At least one picture must be made, got {count}.")
    if len(sources) < 2:
        raise RarityError("One picture can only give itself back at its own places: give two or more pictures.")
    with torch.no_grad():
        machine = LocalScore(sources, recipe.kind, recipe.limit, seed)
        patches = recipe.patches(sources)
        _check_time(machine, count, patches, recipe)
        noise = machine.noise(count, seed)
        parts = noise.split(max(1, TOGETHER // (noise.shape[2] * noise.shape[3])))
        done = []
        for i, part in enumerate(parts):
            tell = progress and (lambda step, steps, i=i: progress(i * steps + step, len(parts) * steps))
            done.append(machine.sample(part, patches, progress=tell, preview=preview))
        return torch.cat(done)


def _check_time(machine: LocalScore, count: int, patches: list[int], recipe: Recipe) -> None:
    expected = seconds(machine, count, patches)
    size = f"{len(machine.sources):,} pictures of {machine.sources.shape[3]} x {machine.sources.shape[2]} pixels"
    LOG.info("%s, %d new ones: about %s", size, count, spoken(expected))
    if expected <= 60 * recipe.minutes:
        return
    offers = []
    for fewer in (20_000, 5_000, 1_000):
        less = seconds(replace(machine, limit=fewer), count, patches)
        if (recipe.limit is None or fewer < recipe.limit) and less < 0.8 * expected:
            offers.append(f"patches at {fewer:,} (about {spoken(less)})")
            break
    small = max(1, max(machine.sources.shape[2:]) // 64)
    if small > 1:
        offers.append(
            f"pictures scaled to a {small}th of their width" if small > 2 else "pictures scaled to half their width"
        )
    if count > 1:
        offers.append(f"one new picture at a time (about {spoken(seconds(machine, 1, patches))})")
    raise RarityError(
        f"{size} would keep this machine busy for about {spoken(expected)}; allowed are {recipe.minutes:g} minutes. "
        f"Try {', or '.join(offers) or 'fewer steps'}; or allow more minutes."
    )


def _as_images(sources: Tensor) -> Tensor:
    return ordinary(((sources + 1) / 2).clamp(0, 1).movedim(1, -1), torch.float32)
