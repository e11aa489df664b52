"""Repositories of the Hugging Face Hub: fetched only when named, safetensors only. Against a stand-in Hub on this machine."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rarity.density.base.errors import RarityError
from rarity.generators.kandinsky import hub
from rarity.generators.kandinsky.hub import download_kandinsky, find_repository

PRIOR, DECODER = "community/kandinsky-2-1-prior", "community/kandinsky-2-1"

# In a process of its own: where the Hub is, is decided when huggingface_hub is imported.
SESSION = """
import json, os, sys
from hub import Hub

folder, repositories = sys.argv[1], json.loads(sys.argv[2])
connected = []
sys.addaudithook(lambda event, details: connected.append(event) if event.startswith(("socket.connect", "socket.get")) else None)
found = {}
with Hub(repositories) as hub:
    os.environ["HF_ENDPOINT"] = hub.url
    del connected[:]
    from rarity.density.base.errors import RarityError
    from rarity.generators.kandinsky.load import load_kandinsky
    from rarity.generators.kandinsky.hub import download_kandinsky, find_repository

    asked = {}
    for name in ("PRIOR", " PRIOR ", "community/nothing"):
        try:
            asked[name] = find_repository(name)
        except RarityError as error:
            asked[name] = str(error)
    found["before a download"], found["asked before"] = asked, hub.asked[:]
    del hub.asked[:], connected[:]

    prior, decoder = load_kandinsky(folder)
    expected = prior.sample("a letter r", 2, steps=2)
    decoder.decode(expected, steps=2)
    found["connections for a folder"], found["asked for a folder"] = list(connected), list(hub.asked)

    fetched = download_kandinsky("PRIOR")
    found["asked for a repository"] = hub.asked[:]
    found["the halves"] = [path.parts[-3] for path in fetched]
    prior, decoder = load_kandinsky(fetched[0], decoder=fetched[1])
    found["same"] = prior.space == expected.space and bool((prior.sample("a letter r", 2, steps=2).vectors == expected.vectors).all())
    del hub.asked[:]
    found["by the decoder's name"] = download_kandinsky("DECODER") == fetched
    asked_so_far = len(hub.asked)
    find_repository("PRIOR")
    found["asked of what is here"] = hub.asked[asked_so_far:]
    found["fetched again"] = [line for line in hub.asked if "GET" in line and "/resolve/" in line]
    errors = found["errors"] = {}
    for name in ("community/nothing", "community/pickled-prior", "community/other"):
        try:
            download_kandinsky(name)
        except RarityError as error:
            errors[name] = str(error)
found["offline"] = [str(path) for path in download_kandinsky("PRIOR")] == [str(path) for path in fetched]
json.dump(found, sys.stdout)
""".replace("PRIOR", PRIOR).replace("DECODER", DECODER)


@pytest.fixture(scope="module")
def session(tiny_kandinsky_21_folder, tmp_path_factory):
    """What came of one session with a Hub that also offers what must not be taken."""
    place = tmp_path_factory.mktemp("hub")
    shutil.copytree(tiny_kandinsky_21_folder, place / "model")
    halves = {PRIOR: place / "model" / "kandinsky-2-1-prior", DECODER: place / "model" / "kandinsky-2-1"}
    for folder in halves.values():
        (folder / "README.md").write_text("not needed")
        (folder / "pipeline.py").write_text("raise SystemExit('remote code ran')")
    for part in (halves[PRIOR] / "text_encoder", halves[DECODER] / "unet"):
        (part / "modeling.py").write_text("raise SystemExit('remote code ran')")
        (part / "pytorch_model.bin").write_bytes(b"a pickle")
        weights = next(part.glob("*.safetensors"))
        shutil.copy(weights, weights.with_name(f"{weights.stem}.fp16.safetensors"))
    pickled = shutil.copytree(tiny_kandinsky_21_folder / "kandinsky-2-1-prior", place / "pickled")
    (pickled / "prior" / "diffusion_pytorch_model.safetensors").rename(pickled / "prior" / "diffusion_pytorch_model.bin")
    other = place / "other"
    (other / "unet").mkdir(parents=True)
    (other / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}))
    repositories = {**halves, "community/pickled-prior": pickled, "community/other": other}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | {
        "HF_HOME": str(place / "cache"), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2] / "support"), os.environ.get("PYTHONPATH", "")]),
    }
    run = subprocess.run(
        [sys.executable, "-c", SESSION, str(tiny_kandinsky_21_folder / "kandinsky-2-1-prior"),
         json.dumps({name: str(folder) for name, folder in repositories.items()})],
        env=environment, capture_output=True, text=True, timeout=600,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)


def test_before_a_run_the_hub_is_asked_whether_it_has_a_repository(session):
    assert session["before a download"] == {
        PRIOR: None, f" {PRIOR} ": None,
        "community/nothing": "The Hugging Face Hub has no repository 'community/nothing', or it is a private one. Check the name in repository.",
    }
    assert sum("/api/models/" in line for line in session["asked before"]) == 3 and not [line for line in session["asked before"] if "/resolve/" in line], "and nothing is fetched"
    assert session["asked of what is here"] == []


def test_a_folder_needs_no_network(session):
    assert session["connections for a folder"] == [] and session["asked for a folder"] == []


def test_both_halves_are_fetched_and_are_the_same_model(session):
    assert session["the halves"] == ["models--community--kandinsky-2-1-prior", "models--community--kandinsky-2-1"]
    assert session["same"] and session["by the decoder's name"]


def test_only_what_is_needed_is_fetched(session):
    fetched = {line.split("/resolve/")[1].partition("/")[2] for line in session["asked for a repository"]
               if line.startswith("GET") and "/resolve/" in line}
    for file in ("model_index.json", "prior/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors",
                 "unet/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json"):
        assert file in fetched
    assert not [file for file in fetched if file.endswith((".bin", ".fp16.safetensors")) or file.endswith("/modeling.py")]


def test_the_second_time_nothing_is_fetched_and_no_connection_is_needed(session):
    assert session["fetched again"] == [] and session["offline"]


def test_each_error_says_what_is_wrong(session):
    assert "community/nothing could not be downloaded" in session["errors"]["community/nothing"]
    assert "safetensors" in session["errors"]["community/pickled-prior"]
    assert "community/other" in session["errors"]["community/other"]


def test_without_an_answer_nothing_is_known_and_the_run_goes_on(monkeypatch):
    """No connection; and a name server that never answers."""
    import huggingface_hub

    def none(self, name, timeout):
        raise ConnectionError("no connection")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", none)
    find_repository("community/nothing")
    never = threading.Event()
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, name, timeout: never.wait(60))
    monkeypatch.setattr(hub, "ANSWER", 0.05)
    find_repository("community/nothing")
    assert not never.is_set(), "it came back by itself"
    never.set()


@pytest.mark.parametrize("name", ["", "kandinsky", "https://huggingface.co/a/b", "a/b/c", "../b", "a/..", "C:\\a/b", "/etc/passwd"])
def test_what_is_no_repository_is_refused_before_anything_is_asked(name):
    for use in (download_kandinsky, find_repository):
        with pytest.raises(RarityError, match="The repository must be a name such as"):
            use(name)
