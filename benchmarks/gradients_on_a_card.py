"""Gradients through ComfyUI's own models on a graphics card, however it keeps their weights, beside the processor's.

    python benchmarks/gradients_on_a_card.py --comfyui FOLDER [--json FILE] [--only CASE ...] [--seconds N]

Needs a ComfyUI of 0.16 or newer (for dynamic VRAM) that runs in this Python, and the pack. Each case is a process of its own that
starts as ComfyUI's own `main.py` does with those arguments, draws, takes gradients twice, runs Make Rare: Conditioning and Optimize
Token, and draws again; then the same with a LoRA on the model. The models are Stable Diffusion 1.5 of random weights with a small
U-Net, in half precision and in full, and a ViT-L/14. What was found is written as each case ends.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"
MODES = {  # name: (arguments of ComfyUI, GiB of the card that are left to it; 0 is all)
    "dynamic": ([], 0),
    "dynamic, little room": ([], 1.0),
    "static": (["--disable-dynamic-vram"], 0),
    "static, little room": (["--disable-dynamic-vram", "--lowvram"], 1.0),
    "novram": (["--novram"], 0),
}
FILES = {"fp16": torch.float16, "fp32": torch.float32}
REFERENCE = "processor"
SIZE = {"steps": 2, "cfg": 3.0, "width": 256, "height": 256}
PROMPT = "a photo of a *"
ALIKE = 0.98  # the least cosine to the processor's gradient in float32: random weights make much of half precision's rounding


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="written after each case")
    parser.add_argument("--only", nargs="*", default=[], help="cases, such as 'dynamic fp16'")
    parser.add_argument("--seconds", type=float, default=60, help="the most that one case may take")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        return one_case(*arguments.case, arguments.comfyui.resolve(), arguments.work)
    with tempfile.TemporaryDirectory() as work:
        cases = [(REFERENCE, "fp32"), *((mode, file) for mode in MODES for file in FILES)]
        found = {}
        for mode, file in cases:
            name = f"{mode} {file}"
            if mode != REFERENCE and arguments.only and name not in arguments.only:
                continue
            found[name] = run_case(mode, file, arguments, Path(work))
            print(name, summary(found[name]), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps({"cases": found, "targets": targets(found)}, indent=2) + "\n")
    for target in targets(found):
        print("reached" if target["ok"] else "MISSED ", target["name"], target["value"])


def run_case(mode: str, file: str, arguments, work: Path) -> dict:
    out, began = work / f"{mode} {file}.json", time.monotonic()
    command = [sys.executable, __file__, "--comfyui", str(arguments.comfyui), "--case", mode, file, "--work", str(work)]
    with open(work / f"{mode} {file}.log", "w+", encoding="utf-8", errors="replace") as log:
        try:
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, timeout=arguments.seconds * (3 if mode == REFERENCE else 1))
            ended = done.returncode
        except subprocess.TimeoutExpired:
            ended = "took too long"
        log.seek(0)
        said = log.read().splitlines()[-15:]
    found = json.loads(out.read_text()) if out.is_file() else {}
    return found | {"ended": ended, "seconds": round(time.monotonic() - began, 1)} | ({"log": said} if ended else {})


def summary(found: dict) -> str:
    parts = [f"{name}: {'worked' if one.get('worked') else one.get('error', '?').splitlines()[-1]}" for name, one in found.get("steps", {}).items()]
    return f"({found['seconds']} s, ended with {found['ended']})\n  " + "\n  ".join(parts)


def targets(found: dict) -> list[dict]:
    """One for each case: that it went through, that the models are as they were, and that the gradients are the processor's."""
    made = []
    for name, case in found.items():
        steps = case.get("steps", {})
        worked = case["ended"] == 0 and all(one.get("worked") for one in steps.values())
        made.append({"name": f"{name}: all worked", "value": worked, "reach": True, "ok": worked})
        kept = [value for one in steps.values() for key, value in one.items() if key.startswith("unchanged")]
        if kept:
            made.append({"name": f"{name}: models and pictures as before", "value": kept, "reach": True, "ok": all(kept)})
        alike = [value for one in steps.values() for value in one.get("cosine to the processor's", {}).values()]
        if alike:
            made.append({"name": f"{name}: cosine to the processor's", "value": round(min(alike), 4), "reach": ALIKE, "ok": min(alike) >= ALIKE})
    return made


