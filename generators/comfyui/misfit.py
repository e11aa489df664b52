"""Why a MODEL cannot read a CONDITIONING, in an artist's words. Sampling itself would end in an error about shapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management
from torch import Tensor

from ...density.base.errors import RarityError
from .prompts.text_parts import POOLED

MADE_FOR = {768: "Stable Diffusion 1.5", 1024: "Stable Diffusion 2", 1280: "Stable Cascade and the refiner of Stable Diffusion XL",
            2048: "Stable Diffusion XL", 2304: "Lumina 2", 2560: "Z-Image", 3584: "Qwen-Image",
            4096: "Stable Diffusion 3, Flux and others that read T5", 30720: "Krea 2"}
POOLED_WIDTH = 1280  # the pooled vector of Stable Diffusion XL and its refiner
# The first layer that reads the tokens, in the networks whose configuration does not say the tokens' width; -1 is the last of a list.
READERS = ("txt_in", "cap_embedder.1", "text_embedding.0", "caption_projection.linear_1", "caption_projection.-1.linear",
           "y_embedder.y_proj.fc1", "cond_seq_linear", "clip_txt_mapper")
POOLED_READERS = ("clip_txt_pooled_mapper", "clip_mapper")  # the same for the pooled vector, in Stable Cascade's stages C and B
# What a model cannot do without beside the tokens: its class in ComfyUI -> the keys of an entry.
NEEDED = {"SDXL": (POOLED,), "SDXLRefiner": (POOLED,), "HiDream": (POOLED, "conditioning_llama3"), "LTXV": ("attention_mask",),
          "Lumina2": ("attention_mask",), "StableCascade_C": (POOLED,), "StableCascade_B": (POOLED,)}
LAID_OUT = "stable_cascade_prior"  # ComfyUI's name for the latents of stage C that stage B draws in full
ADVICE = "Encode the prompt with the CLIP of the checkpoint that the model comes from, or connect the model that it was encoded for."


def check_stage(model, positive: list) -> None:
    """Raise a RarityError if Stable Cascade's stage B is to draw without latents of stage C. ComfyUI would take zeros for them."""
    if type(model.model).__name__ == "StableCascade_B" and not any(LAID_OUT in options for _, options in positive):
        raise RarityError(
            "The model is stage B of Stable Cascade, which draws in full what stage C has laid out, and positive holds no latents of "
            "stage C. Connect the model of stage C and the VAE of its checkpoint; or, for pictures that differ in details only, put "
            "StableCascade_StageB_Conditioning before positive."
        )


@contextmanager
def explained(model, **conditionings: list) -> Iterator[None]:
    """A context for sampling. If sampling fails because a CONDITIONING is of another model, the error says so.

    The conditionings are checked only after a failure, because other packs make models read conditionings that they were
    not built for.

    Parameters
    ----------
    model : a MODEL.   conditionings : name, such as positive -> CONDITIONING.

    Raises
    ------
    RarityError : tokens of another shape or width; a pooled vector of another width; no pooled vector, or no other tensor,
        that the model cannot do without.
    """
    try:
        yield
    except comfy.model_management.OOM_EXCEPTION:
        raise
    except (RuntimeError, LookupError, AttributeError, TypeError, ValueError) as error:
        for name, conditioning in conditionings.items():
            for tokens, options in conditioning:
                if why := _misfit(model, tokens, options, error):
                    raise RarityError(f"The {name} CONDITIONING is of another model than the one that draws. {why} {ADVICE}") from error
        raise


def _misfit(model, tokens, options: dict, error: Exception) -> str:
    """Why a model cannot read an entry, in words; "" if it can. error : what came of it."""
    needed, kind = token_width(model), type(model.model.model_config).__name__
    if not isinstance(tokens, Tensor) or tokens.dim() != 3:
        got = f"shape {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else type(tokens).__name__
        return f"{kind} reads the tokens of texts, shape [N, T, D], got {got}."
    if needed and tokens.shape[-1] != needed:
        return f"{kind} reads tokens {_wide(needed)}, got tokens {_wide(tokens.shape[-1])}."
    width, pooled = pooled_width(model), options.get(POOLED)
    told = f"a pooled vector {width:,} wide" if width else "a pooled vector"
    asked = [POOLED] if isinstance(error, KeyError) and error.args == (POOLED,) else []
    if isinstance(error, (LookupError, TypeError, AttributeError)):  # what is missing fails so, and what does not fit otherwise
        asked += [name for kind_of in type(model.model).__mro__ for name in NEEDED.get(kind_of.__name__, ())]
    for name in asked:
        if not isinstance(options.get(name), Tensor):
            return f"{kind} reads {told if name == POOLED else name} beside the tokens, got none."
    if width and isinstance(pooled, Tensor) and pooled.shape[-1] != width:
        return f"{kind} reads {told} beside the tokens, got one {pooled.shape[-1]:,} wide."
    return ""


def token_width(model) -> int | None:
    """The width of the tokens that a MODEL reads; None if neither its configuration nor its layers say it in a known way."""
    config = model.model.model_config.unet_config
    embedder = config.get("context_embedder_config") or {}  # Stable Diffusion 3
    layers = config.get("txtlayers", 0) * config.get("txtdim", 0)  # Krea 2 reads layers of its text encoder side by side
    told = config.get("context_dim") or config.get("context_in_dim") or embedder.get("params", {}).get("in_features") or layers
    return told or next(filter(None, (_reads(model.model.diffusion_model, name) for name in READERS)), None)


def pooled_width(model) -> int | None:
    """The width of the pooled vector that a MODEL reads; None if it reads none, or does not say it in a known way."""
    from comfy.model_base import SD3, SDXL, SDXLRefiner

    config = model.model.model_config.unet_config
    if isinstance(model.model, (SDXL, SDXLRefiner)):
        return POOLED_WIDTH
    # Stable Diffusion 3, Flux, HiDream
    told = config.get("adm_in_channels") if isinstance(model.model, SD3) else config.get("vec_in_dim") or config.get("text_emb_dim")
    return told or next(filter(None, (_reads(model.model.diffusion_model, name) for name in POOLED_READERS)), None)


def _reads(network, path: str) -> int | None:
    """The width that a layer of a network reads; None if there is no such layer."""
    for name in path.split("."):
        if name.lstrip("-").isdigit():
            network = network[int(name)] if hasattr(network, "__getitem__") else None
        else:
            network = getattr(network, name, None)
    return getattr(network, "in_features", None)


def _wide(width: int) -> str:
    return f"{width:,} wide" + (f" ({MADE_FOR[width]})" if width in MADE_FOR else "")
