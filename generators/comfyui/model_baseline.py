"""A baseline of any MODEL: pictures for a CONDITIONING by ComfyUI's own samplers, encoded by an eye."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError
from ...density.base.framing import partly_seen
from ...density.base.identity import sample_keys
from ...density.base.progress import Progress
from ..runtime.kept_baselines import Drawn, check_range, gather
from ..runtime.memory import Placement, in_pieces
from .family_advice import unsuited
from .misfit import check_stage, explained
from .names import conditioning_name, model_name
from .sampling_plan import (
    check_sampling,
    guider_label,
    guider_of,
    one_by_one,
    sampler_label,
    sampler_of,
    sigmas_label,
    sigmas_of,
)

SHARD = 64  # pictures in a file; a crash of the machine can cost so many
SHOWN = 8  # pictures that are kept to look at
SAME = 0.5  # a picture that is drawn again moves by less than this share of the spread of all pictures; another is farther away
# The width of a latent in pixels, where ComfyUI says 8 of some VAEs: the previewer of Stable Cascade's stage C, and the small VAE taef2.
PIXELS = {"StableCascade_C": 32, "Flux2": 16}
ROUNDING = 0.01  # the same as a share of an embedding's length, if no spread is known yet

Preview = Callable[[Tensor], None]


@dataclass(frozen=True)
class ModelPictures:
    """Pictures by ComfyUI's samplers. Picture i is what KSampler draws with the seed `seed` + i in a batch of one.

    This holds in a batch of any size, up to float rounding. The noise that unCLIP adds to its condition is an exception:
    it is that of the first seed for all pictures.

    Parameters
    ----------
    model, positive, negative, vae : as for KSampler and VAE Decode; they are not changed. Masks, areas and ControlNet
        hints of the conditionings reach the sampler as they are.
    seed : of picture 0; 64 bits.
    steps, cfg, sampler_name, scheduler : as for KSampler.
    width, height : of a picture, in pixels; rounded down to whole latents.
    guider, sampler, sigmas : as for SamplerCustomAdvanced, each optional. A guider's model, cfg and further prompts take the
        place of `model`, `cfg` and `negative`; its positive prompt is `positive`. A sampler takes the place of
        `sampler_name`, and sigmas that of `steps` and `scheduler`. Picture i then is what SamplerCustomAdvanced draws with
        them.

    Raises
    ------
    RarityError : a number out of range, a model that makes no pictures, a VAE of another model; stage B of Stable Cascade
        without latents of stage C.
    """

    model: Any
    positive: list
    negative: list
    vae: Any
    seed: int = 0
    steps: int = 10
    cfg: float = 7.0
    sampler_name: str = "euler"
    scheduler: str = "normal"
    width: int = 512
    height: int = 512
    guider: Any = None
    sampler: Any = None
    sigmas: Tensor | None = None

    def __post_init__(self):
        check_sampling(self.guider, self.sampler, self.sigmas)
        if self.guider is not None:
            object.__setattr__(self, "model", self.guider.model_patcher)
        if self.sigmas is not None:
            object.__setattr__(self, "steps", len(self.sigmas) - 1)
        latents, vae = self.model.get_model_object("latent_format"), self.vae
        if latents.latent_dimensions < 2 or vae.output_channels != 3:
            raise RarityError(
                f"{self.name} with this VAE makes no pictures but latents of {latents.latent_dimensions} dimensions that "
                f"become {vae.output_channels} channels. Connect a model of pictures, or of videos, and its own VAE."
            )
        if latents.latent_channels != vae.latent_channels:
            raise RarityError(
                f"The VAE belongs to another model: it reads latents of {vae.latent_channels} channels, {self.name} makes "
                f"{latents.latent_channels}. Connect the VAE of the same checkpoint."
            )
        check_stage(self.model, self.positive)
        known = {"sampler": comfy.samplers.SAMPLER_NAMES, "scheduler": comfy.samplers.SCHEDULER_NAMES}
        chosen = {"sampler": self.sampler_name if self.sampler is None else None, "scheduler": self.scheduler if self.sigmas is None else None}
        for what, name in chosen.items():
            if name is not None and name not in known[what]:  # ComfyUI would silently use another scheduler in place of an unknown one
                raise RarityError(
                    f"There is no {what} {name!r} here. Choose one of the menu, or install the pack that it comes from."
                )
        if self.steps < 1 or not math.isfinite(self.cfg):
            raise RarityError(f"Needed are at least 1 step and a finite cfg, got {self.steps} and {self.cfg}.")
        if min(self.latent_shape[-2:]) < 1:
            raise RarityError(
                f"A picture of {self.width} x {self.height} is too small: one latent of this VAE is "
                f"{self._pixels} pixels wide. Make it larger."
            )

    @property
    def name(self) -> str:
        return type(self.model.model).__name__

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of the latent of one picture: [C, h, w]; for one frame of a video model [C, 1, h, w]."""
        latents = self.model.get_model_object("latent_format")
        one_frame = (1,) * (latents.latent_dimensions - 2)
        return (latents.latent_channels, *one_frame, self.height // self._pixels, self.width // self._pixels)

    @property
    def _pixels(self) -> int:
        """The width of a latent in pixels."""
        return PIXELS.get(self.name) or self.vae.spacial_compression_encode()

    @property
    def source(self) -> dict:
        """All settings that decide what a picture is, except its index and the contents of the sockets."""
        return {"kind": "model", "model": self.name, "seed": self.seed, "steps": self.steps,
                "cfg": float(self.cfg) if self.guider is None else guider_label(self.guider), "sampler": self.sampler_label,
                "scheduler": self.scheduler if self.sigmas is None else sigmas_label(self.sigmas), "width": self.width,
                "height": self.height}

    @property
    def sampler_label(self) -> str:
        return self.sampler_name if self.sampler is None else sampler_label(self.sampler)

    @property
    def one_by_one(self) -> bool:
        """Whether pictures are not drawn in batches."""
        return one_by_one(self.sampler_label, self.sampler)

    @property
    def told(self) -> str:
        """How pictures are drawn, in words."""
        schedule = self.scheduler if self.sigmas is None else f"sigmas from {self.sigmas[0]:.4g} to {self.sigmas[-1]:.4g}"
        guided = f"cfg {self.cfg:g}" if self.guider is None else guider_label(self.guider)
        return (f"{self.name}, {self.width} x {self.height}, {self.steps} steps of {self.sampler_label} "
                f"({schedule}), {guided}")

    @cached_property
    def origin(self) -> dict:
        """All that decides what a picture is, except its seed, as JSON values that are the same on every device."""
        settings = {name: value for name, value in self.source.items() if name != "seed"}
        others = self.negative
        if self.guider is not None:
            others = [(name, held) for name, held in sorted(self.guider.original_conds.items()) if name != "positive"]
        conditions = conditioning_name([self.positive, others])
        # The noise that unCLIP adds comes from the seed of picture 0.
        first = self.seed if any("unclip_conditioning" in more for _, more in [*self.positive, *self.negative]) else None
        return {**settings, "weights": model_name(self.model), "conditioning": conditions, "first seed": first}

    def draw(self, rows: range, tick: Callable[[int], None] | None = None) -> Tensor:
        """The pictures with these indices, [n, H, W, 3] on the CPU. `tick` is called with the number of steps done."""
        seeds = [(self.seed + i) % 2**64 for i in rows]
        told = explained(self.model, positive=self.positive, negative=self.negative)
        with torch.random.fork_rng(devices=[]), told:
            # ComfyUI draws the noise from the global generator, and some samplers of other packs go on with that one.
            noise = torch.cat([torch.randn(1, *self.latent_shape, generator=torch.manual_seed(seed)) for seed in seeds])
            sigmas = sigmas_of(self, self.model)
            latents = guider_of(self, self.model, self.positive).sample(
                noise, torch.zeros_like(noise), sampler_of(self, noise, sigmas, seeds), sigmas, disable_pbar=True,
                seed=seeds[0] if self.one_by_one else self.seed, callback=tick and (lambda step, *_: tick(min(step + 1, self.steps))),
            )
        pictures = self.vae.decode(latents)
        return pictures.reshape(-1, *pictures.shape[-3:]).float().cpu()


def draw_model_baseline(
    pictures: ModelPictures,
    eye,
    count: int,
    *,
    first: int = 0,
    batch_size: int = 4,
    stop_when_enough: bool = False,
    folder: str | Path | None = None,
    placement: Placement | None = None,
    progress: Progress | None = None,
    preview: Preview | None = None,
) -> tuple[Embeddings, str, Tensor]:
    """The embeddings of pictures first ... first + count - 1, a report in words, and the last few pictures to look at.

    Parameters
    ----------
    pictures : how pictures are drawn.
    eye : encodes pictures, such as `clip_vision_eye.eye_of` gives; it has a `space` and `encode_images`.
    count : how many.
    first : the number of the first picture, so that several machines can each draw a part of one baseline.
    batch_size : pictures at a time; halved if they do not fit in memory.
    stop_when_enough : end before `count` when `Convergence` has seen enough.
    folder : where to keep the embeddings, as `kept_baselines.keep` does. If the folder holds some already, the first picture
        is drawn again and compared: the contents of the sockets have no name, but they show in it.
    placement : is asked to make room when memory is short.
    progress : called after each step with (steps done, all steps), summed over the pictures.
    preview : called with each batch of pictures.

    Returns
    -------
    At most `count` embeddings; the report; at most SHOWN pictures [n, H, W, 3] of those drawn now.

    Raises
    ------
    RarityError : a count or batch below 1, not enough memory for one picture; the folder holds pictures of other settings,
        or of another model, conditioning or VAE; and as the eye.
    """
    check_range(count, first, "pictures")
    if batch_size < 1:
        raise RarityError(f"The batch must be at least 1, got {batch_size}.")
    size = 1 if pictures.one_by_one else batch_size
    room = placement or Placement()
    seen_as = eye.view(pictures.height, pictures.width)
    source = {**pictures.source, **seen_as}
    shown: list[Tensor] = []

    def look(rows: range, tick=None) -> Embeddings:
        drawn = pictures.draw(rows, tick)
        if preview:
            preview(drawn)
        keys = sample_keys({**pictures.origin, "space": eye.space.to_dict(), **seen_as}, (pictures.seed + i for i in rows))
        seen = eye.encode_images(drawn, batch_size=len(drawn), keys=keys)
        shown[:] = [*shown, *drawn][-SHOWN:]
        return Embeddings(seen.vectors, eye.space, source={**source, "first": rows.start}, keys=keys)

    end = first + count

    def after(number: int) -> Iterator[Embeddings]:
        total = (end - number) * pictures.steps

        def work(rows: range) -> Embeddings:
            done = (rows.start - number) * pictures.steps
            found = look(rows, progress and (lambda step: progress(done + step * len(rows), total)))
            if progress:
                progress(done + pictures.steps * len(rows), total)  # this call also sends the preview
            return found

        return (found for _, found in in_pieces(range(number, end), size, work, room))

    def check(kept: Embeddings) -> None:
        tick = progress and (lambda step: progress(0, count * pictures.steps))  # the bar stays where it is, and cancel works
        (_, again), = in_pieces(range(first, first + 1), 1, lambda rows: look(rows, tick), room)
        moved = float((again.vectors[0] - kept.vectors[0]).norm())
        spread = float((kept.vectors - kept.vectors.mean(dim=0)).norm(dim=1).median())
        if moved > max(SAME * spread, ROUNDING * float(kept.vectors[0].norm())):
            raise RarityError(
                f"{folder} holds pictures of another model, conditioning or VAE: picture {first}, drawn again, lies {moved:.3g} away "
                f"from the kept one, where pictures lie {spread:.3g} from their middle. Choose another name, or connect the same."
            )

    drawn = Drawn(eye.space, source, after, check, SHARD, first)
    what = f"pictures of {pictures.told}, seeds from {pictures.seed + first} on"
    embeddings, report = gather(drawn, count, what, stop_when_enough=stop_when_enough, folder=folder)
    return embeddings, "\n".join([report, *unsuited(pictures), *partly_seen(source)]), torch.stack(shown)
