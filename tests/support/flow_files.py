"""The files of small Flux and Z-Image models, named and laid out as the published ones: networks, text encoders, a VAE."""

import json
from pathlib import Path

import torch
from small_models import FLOW, FLOW_WIDTHS, QWEN, T5, WORD_WIDTH

FOLDERS = {"flux": "diffusion_models", "zimage": "diffusion_models", "clip_l": "text_encoders", "t5xxl": "text_encoders",
           "qwen3_4b": "text_encoders", "ae": "vae"}
FLUX = {"in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "mlp_ratio": 4.0, "depth": 1, "depth_single_blocks": 1, "theta": 10000,
        "patch_size": 2, "qkv_bias": True, "guidance_embed": True}
Z_IMAGE = {"in_channels": 16, "dim": FLOW_WIDTHS["lumina2"], "n_layers": 1, "cap_feat_dim": WORD_WIDTH, "qk_norm": True, "patch_size": 2}


def flow_file(name, half, on_meta, filled):
    """The tensors of one file.

    Parameters
    ----------
    name : of FOLDERS; clip_l is made elsewhere.
    half, on_meta : make a network of shapes only.   filled : gives it values.
    """
    import dataclasses

    import comfy
    from comfy.ldm.flux.model import Flux, FluxParams
    from comfy.ldm.lumina.model import NextDiT
    from comfy.taesd.taesd import TAESD

    if name == "flux":
        known = {field.name for field in dataclasses.fields(FluxParams)}
        sizes = FLUX | FLOW["flux"] | ({"txt_ids_dims": []} if "txt_ids_dims" in known else {})
        published = {key.replace("_norm.weight", "_norm.scale"): x for key, x in half(Flux, **sizes).state_dict().items()}
        return filled(published, name)
    if name == "zimage":
        return filled(half(NextDiT, **Z_IMAGE | FLOW["lumina2"]).state_dict(), name)
    if name == "t5xxl":
        from comfy.text_encoders.t5 import T5 as Encoder

        config = json.loads((Path(comfy.__path__[0]) / "text_encoders" / "t5_config_xxl.json").read_text())
        return filled(half(Encoder, config | T5).state_dict(), name)
    if name == "qwen3_4b":
        from comfy.text_encoders.llama import Qwen3_4B

        return filled(half(Qwen3_4B, dict(QWEN)).state_dict(), name)
    vae = filled(on_meta(TAESD, latent_channels=16).state_dict(), "taesd")
    return vae | {"taesd_decoder.19.bias": torch.full((3,), 0.5), "vae_scale": torch.tensor(0.1)}
