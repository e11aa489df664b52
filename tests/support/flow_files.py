"""The files of small flow models, named and laid out as the published ones: networks, text encoders, VAEs."""

import dataclasses
import json
import re
from pathlib import Path

import torch
from small_models import FLOW, FLOW_WIDTHS, LANGUAGES, T5, WAN_VAE_WIDTH, WORD_WIDTH, small_sight
from small_models.made_up_tokenizer import tekken

FLUXES = ("flux", "flux2", "chroma")
NETWORKS = (*FLUXES, "zimage", "qwen_image", "sd35")
TEXT_ENCODERS = ("clip_l", "t5xxl", *LANGUAGES)
FOLDERS = {
    **dict.fromkeys(NETWORKS, "diffusion_models"), "sd35": "checkpoints", **dict.fromkeys(TEXT_ENCODERS, "text_encoders"),
    "ae": "vae", "qwen_image_vae": "vae", "taef2_encoder": "vae_approx", "taef2_decoder": "vae_approx",
}
FLUX = {"in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "mlp_ratio": 4.0, "depth": 1, "depth_single_blocks": 1, "theta": 10000,
        "patch_size": 2, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": []}
FLUX2 = {"in_channels": 128, "out_channels": 128, "vec_in_dim": None, "mlp_ratio": 3.0, "theta": 2000, "patch_size": 1, "qkv_bias": False,
         "global_modulation": True, "mlp_silu_act": True, "ops_bias": False, "default_ref_method": "index", "ref_index_scale": 10.0,
         "txt_ids_dims": [3]}  # in what it differs from Flux, as in the next line
CHROMA = {"in_channels": 64, "out_channels": 64, "in_dim": 64, "vec_in_dim": None}
Z_IMAGE = {"in_channels": 16, "dim": FLOW_WIDTHS["lumina2"], "n_layers": 1, "cap_feat_dim": WORD_WIDTH, "qk_norm": True, "patch_size": 2}
QWEN_IMAGE = {"in_channels": 64, "out_channels": 16, "num_layers": 1}
SD35 = {"in_channels": 16, "depth": 1, "patch_size": 2, "adm_in_channels": 2048, "pos_embed_max_size": 24, "num_patches": 576,
        "input_size": None, "pos_embed_scaling_factor": None, "qk_norm": "rms",
        "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 64}}}
WAN_VAE = {"dim": WAN_VAE_WIDTH, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "temperal_downsample": [False, True, True]}


def flow_file(name, half, on_meta, filled):
    """The tensors of one file.

    Parameters
    ----------
    name : of FOLDERS; clip_l is made elsewhere, and of sd35 this is the network alone.
    half, on_meta : make a network of shapes only.   filled : gives it values.
    """
    if name in NETWORKS:
        network = _network(name, half)
        # The published files call these norms scales, and older ComfyUIs do.
        named = {re.sub(r"(_norm|norms\.\d+)\.weight$", r"\1.scale", key) if name in FLUXES else key: x for key, x in network.items()}
        return filled(named, name)
    if name in TEXT_ENCODERS:
        return _text_encoder(name, half, filled)
    return _vae(name, on_meta, filled)


def known_to(params, sizes):
    """The sizes that this ComfyUI's class of parameters has; newer ones have more."""
    fields = {field.name for field in dataclasses.fields(params)}
    return {key: x for key, x in sizes.items() if key in fields}


def _network(name, half):
    if name in ("flux", "flux2"):
        from comfy.ldm.flux.model import Flux, FluxParams

        return half(Flux, **known_to(FluxParams, FLUX | FLOW[name] | (FLUX2 if name == "flux2" else {}))).state_dict()
    if name == "chroma":
        from comfy.ldm.chroma.model import Chroma, ChromaParams

        return half(Chroma, **known_to(ChromaParams, FLUX | FLOW[name] | CHROMA)).state_dict()
    if name == "zimage":
        from comfy.ldm.lumina.model import NextDiT

        return half(NextDiT, **Z_IMAGE | FLOW["lumina2"]).state_dict()
    if name == "qwen_image":
        from comfy.ldm.qwen_image.model import QwenImageTransformer2DModel

        return half(QwenImageTransformer2DModel, **QWEN_IMAGE | FLOW[name]).state_dict()
    from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT

    return half(MMDiT, **SD35).state_dict()


def _text_encoder(name, half, filled):
    if name == "t5xxl":
        import comfy
        from comfy.text_encoders.t5 import T5 as Encoder

        config = json.loads((Path(comfy.__path__[0]) / "text_encoders" / "t5_config_xxl.json").read_text())
        return filled(half(Encoder, config | T5).state_dict(), name)
    from comfy.text_encoders import llama

    kind = {"qwen3_4b": "Qwen3_4B", "qwen25_7b": "Qwen25_7BVLI", "mistral3_24b": "Mistral3Small24B"}[name]
    with small_sight():
        tensors = filled(half(getattr(llama, kind), dict(LANGUAGES[name])).state_dict(), name)
    return tensors | ({"tekken_model": torch.tensor(list(tekken()), dtype=torch.uint8)} if name == "mistral3_24b" else {})


def _vae(name, on_meta, filled):
    if name == "qwen_image_vae":
        from comfy.ldm.wan.vae import WanVAE

        return filled(on_meta(WanVAE, **WAN_VAE).state_dict(), name)
    from comfy.taesd.taesd import TAESD

    grey = {"taesd_decoder.19.bias": torch.full((3,), 0.5)}
    if name == "ae":
        return filled(on_meta(TAESD, latent_channels=16).state_dict(), "taesd") | grey | {"vae_scale": torch.tensor(0.1)}
    half_of_it = f"{name.replace('taef2', 'taesd')}."
    tensors = filled(on_meta(TAESD, latent_channels=128).state_dict(), "taesd") | grey
    return {key.removeprefix(half_of_it): x for key, x in tensors.items() if key.startswith(half_of_it)}
