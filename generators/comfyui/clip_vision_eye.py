"""The image encoder of a CLIP_VISION socket as an eye."""

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

_SPACES: WeakKeyDictionary = WeakKeyDictionary()  # encoder that ComfyUI holds -> its space
OTHER_ENCODER = "SigLIP encoders do that; load a CLIP one, such as clip_vision_h or clip_vision_g."


class ClipVisionEncoder(Looks):
    """An encoder that ComfyUI loaded. `space` is the space of every picture it encodes.

    As for a Kandinsky, the encoder's embedding of one fixed picture names the space. The same encoder gives the same space,
    whoever loaded it, and two different encoders give two spaces, even if they have one width.

    Parameters
    ----------
    clip_vision : the output of ComfyUI's Load CLIP Vision.
    placement : is asked to make room when memory is short; ComfyUI itself moves the encoder.

    Raises
    ------
    RarityError : an encoder that does not give one vector for each picture.
    """

    def __init__(self, clip_vision, placement: Placement | None = None):
        self.clip_vision = clip_vision
        self.placement = placement or Placement()
        self.space = clip_vision_space(clip_vision)
        self.mean = [round(255 * value) / 255 for value in clip_vision.image_mean]  # ComfyUI rounds pixels to 8 bits

    def encode_images(
        self, images: Tensor, *, batch_size: int = 16, progress: Progress | None = None, keys: Tensor | None = None
    ) -> Embeddings:
        """Embeddings of pictures [N, H, W, 3], 0 to 1. Parameters and errors as for `Prior.encode_images`."""

        def encode(batch: Tensor) -> Tensor:
            return _one_vector_each(self.clip_vision.encode_image(batch).image_embeds)

        return encode_pictures(images, encode, self.space, batch_size, self.placement, progress, self, keys)


def eye(node: str, placement: Placement, framing: str = MIDDLE, **sockets):
    """The one eye that is connected to a node. It has a `space`, and `encode_images` makes embeddings of this space.

    framing : how much of a picture that is not square the eye is shown; see `framed`.
    sockets : prior, clip_vision and encoder, or those that the node has; None for a socket without connection.

    Raises
    ------
    RarityError : no eye or several; an encoder that does not give one vector for each picture.
    """
    given = the_one(node, **sockets)
    # A copy, because other nodes use the connected object, too.
    found = ClipVisionEncoder(given, placement) if given is sockets.get("clip_vision") else copy(given)
    found.framing = framing
    return found


def clip_vision_space(clip_vision) -> EmbeddingSpace:
    """The space of an encoder's embeddings.

    The encoder has to encode one picture for it, which takes a ViT-H seconds on a processor. The space of a loaded encoder
    is therefore kept, so that this happens once.

    Raises
    ------
    RarityError : an encoder that does not give one vector for each picture.
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
