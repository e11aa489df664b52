"""Run RarityMakeRareConditioning on a small Stable Diffusion 1.5 of random weights, in this process; print JSON.

    python tests/support/conditioning.py CHECKPOINT CLIP_VISION --comfyui FOLDER
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import torch
from in_process import start_comfyui

SETTINGS = {"steps": 2, "cfg": 3.0, "width": 32, "height": 32}


def main():
    parser = argparse.ArgumentParser(description="A CONDITIONING steered with ComfyUI's own models.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("clip_vision", type=Path)
    parser.add_argument("--comfyui", type=Path, required=True)
    arguments = parser.parse_args()
    start_comfyui(arguments.comfyui, small=True)
    with torch.inference_mode():
        json.dump(findings(arguments.checkpoint, arguments.clip_vision), sys.stdout)


def findings(checkpoint, clip_vision):
    import comfy.clip_vision
    import comfy.model_management
    import comfy.sd
    from rarity.density import GaussianDensity
    from rarity.density.base.errors import RarityError
    from rarity.density.base.framing import FRAMINGS
    from rarity.generators.comfyui.clip_vision_eye import ClipVisionEncoder, eye_of
    from rarity.generators.comfyui.model_baseline import ModelPictures, draw_model_baseline
    from rarity.generators.comfyui.model_drawing import NativePictures
    from rarity.generators.comfyui.prompts.condition import Condition
    from rarity.generators.runtime.memory import Placement
    from rarity.nodes import RarityMakeRareConditioning

    import nodes as core

    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(checkpoint))
    vision = comfy.clip_vision.load(str(clip_vision))
    cat, house, empty = (core.CLIPTextEncode().encode(clip, text)[0] for text in ("a photo of a cat", "a red house", ""))
    cat[0][1]["mask"] = torch.ones(1, 64, 64)
    eye = ClipVisionEncoder(vision)
    drawing = ModelPictures(model, cat, empty, vae, 0, **SETTINGS)
    baseline = draw_model_baseline(ModelPictures(model, cat, empty, vae, 1000, **SETTINGS), eye, 52, batch_size=8)[0]
    density = GaussianDensity.fit(baseline, components=6)
    held = digest(model, vae, clip, vision, cat, house, empty)
    found = {"gradient": gradient_and_difference(NativePictures(drawing, eye, Condition(cat), Condition(cat).spread))}
    found["framings"] = {
        framing: seen_both_ways(NativePictures(drawing, eye_of(vision, Placement(), framing), Condition(cat), Condition(cat).spread))
        for framing in FRAMINGS
    }

    def run(**changed):
        given = {"model": model, "positive": cat, "negative": empty, "vae": vae, "density": density, "one_in": 20, "pictures": 2,
                 "iterations": 12, "seed": 0, "sampler_name": "euler", "scheduler": "normal", "eye": vision,
                 "engine": "gradient", **SETTINGS}
        return RarityMakeRareConditioning.execute(**given | changed).args

    def complaint(**changed):
        try:
            run(**changed)
        except RarityError as error:
            return str(error)
        finally:
            unchanged.append(digest(model, vae, clip, vision, cat, house, empty) == held)

    unchanged = []
    for engine, more in (("gradient", {}), ("evolution", {"dimensions": 8, "iterations": 12, "pictures": 1})):
        conditioning, trajectory, report, pictures = run(engine=engine, **more)
        ((tokens, options),) = conditioning
        short = [run(engine=engine, **more | {"iterations": 1})[0][0][0] for _ in range(2)]
        drawn = ModelPictures(model, conditioning, empty, vae, 0, **SETTINGS).draw(range(len(pictures)))
        found.setdefault(engine, {}).update({
            "bits": trajectory.readings["bits"].tolist(),
            "in band": trajectory.in_band.tolist(),
            "report": report,
            "moved": float((tokens - cat[0][0]).abs().max()),
            "twice": float((short[0] - short[1]).abs().max()),
            "mask kept": options["mask"] is cat[0][1]["mask"],
            "drawn by KSampler": float((drawn - pictures).abs().max()),
            "seen again": float((eye.encode_images(drawn).vectors - trajectory.final.vectors).abs().max()),
            "plain": not tokens.is_inference() and not tokens.requires_grad,
        })
        unchanged.append(digest(model, vae, clip, vision, cat, house, empty) == held)
    among = run(engine="evolution", iterations=1, pictures=1, variations=house)[0]
    found["unlike the baseline"] = run(engine="evolution", iterations=1, pictures=1, cfg=5.0)[2]
    found["evolution"]["along the variation"] = alike(among[0][0] - cat[0][0], house[0][0] - cat[0][0])
    of_xl = [[torch.ones(1, 77, 2048), {"pooled_output": torch.ones(1, 1280)}]]
    found["errors"] = {
        "two entries": complaint(positive=cat + house),
        "another sampler": complaint(sampler_name="dpmpp_2m"),
        "another encoder": complaint(density=GaussianDensity.fit(foreign(baseline), components=6)),
        "memory": complaint(memory=1e-6),
        "no number": complaint(memory=float("nan")),
        "hooks": complaint(negative=[[empty[0][0], {**empty[0][1], "hooks": object()}]]),
        "ControlNet": complaint(positive=[[cat[0][0], {**cat[0][1], "control": object()}]]),
        "out of every step": complaint(positive=[[cat[0][0], {**cat[0][1], "start_percent": 0.5, "end_percent": 0.2}]]),
        "not finite": complaint(positive=[[torch.full_like(cat[0][0], float("nan")), {}]]),
        "another model": complaint(positive=of_xl),
        "another model, evolution": complaint(negative=of_xl, engine="evolution"),
    }
    for engine in ("gradient", "evolution"):
        comfy.model_management.interrupt_current_processing()
        try:
            run(engine=engine)
        except comfy.model_management.InterruptProcessingException:
            found[engine]["cancelled"] = True
        unchanged.append(digest(model, vae, clip, vision, cat, house, empty) == held)
    return found | {"unchanged": unchanged}


def gradient_and_difference(pictures, apart=0.03):
    """The slope of a random projection of the embedding along its gradient, and by central differences of `apart`."""
    with torch.inference_mode(False):
        weights = torch.randn(pictures.space.width, generator=torch.Generator().manual_seed(0))
        at = 0.05 * torch.randn(pictures.size, generator=torch.Generator().manual_seed(1))

        def value(offset):
            with torch.enable_grad():
                return (pictures.embed(offset, range(1))[0] * weights).sum()

        offset = at.clone().requires_grad_(True)
        made = value(offset)
        (slope,) = torch.autograd.grad(made, offset)
        length = float(slope.norm())
        step = apart * slope / length
        with torch.no_grad():
            ordinary = float((pictures.embed(at, range(1))[0] * weights).sum())
        difference = float((value(at + step) - value(at - step)).detach()) / (2 * apart)
    return {"slope": length, "difference": difference, "value": float(made.detach()), "ordinary": ordinary, "scale": float(weights.norm())}


def seen_both_ways(pictures):
    """A wide picture as gradients see it and as Encode Images sees it: their distance, and the latter."""
    shown = torch.rand(1, 64, 160, 3, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode(False), torch.enable_grad():
        there = pictures._see(shown.clone()).detach()
    ordinary = pictures.eye.encode_images(shown).vectors
    return {"apart": float((there.cpu() - ordinary).abs().max()), "seen": ordinary[0].tolist()}


def alike(one, other):
    """The absolute cosine between two tensors."""
    return float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0).abs())


def foreign(baseline):
    from rarity.density import Embeddings, EmbeddingSpace

    return Embeddings(baseline.vectors, EmbeddingSpace("another", "0" * 12, baseline.space.width))


def digest(model, vae, clip, vision, *conditionings):
    """A digest of every weight and every tensor that was connected."""
    content = hashlib.sha256()
    for module in (model.model, vae.first_stage_model, clip.cond_stage_model, vision.model):
        for name, tensor in module.state_dict().items():
            content.update(name.encode())
            content.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy())
    for ((tokens, options),) in conditionings:
        content.update(tokens.contiguous().numpy())
        content.update(repr(sorted(options)).encode())
    return content.hexdigest()


if __name__ == "__main__":
    main()
