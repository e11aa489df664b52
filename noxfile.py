"""Everything one does with this repository: `python -m nox -s demo`, tests, lint, bench or comfy.

All sessions share one virtual environment, .nox/rarity, because torch is big.
"""

import os
import re
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".nox" / "rarity"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
BENCHMARKS = [
    "valid_rare", "prompts", "calibration", "density_fit", "novelty", "local_score", "prior_sampling", "decoding",
    "concepts", "learning_cost", "conditioning", "rounds", "starts",
]

# Each starts a ComfyUI of its own, some with models of gigabytes: no more than two, however many cores there are.
TWO_AT_A_TIME = ["-n", "2", "--dist", "loadfile"]

nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "none"


def install(session, *requirements):
    """Install the pack, as it stands here, and further requirements."""
    if not PYTHON.exists():
        session.run(sys.executable, "-m", "venv", str(ENVIRONMENT), external=True)
    python(session, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", ".[tests]", *requirements)


def python(session, *arguments, **options):
    """Run the environment's Python. Waiting threads of OpenMP sleep, so that a busy machine does not slow all down."""
    session.run(str(PYTHON), *arguments, external=True, env={"OMP_WAIT_POLICY": "PASSIVE"}, **options)


def find_comfyui():
    """The folder of a ComfyUI on this machine: COMFYUI_PATH, the one this pack is installed in, comfy-cli's; or None."""
    places = [os.environ.get("COMFYUI_PATH"), ROOT.parent.parent, Path.home() / "comfy" / "ComfyUI"]
    for place in filter(None, places):
        if (Path(place) / "comfy_api").is_dir() and (Path(place) / "main.py").is_file():
            return Path(place)
    return None


def comfyui_requirements(comfyui):
    """ComfyUI's own requirements without the lines of torch, which is installed already, and what its tests need."""
    lines = (comfyui / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = [line.split("#")[0].strip() for line in lines]
    return [name for name in names if name and not re.match(r"torch(vision|audio)?([^a-z]|$)", name)] + ["requests"]


@nox.session
def demo(session):
    """Rare letters beside usual ones, in rarity_demo/."""
    install(session)
    session.run(str(PYTHON.with_name("rarity" + PYTHON.suffix)), "demo", *session.posargs, external=True)


@nox.session
def tests(session):
    """All tests; those on a real ComfyUI where one is found."""
    comfyui = find_comfyui()
    install(session, *(comfyui_requirements(comfyui) if comfyui else ()))
    if comfyui is None:
        session.log("No ComfyUI found (COMFYUI_PATH, custom_nodes/.., ~/comfy/ComfyUI): its tests will be skipped.")
    python(session, "-m", "pytest", *TWO_AT_A_TIME, *session.posargs)


@nox.session
def lint(session):
    """Style, and the rules that the registry checks."""
    install(session)
    python(session, "-m", "ruff", "check", ".")
    python(session, "-m", "ruff", "check", "--isolated", "--select", "S102,S307,E702", ".")  # = comfy node validate
    python(session, "-m", "pytest", "--quiet", "tests/test_archive.py")


@nox.session
def bench(session):
    """The benchmarks, each a table."""
    install(session)
    for name in BENCHMARKS:
        python(session, f"benchmarks/{name}.py", *session.posargs)


@nox.session
def comfy(session):
    """Only the tests on a real ComfyUI, which must be there."""
    comfyui = find_comfyui()
    if comfyui is None:
        session.error("No ComfyUI found. Set COMFYUI_PATH to its folder.")
    install(session, *comfyui_requirements(comfyui))
    python(session, "-m", "pytest", "tests/comfyui", *TWO_AT_A_TIME, *session.posargs)