def one_case(mode: str, file: str, comfyui: Path, work: Path) -> None:
    flags, room = (["--cpu"], 0) if mode == REFERENCE else MODES[mode]
    base = work / "base"
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # sums in one order, so that pictures can be compared bit for bit
    sys.path[:0] = [str(comfyui), str(TESTS / "support"), str(TESTS / "comfyui")]
    sys.argv = ["main.py", "--base-directory", str(base), "--disable-api-nodes", *flags]
    import main  # noqa: F401  ComfyUI's own: it sets dynamic VRAM up

    torch.use_deterministic_algorithms(True, warn_only=True)
    paths = {name: work / f"{name}.safetensors" for name in (*FILES, "clip_vision")}
    if not all(path.is_file() for path in paths.values()):
        make_models(paths)
    found = {"steps": {}, "arguments": flags}
    out = work / f"{mode} {file}.json"
    with torch.inference_mode():
        models, ballast = load_models(paths[file], paths["clip_vision"]), keep_room(room)
        found["loaded as"] = {kind: type(one.patcher if hasattr(one, "patcher") else one).__name__ for kind, one in models.items()}
        for lora in (False, True):
            for name, step in steps(with_lora(models) if lora else models, work, mode, file, lora).items():
                began = time.monotonic()
                try:
                    result = step() | {"worked": True}
                except Exception as error:
                    result = {"worked": False, "error": "".join(traceback.format_exception(error)[-12:])}
                found["steps"][name + (", LoRA" if lora else "")] = result | {"seconds": round(time.monotonic() - began, 2)}
                out.write_text(json.dumps(found))
        del ballast


def make_models(paths: dict) -> None:
    import make_checkpoints

    sd15, vision = make_checkpoints.state_dict("sd15"), make_checkpoints.state_dict("clip_vision_l")
    for name, dtype in FILES.items():
        make_checkpoints.write(paths[name], {key: x.to(dtype) if x.is_floating_point() else x for key, x in sd15.items()})
    make_checkpoints.write(paths["clip_vision"], vision)


def load_models(checkpoint: Path, vision: Path) -> dict:
    import comfy.clip_vision
    import comfy.sd

    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(checkpoint))
    return {"model": model, "clip": clip, "vae": vae, "clip_vision": comfy.clip_vision.load(str(vision))}


def keep_room(room: float):
    """What fills a card but for so many GiB."""
    if room:
        free, _ = torch.cuda.mem_get_info()
        return torch.empty(int(free - room * 2**30), dtype=torch.uint8, device="cuda")


def with_lora(models: dict) -> dict:
    """The same models with a LoRA of random numbers on the U-Net's and the text encoder's attention."""
    import comfy.lora
    import comfy.sd

    model, clip = models["model"], models["clip"]
    keys = comfy.lora.model_lora_keys_unet(model.model, {}) | comfy.lora.model_lora_keys_clip(clip.cond_stage_model, {})
    shapes = {key: x.shape for net in (model.model, clip.cond_stage_model) for key, x in net.state_dict().items()}
    lora, generator, done = {}, torch.Generator().manual_seed(0), set()
    for name, key in keys.items():
        shape = shapes.get(key, ())
        if "attn" in key and len(shape) == 2 and key not in done:
            done.add(key)
            lora[f"{name}.lora_up.weight"] = 0.1 * torch.randn(shape[0], 4, generator=generator)
            lora[f"{name}.lora_down.weight"] = torch.randn(4, shape[1], generator=generator) / shape[1] ** 0.5
    model, clip = comfy.sd.load_lora_for_models(model, clip, lora, 1.0, 1.0)
    return models | {"model": model, "clip": clip}


