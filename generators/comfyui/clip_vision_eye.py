"""ComfyUI's own models: pictures through the image encoder of a CLIP_VISION socket."""

from __future__ import annotations

from copy import copy
from weakref import WeakKeyDictionary

import comfy.model_management
import torch
from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError
from ...density.base.framing import MIDDLE
from ...density.base.progress import Progress
from ...density.base.spaces import EmbeddingSpace
from ..eyes.encoding import Looks, encode_pictures, the_one
from ..eyes.fingerprint import clip_name, fingerprint, pattern
from ..runtime.memory import Placement

_SPACES: WeakKeyDictionary = WeakKeyDictionary()  # of the encoders that ComfyUI holds
OTHER_ENCODER = "SigLIP encoders do that; load a CLIP one, such as clip_vision_h or clip_vision_g."


class ClipVisionEncoder(Looks):
    """An encoder that ComfyUI loaded. `space` is the space of every picture it encodes.

    The space is named as a Kandinsky's is, by what the encoder makes of one fixed picture: the same encoder is the same
    space whoever loaded it, and two encoders of one width never are.

    Parameters
    ----------
    clip_vision : what ComfyUI's Load CLIP Vision gives.
    placement : is asked to make room when memory is short; ComfyUI itself moves the encoder.

    Raises
    ------
    RarityError : an encoder that gives no one vector a picture.
    """

    def __init__(self, clip_vision, placement: Placement | None = None):
        self.clip_vision = clip_vision
        self.placement = placement or Placement()
        self.space = clip_vision_space(clip_vision)
        self.mean = [round(255 * value) / 255 for value in clip_vision.image_mean]  # ComfyUI rounds pixels to 8 bits

    def encode_images(
        self, images: Tensor, *, batch_size: int = 16, progress: Progress | None = None, keys: Tensor | None = None
    ) -> Embeddings:
        """Embeddings of pictures [N, H, W, 3], 0 to 1; parameters and errors as those of `Prior.encode_images`."""

        def encode(batch: Tensor) -> Tensor:
            return _one_vector_each(self.clip_vision.encode_image(batch).image_embeds)

        return encode_pictures(images, encode, self.space, batch_size, self.placement, progress, self, keys)


def eye(node: str, placement: Placement, framing: str = MIDDLE, **sockets):
    """The one eye that is connected to a node: something with a `space`, and `encode_images` that makes its embeddings.

    framing : how much of pictures that are not square it is shown; see `framed`.
    sockets : prior, clip_vision and encoder, as many of them as the node has; None where nothing is connected.

    Raises
    ------
    RarityError : none or several; an encoder that gives no one vector a picture.
    """
    given = the_one(node, **sockets)
    # A copy: what is connected is shared with other nodes.
    found = ClipVisionEncoder(given, placement) if given is sockets.get("clip_vision") else copy(given)
    found.framing = framing
    return found


def clip_vision_space(clip_vision) -> EmbeddingSpace:
    """The space of what this encoder makes.

    It takes one look, seconds for a ViT-H on a processor: each loaded encoder has one, however many nodes ask.

    Raises
    ------
    RarityError : an encoder that gives no one vector a picture.
    """
    if clip_vision not in _SPACES:
        _SPACES[clip_vision] = _space_of(clip_vision)
    return _SPACES[clip_vision]


def _space_of(clip_vision) -> EmbeddingSpace:
    if clip_vision.image_size < 1:
        raise RarityError(f"This CLIP_VISION gives tokens of pictures of any size, expected one vector. {OTHER_ENCODER}")
    comfy.model_management.load_model_gpu(clip_vision.patcher)
    shown = pattern(clip_vision.image_size).to(clip_vision.load_device)
    with torch.no_grad():
        embedding = _one_vector_each(clip_vision.model(pixel_values=shown, intermediate_output=-2)[2])[0]
    vision = getattr(clip_vision.model, "vision_model", None)
    if vision is None:  # DINOv2
        name = type(clip_vision.model).__name__
    else:
        width, _, patch, _ = vision.embeddings.patch_embedding.weight.shape
        name = clip_name(width, len(vision.encoder.layers), patch)
    return EmbeddingSpace(name, fingerprint(embedding), len(embedding))


def _one_vector_each(embeds: Tensor) -> Tensor:
    if embeds.dim() != 2:
        raise RarityError(
            f"This CLIP_VISION gives {tuple(embeds.shape[1:])} numbers a picture, expected one vector. {OTHER_ENCODER}"
        )
    return embeds.float().cpu()
