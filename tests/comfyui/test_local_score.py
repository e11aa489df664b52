"""The local score machine in a running ComfyUI: its workflow, its sources, and cancel."""

import copy
import json
import time

import numpy as np
from comfyui import ROOT, messages
from graph import nodes_of

SECONDS = 900  # for one run; ten on a quiet machine, the rest is room for a busy one


def ran(server, prompt):
    entry = server.run(prompt, seconds=SECONDS)
    assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
    return entry


def test_the_workflow_makes_new_pictures_and_credits_their_sources_and_cancel_stops_it(server, as_prompt):
    prompt = as_prompt(json.loads((ROOT / "workflows" / "Rarity 08 New pictures without a model.json").read_text(encoding="utf-8")))
    for key in nodes_of(prompt, "RaritySamplePrior"):
        prompt[key]["inputs"] |= {"count": 12, "steps": 5}  # fewer letters to draw, enough to take pieces from
    (machine,) = nodes_of(prompt, "RarityLocalScore")
    prompt[machine]["inputs"]["count"] = 3
    entry = ran(server, prompt)
    saved = {prompt[key]["inputs"]["filename_prefix"]: server.pictures(entry, key) for key in nodes_of(prompt, "SaveImage")}
    assert len(saved["rarity_local_score"]) == 3 and min(picture.std() for picture in saved["rarity_local_score"]) > 10
    assert saved["rarity_patch_origins"][0].std() > 10
    (credits,) = entry["outputs"][nodes_of(prompt, "PreviewAny")[0]]["text"]
    assert "source" in credits

    endless = copy.deepcopy(prompt)
    endless[machine]["inputs"].update(count=64, pieces_from="anywhere", steps=1000, patches=0, max_minutes=100_000.0)
    prompt_id = server.submit(endless)
    while not server.is_running(prompt_id):
        time.sleep(0.02)
    time.sleep(2)  # into the middle of it
    assert server.is_running(prompt_id)
    server.raw("/interrupt", {"prompt_id": prompt_id})
    (interrupted,) = messages(server.wait(prompt_id), "execution_interrupted")
    assert interrupted["node_type"] == "RarityLocalScore"

    prompt[machine]["inputs"]["count"] = 2  # the same seed: picture by picture the same
    again = ran(server, prompt)
    for key in nodes_of(prompt, "SaveImage"):
        if prompt[key]["inputs"]["filename_prefix"] == "rarity_local_score":
            assert np.array_equal(server.pictures(again, key), saved["rarity_local_score"][:2])
