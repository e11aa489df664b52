"""The shipped Stable Diffusion workflows, each on a real server: from end to end, again, cancelled, and again.

The models are random and small: text and vision encoders and Stable Cascade smaller than ComfyUI's own loaders know, which
tests/support/small_models teaches them. test_native_models.py has some as large as an untaught ComfyUI wants them.
"""

import copy
import json

import numpy as np
import pytest
from comfyui import ROOT, messages
from graph import nodes_in, nodes_of, to_api
from tiny_open_clip import SMALLEST

SECONDS = 900  # for one run; ten on a quiet machine, the rest is room for a busy one
STANDS_FOR = {
    "sd_xl_base_1.0.safetensors": "sdxl", "clip_vision_g.safetensors": "clip_vision_g",
    "wd-1-5-beta2-aesthetic-unclip-h-fp16.safetensors": "sd21_unclip_h", "v1-5-pruned-emaonly-fp16.safetensors": "sd15",
    "stable_cascade_stage_c.safetensors": "cascade_c", "stable_cascade_stage_b.safetensors": "cascade_b",
    "clip_vision_h.safetensors": "clip_vision_h",
}
# A density needs 50 samples; everything else is as little as it can be.
LESS = {
    "RarityBaselineFromModel": {"count": 50, "steps": 1, "cfg": 1.0, "width": 32, "height": 32, "batch": 25, "keep_as": ""},
    "RarityFitDensity": {"components": 4},
    "KSampler": {"steps": 2},
    "EmptyLatentImage": {"width": 32, "height": 32},
    "StableCascade_EmptyLatentImage": {"width": 256, "height": 256},
    "RarityMakeRare": {"count": 3, "steps": 10, "one_in": 1000},
    "RarityRankImages": {"floor": 0.0},
}
WORKFLOWS = ["Rarity 11 Stable Diffusion XL", "Rarity 12 Stable Diffusion unCLIP", "Rarity 13 Stable Cascade", "Rarity 09 Rank any graph"]

each = pytest.mark.parametrize("name", WORKFLOWS)


def read(name):
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def small(native_server, native_models):
    """A shipped workflow in API format, with random models in place of the real ones and everything small."""

    stand_ins = {name: f"{small}_small" for name, small in STANDS_FOR.items()}
    native_models(*stand_ins.values())

    def convert(name):
        prompt = to_api(read(name), native_server.nodes)
        for node in prompt.values():
            node["inputs"] |= {key: value for key, value in LESS.get(node["class_type"], {}).items()}
            for key in ("ckpt_name", "clip_name"):
                if key in node["inputs"]:
                    node["inputs"][key] = f"{stand_ins[node['inputs'][key]]}.safetensors"
        return prompt

    return convert


def run(server, prompt):
    entry = server.run(prompt, seconds=SECONDS)
    assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
    return entry


def saved(server, prompt, entry):
    return {prompt[key]["inputs"]["filename_prefix"]: server.pictures(entry, key) for key in nodes_of(prompt, "SaveImage")}


def run_afresh(server, prompt):
    """Run with nothing in ComfyUI's cache of results and models, and no memory of what was shown."""
    entry = server.run_afresh(prompt, SECONDS, before=lambda: forget_what_was_shown(server))
    assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
    return entry


def forget_what_was_shown(server):
    for path in (server.base / "models" / "rarity_exposures").glob("*"):
        path.unlink()