def steps(models: dict, work: Path, mode: str, file: str, lora: bool) -> dict:
    """What a case does, one after another."""
    import comfy.model_management as management
    import folder_paths
    from conditioning import digest
    from rarity.density import Embeddings, GaussianDensity
    from rarity.generators.comfyui.clip_vision_eye import ClipVisionEncoder
    from rarity.generators.comfyui.model_baseline import ModelPictures
    from rarity.generators.comfyui.model_drawing import NativePictures
    from rarity.generators.comfyui.prompts.condition import Condition
    from rarity.generators.comfyui.token import Word
    from rarity.nodes import RarityMakeRareConditioning, RarityMakeRareWord
    from safetensors.torch import load_file, save_file

    import nodes as core

    folder_paths.folder_names_and_paths["embeddings"] = ([str(work)], {".safetensors"})
    model, clip, vae, vision = (models[name] for name in ("model", "clip", "vae", "clip_vision"))
    cat, empty = (core.CLIPTextEncode().encode(clip, text)[0] for text in ("a photo of a cat", ""))
    eye, device, kept = ClipVisionEncoder(vision), model.load_device, {}
    drawing = ModelPictures(model, cat, empty, vae, 0, **SIZE)
    cloud = torch.randn(60, eye.space.width, generator=torch.Generator().manual_seed(0))
    density = GaussianDensity.fit(Embeddings(cloud, eye.space), components=4)
    given = {"model": model, "negative": empty, "vae": vae, "density": density, "one_in": 20, "pictures": 1, "iterations": 1, "seed": 0,
             "sampler_name": "euler", "scheduler": "normal", "eye": vision, "engine": "gradient", **SIZE}
    reference = work / f"processor{', LoRA' if lora else ''}.safetensors"

    def held():
        """Of all weights, once they are back where models rest."""
        management.unload_all_models()
        return digest(model, vae, clip, vision, cat, empty)

    def draw():
        with Peak(device) as peak:
            kept["pictures"] = drawing.draw(range(1))
        return {"peak GiB": peak.gib, "mean": float(kept["pictures"].mean())}

    def gradients():
        if mode != REFERENCE:
            kept["digest"] = held()
            draw()  # so that whatever ComfyUI keeps of its layers is kept as drawing leaves it
        made, peaks, apart = {}, [], {}
        for name in ("condition", "word"):
            moved = Condition(cat) if name == "condition" else Word(clip, PROMPT, "*", "chair")
            pictures, several = NativePictures(drawing, eye, moved, moved.spread), []
            for _ in range(1 if mode == REFERENCE else 2):
                with Peak(device) as peak:
                    several.append(slope(pictures))
                peaks.append(peak.gib)
            made[name], apart[name] = several[0].contiguous(), float((several[-1] - several[0]).norm() / several[0].norm())
        if mode == REFERENCE:
            save_file(made, reference)
        known = load_file(reference) if reference.is_file() else {}
        return {"peak GiB": peaks, "second from first": apart, "cosine to the processor's": {
            name: float(torch.nn.functional.cosine_similarity(made[name], known[name], dim=0)) for name in known}}

    def condition_node():
        return {"report": RarityMakeRareConditioning.execute(**given, positive=cat).args[2]}

    def token_node():
        name = f"rare-{mode}-{file}-{lora}".replace(" ", "").replace(",", "")
        return {"report": RarityMakeRareWord.execute(
            **given, clip=clip, prompt=PROMPT, placeholder="*", start_word="chair", name=name).args[2]}

    def afterwards():
        before = kept["pictures"]
        same = bool((drawing.draw(range(1)) == before).all())
        return {"unchanged pictures": same, "unchanged weights": held() == kept["digest"]}

    if mode == REFERENCE:
        return {"gradients": gradients}
    return {"draw": draw, "gradients": gradients, "Make Rare: Conditioning": condition_node, "Make Rare: Word": token_node,
            "draw again": afterwards}


def slope(pictures) -> torch.Tensor:
    """Of a random projection of a picture's embedding, a little beside where steering starts."""
    with torch.inference_mode(False), torch.enable_grad():
        offset = 0.05 * torch.randn(pictures.size, generator=torch.Generator().manual_seed(1))
        offset.requires_grad_(True)
        weights = torch.randn(pictures.space.width, generator=torch.Generator().manual_seed(0))
        return torch.autograd.grad((pictures.embed(offset, range(1))[0].cpu() * weights).sum(), offset)[0]


class Peak:
    """The most GiB of the card in use while inside: torch's, and the pages of dynamic VRAM at the end."""

    def __init__(self, device: torch.device):
        self.cuda, self.gib = device.type == "cuda", 0.0

    def __enter__(self):
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        return self

    def __exit__(self, *_):
        if self.cuda:
            import comfy_aimdo.control

            self.gib = {"torch, peak": round(torch.cuda.max_memory_allocated() / 2**30, 3), "torch, before": round(self.before / 2**30, 3),
                        "dynamic VRAM": round(comfy_aimdo.control.get_total_vram_usage() / 2**30, 3)}


if __name__ == "__main__":
    main()
