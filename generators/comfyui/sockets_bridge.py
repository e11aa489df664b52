"""Embeddings to and from ComfyUI's own sockets: each object holds one row, and knows the encoder of the row."""

from __future__ import annotations

from dataclasses import replace

import comfy.clip_vision
import comfy.model_management
import torch
from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError
from ...density.base.spaces import EmbeddingSpace
from .clip_vision_eye import ClipVisionEncoder, gives_tokens, one_vector_each

TOKEN_STATES = ("last_hidden_state", "penultimate_hidden_states", "all_hidden_states", "mm_projected", "image_sizes")
READERS = {768: "SD 2.1 unCLIP-l and Stable Cascade (CLIP ViT-L/14)", 1024: "SD 2.1 unCLIP-h (CLIP ViT-H/14)",
           1280: "SDXL (CLIP ViT-bigG/14: clip_vision_g)"}


class NoTokenStates(RarityError, AttributeError):
    """Raised if a node asks an embedding for token states, which exist only for a picture that went through the encoder."""


class EmbeddingOutput(comfy.clip_vision.Output):
    """A CLIP_VISION_OUTPUT made of an embedding: `image_embeds` [1, d], their space, and their key [1]."""

    def __init__(self, row: Tensor, space: EmbeddingSpace, key: Tensor):
        self.image_embeds = row
        self.space, self.key = space, key

    def __getattr__(self, name):  # called for attributes that do not exist
        if name in TOKEN_STATES:
            raise NoTokenStates(
                f"This CLIP_VISION_OUTPUT was made from an embedding and has no {name}: Apply Style Model, IP-Adapter plus, Wan, "
                "Hunyuan, Lumina 2 and Z-Image read the picture's tokens. Use unCLIP Conditioning with a model that reads image "
                "embeddings, or draw the picture first and encode it."
            )
        raise AttributeError(name)


def embeddings_from(eye, **sockets) -> Embeddings:
    """The embeddings that another node made, in the one socket that is connected.

    Parameters
    ----------
    eye : the eye that should have made them, such as `eye_of` gives.
    sockets : clip_vision_output, and those of other packs with their rows [N, d]; None for a socket without connection.

    Raises
    ------
    RarityError : no socket is connected, or several are; the errors of `from_clip_vision_output` and `from_rows`.
    """
    given = {name: value for name, value in sockets.items() if value is not None}
    if len(given) != 1:
        *names, last = sockets
        raise RarityError(
            f"Embeddings from CLIP Vision needs exactly one of {', '.join(names)} and {last}, got {' and '.join(given) or 'none'}. "
            "Connect only one of these here. For a second one use a second node, and Join Embeddings makes one set of both."
        )
    ((name, made),) = given.items()
    return from_clip_vision_output(made, eye) if name == "clip_vision_output" else from_rows(made, eye.space, "socket of another pack")


def from_clip_vision_output(output, eye) -> Embeddings:
    """The embeddings inside a CLIP_VISION_OUTPUT.

    Parameters
    ----------
    output : the result of CLIP Vision Encode; image_embeds [N, d], or tokens [N, T, d] of an eye that gives tokens.
    eye : the eye that should have made it. If ComfyUI loaded it, its last layers run again on the token states as a check.

    Returns
    -------
    N embeddings, projected, not normalised.

    Raises
    ------
    RarityError : not one vector for each picture, another width, or another encoder made it.
    """
    space, clip_vision = eye.space, eye.clip_vision if isinstance(eye, ClipVisionEncoder) else None
    rows = getattr(output, "image_embeds", None)
    if clip_vision is not None and isinstance(rows, Tensor) and rows.dim() == 3 and gives_tokens(clip_vision):
        return from_rows(one_vector_each(rows), space, "CLIP_VISION_OUTPUT")
    embeddings = from_rows(rows, space, "CLIP_VISION_OUTPUT")
    if isinstance(output, EmbeddingOutput):
        space.require_same(output.space, "CLIP_VISION_OUTPUT")
        return replace(embeddings, keys=output.key)
    if clip_vision is not None and (expected := _projected_again(output, clip_vision)) is not None:
        # Half precision is exact to 1e-3. The results of another encoder are not alike at all.
        if not torch.allclose(expected, embeddings.vectors, rtol=0, atol=0.05 * embeddings.vectors.abs().max().item()):
            raise RarityError(
                f"This CLIP_VISION_OUTPUT is {space.width} wide, as what {space} makes, but another encoder made it. "
                "Connect the CLIP_VISION that CLIP Vision Encode used."
            )
    return embeddings


def _projected_again(output, clip_vision):
    """The token states after the encoder's last two layers, [N, d]; None without token states or for an unknown build."""
    model, tokens = clip_vision.model, getattr(output, "last_hidden_state", None)
    norm = getattr(getattr(model, "vision_model", None), "post_layernorm", None)
    if tokens is None or norm is None or tokens.shape[-1] != norm.weight.shape[0]:
        return None
    comfy.model_management.load_model_gpu(clip_vision.patcher)
    with torch.no_grad():
        return model.visual_projection(norm(tokens[:, 0].to(clip_vision.load_device).float())).float().cpu()


