"""Novelty in a running ComfyUI: the shipped workflows, a memory that outlives a run, and ComfyUI's own image encoder."""

import json

import pytest
from comfyui import ROOT, messages
from graph import next_run, nodes_of

WORKFLOWS = ROOT / "workflows"
SECONDS = 900  # for one run; ten on a quiet machine, the rest is room for a busy one


def read(name):
    return json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))


def with_fewer_samples(prompt):
    """The prompt with 300 usual samples instead of 1,000, all in 5 steps of the prior."""
    for key in nodes_of(prompt, "RaritySamplePrior"):
        prompt[key]["inputs"] |= {"steps": 5, "count": min(prompt[key]["inputs"]["count"], 300)}
    return prompt


def ran(server, prompt):
    entry = server.run(prompt, seconds=SECONDS)
    assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
    return entry


def one(prompt, class_type):
    (key,) = nodes_of(prompt, class_type)
    return prompt[key]["inputs"]


def test_score_and_rank_runs_and_is_in_the_template_browser(server, as_prompt):
    prompt = with_fewer_samples(as_prompt(read("Rarity 07 The newest of many")))
    entry = ran(server, prompt)
    saved = {prompt[key]["inputs"]["filename_prefix"]: server.pictures(entry, key) for key in nodes_of(prompt, "SaveImage")}
    assert len(saved["rarity_scores"]) == 1 and saved["rarity_scores"][0].std() > 10
    assert 1 <= len(saved["rarity_newest"]) <= one(prompt, "RarityRankImages")["keep"]
    (table,) = entry["outputs"][nodes_of(prompt, "PreviewAny")[0]]["text"]
    assert len(table.splitlines()) > one(prompt, "RarityDecodeKandinsky")["seed"] + 24
    assert "As varied as" in entry["outputs"][nodes_of(prompt, "RarityMeasureVariety")[0]]["text"][0]
    assert {path.stem for path in WORKFLOWS.glob("*.json")} == set(server.get("/workflow_templates")["Some-Name"])


def test_a_second_run_knows_what_the_first_one_showed(server, as_prompt):
    """As an artist does it: press Run, again, and again with the seed set back."""
    from rarity.density import load_exposure

    info, workflow = server.nodes, read("Rarity 02 Never the same twice")

    def press(workflow):
        prompt = with_fewer_samples(as_prompt(workflow))
        one(prompt, "RarityMakeRare")["count"] = 6
        one(prompt, "RarityRankImages").update(keep=6, floor=0.0)  # everything made is shown
        prompt["shown"] = {"class_type": "PreviewAny", "inputs": {"source": [nodes_of(prompt, "RarityScoreNovelty")[0], 0]}}
        entry = ran(server, prompt)
        (cached,) = messages(entry, "execution_cached")
        computed = {prompt[key]["class_type"] for key in prompt.keys() - set(cached["nodes"])}
        return [float(text) for text in entry["outputs"]["shown"]["text"]], computed

    path = server.base / "models" / "rarity_exposures" / "never_the_same_twice.safetensors"
    assert not path.exists()
    first, _ = press(workflow)
    assert len(load_exposure(path)) == 6 and min(first) > 2, "nothing seen: all are rare"
    second, computed = press(next_run(workflow, info))
    assert "RaritySamplePrior" not in computed and "RarityLoadExposure" in computed
    known = sum(bits < 0.1 for bits in second)  # both runs start from the rarest tenth of a small baseline, and may share a start
    assert known < 6 and len(load_exposure(path)) == 12 - known
    repeated, computed = press(next_run(workflow, info))
    assert max(repeated) < 0.1, "the same drawings a second time"
    assert {"RarityLoadExposure", "RarityScoreNovelty", "RaritySaveFile"} <= computed, "the file changed, nothing else"
    assert "RarityMakeRare" not in computed and "RarityDecodeKandinsky" not in computed
    back, _ = press(workflow)
    assert max(back) < 0.1, "the first drawings are remembered, too"
    assert max(second) > 0.5, "what was new was not all known"


def test_nothing_novel_enough_stops_the_run_and_says_so(server, as_prompt):
    prompt = with_fewer_samples(as_prompt(read("Rarity 07 The newest of many")))
    one(prompt, "RarityRankImages")["floor"] = 60.0
    (error,) = messages(server.run(prompt, seconds=SECONDS), "execution_error")
    assert error["node_type"] == "RarityRankImages" and "the floor is 60 bits" in error["exception_message"]


def test_three_loaders_of_one_encoder_make_one_space(on_comfyui):
    """A tiny random CLIP in ComfyUI's real class, in transformers and in OpenCLIP, with the same weights: the same embeddings."""
    pytest.importorskip("open_clip")
    found = on_comfyui("clip_vision.py")
    assert found["node"] == found["transformers"] == found["OpenCLIP"], "one space, whoever loaded the encoder"
    assert found["other"] != found["node"] and found["other"]["width"] == found["node"]["width"]
    assert found["looks"] == 3, "two nodes look at pictures, and one of them before at what names the space"
    # All read 8-bit pictures of the encoder's own size; what is left is rounding of float32 through two layers.
    assert max(found["difference"], found["OpenCLIP's difference"]) < 1e-4 * found["scale"]
    # From 207 x 150: both cut out the same pixels, ComfyUI's are rounded to eight bits.
    assert 0 < found["resized"] < 0.01
    said = {"grey": "One channel is greyscale", "alpha": "alpha channel: drop it",
            "two channels": "Two channels are greyscale and alpha", "five channels": "Split Image with Alpha takes the first three",
            "no area": "got shape (3, 0, 32, 3)"}
    assert all(words in found["refusals"][cause] for cause, words in said.items())
    assert found["cured"] == {"1": True, "2": True, "4": True, "5": True}, "with the nodes that the errors name"
    for name, eye in found["other eyes"].items():
        assert eye["space"]["width"] == 48 and name in eye["space"]["encoder"].replace("Dinov2Model", "DINOv2"), eye["space"]
        assert eye.get("bridge", 0) == 0, "through CLIP Vision Encode, too"
        assert ("unseen" in eye["wide"]) == (name != "SigLIP 2"), "SigLIP 2 sees wide pictures as they are"
        assert eye.get("apart", 0) < 2e-3 * eye.get("scale", 1), "as in transformers; the weights are in half precision"
    assert set(found["other eyes"]) >= {"SigLIP", "DINOv2"}
    assert found["half precision"], "seen as the same numbers in single precision"
