"""ComfyUI's own models: pictures through the image encoder of a CLIP_VISION socket."""

from __future__ import annotations

import comfy.model_management
import torch
from torch import Tensor

from ..density.embeddings import Embeddings
from ..density.errors import RarityError
from ..density.spaces import EmbeddingSpace
from .fingerprint import clip_name, fingerprint, pattern
from .kandinsky_prior import Progress
from .pictures import check_pictures


def encode_with_clip_vision(
    clip_vision, images: Tensor, *, batch_size: int = 16, progress: Progress | None = None
) -> Embeddings:
    """Embeddings of pictures, by an encoder that ComfyUI loaded.

    The space is named as a Kandinsky's is, by what the encoder makes of one fixed picture: the same encoder is the same
    space whoever loaded it, and two encoders of one width never are.

    Parameters
    ----------
    clip_vision : what ComfyUI's Load CLIP Vision gives.   images : [N, H, W, 3], values 0 to 1; the middle square is read.
    batch_size : pictures at a time.   progress : called with (pictures done, N).

    Returns
    -------
    N embeddings, projected, not normalised.

    Raises
    ------
    RarityError : another shape or range of pictures; an encoder that gives no one vector a picture.
    """
    check_pictures(images)
    rows = []
    for batch in images.split(batch_size):
        rows.append(_one_vector_each(clip_vision.encode_image(batch).image_embeds))
        if progress:
            progress(sum(map(len, rows)), len(images))
    return Embeddings(torch.cat(rows), clip_vision_space(clip_vision), source={"kind": "pictures"})


def clip_vision_space(clip_vision) -> EmbeddingSpace:
    """The space of what this encoder makes.

    Raises
    ------
    RarityError : an encoder that gives no one vector a picture.
    """
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
            f"This CLIP_VISION gives {tuple(embeds.shape[1:])} numbers a picture, expected one vector. SigLIP encoders do "
            "that; load a CLIP one, such as clip_vision_h or clip_vision_g."
        )
    return embeds.float().cpu()
