"""The text encoder of the decoder of Kandinsky 2.1, which reads the prompt beside an image embedding."""

from __future__ import annotations

import logging

from torch import Tensor

from ..eyes.prompt_tokens import Reading, unread
from ..runtime.memory import Placement

LENGTH = 77  # tokens: the decoder was trained with so many, whatever the tokenizer's own limit is

logger = logging.getLogger(__name__)


class DecoderText:
    """The text encoder of a Kandinsky 2.1 decoder (diffusers' MultilingualCLIP) with its tokenizer."""

    def __init__(self, *, text_encoder, tokenizer):
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer

    def read(self, prompts: list[str], placement: Placement) -> tuple[Tensor, Tensor]:
        """Encode n prompts for the U-Net. A prompt may be empty.

        Parameters
        ----------
        prompts : n texts; the first 77 tokens of each are read.
        placement : brings the text encoder to its device.

        Returns
        -------
        embedding [n, d], and the tokens' states [n, 77, h]. The states keep the padding, as in the decoder's training.
        """
        for note in unread(self.reads(prompts)):
            logger.warning("%s", note)
        device = placement.bring(self.text_encoder)
        tokens = self._tokenize(prompts)
        return self.text_encoder(
            input_ids=tokens.input_ids.to(device), attention_mask=tokens.attention_mask.to(device)
        )

    def reads(self, texts: list[str]) -> list[Reading]:
        """What the decoder reads of texts, without encoding them; see `Reading`."""
        rows = self._tokenize(texts).input_ids.tolist()
        lengths = [len(ids) for ids in self.tokenizer(texts).input_ids]
        return [Reading(text, tuple(row), length) for text, row, length in zip(texts, rows, lengths, strict=True)]

    def _tokenize(self, texts: list[str]):
        return self.tokenizer(
            texts, padding="max_length", max_length=LENGTH, truncation=True, return_attention_mask=True, return_tensors="pt"
        )
