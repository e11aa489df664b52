"""The pack in a running ComfyUI: what artists see is served, the quickstart draws what the demo draws, cancel and errors."""

import copy
import json
import time

import numpy as np
import pytest
from comfyui import PACK, ROOT, messages
from graph import nodes_of
from node_schemas import SNAPSHOT, broken_promises, promises


def only(prompt, class_type):
    (key,) = nodes_of(prompt, class_type)
    return key


def up_to(prompt, *ends):
    """The part of a prompt that these nodes need."""
    kept, todo = {}, list(ends)
    while todo:
        key = todo.pop()
        kept[key] = copy.deepcopy(prompt[key])
        todo += [value[0] for value in prompt[key]["inputs"].values() if isinstance(value, list)]
    return kept


def ran(entry):
    return entry["status"]["status_str"] == "success"


def complaint(server, prompt):
    """The one error of a prompt: from its run, or on a newer ComfyUI from before anything runs."""
    try:
        (error,) = messages(server.run(prompt), "execution_error")
    except RuntimeError as refused:
        (node,) = json.loads(str(refused).partition(": ")[2])["node_errors"].values()
        (error,) = node["errors"]  # of several errors the message only says how many there are
        assert error["type"].startswith("value_") or "RarityError" in error["extra_info"]["exception_type"], error
        return f"{node['class_type']}: {error['message']}: {error['details']}"
    assert error["exception_type"] == "Rarity", error
    return f"{error['node_type']}: {error['exception_message']}"


def as_saved(picture):
    """Pixels as ComfyUI's SaveImage writes them."""
    return np.clip(255.0 * picture.numpy(), 0, 255).astype(np.uint8)


def test_the_server_knows_every_node_and_keeps_every_promise(server):
    info = server.get("/object_info")
    ours = {name: described for name, described in info.items() if described["python_module"] == f"custom_nodes.{PACK}"}
    promised = json.loads(SNAPSHOT.read_text())
    assert ours.keys() == promised.keys()
    assert not broken_promises(promised, {name: promises(described) for name, described in ours.items()})


def test_what_artists_read_is_served(server):
    pages = sorted((ROOT / "web" / "docs").glob("*.md"))
    for page in pages:
        assert server.raw(f"/extensions/{PACK}/docs/{page.name}") == page.read_bytes()
    labels = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    served = server.get("/i18n")["en"]["nodeDefs"]
    assert {name: served[name] for name in labels} == labels
    assert "Rarity 01 Quickstart" in server.get("/workflow_templates")[PACK]
    template = server.get(f"/api/workflow_templates/{PACK}/Rarity%2001%20Quickstart.json")
    assert template == json.loads((ROOT / "workflows" / "Rarity 01 Quickstart.json").read_text(encoding="utf-8"))


def test_nothing_is_written_before_it_is_asked_for(server):
    assert not (server.base / "models" / "rarity_densities").exists() or list(
        (server.base / "models" / "rarity_densities").iterdir()
    )


def test_the_quickstart_draws_what_the_demo_draws(server, quickstart):
    from rarity.generators.demo import demo

    entry = server.run(quickstart)
    assert ran(entry), messages(entry, "execution_error")
    expected = demo()
    by_prefix = {quickstart[key]["inputs"]["filename_prefix"]: key for key in nodes_of(quickstart, "SaveImage")}
    for prefix, picture in (("rarity_contact_sheet", expected.contact_sheet), ("rarity_density_map", expected.density_map)):
        got = server.pictures(entry, by_prefix[prefix])
        assert got.shape == tuple(picture.shape)
        assert np.array_equal(got, as_saved(picture)), f"{prefix} differs by up to {np.abs(got - 1.0 * as_saved(picture)).max()}"
    assert entry["outputs"][only(quickstart, "PreviewAny")]["text"][0] == expected.trajectory.report()


def test_a_second_run_computes_nothing_and_the_dial_only_what_is_behind_it(server, little):
    server.run(little)
    (cached,) = messages(server.run(little), "execution_cached")
    assert set(cached["nodes"]) == little.keys()
    little[only(little, "RarityDial")]["inputs"]["stop"] = "100"
    (cached,) = messages(server.run(little), "execution_cached")
    before_the_dial = up_to(little, only(little, "RarityFitDensity"), only(little, "RarityContrastGuardrail"))
    assert set(cached["nodes"]) == before_the_dial.keys()


@pytest.mark.parametrize("slow", ["RaritySamplePrior", "RarityMakeRare", "RarityDecodeKandinsky"])
def test_cancel_in_the_middle_then_the_next_run_works(server, little, slow):
    prompt = up_to(little, *nodes_of(little, "PreviewAny"))
    assert ran(server.run(prompt))  # everything before the slow node is in ComfyUI's cache
    slowed = copy.deepcopy(little)
    sample = slowed[only(slowed, "RaritySamplePrior")]["inputs"]
    if slow == "RaritySamplePrior":
        sample["count"] = 1000000
    elif slow == "RarityMakeRare":
        slowed[only(slowed, slow)]["inputs"] |= {"count": 200, "steps": 10000}
    else:
        for key in nodes_of(slowed, slow):
            slowed[key]["inputs"]["steps"] = 1000
    prompt_id = server.submit(slowed)
    while not server.is_running(prompt_id):
        time.sleep(0.02)
    time.sleep(2)  # into the middle of the slow node
    assert server.is_running(prompt_id)
    server.raw("/interrupt", {"prompt_id": prompt_id})
    entry = server.wait(prompt_id)
    (interrupted,) = messages(entry, "execution_interrupted")
    assert interrupted["node_type"] == slow and not messages(entry, "execution_error")
    assert ran(server.run(prompt))


