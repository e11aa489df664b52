"""Small Krea 2 and Flux.2 of random weights that read with small language models of their kinds, Qwen 3 VL and Mistral.

ComfyUI builds their text encoders from sizes in `model_options`; the file of Mistral's tokenizer, which a checkpoint brings, is made up.
"""

import base64
import json
from types import SimpleNamespace
from unittest import mock

import torch
from flow_models import FLUX2, KREA2, filled, known_kinds, small_model

WORD_WIDTH = 64
SIZES = {"hidden_size": WORD_WIDTH, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
SIGNS = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", *(f"<{i}>" for i in range(5, 11)), "<pad>", *(f"<{i}>" for i in range(12, 17)),
         "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")  # by their numbers, as Mistral has them
PIECES = [*(bytes([i]) for i in range(256)), *(word[:n] for word in (b"chair", b" chair") for n in range(2, len(word) + 1))]
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
        return _clip(krea2.te(), krea2.Krea2Tokenizer, folder, "qwen3vl_4b", SIZES | {"num_hidden_layers": 36})


def _flux2_clip(folder):
    from comfy.text_encoders import flux

    count = len(SIGNS) + len(PIECES)
    made_up = {
        "config": {"default_num_special_tokens": len(SIGNS), "default_vocab_size": count},
        "vocab": [{"rank": i, "token_bytes": base64.b64encode(piece).decode()} for i, piece in enumerate(PIECES)],
        "special_tokens": [{"rank": i, "token_str": sign} for i, sign in enumerate(SIGNS)],
    }
    sizes = SIZES | {"num_hidden_layers": 31, "vocab_size": count}
    return _clip(flux.flux2_te(), flux.Flux2Tokenizer, folder, "mistral3_24b", sizes, {"tekken_model": json.dumps(made_up).encode()})


def _clip(kind, tokenizer, folder, key, sizes, tokenizer_data=None):
    import comfy.sd

    target = SimpleNamespace(params={}, clip=kind, tokenizer=tokenizer)
    options = {f"{key}_model_config": sizes, "dtype": torch.float32}
    clip = comfy.sd.CLIP(target, embedding_directory=[str(folder)], tokenizer_data=tokenizer_data or {}, model_options=options)
    filled(clip.cond_stage_model)
    return clip
