"""Which ComfyUIs this machine has, and the Python that runs each. noxfile.py makes their environments for the tests.

    python tests/support/environments.py FOLDER    print which packages the ComfyUI in FOLDER lacks in this Python

noxfile.py imports this file, too, and its Python has only the standard library.
"""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACES = "COMFYUI_PATH, the ComfyUI this pack is installed in, ~/comfy/ComfyUI, ~/comfy/ComfyUI-*"


def find_comfyuis():
    """The folders of all ComfyUIs to test on, oldest version first.

    If COMFYUI_PATH is set, these are the folders that it names; it may name several, as PATH does. Otherwise these are
    the ComfyUI in which this pack is installed, comfy-cli's default and the folders beside that.
    """
    named = [Path(place) for place in os.environ.get("COMFYUI_PATH", "").split(os.pathsep) if place]
    for place in named:
        if not _is_comfyui(place):
            raise FileNotFoundError(f"COMFYUI_PATH names {place}, which holds no ComfyUI (main.py, comfy_api).")
    home = Path.home() / "comfy"
    installed_in = [ROOT.parent.parent] if ROOT.parent.name == "custom_nodes" else []
    places = named or [*installed_in, home / "ComfyUI", *home.glob("ComfyUI-*")]
    found = {place.resolve() for place in places if _is_comfyui(place)}
    return sorted(found, key=lambda place: ([int(part) for part in re.findall(r"\d+", version_of(place))], place))


def _is_comfyui(place):
    return (place / "main.py").is_file() and (place / "comfy_api").is_dir()


def version_of(comfyui):
    """The version of a ComfyUI, such as 0.33.0."""
    written = (comfyui / "comfyui_version.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "([^"]+)"', written).group(1)


def requirements_of(comfyui):
    """ComfyUI's own requirements: (those of torch, which depend on the machine; all others)."""
    lines = (comfyui / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = [name for name in (line.split("#")[0].strip() for line in lines) if name]
    torch = [name for name in names if re.match(r"torch(vision|audio)?([^a-z]|$)", name)]
    return torch, [name for name in names if name not in torch]


def environment_of(comfyui, beside):
    """The folder of the environment for a ComfyUI of this version: a neighbour of the environment `beside`."""
    return Path(beside).parent / f"comfyui-{version_of(comfyui)}"


def python_in(environment):
    """The Python of an environment's folder."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def python_of(comfyui):
    """The Python that runs a ComfyUI: that of the environment that nox made for it, otherwise this one."""
    own = python_in(environment_of(comfyui, beside=sys.prefix))
    return str(own) if own.exists() else sys.executable


def what_it_lacks(comfyui):
    """The reason why a ComfyUI cannot run in its Python; empty if it can."""
    command = [python_of(comfyui), __file__, str(comfyui)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _lacking(comfyui):
    """The requirements of a ComfyUI that this Python does not meet, each with what is installed instead."""
    from packaging.requirements import Requirement

    for needed in map(Requirement, sum(requirements_of(comfyui), [])):
        try:
            found = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            found = None
        if found is None or not needed.specifier.contains(found, prereleases=True):
            yield f"{needed} (got {found})"


if __name__ == "__main__":
    sys.stdout.write(", ".join(_lacking(Path(sys.argv[1]))))
