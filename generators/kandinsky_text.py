"""What the decoder of Kandinsky 2.1 reads beside an image embedding: the prompt, by a multilingual encoder."""

from __future__ import annotations

from torch import Tensor

from .memory import Placement

LENGTH = 77  # tokens, whatever the tokenizer's own limit is: this is what the decoder was trained with


class DecoderText:
    """The text encoder of a Kandinsky 2.1 decoder (diffusers' MultilingualCLIP) with its tokenizer."""

    def __init__(self, *, text_encoder, tokenizer):
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer

    def read(self, prompts: list[str], placement: Placement) -> tuple[Tensor, Tensor]:
        """What the U-Net is told of n prompts; an empty one is fine.

        Parameters
        ----------
        prompts : n texts; of each the first 77 tokens are read.
        placement : brings the text encoder to its device.

        Returns
        -------
        embedding [n, d], and the tokens' states [n, 77, h]. Padding stays in the states, as the decoder was trained.
        """
        device = placement.bring(self.text_encoder)
        tokens = self.tokenizer(
            prompts,
            padding="max_length",
            max_length=LENGTH,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return self.text_encoder(
            input_ids=tokens.input_ids.to(device), attention_mask=tokens.attention_mask.to(device)
        )
