"""Measure gradients through small models like Flux and Lumina 2 with random weights, in this process; print JSON.

    python tests/support/flow_models.py CLIP_VISION --comfyui FOLDER
"""

import argparse
import dataclasses
import json
import sys
import traceback
from pathlib import Path

import torch
from conditioning import gradient_and_difference
from in_process import start_comfyui

WIDTH, WORDS, POOLED = 16, 5, 8
FLUX = {"image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": POOLED, "context_in_dim": WIDTH, "hidden_size": 32,
        "mlp_ratio": 2.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [4, 6, 6], "theta": 10000, "patch_size": 2,
        "qkv_bias": True, "guidance_embed": False, "txt_ids_dims": []}
LUMINA = {"image_model": "lumina2", "in_channels": 16, "dim": 32, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2,
          "axes_dims": [4, 6, 6], "axes_lens": [64, 64, 64], "cap_feat_dim": WIDTH, "qk_norm": True, "patch_size": 2}
SETTINGS = {"steps": 2, "cfg": 1.0, "width": 64, "height": 64}


def main():
    parser = argparse.ArgumentParser(description="Gradients through flow models.")
    parser.add_argument("clip_vision", type=Path)
    parser.add_argument("--comfyui", type=Path, required=True)
    arguments = parser.parse_args()
    start_comfyui(arguments.comfyui, small=True)
    import comfy.clip_vision
    import comfy.model_management

    found = {}
    with torch.inference_mode():
        vision = comfy.clip_vision.load(str(arguments.clip_vision))
        for name, (kind, config) in known_kinds().items():
            try:
                found[name] = findings(kind, config, vision)
            except Exception:
                found[name] = {"error": traceback.format_exc()}
            found[name]["in training afterwards"] = getattr(comfy.model_management, "in_training", False)
    json.dump(found, sys.stdout)


def known_kinds():
    """By their names: the class that ComfyUI knows a model by, and the sizes of a small one, as far as this ComfyUI has them."""
    import comfy.supported_models
    from comfy.ldm.flux.model import FluxParams

    known = {field.name for field in dataclasses.fields(FluxParams)} | {"image_model"}
    return {"Flux": (comfy.supported_models.FluxSchnell, {key: x for key, x in FLUX.items() if key in known}),
            "Lumina 2": (comfy.supported_models.Lumina2, LUMINA)}


def small_model(kind, config):
    """A MODEL of random weights, and a VAE that fits."""
    import comfy.sd
    from comfy.model_patcher import ModelPatcher
    from comfy.taesd.taesd import TAESD

    described = kind(config | {"dtype": torch.float32})
    described.set_inference_dtype(torch.float32, None)
    model = filled(described.get_model({}, "", device="cpu"), 2.0)
    patcher = ModelPatcher(model.eval(), load_device=torch.device("cpu"), offload_device=torch.device("cpu"))
    return patcher, comfy.sd.VAE(sd=dict(filled(TAESD(latent_channels=16), 0.8).state_dict()))


def findings(kind, config, vision):
    from rarity.generators.comfyui.clip_vision_eye import ClipVisionEncoder
    from rarity.generators.comfyui.condition import Condition
    from rarity.generators.comfyui.model_baseline import ModelPictures
    from rarity.generators.comfyui.model_drawing import NativePictures

    patcher, vae = small_model(kind, config)
    model = patcher.model
    g = torch.Generator().manual_seed(3)
    words = [[torch.randn(1, WORDS, WIDTH, generator=g), {"pooled_output": torch.randn(1, POOLED, generator=g)}]]
    if config is LUMINA:
        words[0][1]["attention_mask"] = torch.ones(1, WORDS, dtype=torch.long)
    held = {name: x.clone() for name, x in model.state_dict().items()}
    pictures = NativePictures(
        ModelPictures(patcher, words, words, vae, 0, **SETTINGS), ClipVisionEncoder(vision), Condition(words), Condition(words).spread
    )
    pictures.require_gradients()
    found = gradient_and_difference(pictures, 0.01)
    return found | {"unchanged": all(torch.equal(x, held[name]) for name, x in model.state_dict().items())}


def filled(network, gain=1.0):
    """The network with random weights that keep the size of the values that pass through it."""
    g = torch.Generator().manual_seed(0)
    for name, weight in network.named_parameters():
        if weight.dim() < 2:
            weight.fill_(1.0 if "norm" in name and name.endswith(("weight", "scale")) else 0.02)
        else:
            weight.copy_(torch.randn(weight.shape, generator=g) * gain / weight[0].numel() ** 0.5)
    return network


if __name__ == "__main__":
    main()