def from_rows(rows, space: EmbeddingSpace, socket: str) -> Embeddings:
    """Embeddings of a bare tensor that another pack carries.

    Parameters
    ----------
    rows : [N, d].   space : of the encoder that should have made them.   socket : the name of the socket, for errors.

    Raises
    ------
    RarityError : another shape, or another width than the encoder's.
    """
    if not isinstance(rows, Tensor) or rows.dim() != 2:
        got = f"shape {list(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
        raise RarityError(
            f"A {socket} must hold one vector a picture, [N, {space.width}], got {got}. Token states (IP-Adapter plus, SigLIP) "
            "are no embedding: encode the pictures with Encode Images."
        )
    if rows.shape[1] != space.width:
        raise RarityError(
            f"This {socket} is {rows.shape[1]} numbers wide, but {space} makes {space.width}. "
            "Connect the encoder that made it."
        )
    return Embeddings(rows.float(), space, source={"kind": "pictures"})


def to_clip_vision_outputs(embeddings: Embeddings, *, eye=None, model=None) -> list[EmbeddingOutput]:
    """One CLIP_VISION_OUTPUT for each embedding. Models add up the rows of one, so that a batch would become one picture.

    Parameters
    ----------
    embeddings : N rows in a `raw` space, as the encoder projects them.
    eye : the eye that the model was trained with. Its space must be that of the embeddings.
    model : the MODEL that is to draw them. It must read image embeddings of this width.

    Returns
    -------
    N outputs, image_embeds [1, d] float32 on ComfyUI's intermediate device.

    Raises
    ------
    RarityError : a scaled space, another encoder, a model that would ignore the embeddings or read other ones.
    """
    _check_space(embeddings, eye)
    space = embeddings.space
    if model is not None and (width := image_embedding_width(model)) != space.width:
        raise RarityError(
            f"This MODEL ({_kind(model)}) reads image embeddings {width:,} wide, of {READERS.get(width, 'its own encoder')}; "
            f"these are {space.width:,} wide, of {space}. Encode the pictures with the model's own encoder."
        )
    device = comfy.model_management.intermediate_device()
    rows = zip(embeddings.vectors.split(1), embeddings.keys.split(1), strict=True)
    return [EmbeddingOutput(row.clone().to(device), space, key) for row, key in rows]


def to_rows(embeddings: Embeddings, *, eye=None) -> tuple[list[Tensor], list[Tensor]]:
    """Each embedding as a bare tensor [1, d], once for comfyui-kandinsky22, and once for the IP-Adapter nodes.

    The Kandinsky nodes join it with a tensor on the device that computes. The IP-Adapter nodes join it with a tensor on the
    device where nodes return their results.

    Raises
    ------
    RarityError : a scaled space, or another one than that of the eye.
    """
    _check_space(embeddings, eye)
    devices = comfy.model_management.get_torch_device(), comfy.model_management.intermediate_device()
    kandinsky, ip_adapter = ([row[None].clone().to(device) for row in embeddings.vectors] for device in devices)
    return kandinsky, ip_adapter


def _check_space(embeddings, eye):
    space = embeddings.space
    if space.kind != "raw":
        raise RarityError(
            f"Models read embeddings as the encoder leaves them (raw), these are {space.kind}: {space}. "
            "Connect the embeddings that Encode Images, Sample Prior or Optimize gave."
        )
    if eye is not None:
        eye.space.require_same(space, "embeddings")


def image_embedding_width(model) -> int:
    """The width of the image embeddings that a MODEL reads from unCLIP Conditioning.

    Raises
    ------
    RarityError : the model reads none. ComfyUI itself would silently ignore them.
    """
    augmentor = getattr(model.model, "noise_augmentor", None)  # SD 2.1 unCLIP, SDXL
    width = getattr(getattr(augmentor, "time_embed", None), "dim", None)
    mapper = getattr(getattr(model.model, "diffusion_model", None), "clip_img_mapper", None)  # Stable Cascade, stage C
    if width is None and mapper is None:
        raise RarityError(
            f"This MODEL ({_kind(model)}) has no input for image embeddings: unCLIP Conditioning would change nothing. Expected "
            "SDXL, SD 2.1 unCLIP or Stable Cascade stage C. Load one of those, or steer this one by its text conditioning."
        )
    return width if mapper is None else mapper.in_features


def _kind(model) -> str:
    return type(getattr(model.model, "model_config", model.model)).__name__


def describe_outputs(embeddings: Embeddings, *, eye=None, model=None) -> str:
    """A text for the artist: what leaves the bridge, and what was not checked."""
    unchecked = [
        f"Not checked: {what}." for given, what in (
            (eye, "whether the model was trained with this encoder (connect eye)"),
            (model, "whether the model reads image embeddings at all (connect model)"),
        ) if given is None
    ]
    return "\n".join([
        f"{len(embeddings):,} embeddings of {embeddings.space}, one picture each.",
        "For unCLIP Conditioning. Apply Style Model, IP-Adapter plus, Wan, Hunyuan, Lumina 2 and Z-Image read a picture's tokens, "
        "which these have not.",
        *unchecked,
    ])
