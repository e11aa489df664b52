"""The subgraphs in subgraphs/ run, with what one would connect to them."""

import json

import pytest
from comfyui import ROOT, messages
from graph import nodes_of, to_api

LESS = {"RaritySamplePrior": {"count": 300, "steps": 5}, "RarityDecodeKandinsky": {"steps": 2}}  # nobody looks at what comes out


def blueprint(server, name, values=(), links=()):
    """A subgraph's inner nodes in API format. `values`: of its widgets; `links`: {its input: [node, slot]} from outside."""
    workflow = json.loads((ROOT / "subgraphs" / f"{name}.json").read_text(encoding="utf-8"))
    (outer,) = workflow["nodes"]
    widgets = [item["name"] for item in outer["inputs"] if "widget" in item]
    for widget, value in dict(values).items():
        outer["widgets_values"][widgets.index(widget)] = value
    for number, (item, (node, slot)) in enumerate(dict(links).items(), 1):
        place = next(i for i, one in enumerate(outer["inputs"]) if one["name"] == item)
        outer["inputs"][place]["link"] = number
        workflow["links"].append([number, node, slot, outer["id"], place, "*"])
    prompt = to_api(workflow, server.nodes)
    for node in prompt.values():
        node["inputs"] |= LESS.get(node["class_type"], {})
    return prompt


def run(server, prompt):
    entry = server.run(prompt)
    assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
    return entry


def test_a_rare_version_of_a_prompt(server, model):
    prompt = blueprint(server, "Explore rare, creative versions of this prompt", {"model": model[0], "count": 3})
    (sheet,) = nodes_of(prompt, "RarityContactSheet")
    (report,) = nodes_of(prompt, "RarityMakeRare")
    prompt["save"] = {"class_type": "SaveImage", "inputs": {"images": [sheet, 0], "filename_prefix": "rare_version"}}
    prompt["text"] = {"class_type": "PreviewAny", "inputs": {"source": [report, 3]}}
    entry = run(server, prompt)
    assert "3 of 3" in entry["outputs"]["text"]["text"][0] and server.pictures(entry, "save").ndim == 4


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_of_any_pictures(server, model, keep):
    prompt = {
        "load": {"class_type": "RarityLoadKandinsky", "inputs": {"model": model[0]}},
        "usual": {"class_type": "RaritySamplePrior", "inputs": {
            "prior": ["load", 0], "prompt": "a letter R", "count": 200, "seed": 0, "steps": 5, "guidance": 4.0}},
        "fit": {"class_type": "RarityFitDensity", "inputs": {"embeddings": ["usual", 0], "components": 8}},
        "new": {"class_type": "RaritySamplePrior", "inputs": {
            "prior": ["load", 0], "prompt": "a letter R", "count": 5, "seed": 1, "steps": 5, "guidance": 4.0}},
        "draw": {"class_type": "RarityDecodeKandinsky", "inputs": {
            "decoder": ["load", 1], "embeddings": ["new", 0], "seed": 0, "steps": 2, "guidance": 0.0}},
    }
    links = {"images": ["draw", 0], "density": ["fit", 0], "eye": ["load", 0]}
    prompt |= blueprint(server, "Score and keep the newest", {"keep": keep, "floor": 0.0}, links)
    (rank,) = nodes_of(prompt, "RarityRankImages")
    prompt["save"] = {"class_type": "SaveImage", "inputs": {"images": [rank, 0], "filename_prefix": "newest"}}
    assert len(server.pictures(run(server, prompt), "save")) == keep
