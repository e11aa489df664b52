"""Imports point one way: nodes -> generators -> density. ComfyUI is met in nodes/ only, heavy libraries inside functions."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from standin import STANDIN

ROOT = Path(__file__).parents[2]
COMFYUI = {"comfy", "comfy_api", "comfy_api_nodes", "comfy_execution", "comfy_extras", "folder_paths", "nodes", "server"}
HEAVY = {"diffusers", "transformers", "open_clip", "matplotlib", "cma", "distributed"}
DENSITY = {"torch", "numpy", "scipy", "sklearn", "safetensors", "matplotlib"}
NATIVE = "generators/comfyui/"  # the room outside nodes/ that drives ComfyUI's own models

# What each room may import beside itself; every room below is there for it as well.
ROOMS = {
    "density.base": [],
    "density.statistics": ["density.base"],
    "density.calibration": ["density.base"],
    "density.estimators": ["density.base", "density.statistics", "density.calibration"],
    "density.steering": ["density.base", "density.statistics", "density.calibration", "density.estimators"],
    "density.novelty": ["density.base", "density.statistics", "density.calibration", "density.estimators"],
    "density.files": ["density.base", "density.estimators", "density.novelty"],
    "density.drawing": ["density.base", "density.calibration", "density.estimators", "density.steering", "density.novelty"],
    "generators.runtime": ["density"],
    "generators.eyes": ["density", "generators.runtime"],
    "generators.judges": ["density", "generators.runtime", "generators.eyes"],
    "generators.kandinsky": ["density", "generators.runtime", "generators.eyes"],
    "generators.concepts": ["density", "generators.runtime", "generators.eyes", "generators.kandinsky"],
    "generators.steering": ["density", "generators.runtime", "generators.judges"],
    "generators.comfyui": ["density", "generators.runtime", "generators.eyes", "generators.steering"],
    "generators.local_score": ["density", "generators.runtime"],
    "generators.cluster": ["density", "generators.runtime", "generators.eyes", "generators.kandinsky"],
    "nodes.parts": ["density", "generators"],
}
TYPES_ONLY = {"generators/judges/validity_gate.py": "rarity.generators.kandinsky.decoder"}  # imported for a type checker alone

FILES = sorted(path.relative_to(ROOT).as_posix() for part in ("density", "generators", "nodes") for path in (ROOT / part).rglob("*.py"))


def imports(name):
    """(module, is it imported when the file is?) for every import of a file; relative ones as density, generators or nodes."""
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    inside = {id(part) for item in ast.walk(tree) if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))
              for part in ast.walk(item)}
    package = name.split("/")[:-1]
    for part in ast.walk(tree):
        if isinstance(part, ast.Import):
            names = [alias.name for alias in part.names]
        elif isinstance(part, ast.ImportFrom) and part.level:
            base = package[: len(package) - part.level + 1]
            assert part.level <= len(package) + 1, f"{name} imports from above the pack"
            names = [".".join([*base, *([part.module] if part.module else [alias.name])]) for alias in part.names]
            names = [f"rarity.{found}" for found in names]
        elif isinstance(part, ast.ImportFrom):
            names = [part.module]
        else:
            continue
        yield from ((found, id(part) not in inside) for found in names)


@pytest.mark.parametrize("name", FILES)
def test_arrows(name):
    part = name.split("/")[0]
    allowed = {"density": {"density"}, "generators": {"density", "generators"}, "nodes": {"density", "generators", "nodes"}}[part]
    source = (ROOT / name).read_text(encoding="utf-8")
    assert "import rarity" not in source and "from rarity" not in source, "inside the pack imports are relative"
    for module, at_once in imports(name):
        top = module.split(".")[0]
        if top == "rarity":
            assert module.split(".")[1] in allowed, f"{name} imports {module}"
            continue
        assert top not in COMFYUI or part == "nodes" or name.startswith(NATIVE), f"{name} imports {module}"
        assert top not in HEAVY or not at_once, f"{name} imports {module} outside a function"
        if part == "density":
            assert top in DENSITY or top in sys.stdlib_module_names, f"{name} imports {module}"


@pytest.mark.parametrize("name", [name for name in FILES if name.count("/") == 2])
def test_arrows_between_rooms(name):
    room = ".".join(name.split("/")[:2])
    for module, _ in imports(name):
        if not module.startswith("rarity.") or module == TYPES_ONLY.get(name):
            continue
        inside = module.removeprefix("rarity.")
        allowed = [room, *ROOMS[room]]
        assert any(inside == other or inside.startswith(f"{other}.") for other in allowed), f"{name} imports {module}"


def test_every_room_has_its_arrows():
    assert set(ROOMS) == {".".join(name.split("/")[:2]) for name in FILES if name.count("/") == 2}


def test_the_check_sees_imports():
    found = dict(imports("generators/demo.py"))
    assert found["rarity.density.drawing.density_map"] and found["rarity.generators.kandinsky.load"]
    assert any(not at_once for _, at_once in imports("generators/kandinsky/load.py"))


def python(code, *path):
    """Run code in a fresh interpreter; returns what it prints."""
    setup = f"import sys; sys.path[:0] = {[str(p) for p in path]!r}\n"
    done = subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_pack_imports_without_comfyui_and_without_weight():
    code = "import rarity, sys; print(rarity.WEB_DIRECTORY, sorted({'torch', 'comfy', 'comfy_api', 'numpy'} & set(sys.modules)))"
    assert python(code) == "./web []"


def test_the_library_loads_nothing_heavy():
    modules = [name[:-3].replace("/", ".") for name in FILES if not name.startswith("nodes/") and not name.startswith(NATIVE)]
    modules = [name.removesuffix(".__init__") for name in modules]
    code = "import importlib, sys\n"
    code += f"for name in {modules!r}: importlib.import_module('rarity.' + name)\n"
    code += f"print(sorted({COMFYUI | HEAVY!r} & set(sys.modules)))"
    assert python(code) == "[]"


def test_the_pack_loads_under_any_folder_name(tmp_path):
    """As ComfyUI loads a pack: by file, under a module name that is its path."""
    packs = [tmp_path / "custom_nodes" / folder for folder in ("Some-Name", "comfyui.rarity v2", "rarity-nodes@0.1.0")]
    packs[0].parent.mkdir()
    for pack in packs:
        pack.symlink_to(ROOT, target_is_directory=True)
    code = f"""
import asyncio, importlib.util
for path in {list(map(str, packs))!r}:
    name = path.replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, path + "/__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    assert not hasattr(module, "NODE_CLASS_MAPPINGS"), "ComfyUI would skip the V3 nodes"
    extension = asyncio.run(module.comfy_entrypoint())
    nodes = asyncio.run(extension.get_node_list())
    assert all(node.__module__.startswith(name) for node in nodes), "each pack has modules of its own"
    print(len(nodes), {{node.GET_SCHEMA().node_id == node.__name__ for node in nodes}})
assert not any(loaded == "rarity" or loaded.startswith("rarity.") for loaded in sys.modules)
"""
    for line in python(code, STANDIN).splitlines():
        count, ids = line.split(" ", 1)
        assert int(count) >= 13 and ids == "{True}"
