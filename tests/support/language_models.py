"""Small Krea 2 and Flux.2 of random weights that read with small language models of their kinds, Qwen 3 VL and Mistral.

ComfyUI builds their text encoders from sizes in `model_options`; the file of Mistral's tokenizer, which a checkpoint brings, is made up.
"""

from types import SimpleNamespace
from unittest import mock

import torch
from flow_models import FLUX2, KREA2, filled, known_kinds, small_model
from small_models import LANGUAGE, WORD_WIDTH
from small_models.made_up_tokenizer import VOCABULARY, tekken

ENCODERS = {"krea2": "qwen3vl_4b", "flux2": "mistral3_24b"}


def language_model(kind, folder):
    """A MODEL, its CLIP that looks for embeddings in this folder, and a VAE. kind : of ENCODERS."""
    if kind == "krea2":
        config, clip = KREA2 | {"txtlayers": 12, "txtdim": WORD_WIDTH, "txtheads": 4, "txtkvheads": 4}, _krea2_clip(folder)
        name = "Krea 2"
    else:
        config, clip = FLUX2 | {"context_in_dim": 3 * WORD_WIDTH}, _flux2_clip(folder)
        name = "Flux.2"
    known, smaller = known_kinds()[name]
    patcher, vae = small_model(known, {key: config[key] for key in smaller})
    return patcher, clip, vae


def _krea2_clip(folder):
    from comfy.text_encoders import krea2, qwen3vl

    seeing = {"qwen3vl_4b": {"hidden_size": 64, "intermediate_size": 64, "depth": 1, "deepstack_visual_indexes": [0]}}
    with mock.patch.dict(qwen3vl.QWEN3VL_VISION, seeing):
        return _clip(krea2.te(), krea2.Krea2Tokenizer, folder, "qwen3vl_4b", LANGUAGE | {"num_hidden_layers": 36})


def _flux2_clip(folder):
    from comfy.text_encoders import flux

    sizes = LANGUAGE | {"num_hidden_layers": 31, "vocab_size": VOCABULARY}
    return _clip(flux.flux2_te(), flux.Flux2Tokenizer, folder, "mistral3_24b", sizes, {"tekken_model": tekken()})


def _clip(kind, tokenizer, folder, key, sizes, tokenizer_data=None):
    import comfy.sd

    target = SimpleNamespace(params={}, clip=kind, tokenizer=tokenizer)
    options = {f"{key}_model_config": sizes, "dtype": torch.float32}
    clip = comfy.sd.CLIP(target, embedding_directory=[str(folder)], tokenizer_data=tokenizer_data or {}, model_options=options)
    filled(clip.cond_stage_model)
    return clip
