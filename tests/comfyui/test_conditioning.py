"""A CONDITIONING steered with ComfyUI's own models: exact gradients, both engines, nothing changed; and as a node of a server."""

import json
import time

import pytest
from comfyui import ROOT, messages
from graph import nodes_of, to_api

# Pixels of a picture and numbers of an embedding whose size is one: float32 sums in another order, through half-precision weights.
ROUNDING = 1e-3


@pytest.fixture(scope="module")
def found(on_comfyui, native_models):
    return on_comfyui("conditioning.py", *map(str, native_models("sd15_small", "clip_vision_l_small")))


def test_the_gradient_is_that_of_finite_differences(found):
    """Through two steps with guidance, the VAE and the vision encoder; and the way gradients take gives the ordinary value."""
    gradient = found["gradient"]
    assert gradient["slope"] > 0.01
    assert abs(gradient["difference"] / gradient["slope"] - 1) < 0.01
    # The ordinary way rounds pixels to 8 bits.
    assert abs(gradient["value"] - gradient["ordinary"]) < 0.01 * gradient["scale"]


def test_gradients_see_wide_pictures_as_encode_images_does(found):
    """By their middle square and whole."""
    middle, whole = found["framings"].values()
    assert max(middle["apart"], whole["apart"]) < 0.02, "an 8-bit step of a pixel may flip"
    assert max(abs(a - b) for a, b in zip(middle["seen"], whole["seen"], strict=True)) > 0.05


@pytest.mark.parametrize("engine, arrived", [("gradient", 2), ("evolution", 1)])
def test_an_engine_brings_the_pictures_to_the_dialled_rarity(found, engine, arrived):
    run = found[engine]
    assert sum(run["in band"]) >= arrived, run["bits"]
    target = run["bits"][0]
    assert len(run["bits"]) >= 2 and run["moved"] > 0 and target != run["bits"][-1]
    assert "are about 1 in 20" in run["report"] and "With 2 steps each the model was called" in run["report"]
    assert "GiB of memory were in use" in run["report"]


@pytest.mark.parametrize("engine", ["gradient", "evolution"])
def test_what_comes_out_is_a_condition_like_any_other(found, engine):
    run = found[engine]
    assert run["plain"] and run["mask kept"]
    assert run["drawn by KSampler"] < ROUNDING, "the pictures shown are those that a KSampler draws with it"
    assert run["seen again"] < 0.02, "a batch of two in place of one; an 8-bit step of a pixel may flip"
    assert run["twice"] == 0, "two runs agree"
    assert run["cancelled"]


def test_evolution_searches_among_the_wordings_it_is_given(found):
    assert found["evolution"]["along the variation"] > 0.999, "one other wording is one direction"


def test_settings_that_are_not_the_baselines_are_named_in_the_report(found):
    assert "The baseline was drawn with cfg 3.0, these pictures with cfg 5.0" in found["unlike the baseline"]
    assert "The baseline was drawn" not in found["gradient"]["report"]


def test_whatever_happens_nothing_that_is_connected_changes(found):
    """After success, a second success, ten errors and a cancel of each engine."""
    assert len(found["unchanged"]) == 15 and all(found["unchanged"])


@pytest.mark.parametrize("cause, message", [
    ("two entries", "must have one entry, got 2"),
    ("another sampler", "Gradients pass the sampler euler, got dpmpp_2m"),
    ("another encoder", "different embedding spaces"),
    ("memory", "GiB, and may take 1e-06"),
    ("no number", "Gradients may take 0 GiB or more, got nan"),
    ("ControlNet", "Gradients cannot pass a ControlNet"), ("hooks", "Gradients cannot pass hooks"),
    ("out of every step", "no part in these pictures"),
    ("not finite", "not finite"),
    ("another model", "The positive CONDITIONING is of another model than the one that draws. SD15 reads tokens 768 wide (Stable "
     "Diffusion 1.5), got tokens 2,048 wide (Stable Diffusion XL). Encode the prompt with the CLIP of the checkpoint"),
    ("another model, evolution", "The negative CONDITIONING is of another model than the one that draws. SD15 reads tokens 768 wide"),
])
def test_bad_input_says_what_to_do(found, cause, message):
    assert message in found["errors"][cause]


def graph(native_server, native_models):
    """The shipped workflow on small random models, and everything little."""
    workflow = json.loads((ROOT / "workflows" / "Rarity 10 A rare prompt for Stable Diffusion.json").read_text(encoding="utf-8"))
    prompt = to_api(workflow, native_server.nodes)
    checkpoint, vision = (path.name for path in native_models("sd15_small", "clip_vision_l_small"))
    size = {"width": 32, "height": 32}
    less = {
        "CheckpointLoaderSimple": {"ckpt_name": checkpoint}, "CLIPVisionLoader": {"clip_name": vision},
        "RarityBaselineFromModel": {"count": 52, "steps": 2, "batch": 13, "keep_as": "", **size},
        "RarityMakeRareConditioning": {"one_in": 20, "pictures": 1, "iterations": 3, "steps": 2, **size},
        "KSampler": {"steps": 2}, "EmptyLatentImage": {"batch_size": 1, **size},
    }
    for node in prompt.values():
        node["inputs"] |= less.get(node["class_type"], {})
    return prompt


def test_the_workflow_runs_twice_alike_and_again_after_a_cancel(native_server, native_models):
    server, prompt = native_server, graph(native_server, native_models)
    saves = nodes_of(prompt, "SaveImage")

    def run(how=server.run):
        entry = how(prompt, seconds=300)
        assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
        return [server.pictures(entry, key) for key in saves], entry

    (sheet, curve), entry = run()
    assert sheet.std() > 10 and curve.std() > 10
    (report,) = entry["outputs"][nodes_of(prompt, "PreviewAny")[0]]["text"]
    assert "about 1 in 20" in report
    again, _ = run(server.run_afresh)
    assert (again[0] == sheet).all() and (again[1] == curve).all()

    (steered,) = nodes_of(prompt, "RarityMakeRareConditioning")
    before = dict(prompt[steered]["inputs"])
    prompt[steered]["inputs"] |= {"iterations": 10000, "one_in": 1000000, "seed": 1}
    prompt_id = server.submit(prompt)
    while not server.is_running(prompt_id):
        time.sleep(0.02)
    time.sleep(2)  # the baseline is there already
    assert server.is_running(prompt_id)
    server.raw("/interrupt", {"prompt_id": prompt_id})
    (interrupted,) = messages(server.wait(prompt_id), "execution_interrupted")
    assert interrupted["node_type"] == "RarityMakeRareConditioning"
    prompt[steered]["inputs"] = before
    after, entry = run()
    (cached,) = messages(entry, "execution_cached")
    assert (after[0] == sheet).all() and steered not in cached["nodes"]
