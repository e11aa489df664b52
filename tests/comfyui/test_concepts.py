"""Concepts in a running ComfyUI: the shipped workflow twice, a cancel that keeps what was learnt, several seeds at once."""

import copy
import json
import time

import numpy as np
import pytest
from comfyui import ROOT, messages
from graph import nodes_of, to_api

SECONDS = 900  # for one run; ten on a quiet machine, the rest is room for a busy one
LESS = {
    "RaritySamplePrior": {"count": 300},
    "RarityMakeRareConcept": {"iterations": 2, "keep_every": 2, "batch": 2},
    "RaritySampleConcept": {"count": 3},
    "RarityDecodeKandinsky": {"steps": 2},
}


@pytest.fixture
def workflow(own_server, model):
    """workflows/Rarity 05 Teach the model a word.json in API format, with everything small."""
    shipped = json.loads((ROOT / "workflows" / "Rarity 05 Teach the model a word.json").read_text(encoding="utf-8"))
    prompt = to_api(shipped, own_server.nodes)
    for node in prompt.values():
        node["inputs"] |= LESS.get(node["class_type"], {})
        if node["class_type"] == "RarityLoadKandinsky":
            node["inputs"]["model"] = model[0]
    return prompt


def run(server, prompt, afresh=False):
    entry = (server.run_afresh if afresh else server.run)(prompt, seconds=SECONDS)
    assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
    return entry


def saved(server, prompt, entry):
    return {prompt[key]["inputs"]["filename_prefix"]: server.pictures(entry, key) for key in nodes_of(prompt, "SaveImage")}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert np.array_equal(one[name], other[name]), name


def test_the_workflow_twice_and_after_a_cancel_that_keeps_what_was_learnt(own_server, workflow):
    server = own_server
    first = run(server, workflow)
    pictures = saved(server, workflow, first)
    assert len(pictures) == 3 and all(picture.std() > 10 for picture in pictures.values())
    (report,) = (first["outputs"][key]["text"][0] for key in nodes_of(workflow, "PreviewAny"))
    assert "Learnt the token 'bold' and a LoRA of the prior for 'a bold letter G' in 2 iterations" in report
    assert_equal(pictures, saved(server, workflow, run(server, workflow, afresh=True)))

    long = copy.deepcopy(workflow)
    (learn,) = nodes_of(long, "RarityMakeRareConcept")
    long[learn]["inputs"] |= {"iterations": 100000, "kind": "token + lora", "keep_as": "kept"}
    kept = server.base / "models" / "rarity_concepts" / "kept.safetensors"
    prompt_id = server.submit(long)
    deadline = time.monotonic() + SECONDS
    while not kept.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.is_running(prompt_id)
    server.raw("/interrupt", {"prompt_id": prompt_id})
    entry = server.wait(prompt_id, SECONDS)
    (interrupted,) = messages(entry, "execution_interrupted")
    assert interrupted["node_type"] == "RarityMakeRareConcept" and not messages(entry, "execution_error")
    # Checkpoint 0 is drawn by the very model that learning was cancelled on.
    for key in nodes_of(workflow, "SaveImage"):
        workflow[key]["inputs"]["filename_prefix"] += "_again"
    again = saved(server, workflow, run(server, workflow))
    assert_equal(pictures, {name.removesuffix("_again"): picture for name, picture in again.items()})

    (loader,) = nodes_of(workflow, "RarityLoadKandinsky")
    loaded = {
        loader: workflow[loader],
        "concept": {"class_type": "RarityLoadConcept", "inputs": {"name": "kept.safetensors"}},
        "new": {"class_type": "RaritySampleConcept",
                "inputs": {"prior": [loader, 0], "concept": ["concept", 0], "prompt": "", "checkpoint": -1, "count": 2,
                           "seed": 5, "steps": 0, "guidance": 0.0}},
        "drawn": {"class_type": "RarityDecodeKandinsky",
                  "inputs": {"decoder": [loader, 1], "embeddings": ["new", 0], "seed": 0, "steps": 2, "guidance": 0.0}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["drawn", 0], "filename_prefix": "kept"}},
        "text": {"class_type": "PreviewAny", "inputs": {"source": ["concept", 2]}},
    }
    entry = run(server, loaded)
    assert len(server.pictures(entry, "save")) == 2
    assert "Learnt the token 'bold' and a LoRA of the prior" in entry["outputs"]["text"]["text"][0]


def test_several_seeds_run_everything_behind_once_for_each(own_server, workflow):
    server, prompt = own_server, workflow
    (learn,) = nodes_of(prompt, "RarityMakeRareConcept")
    prompt[learn]["inputs"] |= {"seeds": 2, "kind": "token + lora"}
    prompt["keep"] = {"class_type": "RaritySaveFile", "inputs": {"what": [learn, 0], "name": "two"}}
    prompt["export"] = {"class_type": "RarityExportConcept", "inputs": {"concept": [learn, 0], "name": "two", "checkpoint": 1}}
    entry = run(server, prompt)
    pictures = saved(server, prompt, entry)
    assert {len(some) for some in pictures.values()} == {2}
    assert all(not np.array_equal(*some) for some in pictures.values())
    saved_as = "\n".join(f"Saved as two_{seed}.safetensors in models/rarity_concepts" for seed in (1, 2))
    assert entry["outputs"]["keep"]["text"] == [saved_as]
    assert entry["outputs"]["export"]["text"][0].count("Saved the ") == 4
    for folder in ("rarity_concepts", "embeddings", "loras"):
        names = {path.name for path in (server.base / "models" / folder).glob("two*")}
        assert names == {"two_1.safetensors", "two_2.safetensors"}, folder
    assert {"two_1", "two_2"} <= set(server.get("/embeddings")), "ComfyUI offers them as embedding:two_1"
