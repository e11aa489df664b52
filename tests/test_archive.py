"""What ComfyUI's registry gets: the tracked files that .comfyignore leaves, all that artists need and nothing else."""

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
FOLDERS = ("density", "generators", "nodes", "web", "locales", "workflows", "subgraphs")
LEFT_OUT = ("generators/cluster/",)  # opens connections and starts processes, through Dask; no node needs it
FILES = {"__init__.py", "cli.py", "pyproject.toml", "requirements.txt", "LICENSE", "README.md"}
MUST_HAVE = {
    "generators/miniature/prior/model_index.json",
    "generators/miniature/decoder/unet/diffusion_pytorch_model.safetensors",
    "generators/things/prior/model_index.json",
    "generators/things/decoder/unet/diffusion_pytorch_model.safetensors",
    "generators/local_score/bags/metadata.csv",
    "generators/local_score/bags/LICENSES.txt",
    "web/docs/RarityMakeRare.md",
    "locales/en/nodeDefs.json",
    "web/icon.png",
    "workflows/Rarity 01 Quickstart.json",
    "workflows/Rarity 01 Quickstart.jpg",
    "subgraphs/Explore rare, creative versions of this prompt.json",
    "subgraphs/Score and keep the newest.json",
}


def git(*arguments):
    """The lines that a git command prints in this repository."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("Not a git checkout: the archive is made of the files that git tracks.")
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(filter(None, done.stdout.split("\0")))


@pytest.fixture(scope="module")
def tracked():
    return {name for name in git("ls-files", "-z") if (ROOT / name).is_file()}


def ships(name):
    return name in FILES or name.startswith(tuple(f"{part}/" for part in FOLDERS)) and not name.startswith(LEFT_OUT)


def assert_complete(names, tracked):
    assert names >= MUST_HAVE
    assert names == set(filter(ships, tracked))


def test_comfyignore_leaves_what_artists_need_and_nothing_else(tracked):
    assert_complete(tracked - git("ls-files", "-z", "--cached", "--ignored", "--exclude-from=.comfyignore"), tracked)


def test_comfy_cli_packs_the_same(tracked, tmp_path, monkeypatch):
    comfy = shutil.which("comfy")
    if comfy is None:
        pytest.skip("No comfy-cli here: `python -m nox -s lint` installs it and packs for real.")
    copy = tmp_path / "pack"
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    for variable in ("HOME", "USERPROFILE", "XDG_CONFIG_HOME"):  # its settings, which it writes at its first start
        monkeypatch.setenv(variable, str(tmp_path))
    for command in (
        ["git", "init", "--quiet"],
        ["git", "add", "."],
        [comfy, "--skip-prompt", "--no-enable-telemetry", "node", "validate"],
        [comfy, "--skip-prompt", "--no-enable-telemetry", "node", "pack"],
    ):
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(copy / "node.zip") as archive:
        assert_complete(set(archive.namelist()), tracked)


def test_the_icon_is_one_that_the_registry_takes():
    """A square of at most 400 x 400 pixels, at an address: the archive's own path would not be found."""
    from PIL import Image

    address = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["comfy"]["Icon"]
    assert address.startswith("https://") and address.endswith("/web/icon.png")
    path = ROOT / "web" / "icon.png"
    assert Image.open(path).size == (256, 256) and path.stat().st_size < 20_000


def test_the_archive_holds_nothing_that_the_registry_s_scanner_flags(tracked):
    modules = {"subprocess", "pickle", "marshal", "shelve", "ctypes", "socket", "urllib", "http", "requests", "httpx",
               "distributed", "dask", "multiprocessing"}
    scripts = {"web/wire_colours.js"}  # it asks nothing of a network, a store or another page, and makes no code of texts
    never = ("eval", "Function(", "fetch", "XMLHttpRequest", "WebSocket", "http", "innerHTML", "cookie", "localStorage", "import(")
    calls = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load"}
    for name in sorted(filter(ships, tracked)):
        if name in scripts:
            assert not [word for word in never if word in (ROOT / name).read_text(encoding="utf-8")]
        assert name in scripts or not name.endswith((".js", ".exe", ".so", ".pt", ".bin", ".pkl", ".ckpt")), name
        for part in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))) if name.endswith(".py") else ():
            imported = [alias.name for alias in part.names] if isinstance(part, ast.Import) else []
            imported += [part.module] if isinstance(part, ast.ImportFrom) and not part.level else []
            assert not {module.split(".")[0] for module in imported} & modules, f"{name}: {imported}"
            if isinstance(part, ast.Call):
                assert ast.unparse(part.func) not in calls, f"{name}:{part.lineno}"
                trusting = [ast.unparse(word.value) for word in part.keywords if word.arg == "trust_remote_code"]
                assert trusting in ([], ["False"]), f"{name}:{part.lineno}"
