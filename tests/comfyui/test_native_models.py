"""The small random-weight models are what ComfyUI takes for the real ones, and they draw."""

import os

import numpy as np
import pytest
from comfyui import messages


def still(checkpoint, text="a photo of a cat", loader="CheckpointLoaderSimple"):
    """The smallest stock graph: one 64 x 64 picture in a step, with no words to avoid, which cost a text encoder as much as others."""
    return {
        "model": {"class_type": loader, "inputs": {"ckpt_name": checkpoint}},
        "yes": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["model", 1], "text": text}},
        "no": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["yes", 0]}},
        "size": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "sample": {"class_type": "KSampler", "inputs": {
            "model": ["model", 0], "positive": ["yes", 0], "negative": ["no", 0], "latent_image": ["size", 0], "seed": 0,
            "steps": 1, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}},
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["model", 2]}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["decode", 0], "filename_prefix": "native"}},
    }


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_a_checkpoint_loads_and_its_picture_follows_the_prompt(native_server, native_models, name):
    (path,) = native_models(name)

    def draw(text):
        entry = native_server.run(still(path.name, text))
        assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
        return native_server.pictures(entry, "save")[0].astype(float)

    cat, house = draw("a photo of a cat"), draw("a red house")
    assert cat.std() > 10, "no flat picture"
    assert np.abs(cat - house).mean() > 2, "the words change it"


def test_an_embedding_travels_through_an_unclip_checkpoint_as_large_as_comfyui_wants_it(native_server, native_models):
    """Nothing about it is taught: the loader's own vision encoder, our two bridges, unCLIPConditioning, a picture."""
    (path,) = native_models("sd21_unclip_l")
    graph = still(path.name, loader="unCLIPCheckpointLoader") | {
        "grey": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 8421504}},
        "look": {"class_type": "CLIPVisionEncode", "inputs": {
            "clip_vision": ["model", 3], "image": ["grey", 0], "crop": "center"}},
        "in": {"class_type": "RarityFromClipVisionOutput", "inputs": {
            "clip_vision_output": ["look", 0], "eye": ["model", 3]}},
        "out": {"class_type": "RarityToClipVisionOutput", "inputs": {
            "embeddings": ["in", 0], "eye": ["model", 3], "model": ["model", 0]}},
        "meant": {"class_type": "unCLIPConditioning", "inputs": {
            "conditioning": ["yes", 0], "clip_vision_output": ["out", 0], "strength": 1.0, "noise_augmentation": 0.0}},
    }
    graph["sample"]["inputs"]["positive"] = ["meant", 0]
    ours = native_server.run(graph)
    assert ours["status"]["status_str"] == "success", messages(ours, "execution_error")
    graph["meant"]["inputs"]["clip_vision_output"] = ["look", 0]
    theirs = native_server.run(graph)
    picture = native_server.pictures(ours, "save")
    assert picture.std() > 10 and np.array_equal(picture, native_server.pictures(theirs, "save")), "as without the bridges"


def test_what_a_loader_did_not_find_in_its_file_is_named(native_server, native_models):
    """A checkpoint without image encoder, text encoder and VAE: the loaders give None for them, or a VAE without weights."""
    from safetensors.torch import load_file, save_file

    (path,) = native_models("sd15_small")
    bare = path.with_name(f"bare_{os.getpid()}.safetensors")  # the folder is that of other workers, too
    save_file({name: x for name, x in load_file(path).items() if name.startswith("model.diffusion_model.")}, bare)
    loaders = {
        "unclip": {"class_type": "unCLIPCheckpointLoader", "inputs": {"ckpt_name": path.name}},
        "bare": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": bare.name}},
        "grey": {"class_type": "EmptyImage", "inputs": {"width": 32, "height": 32, "batch_size": 2, "color": 8421504}},
        "size": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 2}},
        "show": {"class_type": "PreviewImage", "inputs": {"images": ["asked", 0]}},
    }

    def said(class_type, **inputs):
        schema = native_server.get(f"/object_info/{class_type}")[class_type]["input"]
        usual = {name: spec[1]["default"] for name, spec in schema["required"].items() if "default" in (spec[1:] or ({},))[0]}
        asked = {"asked": {"class_type": class_type, "inputs": usual | inputs}}
        if class_type != "RarityLocalScore":
            asked["show"] = {"class_type": "PreviewAny", "inputs": {"source": ["asked", 0]}}
        (error,) = messages(native_server.run(loaders | asked), "execution_error")
        return error["exception_message"]

    assert ("Encode Images got nothing from the node that is connected to eye. An unCLIP checkpoint loader does so for a "
            "checkpoint without an image encoder: load one with Load CLIP Vision.") in said(
                "RarityEncodeImages", images=["grey", 0], eye=["unclip", 3])
    assert "Local Score got nothing from the node that is connected to vae. A checkpoint loader does so" in said(
        "RarityLocalScore", latent=["size", 0], vae=["bare", 2])
