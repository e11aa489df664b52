"""The image encoder of a Kandinsky: the name of its space, and its embedding of no picture."""

from __future__ import annotations

import torch
from torch import Tensor

from ..eyes.fingerprint import clip_name, fingerprint, pattern


def encoder_name(config) -> str:
    """A name for people, from the configuration of a CLIPVisionModelWithProjection."""
    return clip_name(config.hidden_size, config.num_hidden_layers, config.patch_size)


def encoder_fingerprint(image_encoder) -> str:
    """A short digest of the results of a CLIPVisionModelWithProjection, which must be in float32 on the CPU."""
    with torch.no_grad():
        return fingerprint(image_encoder(pattern(image_encoder.config.image_size)).image_embeds[0])


def zero_picture_embedding(image_encoder) -> Tensor:
    """The embedding of an all-zero input, [1, d]."""
    size = image_encoder.config.image_size
    with torch.no_grad():
        return image_encoder(torch.zeros(1, 3, size, size)).image_embeds
