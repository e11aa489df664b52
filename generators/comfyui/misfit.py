"""Why a MODEL cannot read a CONDITIONING, in an artist's words. Sampling itself would end in an error about shapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management
from torch import Tensor

from ...density.base.errors import RarityError
from .text_parts import POOLED

MADE_FOR = {768: "Stable Diffusion 1.5", 1024: "Stable Diffusion 2", 1280: "the refiner of Stable Diffusion XL",
            2048: "Stable Diffusion XL", 4096: "Stable Diffusion 3 and Flux"}
POOLED_WIDTH = 1280  # the pooled vector of Stable Diffusion XL and its refiner
ADVICE = "Encode the prompt with the CLIP of the checkpoint that the model comes from, or connect the model that it was encoded for."


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
    RarityError : tokens of another shape or width, or a pooled vector that is missing or of another width.
    """
    try:
        yield
    except comfy.model_management.OOM_EXCEPTION:
        raise
    except (RuntimeError, LookupError, AttributeError, TypeError) as error:
        for name, conditioning in conditionings.items():
            for tokens, options in conditioning:
                if why := _misfit(model, tokens, options.get(POOLED)):
                    raise RarityError(f"The {name} CONDITIONING is of another model than the one that draws. {why} {ADVICE}") from error
        raise


def _misfit(model, tokens, pooled) -> str:
    """Why a model cannot read these tokens and this pooled vector, in words; "" if it can."""
    from comfy.model_base import SDXL, SDXLRefiner

    needed, kind = token_width(model), type(model.model.model_config).__name__
    if not isinstance(tokens, Tensor) or tokens.dim() != 3:
        got = f"shape {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else type(tokens).__name__
        return f"{kind} reads the tokens of texts, shape [N, T, D], got {got}."
    if needed and tokens.shape[-1] != needed:
        return f"{kind} reads tokens {_wide(needed)}, got tokens {_wide(tokens.shape[-1])}."
    reads_pooled = isinstance(model.model, (SDXL, SDXLRefiner))
    if reads_pooled and (not isinstance(pooled, Tensor) or pooled.shape[-1] != POOLED_WIDTH):
        got = f"one {pooled.shape[-1]:,} wide" if isinstance(pooled, Tensor) else "none"
        return f"{kind} reads a pooled vector {POOLED_WIDTH:,} wide beside the tokens, got {got}."
    return ""


def token_width(model) -> int | None:
    """The width of the tokens that a MODEL reads; None if its configuration does not say it in a known way."""
    config = model.model.model_config.unet_config
    embedder = config.get("context_embedder_config") or {}  # Stable Diffusion 3
    return config.get("context_dim") or config.get("context_in_dim") or embedder.get("params", {}).get("in_features")


def _wide(width: int) -> str:
    return f"{width:,} wide" + (f" ({MADE_FOR[width]})" if width in MADE_FOR else "")
