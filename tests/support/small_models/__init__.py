"""Teaches a ComfyUI smaller sizes than it knows, for tests: linked into custom_nodes, or `small_models.teach()` in a script.

ComfyUI has a table of sizes for U-Nets, flow models, text encoders, vision encoders, VAEs and the stages of Stable Cascade, and
nothing else loads.
With this it also builds those of make_checkpoints.py's *_small models: its own classes, with the sizes read off the file's tensors.
Whatever ComfyUI knows by itself is built as ever.
"""

import contextlib
import functools
import json
import re
import tempfile
from pathlib import Path
from unittest import mock

from .made_up_tokenizer import VOCABULARY

NODE_CLASS_MAPPINGS = {}  # ComfyUI takes this for a node pack

VISION = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 32}
KNOWN_LAYERS = 12  # no text encoder that ComfyUI knows has fewer
TEXT = {"num_hidden_layers": 3, "intermediate_size": 64}  # the last layer but one is read, and must not be the first
UNET_WIDTH = 64
UNETS = ("SD15", "SD21UnclipL", "SD21UnclipH", "SDXL")
CASCADE = {
    "c": {"c_cond": 64, "c_hidden": [64, 64], "nhead": [4, 4], "blocks": [[1, 1], [1, 1]]},
    "b": {"c_hidden": [32, 32, 64, 64], "nhead": [-1, 2, 4, 4], "blocks": [[1, 1, 1, 1], [1, 1, 1, 1]],
          "block_repeat": [[1, 1, 1, 1], [1, 1, 1, 1]]},
    "a": {"c_hidden": 32, "bottleneck_blocks": 1},
}
WORD_WIDTH = 64
FLOW_WIDTHS = {"flux": 32, "flux2": 32, "chroma": 32, "qwen_image": 32, "lumina2": 256}  # a step is 256 numbers to Z-Image
FLUX = {"hidden_size": 32, "num_heads": 2, "axes_dim": [4, 6, 6], "context_in_dim": WORD_WIDTH}
FLOW = {  # what ComfyUI's tables say of these networks; that of Z-Image is Lumina 2's
    "flux": FLUX,
    "flux2": FLUX | {"axes_dim": [4, 4, 4, 4], "context_in_dim": 3 * WORD_WIDTH},
    "chroma": FLUX | {"out_dim": 32, "hidden_dim": 32, "n_layers": 1},
    "qwen_image": {"attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": WORD_WIDTH, "axes_dims_rope": (4, 6, 6)},
    "lumina2": {"n_heads": 8, "n_kv_heads": 8, "axes_dims": [8, 12, 12], "axes_lens": [1536, 512, 512], "rope_theta": 256.0,
                "ffn_dim_multiplier": 8 / 3, "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32},
}
T5 = {"d_model": WORD_WIDTH, "d_ff": 64, "d_kv": 16, "num_heads": 4, "num_layers": 2}
LANGUAGE = {"hidden_size": WORD_WIDTH, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
LANGUAGES = {  # language models that encode prompts
    "qwen3_4b": LANGUAGE | {"num_hidden_layers": 3},
    "qwen25_7b": LANGUAGE | {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4},  # told by its keys
    "mistral3_24b": LANGUAGE | {"num_hidden_layers": 30, "vocab_size": VOCABULARY},  # three of its layers are read, the 30th last
}
SIGHT = {"hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "num_layers": 1}  # of Qwen 2.5 VL, which also sees
WAN_VAE_WIDTH = 8


def teach():
    """Change ComfyUI's loaders in this process."""
    import comfy.clip_vision
    import comfy.model_detection
    import comfy.sd
    import comfy.supported_models as supported

    known = [getattr(supported, name) for name in UNETS]
    supported.models[:0] = [
        type(kind.__name__, (kind,), {"unet_config": kind.unet_config | {"model_channels": UNET_WIDTH}}) for kind in known
    ]
    ours = comfy.clip_vision.load_clipvision_from_sd, comfy.model_detection.detect_unet_config, comfy.sd.CLIP.__init__
    known_vae, known_stage = comfy.sd.VAE.__init__, comfy.sd.StageA
    known_texts, known_text = comfy.sd.load_text_encoder_state_dicts, comfy.sd.detect_te_model
    if hasattr(supported, "ZImage"):  # 0.3.64 has none
        z_image = supported.ZImage
        supported.models.insert(0, type("ZImage", (z_image,), {"unet_config": z_image.unet_config | {"dim": FLOW_WIDTHS["lumina2"]}}))

    def load_clipvision_from_sd(sd, prefix="", convert_keys=False):
        known = ours[0](dict(sd), prefix, convert_keys)
        return known or _small_vision(comfy.clip_vision.convert_to_transformers(sd, prefix) if convert_keys else sd)

    def detect_unet_config(state_dict, key_prefix, metadata=None):
        config = ours[1](state_dict, key_prefix, metadata)
        stage = (config or {}).get("stable_cascade_stage")
        first = state_dict.get(f"{key_prefix}down_blocks.0.0.channelwise.4.weight")
        if stage and first.shape[0] == CASCADE[stage]["c_hidden"][0]:
            return config | CASCADE[stage]
        first = state_dict.get(f"{key_prefix}img_in.weight", state_dict.get(f"{key_prefix}x_embedder.weight"))
        kind = (config or {}).get("image_model")
        small = first is not None and first.shape[0] == FLOW_WIDTHS.get(kind)
        return config | FLOW[kind] if small else config

    def detect_te_model(sd):
        kinds, words = comfy.sd.TEModel, sd.get("shared.weight", sd.get("model.embed_tokens.weight"))
        if words is None or words.shape[1] != WORD_WIDTH or "model.layers.0.self_attn.k_proj.bias" in sd:
            return known_text(sd)
        if "shared.weight" in sd:
            return kinds.T5_XXL
        return kinds.MISTRAL3_24B_PRUNED_FLUX2 if "tekken_model" in sd else kinds.QWEN3_4B

    def load_text_encoder_state_dicts(state_dicts=[], *given, model_options={}, **told):
        small = {}
        for sd in state_dicts:
            words = sd.get("shared.weight", sd.get("model.embed_tokens.weight"))
            if words is not None and words.shape[1] == WORD_WIDTH:
                small |= {f"{name}_model_config": dict(config) for name, config in ({"t5xxl": T5} | LANGUAGES).items()}
            if 0 < _layers({f"clip_l.transformer.{key}": x for key, x in sd.items()}, "clip_l") < KNOWN_LAYERS:
                small["model_config"] = dict(TEXT)
        with small_sight() if small else contextlib.nullcontext():
            return known_texts(state_dicts, *given, model_options={**model_options, **small}, **told)

    def clip(self, *given, tokenizer_data={}, model_options={}, **told):
        layers = {name: _layers(tokenizer_data, name) for name in ("clip_l", "clip_g", "clip_h")}
        shallow = {f"{name}_model_config": TEXT for name, n in layers.items() if 0 < n < KNOWN_LAYERS}
        ours[2](self, *given, tokenizer_data=tokenizer_data, model_options={**model_options, **shallow}, **told)

    def vae(self, sd=None, *given, **told):
        first = (sd or {}).get("up_blocks.0.0.weight")
        small = first is not None and first.shape[0] == CASCADE["a"]["c_hidden"]
        comfy.sd.StageA = functools.partial(known_stage, **CASCADE["a"]) if small else known_stage
        last = (sd or {}).get("decoder.head.0.gamma")
        with small_wan_vae() if last is not None and last.shape[0] == WAN_VAE_WIDTH else contextlib.nullcontext():
            known_vae(self, sd, *given, **told)

    comfy.sd.VAE.__init__ = vae
    comfy.sd.detect_te_model, comfy.sd.load_text_encoder_state_dicts = detect_te_model, load_text_encoder_state_dicts
    comfy.clip_vision.load_clipvision_from_sd = load_clipvision_from_sd
    comfy.model_detection.detect_unet_config = detect_unet_config
    comfy.sd.CLIP.__init__ = clip


def small_sight():
    """Where this holds, ComfyUI builds a small Qwen 2.5 VL."""
    from comfy.text_encoders import qwen_vl

    return _smaller(qwen_vl, "Qwen2VLVisionTransformer", SIGHT)


def small_wan_vae():
    """Where this holds, ComfyUI builds a small VAE of Wan, which is Qwen-Image's, too. Older ones know one size."""
    import comfy.ldm.wan.vae

    return _smaller(comfy.ldm.wan.vae, "WanVAE", {"dim": WAN_VAE_WIDTH})


def _smaller(module, name, sizes):
    known = getattr(module, name)
    return mock.patch.object(module, name, lambda **given: known(**given | sizes))


def _small_vision(sd):
    import comfy.clip_vision

    if "vision_model.embeddings.patch_embedding.weight" not in sd:
        return None
    config = VISION | {"image_size": 224, "num_channels": 3, "hidden_act": "gelu", "model_type": "clip_vision_model",
                       "projection_dim": sd["visual_projection.weight"].shape[0]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config))
        built = comfy.clip_vision.ClipVisionModel(str(path))
    missing, unexpected = built.load_sd(sd)
    assert not missing
    for key in set(sd) - set(unexpected):
        sd.pop(key)
    return built


def _layers(sd, name):
    found = [re.match(rf"{name}\.transformer\.text_model\.encoder\.layers\.(\d+)\.", key) for key in sd]
    return 1 + max((int(match[1]) for match in found if match), default=-1)


if __name__ != "small_models":
    teach()
