"""Kandinsky's prior: from a prompt to image embeddings, with its text and image encoders."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError
from ...density.base.identity import sample_keys
from ...density.base.log import get_logger
from ...density.base.progress import Progress
from ...density.base.spaces import EmbeddingSpace
from ...density.base.tensors import ordinary
from ..eyes.encoding import Looks, check_texts, encode_pictures
from ..eyes.fingerprint import weights_name
from ..eyes.preprocessing import crops_middle, preprocess
from ..eyes.prompt_tokens import Reading, unread
from ..runtime.captured import forget_large
from ..runtime.memory import Placement, in_pieces
from ..runtime.threads import threads_worth
from .layout import read_json
from .prior_batches import PriorBatches
from .prior_chain import PriorChain

logger = get_logger(__name__)

LEARNING_RATE = 1e-4  # of concepts, for models of full size; by Song & Elgammal (2026)


class Prior(Looks):
    """A loaded Kandinsky prior. `space` is the space of all its samples and of all pictures it encodes."""

    def __init__(
        self,
        *,
        space,
        zero,
        transformer,
        text_encoder,
        tokenizer,
        image_encoder,
        image_processor,
        scheduler,
        placement=None,
        learning_rate=LEARNING_RATE,
        words=(),
    ):
        self.space: EmbeddingSpace = space
        self.transformer = transformer
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.image_encoder = image_encoder
        self.image_processor: dict = image_processor
        self.crops, self.mean = crops_middle(image_processor), image_processor.get("image_mean", Looks.mean)
        self.scheduler = scheduler
        self._zero = zero
        self.placement = placement or Placement()
        self.learning_rate: float = learning_rate  # of concepts, if a caller gives none
        self.words: tuple[str, ...] = tuple(words)  # words that it was trained on; none if its folder does not say
        self.producer = weights_name([*transformer.parameters(), *text_encoder.parameters()])  # who makes its samples

    def zero_embedding(self) -> Tensor:
        """The embedding of no picture (all pixels zero), [1, d], which is the decoder's null condition.

        It is for scripts that decode with diffusers' own pipelines; `Decoder` has it already.
        """
        return self._zero.clone()

    def encode_text(self, prompts: list[str]) -> Tensor:
        """Text embeddings in the joint space of text and pictures.

        Parameters
        ----------
        prompts : n texts.

        Returns
        -------
        [n, d] float32 on the CPU, projected, not normalised.

        Raises
        ------
        RarityError : no prompts, or an empty one.
        """
        check_texts(prompts)
        with torch.no_grad():
            return ordinary(self.read(list(prompts)).embedding, torch.float32)

    def encode_images(
        self, images: Tensor, *, batch_size: int = 64, progress: Progress | None = None, keys: Tensor | None = None
    ) -> Embeddings:
        """Embeddings of pictures, in the same space as the samples.

        Parameters
        ----------
        images : [N, H, W, 3], values 0 to 1.
        batch_size : pictures at a time; halved if they do not fit in memory.
        progress : called with (pictures done, N).
        keys : [N], who the pictures are; None makes keys of their pixels.

        Returns
        -------
        N embeddings.

        Raises
        ------
        RarityError : another shape or range.
        """

        def encode(batch: Tensor) -> Tensor:
            device = self.placement.bring(self.image_encoder)
            pixels = preprocess(batch, self.image_processor, device).to(self.image_encoder.dtype)
            return self.image_encoder(pixels).image_embeds

        with threads_worth(self.image_encoder):
            return encode_pictures(images, encode, self.space, batch_size, self.placement, progress, self, keys)

    def sample(
        self,
        prompt: str,
        count: int,
        *,
        seed: int = 0,
        steps: int = 25,
        guidance: float = 4.0,
        negative_prompt: str = "",
        batch_size: int = 0,
        progress: Progress | None = None,
    ) -> Embeddings:
        """Embeddings of the pictures that this model would make for a prompt.

        Parameters
        ----------
        prompt : what to draw.
        count : number of samples N.
        seed : sample i of a seed is the same for every count and batch size, up to float rounding.
        steps : denoising steps, at least 2.
        guidance : weight g of classifier-free guidance; 1 or less switches it off.
        negative_prompt : the prompt of the other branch of the guidance.
        batch_size : samples at a time; only memory and speed depend on it. It is halved if they do not fit in memory. 0 is
            256 on the processor, and on a graphics card as many as fit well, at most 2,500.
        progress : called after each step with (steps done, all steps), summed over the samples. An exception that it raises
            ends the sampling.

        Returns
        -------
        N embeddings, raw:  e = x_0 clip_std + clip_mean.

        Raises
        ------
        RarityError : empty prompt, a number out of range, or not enough memory for one sample.

        Each step predicts the clean embedding,  x_hat = u + g (c - u)  with c and u the predictions for the prompt and
        the negative prompt, and draws x_{t-1} from the posterior q(x_{t-1} | x_t, x_hat).
        Source: Ramesh et al. 2022 (arXiv 2204.06125), section 2.2; the numbers are those of diffusers'
        KandinskyV22PriorPipeline and KandinskyPriorPipeline for the same noise.
        """
        batches = list(
            self.sample_batches(
                prompt, count, seed=seed, steps=steps, guidance=guidance, negative_prompt=negative_prompt,
                batch_size=batch_size, progress=progress,
            )
        )
        source = {key: value for key, value in batches[0].source.items() if key != "first"}
        return replace(Embeddings.cat(batches), source=source)

    def sample_batches(
        self,
        prompt: str,
        count: int,
        *,
        first: int = 0,
        seed: int = 0,
        steps: int = 25,
        guidance: float = 4.0,
        negative_prompt: str = "",
        batch_size: int = 0,
        progress: Progress | None = None,
    ) -> Iterator[Embeddings]:
        """The samples first ... count - 1 of a seed, batch by batch, for densities that learn from more than fits in memory.

        Parameters
        ----------
        first : the index of the first sample, so that sampling can go on where it stopped.
        prompt, count, seed, steps, guidance, negative_prompt, batch_size, progress : as in `sample`. Everything is
            checked, and the prompt is read, before the first batch is drawn.

        Returns
        -------
        Batches of at most `batch_size`, if it is not 0. The source of a batch holds the index of its first sample as `first`.

        Raises
        ------
        RarityError : as `sample`; or `first` is not below `count`.
        """
        check_texts([prompt])
        for name, value, least in (("count", count, 1), ("steps", steps, 2), ("batch size", batch_size, 0)):
            if value < least:
                raise RarityError(f"The {name} must be at least {least}, got {value}.")
        if not 0 <= first < count:
            raise RarityError(f"The first sample must be one of 0 to {count - 1:,}, got {first:,}.")
        if steps > self.scheduler.config.num_train_timesteps:
            raise RarityError(f"The steps must be at most {self.scheduler.config.num_train_timesteps}, got {steps}.")
        if not math.isfinite(guidance):
            raise RarityError(f"The guidance must be a finite number, got {guidance}.")
        source = sampling_source(prompt, seed=seed, steps=steps, guidance=guidance, negative_prompt=negative_prompt)
        with torch.no_grad(), threads_worth(self.text_encoder):
            read = self.read([prompt, negative_prompt] if guidance > 1 else [prompt])
        chain = PriorChain(self.transformer, self.scheduler, read.mask, steps, guidance)
        drawn = PriorBatches(chain, read, self.placement, seed, self.space.width)

        def draw(piece: range) -> Tensor:
            done, total = (piece.start - first) * steps, (count - first) * steps
            return drawn.draw(piece, progress and (lambda step: progress(done + step * len(piece), total)))

        origin = {**source, "space": self.space.to_dict(), "producer": self.producer}

        def batches() -> Iterator[Embeddings]:
            size = batch_size or drawn.fitting(count - first)
            try:
                for piece, rows in in_pieces(range(first, count), size, draw, self.placement):
                    yield Embeddings(rows, self.space, (), {**source, "first": piece.start}, sample_keys(origin, piece))
            finally:
                forget_large(self.transformer)

        return batches()

    def tokenize(self, prompts: list[str]):
        """The tokens of prompts for the text encoder, padded and cut to its length: input_ids, attention_mask."""
        return self.tokenizer(
            prompts, padding="max_length", max_length=self.tokenizer.model_max_length, truncation=True, return_tensors="pt"
        )

    def reads(self, texts: list[str]) -> list[Reading]:
        """What the text encoder reads of texts, without encoding them; see `Reading`."""
        rows = self.tokenize(texts).input_ids.tolist()
        lengths = [len(ids) for ids in self.tokenizer(texts).input_ids]
        return [Reading(text, tuple(row), length, self.words) for text, row, length in zip(texts, rows, lengths, strict=True)]

    def read(self, prompts: list[str]) -> Texts:
        """The two things that the prior needs of texts: the state of every token, and the embedding of the text."""
        device = self.placement.bring(self.text_encoder)
        tokens = self.tokenize(prompts)
        for note in unread(self.reads(prompts)):
            logger.warning("%s", note)
        encoded = self.text_encoder(tokens.input_ids.to(device))
        return Texts(encoded.text_embeds, encoded.last_hidden_state, tokens.attention_mask.bool())


class Texts(NamedTuple):
    """n texts as the prior reads them: embedding [n, d], hidden [n, tokens, d], and mask [n, tokens], on the CPU."""

    embedding: Tensor
    hidden: Tensor
    mask: Tensor


def sampling_source(
    prompt: str, *, seed: int = 0, steps: int = 25, guidance: float = 4.0, negative_prompt: str = ""
) -> dict:
    """The source of sampled embeddings: everything that decides what a sample is, except its index."""
    return {"kind": "prior", "prompt": prompt, "negative_prompt": negative_prompt,
            "seed": seed, "steps": steps, "guidance": float(guidance)}


def read_learning_rate(folder: Path) -> float:
    """The learning rate of concepts: that in rarity.json of the prior's folder ({"learning_rate": 0.001}), else the published one.

    Parameters
    ----------
    folder : the folder that holds prior/ or prior_prior/.

    Raises
    ------
    RarityError : the value in the file is no learning rate.
    """
    path = folder / "rarity.json"
    rate = read_json(path).get("learning_rate", LEARNING_RATE) if path.is_file() else LEARNING_RATE
    if type(rate) not in (int, float) or not 0 < rate <= 1:
        raise RarityError(f"The learning_rate in {path} must be a number above 0 and at most 1, got {rate!r}. Correct it.")
    return float(rate)
