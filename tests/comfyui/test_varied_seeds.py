"""Seeds varied with ComfyUI's own models: each picture is KSampler's, nothing is changed; and the workflow on a server."""

import json
import re
import time

import pytest
from comfyui import ROOT, messages
from graph import nodes_of, to_api
from tiny_open_clip import SMALLEST

ROUNDING = 1e-4  # of pixels: float32 sums in another order, in a batch of three and one by one


@pytest.fixture(scope="module")
def found(on_comfyui, native_models):
    return on_comfyui("varied_seeds.py", *map(str, native_models("sd15_small", "clip_vision_l_small")))


@pytest.mark.parametrize("kind", ["Stable Diffusion 1.5", "Flux", "Lumina 2"])
def test_what_is_measured_is_what_ksampler_draws_with_what_comes_out(found, kind):
    """Seed by seed, with prompts of other lengths than the negative one's, of two entries, with a mask."""
    one = found[kind]
    assert one["as KSampler"] < ROUNDING < 0.02 < one["moved"] and one["finite"]
    assert one["shapes"] == [[3, 64, 64, 3], [3, 768], [3, 0]]
    assert one["unchanged"]


def test_the_node_gives_each_seed_a_prompt_and_measures_once(found):
    node = found["node"]
    assert node["seeds"] == [5, 6, 7] and node["drawn"] == 5 * 3
    assert node["entries"] == [[[1, 7, 16]]] * 3, "all steps are varied, so there is one entry"
    assert node["twice"], "measured again, bit for bit"
    assert node["remembered"] == [0, True, [70, 71, 72]] and node["another setting"][0] == 15
    assert node["given"] == [0, 0.25, node["given"][2]]
    assert node["given"][2].startswith("The strength 0.25 was given, so nothing was measured.")
    assert node["out of memory"] == [True, [3, 2, 1] * 5], "half as many at a time"
    said = re.search(rf"At strength {node['strength']:g}, in all steps, the pictures of different seeds lie ([0-9.]+) times as far apart", node["report"])
    assert float(said[1]) == pytest.approx(2, abs=0.02), "a strength of three decimals comes so near, on every processor"
    assert "connect a gate or a guardrail" in node["report"] and len(node["report"].splitlines()) == 8
    assert "FluxSchnell has its guidance built in and was trained to be drawn with cfg 1: with cfg 3" in node["report"]
    assert node["curve"][0] == 1 and node["curve"][2:] == [1200, 3]


def test_the_part_of_the_steps_is_measured_too(found):
    """A half is enough for twice as varied; for as much as there is, where everything is the subject, all steps are varied."""
    given, drawn, enough, most = found["node"]["until"]
    assert (given, drawn, enough, most) == (1.0, 15, 0.5, 1.0)


def test_other_wordings_are_measured_by_themselves_and_once(found):
    along = found["node"]["variations"]
    assert along["moved"] > 0.01 and along["drawn again"] == 0 and along["strength again"] == along["strength"] != found["node"]["strength"]
    assert "times as far apart as they are drawn" in along["report"] and along["without"], "a measurement of noise is none of wordings"


def test_guards_end_it_and_choose_the_set(found):
    strength, report = found["node"]["guarded"]
    assert 0 < strength < 4 and "it would not be sure enough that the pictures still are the subject" in report and "still the subject\n" in report
    seeds, report, drawn, conditionings = found["node"]["kept"]
    assert len(seeds) == conditionings <= 2 and set(seeds) <= set(range(5, 11)) and drawn == 6
    assert "that together are most varied were kept" in report


def test_a_measurement_that_is_kept_is_read_again(found):
    """With nothing drawn, and the same report and curve; for anything else it is measured anew, and said so."""
    kept = found["node"]["on disk"]
    first, again = kept["first"], kept["again"]
    assert first["drawn"] == 15 and again["drawn"] == 0 and kept["same"]
    assert (first["strength"], first["until"]) == (again["strength"], again["until"])
    assert "It is kept as kept.safetensors: with the same model, prompt and settings nothing is measured again." in first["said"]
    assert "This was read from kept.safetensors: it was measured before, for the same." in again["said"]
    assert [line for line in first["said"] if "kept.s" not in line] == [line for line in again["said"] if "kept.s" not in line]
    assert kept["inspected"]["kind"] == "strength" and kept["inspected"]["strength"] == first["strength"]


@pytest.mark.parametrize("what", ["prompt", "model", "guardrail", "gate", "variations", "variety"])
def test_a_measurement_for_something_else_is_replaced(found, what):
    assert found["node"]["on disk"][what] == [15, f"kept.safetensors was replaced: it was measured for another {what}."]


