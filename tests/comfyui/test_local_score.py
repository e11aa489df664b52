"""The local score machine in a running ComfyUI: its workflow, its sources, and cancel."""

import copy
import json
import time

import numpy as np
from comfyui import ROOT, messages
from graph import nodes_of
from PIL import Image

SECONDS = 900  # for one run; ten on a quiet machine, the rest is room for a busy one


def ran(server, prompt):
    entry = server.run(prompt, seconds=SECONDS)
    assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
    return entry


def test_the_workflow_makes_new_pictures_and_credits_their_sources_and_cancel_stops_it(server, as_prompt):
    prompt = as_prompt(json.loads((ROOT / "workflows" / "Rarity 08 New pictures without a model.json").read_text(encoding="utf-8")))
    (machine,) = nodes_of(prompt, "RarityLocalScore")
    prompt[machine]["inputs"]["count"] = 3
    entry = ran(server, prompt)
    saved = {prompt[key]["inputs"]["filename_prefix"]: server.pictures(entry, key) for key in nodes_of(prompt, "SaveImage")}
    assert len(saved["rarity_local_score"]) == 3 and min(picture.std() for picture in saved["rarity_local_score"]) > 10
    assert saved["rarity_patch_origins"][0].std() > 10
    (credits,) = entry["outputs"][nodes_of(prompt, "PreviewAny")[0]]["text"]
    lines = credits.splitlines()
    assert lines[0].startswith("picture 0: ") and lines[4] == "Credits" and len(lines) > 8
    assert all(" · MIT · https://" in line or " · CC0-1.0 · https://" in line for line in lines[5:])

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


def test_a_folder_in_the_input_folder_is_in_the_menu_and_its_new_credits_are_read(own_server):
    server = own_server
    folder = server.base / "input" / "my pictures"
    folder.mkdir(parents=True)
    for name, colour in (("a.png", (0, 90, 200)), ("b.png", (200, 60, 0))):
        picture = Image.new("RGB", (24, 16), "white")
        picture.paste(colour, (8, 4, 16, 12))
        picture.save(folder / name)
    menu = server.get("/object_info/RarityLoadPictures")["RarityLoadPictures"]["input"]["required"]["folder"]
    assert "my pictures" in (menu[0] if isinstance(menu[0], list) else menu[1]["options"])
    prompt = {
        "load": {"class_type": "RarityLoadPictures", "inputs": {"folder": "my pictures", "size": 16, "at_most": 10}},
        "origins": {"class_type": "RarityPatchOrigins", "inputs": {"images": ["load", 0], "sources": ["load", 0], "patch": 5, "pieces_from": "same place",
                                                                   "source_credits": ["load", 1]}},
        "credits": {"class_type": "PreviewAny", "inputs": {"source": ["origins", 1]}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["origins", 0], "filename_prefix": "credited"}},
    }
    entry = ran(server, prompt)
    assert entry["outputs"]["credits"]["text"][0].splitlines() == ["picture 0: a.png 100%", "picture 1: b.png 100%"]
    (saved,) = (server.base / "output").glob("credited*")
    with Image.open(saved) as picture:
        held = picture.info["prompt"]
    assert "my pictures" in held and str(server.base) not in held and "a.png" not in held, "nothing of this computer is shared"
    (folder / "metadata.csv").write_text("file_name,title,author,license\na.png,My house,Ann,CC-BY-4.0\n", encoding="utf-8")
    said = ran(server, prompt)["outputs"]["credits"]["text"][0].splitlines()
    assert said == ["picture 0: My house 100%", "picture 1: b.png 100%", "", "Credits", "My house · Ann · CC-BY-4.0"]
