"""Everything one does with this repository: `python -m nox -s demo`, tests, numerics, lint, bench, comfy or browser.

All sessions share one virtual environment, .nox/rarity, because torch is big. Each ComfyUI has one of its own above it,
.nox/comfyui-VERSION, because their requirements disagree.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from environments import PLACES, environment_of, find_comfyuis, python_in, requirements_of, version_of  # noqa: E402

ENVIRONMENT = ROOT / ".nox" / "rarity"
PYTHON = python_in(ENVIRONMENT)
BENCHMARKS = [
    "valid_rare", "prompts", "calibration", "memories", "density_fit", "novelty", "local_score", "prior_sampling", "decoding",
    "concepts", "learning_cost", "conditioning", "rounds", "starts", "cluster", "variety",
]

# Two of them wait for ComfyUIs of their own, some with models of gigabytes, a third fills the gaps: no more, however many
# cores there are.
AT_A_TIME = ["-n", "3", "--dist", "loadfile"]

# torch and MKL pick other kernels on other processors, which sum in another order. These make them do so on this one.
OTHER_PROCESSORS = [{"ATEN_CPU_CAPABILITY": "default"}, {"MKL_CBWR": "AVX2"}]
ONE_THREAD_EACH = {"OMP_NUM_THREADS": "1"}  # threads of two that share two cores wait for each other: a mixture took ten times as long
# What is left out there: pictures, judges, files, processes and devices, which hold no numbers of their own, and means of many
# fits and draws, whose bounds are wide.
NOT_AGAIN = [
    "density/drawing", "density/test_devices.py", "density/calibration/test_interval.py", "density/estimators/test_convergence.py",
    "density/novelty/test_belief.py", "density/novelty/test_kinds.py", "generators/cluster", "generators/concepts/test_export.py",
    "generators/judges", "generators/kandinsky/test_hub.py", "generators/kandinsky/test_layout.py",
    "generators/runtime/test_captured.py", "generators/test_demo.py", "generators/test_devices.py",
]

nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "none"


def install(session):
    """Install the pack, as it stands here, with what its tests need."""
    if not PYTHON.exists():
        session.run(sys.executable, "-m", "venv", str(ENVIRONMENT), external=True)
    extras = "tests,browser" if shutil.which("chromium") else "tests"
    python(session, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", f".[{extras}]")


# Waiting threads of OpenMP sleep, so that a busy machine does not slow all down. What was compiled is kept: a ComfyUI's
# thousand modules take two seconds each time, and are imported some fifty times.
EVERYWHERE = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONDONTWRITEBYTECODE": ""}


def python(session, *arguments, environment=None, **options):
    """Run the environment's Python."""
    return session.run(str(PYTHON), *arguments, external=True, env=EVERYWHERE | (environment or {}), **options)


def install_comfyuis(session):
    """Make an environment for each ComfyUI that is found, with its own requirements; returns the ComfyUIs."""
    comfyuis = find_comfyuis()
    shared = Path(python(session, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", silent=True).strip())
    for comfyui in comfyuis:
        session.log(f"ComfyUI {version_of(comfyui)} in {comfyui}")
        own = environment_of(comfyui, beside=ENVIRONMENT)
        if not python_in(own).exists():
            python(session, "-m", "venv", "--without-pip", str(own))
        # It sees the packages of the shared environment behind its own, pip and torch among them.
        pth = own / shared.relative_to(ENVIRONMENT) / "shared.pth"
        pth.write_text(f"import site; site.addsitedir({str(shared)!r})\n")
        pip = [str(python_in(own)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        torch, others = requirements_of(comfyui)
        session.run(*pip, "requests", *others, external=True)
        session.run(*pip, "--no-deps", *torch, external=True)  # torchaudio asks for one torch only, and runs with others
    return comfyuis


@nox.session
def demo(session):
    """Rare cars beside usual ones, in rarity_demo/."""
    install(session)
    session.run(str(PYTHON.with_name("rarity" + PYTHON.suffix)), "demo", *session.posargs, external=True)


@nox.session
def tests(session):
    """All tests, those on real ComfyUIs where some are found; those of numbers as other processors, too."""
    install(session)
    if not install_comfyuis(session):
        session.log(f"No ComfyUI found ({PLACES}): its tests will be skipped.")
    # The tests of numbers run beside the others, and fill the time in which those wait for servers.
    with ThreadPoolExecutor() as beside:
        numbers = beside.submit(lambda: [
            subprocess.run(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for command, variables in map(as_another, OTHER_PROCESSORS)
        ])
        try:
            python(session, "-m", "pytest", *AT_A_TIME, *session.posargs, environment=ONE_THREAD_EACH)
        finally:
            for processor, run in zip(OTHER_PROCESSORS, numbers.result(), strict=True):
                session.log(f"As another processor, {processor}:\n{run.stdout}")
    if any(run.returncode for run in numbers.result()):
        session.error("The tests of numbers fail as another processor.")


@nox.session
def numerics(session):
    """Only the tests of numbers, as other processors."""
    install(session)
    for processor in OTHER_PROCESSORS:
        # Two at a time whatever the machine: a worker's imports take as long as many of these tests.
        command, variables = as_another(processor, "-n", "2", "--dist", "loadfile")
        session.run(*command, env=variables, external=True)


def as_another(processor, *options):
    """The command that runs the tests of numbers with the kernels of another processor, and its environment."""
    tests = ["tests/density", "tests/generators", *(f"--ignore=tests/{path}" for path in NOT_AGAIN)]
    command = [str(PYTHON), "-m", "pytest", "--quiet", *tests, *options]
    return command, os.environ | EVERYWHERE | ONE_THREAD_EACH | processor


@nox.session
def lint(session):
    """Style, the rules that the registry checks, and its archive, packed by comfy-cli in an environment of its own."""
    install(session)
    packer = python_in(ENVIRONMENT.with_name("comfy-cli"))
    if not packer.exists():
        session.run(sys.executable, "-m", "venv", str(packer.parents[1]), external=True)
    session.run(str(packer), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "comfy-cli", external=True)
    found = {"PATH": os.pathsep.join((str(packer.parent), os.environ["PATH"]))}
    python(session, "-m", "ruff", "check", ".")
    python(session, "-m", "ruff", "check", "--isolated", "--select", "S102,S307,E702", ".")  # = comfy node validate
    python(session, "-m", "pytest", "--quiet", "tests/test_archive.py", environment=found)


@nox.session
def bench(session):
    """The benchmarks, each a table."""
    install(session)
    for name in BENCHMARKS:
        python(session, f"benchmarks/{name}.py", *session.posargs)


@nox.session
def comfy(session):
    """Only the tests on real ComfyUIs, of which one must be there."""
    install(session)
    if not install_comfyuis(session):
        session.error(f"No ComfyUI found ({PLACES}).")
    python(session, "-m", "pytest", "tests/comfyui", *AT_A_TIME, *session.posargs, environment=ONE_THREAD_EACH)


@nox.session
def browser(session):
    """Only the tests in a browser, which needs chromium (Debian: apt-get install chromium) and a ComfyUI."""
    if not shutil.which("chromium"):
        session.error("No chromium found (Debian: apt-get install chromium).")
    install(session)
    if not install_comfyuis(session):
        session.error(f"No ComfyUI found ({PLACES}).")
    python(session, "-m", "pytest", "tests/browser", *session.posargs)
