"""The image encoder of a CLIP_VISION socket as an eye."""

from __future__ import annotations

from copy import copy
from weakref import WeakKeyDictionary

import comfy.clip_vision
import comfy.model_management
import torch
from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError
from ...density.base.framing import MIDDLE
from ...density.base.progress import Progress
from ...density.base.spaces import EmbeddingSpace
from ..eyes.encoding import Looks, encode_pictures
from ..eyes.fingerprint import clip_name, fingerprint, pattern
from ..runtime.memory import Placement

_SPACES: WeakKeyDictionary = WeakKeyDictionary()  # encoder that ComfyUI holds -> its space
ANY_SIZE = 256, 16  # patches of a picture, and pixels on a side of a patch, of SigLIP 2 for pictures of any size
BILINEAR = 2  # PIL's number
WITHOUT_STATES = "DINOv3ViTModel"  # gives no states of inner layers, which `encode_image` asks every encoder for


class ClipVisionEncoder(Looks):
    """An encoder that ComfyUI loaded. `space` is the space of every picture it encodes.

    As for a Kandinsky, the encoder's embedding of one fixed picture names the space. The same encoder gives the same space,
    whoever loaded it, and two different encoders give two spaces, even if they have one width.

    The embedding of CLIP is its projected one, that of DINOv2 and DINOv3 their class token. That of SigLIP and SigLIP 2 is
    the mean of their tokens, because ComfyUI does not load the layer that would sum them up.

    Parameters
    ----------
    clip_vision : the output of ComfyUI's Load CLIP Vision.
    placement : is asked to make room when memory is short; ComfyUI itself moves the encoder.

    Raises
    ------
    RarityError : an encoder that gives neither a vector nor tokens for each picture.
    """

    def __init__(self, clip_vision, placement: Placement | None = None):
        self.clip_vision = clip_vision
        self.placement = placement or Placement()
        self.space = clip_vision_space(clip_vision)
        self.mean = [round(255 * value) / 255 for value in clip_vision.image_mean]  # ComfyUI rounds pixels to 8 bits
        self.crops = clip_vision.image_size > 0  # pictures of any size are seen as they are

    def encode_images(
        self, images: Tensor, *, batch_size: int = 16, progress: Progress | None = None, keys: Tensor | None = None
    ) -> Embeddings:
        """Embeddings of pictures [N, H, W, 3], 0 to 1. Parameters and errors as for `Prior.encode_images`."""

        def encode(batch: Tensor) -> Tensor:
            return one_vector_each(self._embeds(batch))

        return encode_pictures(images, encode, self.space, batch_size, self.placement, progress, self, keys)

    def _embeds(self, batch: Tensor) -> Tensor:
        """What ComfyUI's `encode_image` calls image_embeds."""
        eye = self.clip_vision
        if type(eye.model).__name__ != WITHOUT_STATES:
            return eye.encode_image(batch).image_embeds
        comfy.model_management.load_model_gpu(eye.patcher)
        pixels = comfy.clip_vision.clip_preprocess(batch.to(eye.load_device), eye.image_size, eye.image_mean, eye.image_std)
        return eye.model(pixel_values=pixels.float())[2]

    def preparation(self, height: int, width: int) -> dict:
        """How `preprocess` prepares pictures of this size as ComfyUI does, but for its rounding of pixels."""
        eye = self.clip_vision
        colours = {"image_mean": eye.image_mean, "image_std": eye.image_std}
        if self.crops:
            return {"size": eye.image_size, "crop_size": eye.image_size, "round_size": True, **colours}
        from comfy.clip_model import siglip2_flex_calc_resolution

        patches, patch = _any_size(eye)
        height, width = siglip2_flex_calc_resolution(height, width, patch, patches)
        return {"size": {"height": height, "width": width}, "resample": BILINEAR, "do_center_crop": False, **colours}


def eye_of(connected, placement: Placement | None = None, framing: str = MIDDLE):
    """The eye that is connected to a node. It has a `space`, and `encode_images` makes embeddings of this space.

    Parameters
    ----------
    connected : the output of ComfyUI's Load CLIP Vision, an encoder of OpenCLIP, or a Prior. It is not changed.
    placement : see `ClipVisionEncoder`.   framing : how much of a picture that is not square the eye is shown; see `framed`.

    Raises
    ------
    RarityError : no eye; an encoder that gives neither a vector nor tokens for each picture.
    """
    if isinstance(connected, Looks):
        found = copy(connected)
    elif hasattr(connected, "encode_image"):
        found = ClipVisionEncoder(connected, placement)
    else:
        raise RarityError(
            "An eye must be an encoder of Load CLIP Vision or Load OpenCLIP, or the prior of Load Kandinsky; "
            f"got {type(connected).__name__}. Connect one of these to eye."
        )
    found.framing = framing
    return found


def clip_vision_space(clip_vision) -> EmbeddingSpace:
    """The space of an encoder's embeddings.

    The encoder has to encode one picture for it, which takes a ViT-H seconds on a processor. The space of a loaded encoder
    is therefore kept, so that this happens once.

    Raises
    ------
    RarityError : an encoder that gives neither a vector nor tokens for each picture.
    """
    if clip_vision not in _SPACES:
        _SPACES[clip_vision] = _space_of(clip_vision)
    return _SPACES[clip_vision]


def _space_of(clip_vision) -> EmbeddingSpace:
    comfy.model_management.load_model_gpu(clip_vision.patcher)
    patches, patch = _any_size(clip_vision)
    size = clip_vision.image_size if clip_vision.image_size > 0 else patch * int(patches**0.5)
    with torch.no_grad():
        embeds = clip_vision.model(pixel_values=pattern(size).to(clip_vision.load_device), intermediate_output=-2)[2]
    embedding = one_vector_each(embeds)[0]
    return EmbeddingSpace(_name(clip_vision), fingerprint(embedding), len(embedding))


def gives_tokens(clip_vision) -> bool:
    """Whether an encoder gives tokens in place of one vector for each picture, as SigLIP does."""
    return getattr(getattr(clip_vision.model, "vision_model", None), "output_layernorm", False)


def _name(clip_vision) -> str:
    """The name of an encoder for people."""
    vision = getattr(clip_vision.model, "vision_model", None)
    if vision is None:  # DINOv2, DINOv3
        return type(clip_vision.model).__name__
    weight, layers = vision.embeddings.patch_embedding.weight, len(vision.encoder.layers)
    if weight.dim() == 2:
        return f"SigLIP 2 ViT {weight.shape[0]}x{layers}/{_any_size(clip_vision)[1]}"
    name = clip_name(weight.shape[0], layers, weight.shape[2])
    return name.replace("CLIP", "SigLIP") if gives_tokens(clip_vision) else name


def _any_size(clip_vision) -> tuple[int, int]:
    """The most patches of a picture, and the pixels on a side of a patch, of an encoder for pictures of any size."""
    config, (patches, patch) = getattr(clip_vision, "config", {}), ANY_SIZE
    return config.get("num_patches", patches), config.get("patch_size", patch)


def one_vector_each(embeds: Tensor) -> Tensor:
    """One vector for each picture, [n, d] float32 on the CPU; of tokens [n, T, d] their mean. Differentiable.

    Raises
    ------
    RarityError : another shape.
    """
    if embeds.dim() not in (2, 3):
        raise RarityError(
            f"This CLIP_VISION gives {tuple(embeds.shape[1:])} numbers a picture, expected a vector or tokens. Load an encoder of CLIP, "
            "SigLIP or DINO."
        )
    embeds = embeds.float()
    return (embeds.mean(dim=1) if embeds.dim() == 3 else embeds).cpu()
