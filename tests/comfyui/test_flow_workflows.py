"""The shipped workflows for Z-Image and Flux, each on a real server: from end to end, cancelled, and again alike.

The models are random and small, in the files that the workflows name; tests/support/small_models teaches their sizes.
"""

import json
import time

import pytest
from comfyui import ROOT, messages
from graph import nodes_in, nodes_of, to_api
from tiny_open_clip import SMALLEST

SMALL = {"width": 64, "height": 64}
STANDS_FOR = {
    "z_image_turbo_bf16": "zimage", "qwen_3_4b": "qwen3_4b", "flux1-dev": "flux", "clip_l": "clip_l", "t5xxl_fp16": "t5xxl", "ae": "ae",
    "clip_vision_h": "clip_vision_l",
}
LESS = {
    "RarityValidityGate": {"threshold": 0.01},  # random weights see a house nowhere
    "RaritySeedVariety": {"count": 2, "steps": 1, "pictures": 3, **SMALL},
    "RarityBaselineFromModel": {"count": 50, "steps": 1, "batch": 25, "keep_as": "", **SMALL},
    "RarityMakeRareConditioning": {"one_in": 20, "pictures": 1, "iterations": 2, "steps": 1, "dimensions": 2, **SMALL},
    "KSampler": {"steps": 1}, "EmptySD3LatentImage": {**SMALL, "batch_size": 1},
}
NAMES = {  # of the node that draws much, and what makes it draw more
    "Rarity 16 Seed variety with Z-Image": ("RaritySeedVariety", {"steps": 1000, "pictures": 64}),
    "Rarity 17 A rare picture with Flux": ("RarityBaselineFromModel", {"steps": 1000}),
}
each = pytest.mark.parametrize("name", NAMES)


def read(name):
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


def graph(server, native_models, clip_checkpoint, name):
    """A shipped workflow in API format on small random models, and everything little."""
    prompt = to_api(read(name), server.nodes)
    wanted = {value.removesuffix(".safetensors") for node in prompt.values() for value in node["inputs"].values() if str(value).endswith(".safetensors")}
    native_models(*(f"{STANDS_FOR[file]}_small" for file in wanted & STANDS_FOR.keys()))
    for node in prompt.values():
        node["inputs"] |= LESS.get(node["class_type"], {})
        for key, value in node["inputs"].items():
            if str(value).removesuffix(".safetensors") in STANDS_FOR:
                node["inputs"][key] = f"{STANDS_FOR[value.removesuffix('.safetensors')]}_small.safetensors"
        if node["class_type"] == "RarityLoadOpenCLIP":
            node["inputs"] |= {"architecture": SMALLEST, "checkpoint": clip_checkpoint}
    return prompt


@each
def test_it_runs_twice_alike_with_a_cancel_between(comfyui, native_server, native_models, clip_checkpoint, name):
    if "Z-Image" in name and not (comfyui / "comfy" / "text_encoders" / "z_image.py").is_file():
        pytest.skip(f"{comfyui} is older than Z-Image.")
    server, prompt = native_server, graph(native_server, native_models, clip_checkpoint, name)
    saves = nodes_of(prompt, "SaveImage")
    busy, more = NAMES[name]

    def run(how=server.run):
        entry = how(prompt, seconds=300)
        assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
        return [server.pictures(entry, key) for key in saves], entry

    drawn, entry = run()
    assert all(pictures.std() > 10 for pictures in drawn), "no flat picture"
    (report,) = entry["outputs"][nodes_of(prompt, "PreviewAny")[0]]["text"]
    assert "Set cfg" not in report and "are settings of" not in report, "cfg and scheduler suit the family"
    assert ("lie 1." in report or "lie 2." in report) if busy == "RaritySeedVariety" else "about 1 in 20" in report

    (number,) = nodes_of(prompt, busy)
    before = dict(prompt[number]["inputs"])
    prompt[number]["inputs"] |= more
    prompt_id = server.submit(prompt)
    while not server.is_running(prompt_id):
        time.sleep(0.02)
    time.sleep(1)  # the models are there already
    server.raw("/interrupt", {"prompt_id": prompt_id})
    entry = server.wait(prompt_id)
    assert [one["node_type"] for one in messages(entry, "execution_interrupted")] == [busy], messages(entry, "execution_error")
    prompt[number]["inputs"] = before
    again, _ = run(server.run_afresh)
    assert all((one == other).all() for one, other in zip(drawn, again, strict=True))


@each
def test_manager_can_offer_what_is_missing(name):
    """Every loader names the files it shows, with public addresses that end in these very names."""
    folders = {"UNETLoader": "diffusion_models", "CLIPLoader": "text_encoders", "DualCLIPLoader": "text_encoders", "VAELoader": "vae"}
    for node in nodes_in(read(name)):
        shown = [value for value in node["widgets_values"] if str(value).endswith(".safetensors")]
        offered = node["properties"].get("models", [])
        assert [model["name"] for model in offered] == shown, node["type"]
        for model in offered:
            assert model["url"].startswith("https://huggingface.co/")
            assert model["directory"] == folders.get(node["type"], "clip_vision")
            assert model["url"].endswith("/" + model["name"]) or node["type"] == "RarityLoadOpenCLIP"
