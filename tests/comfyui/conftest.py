"""Real ComfyUIs: each that tests/support/environments.py finds, or else these tests skip."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from comfyui import Server
from environments import PLACES, find_comfyuis, python_of, version_of, what_it_lacks
from filelock import FileLock
from forking import Forking
from graph import to_api

SUPPORT = Path(__file__).parents[1] / "support"
MAKE_CHECKPOINTS = Path(__file__).with_name("make_checkpoints.py")
WORKFLOWS = Path(__file__).parents[2] / "workflows"
# What most tests need. All are made at once, because some have the same tensors.
CHECKPOINTS = [
    "sd15", "sdxl", "sd21_unclip_l", "sd15_small", "sdxl_small", "sd21_unclip_l_small", "sd21_unclip_h_small", "cascade_b_small",
    "cascade_c_small", "clip_vision_l_small", "clip_vision_h_small", "clip_vision_g_small", "flux_small", "clip_l_small", "t5xxl_small", "ae_small",
]

SERVERS = 4  # for one worker; each takes a gigabyte


def _named(comfyui):
    return f"ComfyUI-{version_of(comfyui)}" if comfyui else "no-ComfyUI"


@pytest.fixture(scope="session", params=find_comfyuis() or [None], ids=_named)
def comfyui(request):
    """The folder of a ComfyUI that can run here; each test that needs one runs on every one found."""
    if request.param is None:
        pytest.skip(f"No ComfyUI found ({PLACES}).")
    lacks = what_it_lacks(request.param)
    if lacks:
        pytest.skip(f"{request.param} does not run with {python_of(request.param)}, which lacks {lacks}.")
    return request.param


@pytest.fixture(scope="session")
def on_standin():
    """Run a script of tests/support on the stand-in, once; returns the JSON it prints."""
    run = functools.cache(_run_script)
    return lambda script, *arguments: json.loads(run(sys.executable, script, *arguments))


@pytest.fixture(scope="session")
def forking(tmp_path_factory):
    """Run a script of tests/support in a fork of a process that has imported a ComfyUI, one process for each ComfyUI."""
    processes = {}

    def run(comfyui, script, *arguments):
        if comfyui not in processes:
            processes[comfyui] = Forking(python_of(comfyui), comfyui)
        return processes[comfyui].run(tmp_path_factory.mktemp("script"), script, *arguments, "--comfyui", str(comfyui))

    yield run
    for process in processes.values():
        process.stop()


@pytest.fixture(scope="session")
def printed_on_comfyui(comfyui, forking):
    """Run a script of tests/support on the real API; returns what it prints. `alone`: in a process of its own."""

    def run(*script, alone=not hasattr(os, "fork")):
        return _run_script(python_of(comfyui), *script, "--comfyui", str(comfyui)) if alone else forking(comfyui, *script)

    return run


@pytest.fixture(scope="session")
def on_comfyui(printed_on_comfyui):
    """The same for a script that prints JSON; returns what it means."""
    return lambda *script, **how: json.loads(printed_on_comfyui(*script, **how))


def _run_script(python, script, *arguments):
    command = [python, str(SUPPORT / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """(name in the menu, folder) of the Kandinsky to run: the miniature, or random weights while there is none."""
    from rarity.generators.kandinsky.load import MINIATURE, miniature_folder
    from tiny_kandinsky import build_tiny_kandinsky

    if (miniature_folder() / "prior" / "model_index.json").is_file():
        return MINIATURE, MINIATURE
    return "tiny", build_tiny_kandinsky(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def running(tmp_path_factory, model):
    """Start the server of a ComfyUI for some purpose, or take the one that runs.

    Tests come file by file, each on every ComfyUI, and a start takes eight seconds of a processor; so servers run on until there
    are too many for the memory.
    """
    servers = {}

    def start(comfyui, purpose, native=None):
        server = servers.pop((comfyui, purpose), None)
        if server is None:
            while len(servers) >= SERVERS:
                servers.pop(next(iter(servers))).stop()
            server = Server(comfyui, tmp_path_factory.mktemp("comfyui") / "base")
            servers[comfyui, purpose] = server
            _give_models(server, model, native)
            server.wait_until_up()
        servers[comfyui, purpose] = server  # the last one used is the last to be stopped
        return server

    yield start
    for server in servers.values():
        server.stop()


def _give_models(server, model, native):
    for folder in native.iterdir() if native else ():
        (server.base / "models").mkdir(exist_ok=True)
        (server.base / "models" / folder.name).symlink_to(folder, target_is_directory=True)
    for pack in ("small_models", "watching") if native else ():
        (server.base / "custom_nodes" / pack).symlink_to(SUPPORT / pack, target_is_directory=True)
    if model[0] != model[1]:
        diffusers = server.base / "models" / "diffusers"
        diffusers.mkdir(parents=True, exist_ok=True)
        (diffusers / model[0]).symlink_to(model[1], target_is_directory=True)


@pytest.fixture(scope="session")
def server(comfyui, running):
    """A running server with the pack and the model."""
    return running(comfyui, "plain")


@pytest.fixture(scope="session")
def own_server(comfyui, running):
    """One more, for tests that leave files behind: menus of saved files show them to everybody."""
    return running(comfyui, "files left behind")


@pytest.fixture(scope="session")
def native_models(printed_on_comfyui, tmp_path_factory):
    """Small random-weight models as ComfyUI's own loaders read them: call it with names of make_checkpoints.py, get their paths.

    All workers and all ComfyUIs share them, because every ComfyUI makes the same bytes. Each waits while another makes some.
    """
    mine = tmp_path_factory.getbasetemp()
    shared = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    folder = shared / "native" / "models"
    for kind in ("checkpoints", "clip_vision", "diffusion_models", "text_encoders", "vae", "vae_approx"):
        (folder / kind).mkdir(parents=True, exist_ok=True)

    def need(*names):
        with FileLock(folder.with_suffix(".lock")):
            made = {path.stem for path in folder.glob("*/*.safetensors")}
            if not made.issuperset(names):
                missing = sorted({*names, *CHECKPOINTS} - made)
                printed_on_comfyui(str(MAKE_CHECKPOINTS), str(folder), "--only", *missing)
        return [next(folder.glob(f"*/{name}.safetensors")) for name in names]

    need.folder = folder
    return need


@pytest.fixture(scope="session")
def clip_checkpoint(native_models):
    """A checkpoint of random weights for one of OpenCLIP's own architectures, in models/clip_vision."""
    import open_clip
    import safetensors.torch
    import torch
    from tiny_open_clip import SMALLEST

    path = native_models.folder / "clip_vision" / "small_open_clip.safetensors"
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = open_clip.CLIP(**open_clip.get_model_config(SMALLEST))
            safetensors.torch.save_file({name: value.half().contiguous() for name, value in model.state_dict().items()}, path)
    return path.name


@pytest.fixture(scope="session")
def native_server(comfyui, running, native_models):
    """A server whose menus of checkpoints and vision encoders list what `native_models` has made so far."""
    return running(comfyui, "ComfyUI's own models", native_models.folder)


@pytest.fixture
def as_prompt(server):
    """Turn a shipped workflow into API format, by the server's own node descriptions."""
    return lambda workflow: to_api(workflow, server.nodes)


@pytest.fixture
def quickstart(as_prompt):
    """workflows/Rarity 01 Quickstart.json in API format."""
    return as_prompt(json.loads((WORKFLOWS / "Rarity 01 Quickstart.json").read_text(encoding="utf-8")))


@pytest.fixture
def little(quickstart):
    """The same graph with few samples and short drawing, for tests that do not look at what comes out."""
    less = {"RaritySamplePrior": {"count": 300}, "RarityDecodeKandinsky": {"steps": 2}}
    for node in quickstart.values():
        node["inputs"] |= less.get(node["class_type"], {})
    return quickstart