@each
def test_it_runs_twice_with_equal_pictures_and_once_more_after_a_cancel(native_server, small, name):
    server, prompt = native_server, small(name)
    for batch in nodes_of(prompt, "RebatchImages"):
        prompt["each"] = {"class_type": "SaveImage", "inputs": {"images": [batch, 0], "filename_prefix": "each"}}
    first = saved(server, prompt, run_afresh(server, prompt))
    assert first and all(pictures.std() > 10 for pictures in first.values()), "no flat picture"
    if "each" in first:
        check_each_is_its_own(first["each"].astype(float))
    again = saved(server, prompt, run_afresh(server, prompt))
    assert first.keys() == again.keys() and all(np.array_equal(first[key], again[key]) for key in first)

    run(server, prompt)  # an order to empty the cache may have waited until the last run had ended
    cancelled = copy.deepcopy(prompt)
    for key in nodes_of(cancelled, "KSampler"):
        cancelled[key]["inputs"] |= {"steps": 10000, "seed": 1}
    before = server.log.stat().st_size
    prompt_id = server.submit(cancelled)
    server.wait_for_log("/10000", before)  # the sampler's bar
    server.raw("/interrupt", {"prompt_id": prompt_id})
    (interrupted,) = messages(server.wait(prompt_id, SECONDS), "execution_interrupted")
    assert interrupted["node_type"] == "KSampler"
    forget_what_was_shown(server)
    after = saved(server, prompt, run(server, prompt))
    assert all(np.array_equal(first[key], after[key]) for key in first)


def check_each_is_its_own(pictures):
    """The list fans out: one picture an embedding. Noise and prompt are the same, so only the embedding can differ.

    With equal embeddings pictures are equal to the last bit, as two runs are; random weights make little of an embedding.
    """
    assert len(pictures) == LESS["RarityMakeRare"]["count"]
    for i, one in enumerate(pictures):
        assert all(np.abs(one - other).mean() > 0.1 for other in pictures[:i])


@pytest.fixture
def encoded(native_server, native_models):
    """A grey picture, seen by a small clip_vision_g; the nodes to hang others behind."""
    (eye,) = native_models("clip_vision_g_small")
    return {
        "eye": {"class_type": "CLIPVisionLoader", "inputs": {"clip_name": eye.name}},
        "grey": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 2, "color": 8421504}},
        "seen": {"class_type": "RarityEncodeImages", "inputs": {"images": ["grey", 0], "eye": ["eye", 0]}},
        "out": {"class_type": "RarityToClipVisionOutput", "inputs": {"embeddings": ["seen", 0]}},
        "shown": {"class_type": "PreviewAny", "inputs": {"source": ["out", 0]}},
    }


def complaint(server, prompt, node_type):
    (error,) = messages(server.run(prompt, seconds=SECONDS), "execution_error")
    assert error["node_type"] == node_type and error["exception_type"] == "Rarity"
    return error["exception_message"]


def test_a_checkpoint_that_reads_no_image_embedding_stops_with_a_clear_error(native_server, native_models, encoded):
    checkpoint = native_models("sd15_small")[0].name
    encoded["model"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}}
    encoded["out"]["inputs"]["model"] = ["model", 0]
    text = complaint(native_server, encoded, "RarityToClipVisionOutput")
    assert "(SD15) has no input for image embeddings" in text and "Expected SDXL" in text


def test_an_encoder_that_does_not_match_stops_with_both_names(native_server, native_models, encoded):
    other = native_models("clip_vision_h_small")[0].name
    encoded["other"] = {"class_type": "CLIPVisionLoader", "inputs": {"clip_name": other}}
    encoded["out"]["inputs"]["eye"] = ["other", 0]
    text = complaint(native_server, encoded, "RarityToClipVisionOutput")
    assert "different embedding spaces" in text and "1280 wide" in text and "1024 wide" in text


def test_a_kandinsky_is_refused_as_another_encoder_than_clip_vision_g(native_server, model, encoded):
    """Kandinsky 2.2 and SDXL share an encoder, told by its fingerprint; the miniature has one of its own."""
    encoded["kandinsky"] = {"class_type": "RarityLoadKandinsky", "inputs": {"model": model[0], "repository": ""}}
    encoded["samples"] = {"class_type": "RaritySamplePrior", "inputs": {
        "prior": ["kandinsky", 0], "prompt": "a letter R", "count": 2, "seed": 0, "steps": 2, "guidance": 4.0}}
    encoded["out"]["inputs"] = {"embeddings": ["samples", 0], "eye": ["eye", 0]}
    assert "different embedding spaces" in complaint(native_server, encoded, "RarityToClipVisionOutput")


