"""Kandinsky's decoder: from image embeddings to pictures."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError
from ...density.base.progress import Progress
from ...density.base.spaces import EmbeddingSpace
from ...density.base.tensors import ordinary
from ..runtime.captured import Captured, forget_large
from ..runtime.memory import Placement, in_pieces, room
from ..runtime.noise import picture_streams
from ..runtime.threads import threads_worth
from .decoder_text import DecoderText
from .layout import read_json
from .picture_steps import picture_steps, step_back

HELD = 32_768  # a captured U-Net holds about so many bytes for each latent pixel, of a picture and of its guidance


@dataclass(frozen=True)
class DecoderDefaults:
    """A decoder's default settings: denoising steps, and guidance."""

    steps: int = 50
    guidance: float = 4.0


def read_defaults(folder: Path) -> DecoderDefaults:
    """The defaults of a decoder's folder: those of its rarity.json ({"steps": 20, "guidance": 1.5}), else Kandinsky's.

    Parameters
    ----------
    folder : the decoder's folder, the one that holds unet/.

    Raises
    ------
    RarityError : rarity.json holds something else.
    """
    path = folder / "rarity.json"
    if not path.is_file():
        return DecoderDefaults()
    found = read_json(path)
    found.pop("learning_rate", None)  # a setting of the prior, if both share a folder
    if set(found) - {"steps", "guidance"} or any(type(v) not in (int, float) for v in found.values()):
        raise RarityError(f"{path} may hold the numbers steps and guidance, got {found}. Correct or delete it.")
    defaults = DecoderDefaults(**found)
    _check_settings(defaults.steps, defaults.guidance)
    return replace(defaults, steps=int(defaults.steps))


