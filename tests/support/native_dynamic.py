"""Compare gradients through ComfyUI's own models with dynamic VRAM with those on the processor, in this process.

    python tests/support/native_dynamic.py CHECKPOINT CLIP_VISION --comfyui FOLDER

Prints JSON, and null if ComfyUI has no dynamic VRAM.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
import traceback
from pathlib import Path

import torch
from conditioning import SETTINGS, digest
from elsewhere import elsewhere
from in_process import start_comfyui
from native_elsewhere import PROMPT, apart, send_models_to, slope
from safetensors.torch import load_file, save_file

TYPES = {"half file": None, "full file in half": torch.bfloat16}  # the file's type; the type of the U-Net's weights
SMALL = SETTINGS | {"steps": 1}


def main():
    parser = argparse.ArgumentParser(description="Gradients through models whose weights come and go.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("clip_vision", type=Path)
    parser.add_argument("--comfyui", type=Path, required=True)
    arguments = parser.parse_args()
    if not importlib.util.find_spec("comfy_aimdo") or not (arguments.comfyui / "comfy" / "pinned_memory.py").is_file():
        return json.dump(None, sys.stdout)
    import comfy_aimdo.control

    comfy_aimdo.control.init()
    start_comfyui(arguments.comfyui, small=True)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        files = {"half file": arguments.checkpoint, "full file in half": Path(folder) / "full.safetensors"}
        save_file({key: x.float() if x.is_floating_point() else x for key, x in load_file(arguments.checkpoint).items()},
                  files["full file in half"])
        json.dump(findings(files, arguments.clip_vision), sys.stdout)


def findings(files, clip_vision):
    import comfy.cli_args
    import comfy.model_management
    from pages import start_dynamic_vram, start_streams

    comfy.cli_args.args.disable_pinned_memory = True  # without a card nothing can be pinned
    here, found = {name: made(files[name], clip_vision, TYPES[name]) for name in files}, {}
    with elsewhere() as device:
        partly = send_models_to(device)
        start_streams(device)
        for keeping in ("in part", "dynamic"):
            if keeping == "dynamic":
                start_dynamic_vram()
            for name in files:
                comfy.model_management.unload_all_models()
                try:
                    there = made(files[name], clip_vision, TYPES[name])
                except Exception:
                    found[f"{keeping}, {name}"] = {"error": traceback.format_exc()}
                    continue
                found[f"{keeping}, {name}"] = {
                    "apart": {what: apart(there["made"][what], here[name]["made"][what]) for what in here[name]["made"]},
                    **{what: there[what] for what in ("unchanged", "drawn alike", "patchers", "taken away")},
                }
        found["in part"] = sorted(partly)
    return found


def made(checkpoint, clip_vision, dtype):
    """Slopes after drawing, for a half-precision file also with a LoRA; and whether the models are unchanged."""
    import comfy.clip_vision
    import comfy.model_management
    import comfy.sd
    from rarity.generators.comfyui.clip_vision_eye import ClipVisionEncoder
    from rarity.generators.comfyui.model_baseline import ModelPictures
    from rarity.generators.comfyui.model_drawing import NativePictures
    from rarity.generators.comfyui.prompts.condition import Condition
    from rarity.generators.comfyui.token import Word

    import nodes as core

    there = {"load_device": comfy.model_management.get_torch_device(), "offload_device": torch.device("cpu")}
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(
        str(checkpoint), model_options={"dtype": dtype} if dtype else {}, te_model_options=there
    )
    vision, slopes, alike = comfy.clip_vision.load(str(clip_vision)), {}, []
    eye = ClipVisionEncoder(vision)
    comfy.model_management.unload_all_models()
    held = digest(model, vae, clip, vision)
    for patched in ("",) if dtype else ("", ", LoRA"):
        if patched:
            model, clip = comfy.sd.load_lora_for_models(model, clip, lora_for(model, clip), 1.0, 1.0)
        cat, empty = (core.CLIPTextEncode().encode(clip, text)[0] for text in ("a photo of a cat", ""))
        drawing = ModelPictures(model, cat, empty, vae, 0, **SMALL)
        drawing.draw(range(1))
        before = drawing.draw(range(1))
        for name, moved in (("slope", Condition(cat)), ("slope of a word", Word(clip, PROMPT, "*", "chair"))):
            pictures = NativePictures(drawing, eye, moved, moved.spread)
            slopes[name + patched] = slope(pictures)
        slopes["slope of a word, again" + patched] = slope(pictures)
        alike.append(bool((drawing.draw(range(1)) == before).all()))
    comfy.model_management.unload_all_models()
    pages = [pages for net in (model.model, clip.cond_stage_model) for pages in getattr(net, "dynamic_vbars", {}).values()]
    return {"made": slopes, "drawn alike": alike, "unchanged": digest(model, vae, clip, vision) == held,
            "patchers": sorted({type(one).__name__ for one in (model, clip.patcher)}), "taken away": sum(one.evicted for one in pages)}


def lora_for(model, clip):
    """A LoRA of random numbers for the attention of the U-Net and of the text encoder."""
    import comfy.lora

    keys = comfy.lora.model_lora_keys_unet(model.model, {}) | comfy.lora.model_lora_keys_clip(clip.cond_stage_model, {})
    shapes = {key: x.shape for net in (model.model, clip.cond_stage_model) for key, x in net.state_dict().items()}
    lora, generator = {}, torch.Generator().manual_seed(0)
    for name, key in {key: name for name, key in keys.items()}.items():
        if "attn" in name and len(shapes[name]) == 2:
            lora[f"{key}.lora_up.weight"] = 0.3 * torch.randn(shapes[name][0], 4, generator=generator)
            lora[f"{key}.lora_down.weight"] = torch.randn(4, shapes[name][1], generator=generator) / shapes[name][1] ** 0.5
    return lora


if __name__ == "__main__":
    main()