def test_a_damaged_file_is_an_error_and_stays(found):
    said, drawn, untouched = found["node"]["on disk"]["damaged"]
    assert "is damaged or was not saved by Rarity" in said and drawn == 0 and untouched


@pytest.mark.parametrize("cause, message", [
    ("no guard", "connect a guardrail or a gate, or ask for a variety of 2"),
    ("dark", "None of the 3 pictures as they are drawn is inside what the guardrails and the gate allow"),
    ("dark set", "Of 3 pictures none is inside"),
    ("keep", "keep from 0 to the count"), ("pictures", "3 to 64 pictures"), ("variety", "The variety must be 1 or more, or 0"),
    ("until", "was given without until"),
    ("tokens", "must hold the tokens of one text, shape [1, T, D], got shape (2, 77, 768)"),
    ("wordings of another model", "The variations must be encoded with the same CLIP as the positive CONDITIONING, which holds tokens (1, 7, 16)"),
    ("wordings that say the same", "The variations do not differ from the positive CONDITIONING. Give other wordings of the prompt."),
    ("another model", "FluxSchnell reads tokens 16 wide, got tokens 768 wide (Stable Diffusion 1.5)"),
])
def test_bad_input_says_what_to_do(found, cause, message):
    assert message in found["node"]["errors"][cause]


def test_a_cancel_ends_it_in_the_first_batch_and_leaves_nothing_changed(found):
    node = found["node"]
    assert node["cancelled"] == 3 and node["nothing half-measured is remembered"] and node["unchanged"]


def graph(native_server, native_models, clip_checkpoint):
    """The shipped workflow on small random models, and everything little."""
    workflow = json.loads((ROOT / "workflows" / "Rarity 15 Seed variety.json").read_text(encoding="utf-8"))
    (checkpoint,) = native_models("sd15_small")
    prompt = to_api(workflow, native_server.nodes)
    size = {"width": 64, "height": 64}
    less = {
        "CheckpointLoaderSimple": {"ckpt_name": checkpoint.name},
        "RarityLoadOpenCLIP": {"architecture": SMALLEST, "checkpoint": clip_checkpoint},
        "RarityValidityGate": {"threshold": 0.01},  # random weights see a house nowhere
        "RaritySeedVariety": {"count": 2, "steps": 1, "pictures": 3, "seed": 11, **size},
        "KSampler": {"steps": 1}, "EmptyLatentImage": size,
    }
    for node in prompt.values():
        node["inputs"] |= less.get(node["class_type"], {})
    return prompt


def test_the_workflow_runs_and_again_alike_after_a_cancel(native_server, native_models, clip_checkpoint):
    server, prompt = native_server, graph(native_server, native_models, clip_checkpoint)
    (vary,) = nodes_of(prompt, "RaritySeedVariety")
    sheet, curve = sorted(nodes_of(prompt, "SaveImage"), key=lambda key: "curve" in prompt[key]["inputs"]["filename_prefix"])

    def run(how=server.run):
        entry = how(prompt, seconds=300)
        assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
        return entry

    entry = run()
    drawn, measured = server.pictures(entry, sheet), server.pictures(entry, curve)
    assert len(drawn) == len(measured) == 1 and drawn.std() > 10 and measured.std() > 10
    (report,) = entry["outputs"][nodes_of(prompt, "PreviewAny")[0]]["text"]
    assert "lie 1." in report or "lie 2.0" in report
    assert "still the subject" in report.splitlines()[1]
    assert len(report.splitlines()) in (7, 8), "a look at the first half of the steps is left out where all are varied"

    before = dict(prompt[vary]["inputs"])
    prompt[vary]["inputs"] |= {"steps": 1000, "pictures": 64}
    prompt_id = server.submit(prompt)
    while not server.is_running(prompt_id):
        time.sleep(0.02)
    time.sleep(3)
    assert server.is_running(prompt_id)
    server.raw("/interrupt", {"prompt_id": prompt_id})
    (interrupted,) = messages(server.wait(prompt_id), "execution_interrupted")
    assert interrupted["node_type"] == "RaritySeedVariety"
    prompt[vary]["inputs"] = before
    again = run(server.run_afresh)
    assert (server.pictures(again, sheet) == drawn).all() and (server.pictures(again, curve) == measured).all()
    (report,) = again["outputs"][nodes_of(prompt, "PreviewAny")[0]]["text"]
    assert "This was read from sd15_house.safetensors" in report, "the name that the workflow keeps it under"