def test_an_empty_prompt_gives_one_clear_error_and_the_next_run_works(server, little):
    bad = copy.deepcopy(little)
    bad[only(bad, "RaritySamplePrior")]["inputs"]["prompt"] = "  "
    text = complaint(server, bad)
    assert "RaritySamplePrior" in text and "prompt" in text
    assert ran(server.run(up_to(little, *nodes_of(little, "PreviewAny"))))


@pytest.mark.parametrize("class_type, name, value, word", [
    ("RaritySamplePrior", "count", 0, "count"),
    ("RaritySamplePrior", "keep_as", "/etc/passwd", "The file name '/etc/passwd' cannot be used"),
    ("RaritySamplePrior", "keep_as", "a" * 5000, "aaa' cannot be used"),
    ("RarityFitDensity", "components", 4096, "components"),
    ("RarityFitDensity", "components", -1, "components"),
    ("RarityFitDensity", "estimator", "best", "An estimator is one of auto"),
    ("RarityMakeRare", "count", 4096, "4,096"),
    ("RarityMakeRare", "count", 0, "The count must be 1 to 300"),
    ("RarityMakeRare", "start_from", "nowhere", "nowhere"),
    ("RarityDial", "stop", "7", "Rarity Dial stops at 10, 100, 1,000"),
    ("RarityLoadKandinsky", "model", "no-such-model", "There is no Kandinsky model 'no-such-model' here"),
    ("RarityLoadKandinsky", "repository", "../x", "The repository must be a name such as"),
    ("RarityContrastGuardrail", "alternatives", "", "alternative"),
])
def test_other_bad_inputs_give_one_clear_error(server, little, class_type, name, value, word):
    little[only(little, class_type)]["inputs"][name] = value
    text = complaint(server, little)
    assert class_type in text and word in text


def test_a_density_is_saved_listed_loaded_and_noticed_when_it_changes(server, little):
    fit = only(little, "RarityFitDensity")
    prompt = up_to(little, fit)
    prompt["save"] = {"class_type": "RaritySaveFile", "inputs": {"what": [fit, 0], "name": "letter_R"}}
    assert ran(server.run(prompt))
    folder = server.base / "models" / "rarity_densities"
    assert [path.name for path in folder.iterdir()] == ["letter_R.safetensors"]
    (folder / "letter_R.safetensors").unlink()
    assert ran(server.run(prompt)) and (folder / "letter_R.safetensors").is_file(), "the same graph saves what is gone"
    assert set(messages(server.run(prompt), "execution_cached")[0]["nodes"]) == prompt.keys() - {"save"}, "its file is another"
    assert set(messages(server.run(prompt), "execution_cached")[0]["nodes"]) == prompt.keys(), "its file is the same"
    menu = server.get("/object_info/RarityLoadDensity")["RarityLoadDensity"]["input"]["required"]["name"]
    assert menu[1]["options"] == ["letter_R.safetensors"]

    load = {
        "load": {"class_type": "RarityLoadDensity", "inputs": {"name": "letter_R.safetensors"}},
        "text": {"class_type": "RarityDescribeDensity", "inputs": {"density": ["load", 0], "one_in": 1000}},
    }
    first = server.run(load)
    assert ran(first) and "300 samples" in first["outputs"]["text"]["text"][0]
    assert set(messages(server.run(load), "execution_cached")[0]["nodes"]) == load.keys()
    prompt[only(prompt, "RaritySamplePrior")]["inputs"]["count"] = 400
    assert ran(server.run(prompt))
    assert "400 samples" in server.run(load)["outputs"]["text"]["text"][0], "the changed file was loaded again"

    (folder / "letter_R.safetensors").write_bytes(b"not a density")
    assert "damaged" in complaint(server, load)


@pytest.mark.parametrize("name", ["../up", "/etc/up", ""])
def test_a_name_may_not_leave_the_folder(server, little, name):
    fit = only(little, "RarityFitDensity")
    prompt = up_to(little, fit)
    prompt["save"] = {"class_type": "RaritySaveFile", "inputs": {"what": [fit, 0], "name": name}}
    assert "RaritySaveFile" in complaint(server, prompt)
    load = {
        "load": {"class_type": "RarityLoadDensity", "inputs": {"name": name + ".safetensors"}},
        "text": {"class_type": "RarityDescribeDensity", "inputs": {"density": ["load", 0], "one_in": 1000}},
    }
    assert "RarityLoadDensity" in complaint(server, load)
    assert not list(server.base.rglob("up.safetensors"))
