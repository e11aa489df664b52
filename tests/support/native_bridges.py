"""The bridges on the real ComfyUI: what a node returns, and what ComfyUI's own code then passes to the network.

    python tests/support/native_bridges.py --comfyui FOLDER --models FOLDER
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from in_process import start_comfyui

READERS = {"sdxl_small": ("y", 1280), "sd21_unclip_l_small": ("y", 768), "cascade_c_small": ("clip_img", 768)}


def main():
    parser = argparse.ArgumentParser(description="The bridges on the real ComfyUI.")
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    arguments = parser.parse_args()
    start_comfyui(arguments.comfyui, small=True)
    with torch.inference_mode():
        models = {name: _load(arguments.models / "checkpoints" / f"{name}.safetensors") for name in (*READERS, "sd15_small")}
        found = {name: _what_arrives(models[name], *reader) for name, reader in READERS.items()}
        json.dump({"arrives": found, "errors": _errors(models), "encoders": _encoders(arguments.models)}, sys.stdout)


def _load(path):
    import comfy.sd

    return comfy.sd.load_checkpoint_guess_config(str(path), output_vae=False, output_clip=False)[0]


def _random(width, count=3, seed=0, fingerprint="0" * 12):
    from rarity.density.base.embeddings import Embeddings
    from rarity.density.base.spaces import EmbeddingSpace

    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return Embeddings(rows, EmbeddingSpace("CLIP tiny", fingerprint, width))


def _what_arrives(model, name, width):
    """Three embeddings after our node, unCLIPConditioning and KSampler; and the same three as rows of one object."""
    import comfy.clip_vision
    from rarity.nodes import RarityToClipVisionOutput

    embeddings = _random(width)
    outputs = RarityToClipVisionOutput.execute(embeddings=embeddings, model=model).args[0]
    batch = comfy.clip_vision.Output()
    batch["image_embeds"] = embeddings.vectors
    rows = torch.stack([_read_by_the_network(model, name, output)[:width] for output in outputs])
    return {
        "outputs": len(outputs),
        "shapes": [list(output.image_embeds.shape) for output in outputs],
        "off": float(((rows - embeddings.vectors).norm(dim=1) / embeddings.vectors.norm(dim=1)).max()),
        "cosines": torch.nn.functional.cosine_similarity(rows[:, None], embeddings.vectors[None], dim=2).tolist(),
        "batch": _cosine(_read_by_the_network(model, name, batch)[:width], embeddings.vectors.sum(dim=0)),
    }


def _cosine(one, other):
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


def _read_by_the_network(model, name, output):
    """What a KSampler passes to the network as its condition `name`, [numbers]."""
    import nodes

    text = torch.zeros(1, 77, {"SDXL": 2048, "StableCascade_C": 1280}.get(type(model.model).__name__, 1024))
    plain = [[text, {"pooled_output": torch.zeros(1, 1280)}]]
    (positive,) = nodes.unCLIPConditioning().apply_adm(plain, output, 1.0, 0.0)
    seen = []

    def spy(apply, given):
        row = given["cond_or_uncond"].index(0)
        seen.append(given["c"][name][row].flatten())
        return apply(given["input"], given["timestep"], **given["c"])

    spied = model.clone()
    spied.set_model_unet_function_wrapper(spy)
    latent = {"samples": torch.zeros(1, model.model.latent_format.latent_channels, 8, 8)}
    nodes.common_ksampler(spied, 0, 1, 1.0, "euler", "normal", positive, plain, latent)
    return seen[0].float()


def _errors(models):
    """The text of each refusal."""
    from rarity.density.base.embeddings import Embeddings
    from rarity.density.base.spaces import EmbeddingSpace
    from rarity.nodes import RarityToClipVisionOutput

    unit = Embeddings(_random(1280).vectors, EmbeddingSpace("CLIP tiny", "0" * 12, 1280, "unit"))
    (output,) = RarityToClipVisionOutput.execute(embeddings=_random(768, count=1)).args[0]
    return {
        "no input": _refusal(RarityToClipVisionOutput.execute, embeddings=_random(768), model=models["sd15_small"]),
        "width": _refusal(RarityToClipVisionOutput.execute, embeddings=_random(768), model=models["sdxl_small"]),
        "scaled": _refusal(RarityToClipVisionOutput.execute, embeddings=unit),
        "tokens": _refusal(lambda: output.last_hidden_state),
        "nothing": _refusal(lambda: output.nothing_like_that),
    }


def _refusal(call, **inputs):
    try:
        call(**inputs)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _encoders(models):
    """CLIP Vision Encode and our node that reads it back, with the same encoder and with another of equal width."""
    import comfy.clip_vision
    from rarity.nodes import (
        RarityEncodeImages,
        RarityFromClipVisionOutput,
        RarityToClipVisionOutput,
    )

    import nodes

    right, wrong = (comfy.clip_vision.load(str(models / "clip_vision" / "clip_vision_l_small.safetensors")) for _ in range(2))
    wrong.model.visual_projection.weight.data = wrong.model.visual_projection.weight.flip(1)
    pictures = torch.rand(3, 40, 32, 3, generator=torch.Generator().manual_seed(0))
    (encoded,) = nodes.CLIPVisionEncode().encode(right, pictures, "center")
    ours = RarityEncodeImages.execute(images=pictures, eye=right).args[0]
    back = RarityFromClipVisionOutput.execute(clip_vision_output=encoded, eye=right).args[0]
    outputs = RarityToClipVisionOutput.execute(embeddings=back, eye=right).args[0]
    again = [RarityFromClipVisionOutput.execute(clip_vision_output=item, eye=right).args[0] for item in outputs]
    _, latents, embeds = RarityToClipVisionOutput.execute(embeddings=back, eye=right).args
    returned = RarityFromClipVisionOutput.execute(prior_latent=latents[1], eye=right).args[0]
    no_vector = comfy.clip_vision.Output()
    no_vector["image_embeds"] = encoded.last_hidden_state
    return {
        "same": bool(torch.equal(ours.vectors, back.vectors)) and ours.space == back.space,
        "round trip": all(torch.equal(item.vectors[0], row) for item, row in zip(again, back.vectors, strict=True)),
        "other packs": [list(item.shape) for item in (*latents, *embeds)],
        "returned": bool(torch.equal(returned.vectors[0], back.vectors[1])) and returned.space == back.space,
        "another encoder": _refusal(RarityFromClipVisionOutput.execute, clip_vision_output=encoded, eye=wrong),
        "another, from an embedding": _refusal(
            RarityFromClipVisionOutput.execute, clip_vision_output=outputs[0], eye=wrong),
        "no match": _refusal(RarityToClipVisionOutput.execute, embeddings=back, eye=wrong),
        "tokens for an embedding": _refusal(
            RarityFromClipVisionOutput.execute, clip_vision_output=no_vector, eye=right),
        "none": _refusal(RarityFromClipVisionOutput.execute, eye=right),
    }


if __name__ == "__main__":
    main()