def test_every_kind_of_eye_fits_the_one_socket_and_only_eyes_that_read_fit_where_words_are_read(native_server, model, clip_checkpoint, encoded):
    eyes = {
        "CLIP": encoded["eye"],
        "OpenCLIP": {"class_type": "RarityLoadOpenCLIP", "inputs": {"architecture": SMALLEST, "checkpoint": clip_checkpoint}},
        "Kandinsky": {"class_type": "RarityLoadKandinsky", "inputs": {"model": model[0], "repository": ""}},
    }
    prompt = eyes | {"grey": encoded["grey"]}
    for name in eyes:
        prompt[f"{name} sees"] = {"class_type": "RarityEncodeImages", "inputs": {"images": ["grey", 0], "eye": [name, 0]}}
        prompt[f"{name} out"] = {"class_type": "RarityToClipVisionOutput", "inputs": {"embeddings": [f"{name} sees", 0], "eye": [name, 0]}}
        prompt[f"{name} back"] = {"class_type": "RarityFromClipVisionOutput", "inputs": {
            "clip_vision_output": [f"{name} out", 0], "eye": [name, 0]}}
        prompt[f"{name} shown"] = {"class_type": "PreviewAny", "inputs": {"source": [f"{name} back", 0]}}
    entry = run(native_server, prompt)
    assert {f"{name} shown" for name in eyes} <= entry["outputs"].keys()

    words = {"towards": "a bold cat", "away_from": "a light cat", "strength": 1.0}
    reads = {name: {"class_type": "RaritySteerTowards", "inputs": {"eye": [name, 0], **words}} for name in eyes}
    for name in ("OpenCLIP", "Kandinsky"):
        run(native_server, eyes | {"way": reads[name], "shown": {"class_type": "PreviewAny", "inputs": {"source": ["way", 0]}}})
    with pytest.raises(RuntimeError, match=r"received_type\(CLIP_VISION\) mismatch input_type\(RARITY_ENCODER,RARITY_PRIOR\)"):
        native_server.submit(eyes | {"way": reads["CLIP"], "shown": {"class_type": "PreviewAny", "inputs": {"source": ["way", 0]}}})
    nothing = {"class_type": "RarityEncodeImages", "inputs": {"images": ["grey", 0]}}
    with pytest.raises(RuntimeError, match="required_input_missing.*eye"):
        native_server.submit({"grey": encoded["grey"], "sees": nothing, "shown": {"class_type": "PreviewAny", "inputs": {"source": ["sees", 0]}}})


def test_a_list_of_pictures_becomes_one_set_again(native_server, encoded):
    from rarity.density import load_embeddings

    encoded["list"] = {"class_type": "RebatchImages", "inputs": {"images": ["grey", 0], "batch_size": 1}}
    encoded["seen"]["inputs"]["images"] = ["list", 0]
    encoded["joined"] = {"class_type": "RarityJoinEmbeddings", "inputs": {"embeddings": ["seen", 0]}}
    encoded["saved"] = {"class_type": "RaritySaveFile", "inputs": {"what": ["joined", 0], "name": "joined"}}
    run(native_server, encoded)
    path = native_server.base / "models" / "rarity_embeddings" / "joined.safetensors"
    assert len(load_embeddings(path)) == 2
    path.unlink()


@each
def test_manager_can_offer_what_is_missing(name):
    """Every loader names the file it shows, with a public address that ends in this very name."""
    for node in nodes_in(read(name)):
        shown = [value for value in node["widgets_values"] if str(value).endswith(".safetensors")]
        offered = node["properties"].get("models", [])
        assert [model["name"] for model in offered] == shown, node["type"]
        for model in offered:
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith("/" + model["name"])
            assert model["directory"] == ("clip_vision" if node["type"] == "CLIPVisionLoader" else "checkpoints")