class Decoder:
    """A loaded Kandinsky decoder. `space` is the space it understands; `defaults` its usual steps and guidance."""

    def __init__(self, *, space, zero, unet, movq, scheduler, defaults, text=None, placement=None):
        self.space: EmbeddingSpace = space
        self.unet = unet
        self.movq = movq
        self.scheduler = scheduler
        self.defaults: DecoderDefaults = defaults
        self.text: DecoderText | None = text  # Kandinsky 2.1 has one
        self._zero = zero
        self._placement = placement or Placement()

    @property
    def size(self) -> int:
        """Height and width in pixels of the pictures that the decoder was trained on."""
        return self.unet.config.sample_size * self._factor

    @property
    def _factor(self) -> int:
        """Pixels on each side of one latent pixel."""
        return 2 ** (len(self.movq.config.block_out_channels) - 1)

    def decode(
        self,
        embeddings: Embeddings,
        *,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        batch_size: int = 16,
        height: int | None = None,
        width: int | None = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Pictures of embeddings.

        Parameters
        ----------
        embeddings : N rows of this decoder's space.
        seed : the noise of a row depends on its key and the seed only, not on its place. So a row that is selected or
            joined keeps its picture, and a rare row has the noise of the usual row it started from.
        steps : denoising steps; None is the folder's own default.
        guidance : weight of classifier-free guidance against the embedding of no picture; 1 or less switches it off,
            None is the folder's own default.
        batch_size : pictures at a time. Only memory and speed depend on it; it is halved if they do not fit in memory.
        height, width : pixels; None is the size that the decoder was trained on.
        prompt, negative_prompt : texts for a decoder that reads text (Kandinsky 2.1); others ignore them. None takes
            the texts that the embeddings were sampled for, from their source, or empty texts.
        progress : called after each step with (steps done, all steps), summed over pictures; it may raise to cancel.

        Returns
        -------
        [N, height, width, 3] float32, values 0 to 1, on the CPU.

        Raises
        ------
        RarityError : embeddings of another space, a size the decoder cannot make, a number out of range, pictures that
            are not finite, not enough memory for one picture.

        The values equal those of diffusers' KandinskyV22Pipeline or KandinskyPipeline for the same noise.
        """
        self.space.require_same(embeddings.space, "embeddings to decode")
        steps = self.defaults.steps if steps is None else steps
        guidance = self.defaults.guidance if guidance is None else guidance
        _check_settings(steps, guidance)
        if steps > self.scheduler.config.num_train_timesteps:
            raise RarityError(f"The steps must be at most {self.scheduler.config.num_train_timesteps}, got {steps}.")
        if batch_size < 1:
            raise RarityError(f"The batch size must be at least 1, got {batch_size}.")
        shape = self._latent_shape(height or self.size, width or self.size)
        source = embeddings.source
        texts = [source.get(key, "") if text is None else text
                 for key, text in (("negative_prompt", negative_prompt), ("prompt", prompt))]

        def draw(piece: range) -> Tensor:
            rows = embeddings.vectors[piece.start:piece.stop]
            noise = picture_streams(embeddings.keys[piece.start:piece.stop], seed)
            tick = progress and (lambda step: progress(piece.start * steps + step * len(rows), len(embeddings) * steps))
            latents = self._denoise(rows, read, noise, shape, steps, guidance, tick)
            device = self._placement.bring(self.movq)
            pixels = self.movq.decode(latents.to(device, self.movq.dtype), force_not_quantize=True).sample
            _check_finite(pixels)
            return (pixels.float() * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu()

        with torch.no_grad(), threads_worth(self.unet):
            read = self.text and self.text.read(texts, self._placement)
            pieces = in_pieces(range(len(embeddings)), batch_size, draw, self._placement)
            try:
                return ordinary(torch.cat([pictures for _, pictures in pieces]), torch.float32)
            finally:
                forget_large(self.unet)

    def _denoise(
        self, rows: Tensor, read, noise: list[torch.Generator], shape, steps: int, guidance: float, tick
    ) -> Tensor:
        """One batch from noise to latents, [b, c, h, w]; the state x stays in float32."""
        device, dtype = self._placement.bring(self.unet), self.unet.dtype
        scheduler = deepcopy(self.scheduler)  # a scheduler keeps its steps, and a cancelled run must leave none behind
        scheduler.set_timesteps(steps, device="cpu")
        guided = guidance > 1
        told = {"image_embeds": torch.cat([self._zero.expand(len(rows), -1), rows]) if guided else rows}
        if read:  # the negative prompt comes first, as the rows of no picture do
            told["text_embeds"], told["states"] = (
                part[0 if guided else 1:].repeat_interleave(len(rows), dim=0) for part in read
            )
        given = [value.to(device, dtype) for value in told.values()]
        channels = shape[0]

        def predict(x: Tensor, t: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
            """The noise in x, and its variance if the U-Net predicts it; a function of tensors of fixed sizes."""
            known = dict(zip(told, given, strict=True))
            states = known.pop("states", None)
            x = (x.repeat(2, 1, 1, 1) if guided else x).to(dtype)
            found = self.unet(x, t, encoder_hidden_states=states, added_cond_kwargs=known).sample.float()
            # The U-Net predicts the noise and, in further channels, its variance. Guidance applies to the noise alone.
            found, variance = found[:, :channels], found[:, channels:]
            if guided:
                unconditional, conditional = found.chunk(2)
                found = unconditional + guidance * (conditional - unconditional)
                variance = variance.chunk(2)[1]
            return found, variance

        def back(x: Tensor, noise: Tensor, factors: Tensor, t: Tensor, *given: Tensor) -> Tensor:
            return step_back(x, *predict(x, t, *given), noise, factors, ours.limit)

        def drawn() -> Tensor:
            rows = torch.cat([torch.randn(1, *shape, generator=one) for one in noise])
            # From pinned memory a card copies while the processor goes on.
            return (rows.pin_memory() if device.type == "cuda" else rows).to(device, non_blocking=True)

        held = HELD * (2 if guided else 1) * len(rows) * shape[1] * shape[2]
        call = Captured(self.unet, "Decoding") if held < room(device) / 4 else lambda function, *given, depends: function(*given)
        x = drawn() * scheduler.init_noise_sigma
        ours = picture_steps(scheduler)
        depends = (guidance, ours and ours.limit, *told)
        factors, times = ours and ours.factors.to(device), scheduler.timesteps.to(device)
        with_variance = getattr(scheduler.config, "variance_type", None) in ("learned", "learned_range")
        for i, t in enumerate(scheduler.timesteps):
            if ours:
                added = drawn() if t > 0 else torch.zeros_like(x)
                x = call(back, x, added, factors[i], times[i], *given, depends=depends)
            else:
                found, variance = call(predict, x, times[i], *given, depends=depends)
                found = torch.cat([found, variance], dim=1) if with_variance else found
                x = scheduler.step(found, t, x, generator=noise).prev_sample
            if tick:
                tick(i + 1)
        return x

    def _latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        step = self._factor**2  # the U-Net halves the latent as often as the autoencoder halves the picture
        if min(height, width) < step or height % step or width % step:
            raise RarityError(
                f"Height and width must be multiples of {step} pixels, got {height} x {width}. "
                f"This decoder was trained on {self.size} x {self.size}."
            )
        return self.unet.config.in_channels, height // self._factor, width // self._factor


def _check_finite(pixels: Tensor) -> None:
    bad = int((~torch.isfinite(pixels)).flatten(1).any(dim=1).sum())
    if bad:
        raise RarityError(
            f"{bad} of {len(pixels)} pictures hold values that are not finite, and would be black. "
            f"The decoder ran in {str(pixels.dtype).removeprefix('torch.')}: load it in float32, or lower the guidance."
        )


def _check_settings(steps: int, guidance: float) -> None:
    if steps < 1 or steps != int(steps):
        raise RarityError(f"The decoding steps must be a whole number of at least 1, got {steps}.")
    if not math.isfinite(guidance):
        raise RarityError(f"The decoding guidance must be a finite number, got {guidance}.")
