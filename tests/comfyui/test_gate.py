"""The validity gate in a running ComfyUI: pictures looked at on the way, cancelled while it looks, and one clear error."""

import time

import pytest
from comfyui import messages
from tiny_vlm import build_qwen2_vl

SECONDS = 900  # for one run; five on a quiet machine, the rest is room for a busy one


def graph(seed=0, count=6, every=50, **gate):
    def node(class_type, **inputs):
        return {"class_type": class_type, "inputs": inputs}

    return {
        "model": node("RarityLoadKandinsky", model="miniature (built in)"),
        "usual": node("RaritySamplePrior", prior=["model", 0], prompt="a letter R", count=300, seed=0, steps=5, guidance=4.0),
        "density": node("RarityFitDensity", embeddings=["usual", 0], components=0),
        "gate": node("RarityValidityGate", **{
            "decoder": ["model", 1], "subject": "a letter R", "every": every, "threshold": 0.5, "on_no": "step back",
            "eye": ["model", 0], "alternatives": "a letter P\na letter B\na letter K", **gate,
        }),
        "rare": node("RarityMakeRare", density=["density", 0], embeddings=["usual", 0], one_in=200, count=count, start_from="usual",
                     steps=100, seed=seed, gate=["gate", 0]),
        "curve": node("RarityInterestCurve", trajectory=["rare", 2], sample=0),
        "save": node("SaveImage", images=["curve", 0], filename_prefix="gate_curve"),
        "report": node("PreviewAny", source=["rare", 3]),
    }


@pytest.fixture
def gated(server, model):
    if model[0] != model[1]:
        pytest.skip("This graph needs the built-in miniature, whose weights are not here.")
    return server


def test_the_gate_looks_on_the_way(gated):
    entry = gated.run(graph(), seconds=SECONDS)
    assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
    (report,) = entry["outputs"]["report"]["text"]
    assert "6 of 6 are about 1 in 200" in report and "The gate says Yes to 6 of 6" in report
    assert gated.pictures(entry, "save").std() > 10


def test_a_vision_language_model_of_the_llm_folder_judges(gated):
    """A small one with random weights, which says about 0.6 to everything; put there while the server runs."""
    build_qwen2_vl(gated.base / "models" / "LLM" / "tiny")
    prompt = graph(judge=["asked", 0], every=100) | {"asked": {"class_type": "RarityLoadJudge", "inputs": {"model": "tiny"}}}
    del prompt["gate"]["inputs"]["eye"]
    entry = gated.run(prompt, seconds=SECONDS)
    assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
    assert "The gate says Yes to 6 of 6" in entry["outputs"]["report"]["text"][0]


def test_cancel_while_the_gate_looks_and_the_next_run_works(gated):
    gated.run(graph(), seconds=SECONDS)  # what comes before the gate is kept from here on
    prompt_id = gated.submit(graph(seed=1, count=200, every=5))  # minutes of drawing
    while not gated.is_running(prompt_id):
        time.sleep(0.05)
    time.sleep(3)
    gated.raw("/interrupt", {"prompt_id": prompt_id})
    (stopped,) = messages(gated.wait(prompt_id, seconds=SECONDS), "execution_interrupted")
    assert stopped["node_type"] == "RarityMakeRare"
    assert gated.run(graph(seed=2), seconds=SECONDS)["status"]["status_str"] == "success"


def test_a_gate_that_cannot_see_says_what_to_connect(gated):
    prompt = graph()
    del prompt["gate"]["inputs"]["eye"]
    (error,) = messages(gated.run(prompt, seconds=SECONDS), "execution_error")
    assert error["node_type"] == "RarityValidityGate" and "connect a prior or the encoder of Load OpenCLIP to eye" in error["exception_message"]
