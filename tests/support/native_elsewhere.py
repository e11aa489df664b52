"""Compare ComfyUI's own models on a device with little memory with the same on the processor; print JSON.

    python tests/support/native_elsewhere.py CHECKPOINT CLIP_VISION --comfyui FOLDER
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from conditioning import SETTINGS, digest
from elsewhere import elsewhere
from in_process import start_comfyui

ROOM = 16 * 2**20  # bytes: only a part of the U-Net fits
PROMPT = "a photo of a *"


def main():
    parser = argparse.ArgumentParser(description="ComfyUI's own models on another device.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("clip_vision", type=Path)
    parser.add_argument("--comfyui", type=Path, required=True)
    arguments = parser.parse_args()
    start_comfyui(arguments.comfyui, small=True)
    import comfy.model_management

    with torch.inference_mode():
        here = findings(arguments.checkpoint, arguments.clip_vision)
        comfy.model_management.unload_all_models()
        with elsewhere() as device:
            partly = send_models_to(device)
            there = findings(arguments.checkpoint, arguments.clip_vision)
            stays = without_room(device)
    json.dump({
        "apart": {name: apart(there["made"][name], here["made"][name]) for name in here["made"]},
        "devices": sorted({str(made.device) for made in there["made"].values()}),
        "in part": sorted(partly),
        "stays": stays,
        **{name: there[name] for name in ("runs on", "unchanged", "reports")},
    }, sys.stdout)


def send_models_to(device):
    """Send models to the device, as ComfyUI does with a kind of device that it does not know.

    Returns the models that went there in part.
    """
    import comfy.model_management as management
    from comfy.model_patcher import ModelPatcher

    management.directml_enabled, management.directml_device = True, device
    management.cpu_state, management.vram_state = management.CPUState.GPU, management.VRAMState.NORMAL_VRAM
    management.set_vram_to, management.is_nvidia = management.VRAMState.NORMAL_VRAM, lambda: False
    management.FORCE_FP32 = True  # as on the processor, so that the results can be compared
    free, load, partly = management.get_free_memory, ModelPatcher.partially_load, set()

    def room(dev=None, torch_free_too=False):
        if dev == torch.device("cpu"):
            return free(dev, torch_free_too)
        return (ROOM, ROOM) if torch_free_too else ROOM

    def into_the_room(patcher, to, extra_memory=0, **told):
        done = load(patcher, to, min(extra_memory, ROOM), **told)
        if getattr(patcher.model, "model_lowvram", False):
            partly.add(type(patcher.model).__name__)
        return done

    management.get_free_memory, ModelPatcher.partially_load = room, into_the_room
    return partly


def findings(checkpoint, clip_vision):
    import comfy.clip_vision
    import comfy.sd
    from rarity.density import Embeddings, GaussianDensity
    from rarity.generators.comfyui.clip_vision_eye import ClipVisionEncoder
    from rarity.generators.comfyui.model_baseline import ModelPictures, draw_model_baseline
    from rarity.generators.comfyui.model_drawing import NativePictures
    from rarity.generators.comfyui.prompts.condition import Condition
    from rarity.generators.comfyui.token import Word
    from rarity.nodes import RarityMakeRareConditioning

    import nodes as core

    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(checkpoint))
    vision = comfy.clip_vision.load(str(clip_vision))
    cat, empty = (core.CLIPTextEncode().encode(clip, text)[0] for text in ("a photo of a cat", ""))
    held, eye = digest(model, vae, clip, vision, cat, empty), ClipVisionEncoder(vision)
    drawing = ModelPictures(model, cat, empty, vae, 0, **SETTINGS)
    usual = draw_model_baseline(drawing, eye, 2, batch_size=1)[0]
    cloud = usual.vectors.mean(dim=0) + torch.randn(60, eye.space.width, generator=torch.Generator().manual_seed(0))
    density = GaussianDensity.fit(Embeddings(cloud, eye.space), components=4)
    condition, word = Condition(cat), Word(clip, PROMPT, "*", "chair")
    made = {
        "usual": usual.vectors,
        "slope": slope(NativePictures(drawing, eye, condition, condition.spread)),
        "slope of a word": slope(NativePictures(drawing, eye, word, word.spread)),
    }
    given = {"model": model, "positive": cat, "negative": empty, "vae": vae, "density": density, "one_in": 20, "pictures": 1,
             "iterations": 1, "seed": 0, "sampler_name": "euler", "scheduler": "normal", "eye": vision, **SETTINGS, "steps": 1}
    reports = []
    for engine, more in (("gradient", {}), ("evolution", {"dimensions": 2})):
        conditioning, _, report, shown = RarityMakeRareConditioning.execute(**given | {"engine": engine} | more).args
        made |= {f"conditioning, {engine}": conditioning[0][0], f"picture, {engine}": shown}
        reports.append(report)
    return {"made": made, "runs on": str(model.load_device), "reports": reports,
            "unchanged": digest(model, vae, clip, vision, cat, empty) == held}


def without_room(device):
    """In ordinary use and under `--novram`: where a network without ComfyUI's layers is said to be, and where it is."""
    import comfy.model_management as management
    from rarity.nodes.parts.placement import ComfyPlacement

    found = {}
    for name in ("NORMAL_VRAM", "NO_VRAM"):
        management.vram_state, network = management.VRAMState[name], torch.nn.Linear(2, 2)
        said = ComfyPlacement().bring(network)
        found[name] = [str(said), str(network.weight.device)]
    return found


def slope(pictures):
    """The slope of the mean of a picture's embedding, by gradient, a little beside the start of steering."""
    with torch.inference_mode(False), torch.enable_grad():
        offset = 0.05 * torch.randn(pictures.size, generator=torch.Generator().manual_seed(1))
        offset.requires_grad_(True)
        weights = torch.randn(pictures.space.width, generator=torch.Generator().manual_seed(0))
        return torch.autograd.grad((pictures.embed(offset, range(1))[0].cpu() * weights).sum(), offset)[0]


def apart(one, other):
    return float((one - other).norm() / other.norm())


if __name__ == "__main__":
    main()
