"""RaritySeedVariety on a small Stable Diffusion 1.5, Flux and Lumina 2 of random weights, in this process, as JSON.

    python tests/support/varied_seeds.py CHECKPOINT CLIP_VISION --comfyui FOLDER
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from flow_models import LUMINA, POOLED, WIDTH, filled, known_kinds, small_model
from in_process import start_comfyui
from watching import digest

SETTINGS = {"steps": 2, "cfg": 3.0, "width": 64, "height": 64}
STRENGTH, UNTIL, SEED = 0.7, 0.5, 2**64 - 2  # the third seed begins again at 0


def main():
    parser = argparse.ArgumentParser(description="Seeds varied with ComfyUI's own models.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("clip_vision", type=Path)
    parser.add_argument("--comfyui", type=Path, required=True)
    arguments = parser.parse_args()
    start_comfyui(arguments.comfyui, small=True)
    with torch.inference_mode():
        json.dump(findings(arguments.checkpoint, arguments.clip_vision), sys.stdout)


def findings(checkpoint, clip_vision):
    import comfy.clip_vision
    import comfy.sd
    import comfy.supported_models
    from comfy.taesd.taesd import TAESD

    import nodes as core

    vision = comfy.clip_vision.load(str(clip_vision))
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(checkpoint))
    # Longer than the 77 tokens of the negative prompt, and of two entries, one with a mask.
    long = core.CLIPTextEncode().encode(clip, "a photo of a cat " * 30)[0]
    masked = core.ConditioningSetMask().append(core.CLIPTextEncode().encode(clip, "a red house")[0], torch.ones(1, 64, 64), "default", 1.0)[0]
    negative = core.CLIPTextEncode().encode(clip, "")[0]
    assert long[0][0].shape[1] > negative[0][0].shape[1]
    found = {"Stable Diffusion 1.5": of_model(model, vae, long + masked, negative, vision)}
    kinds = known_kinds()
    kinds = {"Flux": (comfy.supported_models.FluxSchnell, kinds["Flux"][1] | {"guidance_embed": False}), "Lumina 2": kinds["Lumina 2"]}
    for name, (kind, config) in kinds.items():
        model, vae = small_model(kind, config)[0], comfy.sd.VAE(sd=dict(filled(TAESD(latent_channels=16), 0.8).state_dict()))
        given = (model, vae, words(7, 0, config is LUMINA), words(5, 1, config is LUMINA), vision)
        found[name] = of_model(*given)
        if name == "Flux":  # the smallest of them
            found["node"] = of_node(*given)
    return found


def words(count, seed, masked):
    """A CONDITIONING of so many tokens; with a mask of ones, for no ComfyUI draws padding in a batch of several."""
    g = torch.Generator().manual_seed(seed)
    options = {"pooled_output": torch.randn(1, POOLED, generator=g)}
    if masked:
        options["attention_mask"] = torch.ones(1, count, dtype=torch.long)
    return [[torch.randn(1, count, WIDTH, generator=g), options]]


def of_model(model, vae, positive, negative, vision):
    """Whether varied pictures of several seeds at once are those that KSampler draws one by one with what the node gives it."""
    from rarity.generators.comfyui.clip_vision_eye import ClipVisionEncoder
    from rarity.generators.comfyui.model_baseline import ModelPictures
    from rarity.generators.comfyui.prompts.varied_condition import varied
    from rarity.generators.comfyui.vary_seeds import VaryingPictures

    import nodes as core

    held = digest(model, vae, positive, negative)
    drawing = ModelPictures(model, positive, negative, vae, **SETTINGS)
    look, drawn, seen = VaryingPictures(drawing, ClipVisionEncoder(vision), batch_size=3).look(STRENGTH, UNTIL, SEED, 3)
    plain = ModelPictures(model, positive, negative, vae, SEED, **SETTINGS).draw(range(3))
    one_by_one = []
    for seed in (SEED, SEED + 1, 0):
        empty = {"samples": torch.zeros(1, *drawing.latent_shape)}
        given = (model, seed, SETTINGS["steps"], SETTINGS["cfg"], "euler", "normal", varied(positive, [seed], STRENGTH, UNTIL), negative)
        (latent,) = core.common_ksampler(*given, empty)
        one_by_one.append(vae.decode(latent["samples"]).float())
    return {
        "as KSampler": float((torch.cat(one_by_one) - drawn).abs().max()),
        "moved": float((drawn - plain).abs().amax(dim=(1, 2, 3)).min()),
        "shapes": [list(drawn.shape), list(look.x.shape), list(look.slack.shape)],
        "finite": bool(torch.isfinite(seen.vectors).all()),
        "unchanged": digest(model, vae, positive, negative) == held,
    }


class Brightness:
    """A judge: pictures are the subject as far as they are bright."""

    subject = "something bright"
    source = {"kind": "brightness"}

    def probability(self, pictures, *, progress=None):
        return torch.sigmoid(500 * (pictures.double().mean(dim=(1, 2, 3)) - 0.1))


class Never:
    """A gate that takes everything for the subject."""

    threshold = 0.5

    def validity(self, pictures, progress=None):
        return torch.ones(len(pictures))


def of_node(model, vae, positive, negative, vision):
    """The node: twice, out of memory, cancelled, with guards, with a kept strength, with a set to keep."""
    import comfy.model_management
    from rarity.density.base.errors import RarityError
    from rarity.density.steering.guardrails import AnchorGuardrail
    from rarity.generators.comfyui import vary_seeds
    from rarity.generators.comfyui.clip_vision_eye import ClipVisionEncoder
    from rarity.generators.comfyui.model_baseline import ModelPictures
    from rarity.generators.judges.validity_gate import ValidityGate
    from rarity.nodes import RaritySeedVariety

    held, drawn = digest(model, vae, vision.model, positive, negative), []
    draw, decode = ModelPictures.draw, vae.decode
    ModelPictures.draw = lambda self, rows, tick=None: drawn.append(len(rows)) or draw(self, rows, tick)

    def run(forget=True, **changed):
        drawn.clear()
        if forget:
            vary_seeds._MEASURED.clear()
        given = {"model": model, "positive": positive, "negative": negative, "vae": vae, "variety": 2.0, "count": 3, "seed": 5,
                 "sampler_name": "euler", "scheduler": "normal", "eye": vision, "pictures": 3, "until": 1.0, **SETTINGS}
        return RaritySeedVariety.execute(**given | changed).args

    def complaint(**changed):
        try:
            run(**changed)
        except RarityError as error:
            return str(error)

    conditionings, seeds, strength, until, report, curve = run()
    found = {"seeds": seeds, "strength": strength, "report": report, "curve": list(curve.shape), "drawn": sum(drawn),
             "entries": [[list(tokens.shape) for tokens, _ in one] for one in conditionings]}
    again = run()
    found["twice"] = all(torch.equal(a[0][0], b[0][0]) for a, b in zip(conditionings, again[0], strict=True)) and torch.equal(curve, again[5])
    remembered = run(forget=False, seed=70)
    found["remembered"] = [sum(drawn), remembered[2] == strength, remembered[1]]
    another = run(forget=False, cfg=2.0)
    found["another setting"] = [sum(drawn), another[2]]
    given = run(strength=0.25)
    found["given"] = [sum(drawn), given[2], given[4]]
    measured = run(until=0.0)
    found["until"] = [until, sum(drawn), measured[3], run(until=0.0, variety=0, gate=Never())[3]]

    wordings = words(7, 2, False) + words(9, 3, False)
    along, along_again = run(variations=wordings), run(forget=False, variations=wordings, seed=70)
    turned = [(one[0][0] - positive[0][0]).flatten() for one in along[0]]
    found["variations"] = {"strength": along[2], "report": along[4], "drawn again": sum(drawn), "strength again": along_again[2],
                           "moved": min(float(one.norm()) for one in turned), "without": run()[2] == strength}

    vae.decode = lambda latents: scarce(latents, decode)
    found["out of memory"] = [run(batch=3)[2] == strength, list(drawn)]
    vae.decode = decode

    embeddings = ClipVisionEncoder(vision).encode_images(draw(ModelPictures(model, positive, negative, vae, **SETTINGS), range(16)))
    rails = (AnchorGuardrail.from_baseline(embeddings, 0.0),)
    guarded = run(guardrail=rails, gate=ValidityGate(Brightness(), threshold=0.5), variety=0)
    found["guarded"] = [guarded[2], guarded[4]]
    kept = run(strength=0.05, keep=2, count=6, guardrail=rails)
    found["kept"] = [kept[1], kept[4], sum(drawn), len(kept[0])]
    found["on disk"] = on_disk(run, drawn, rails, model, positive)
    found["errors"] = {
        "no guard": complaint(variety=0),
        "dark": complaint(gate=ValidityGate(Brightness(), threshold=0.999999)),
        "dark set": complaint(gate=ValidityGate(Brightness(), threshold=0.999999), strength=1.0, keep=2),
        "keep": complaint(keep=4), "pictures": complaint(pictures=2), "variety": complaint(variety=0.5), "until": complaint(strength=1.0, until=0.0),
        "tokens": complaint(positive=[[torch.ones(2, 77, 768), {}]]),
        "wordings of another model": complaint(variations=[[torch.ones(1, 7, 24), {}]]),
        "wordings that say the same": complaint(variations=positive),
        "another model": complaint(positive=[[torch.ones(1, 77, 768), {"pooled_output": torch.ones(1, POOLED)}]]),
    }
    comfy.model_management.interrupt_current_processing()
    try:
        run()
    except comfy.model_management.InterruptProcessingException:
        found["cancelled"] = sum(drawn)
    found["nothing half-measured is remembered"] = not vary_seeds._MEASURED
    ModelPictures.draw = draw
    found["unchanged"] = digest(model, vae, vision.model, positive, negative) == held
    return found


def on_disk(run, drawn, rails, model, positive):
    """A measurement that is kept under a name: read again, for other things, and damaged."""
    import folder_paths
    from rarity.density.base.errors import RarityError
    from rarity.density.files.store import inspect_file
    from rarity.density.steering.guardrails import AnchorGuardrail
    from rarity.generators.judges.validity_gate import ValidityGate

    (rail,) = rails
    looser = AnchorGuardrail(rail.anchor, rail.min_cosine - 0.01, scale=rail.scale, space=rail.space)
    patched = model.clone()
    patched.model_options = {**patched.model_options, "of another pack": 1}
    ((tokens, options),) = positive
    other = [[tokens + 0.1 * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(9)), options]]
    with tempfile.TemporaryDirectory() as folder:
        folder_paths.folder_names_and_paths["rarity_strengths"] = ([folder], {".safetensors"})
        path = Path(folder) / "kept.safetensors"

        def keep(**changed):
            gate = ValidityGate(Brightness(), threshold=0.5)
            out = run(**{"keep_as": "kept", "guardrail": rails, "gate": gate, **changed})
            return {"strength": out[2], "until": out[3], "said": out[4].splitlines(), "drawn": sum(drawn), "curve": out[5]}

        first, again = keep(), keep()
        found = {"same": torch.equal(first.pop("curve"), again.pop("curve")), "first": first, "again": again, "inspected": inspect_file(path)}
        kept = path.read_bytes()
        others = {"prompt": {"positive": other}, "model": {"model": patched}, "guardrail": {"guardrail": (looser,)},
                  "gate": {"gate": ValidityGate(Brightness(), threshold=0.4)}, "variations": {"variations": words(7, 2, False)}, "variety": {"variety": 1.5}}
        for what, changed in others.items():
            one = keep(**changed)
            found[what] = [one["drawn"], next((line for line in one["said"] if "replaced" in line), None)]
            path.write_bytes(kept)
        path.write_bytes(damaged := kept[:-1] + b"!")
        try:
            keep()
        except RarityError as error:
            found["damaged"] = [str(error).partition("kept.safetensors")[2], sum(drawn), path.read_bytes() == damaged]
    return found


def scarce(latents, decode):
    """A card with room for two pictures."""
    if len(latents) > 2:
        raise torch.cuda.OutOfMemoryError("out of memory")
    return decode(latents)


if __name__ == "__main__":
    main()
