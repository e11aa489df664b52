"""Packaging and texts that must agree with each other."""

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
COMMANDS = ["python -m pip install nox && python -m nox -s demo", "python -m pip install nox && python -m nox -s tests"]


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


def sessions():
    return set(re.findall(r"@nox\.session\ndef (\w+)", (ROOT / "noxfile.py").read_text(encoding="utf-8")))


def test_requirements_equal_the_dependencies(project):
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split("\n")
    assert lines == [*project["project"]["dependencies"], ""]


def test_nothing_is_pinned(project):
    dependencies = project["project"]["dependencies"]
    assert not [line for line in dependencies if re.search(r"==|~=|<|@|;", line)]
    assert {"torch", "numpy"} <= set(dependencies), "torch and numpy without any version"


def test_every_import_is_a_dependency(project):
    import ast

    known = {"sklearn": "scikit-learn", "open_clip": "open_clip_torch", "PIL": "pillow"}
    ours = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "server"}  # of ComfyUI itself
    wanted = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["cluster"]]
    declared = {re.split(r"[<>=~!\[]", line)[0] for line in wanted}
    files = [ROOT / "__init__.py", ROOT / "cli.py"]
    files += [path for part in ("density", "generators", "nodes") for path in (ROOT / part).rglob("*.py")]
    for path in files:
        for part in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in part.names] if isinstance(part, ast.Import) else []
            if isinstance(part, ast.ImportFrom) and not part.level:
                names = [part.module]
            for top in {name.split(".")[0] for name in names} - ours - set(sys.stdlib_module_names):
                assert known.get(top, top) in declared, f"{path.name} imports {top}"


def test_the_package_is_the_root():
    """And setup.py finds all below it: a folder of modules is a package where it has a face."""
    import rarity

    assert Path(rarity.__file__).parent == ROOT
    for part in ("density", "generators", "nodes"):
        for path in (ROOT / part).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), f"{path} is in no package"


def test_what_the_registry_reads(project):
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["project"]["version"])
    assert "comfyui" not in project["project"]["name"].lower()
    assert {"Repository", "Issues"} <= set(project["project"]["urls"])
    comfy = project["tool"]["comfy"]
    assert comfy["DisplayName"] == "Rarity" and comfy["requires-comfyui"] == ">=0.3.64"
    assert project["project"]["version"] in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_readme_has_the_two_commands(readme):
    for command in COMMANDS:
        assert f"\n    {command}\n" in readme
    assert {"demo", "tests", "numerics", "lint", "bench", "comfy", "browser"} == sessions()


def test_every_session_that_a_text_names_exists(readme):
    texts = [readme, (ROOT / ".ci" / "run").read_text(encoding="utf-8")]
    named = {name for text in texts for name in re.findall(r"nox -s (\w+)", text)}
    assert named and named <= sessions()
    assert {name for name in re.findall(r"^\| `(\w+)` \|", readme, flags=re.MULTILINE)} == sessions()


def test_ci_runs_the_readme_s_own_test_command():
    run = ROOT / ".ci" / "run"
    assert COMMANDS[1] in run.read_text(encoding="utf-8").splitlines()
    assert run.stat().st_mode & 0o111


def test_the_readme_speaks_of_every_node(readme):
    section = readme.split("\n## The nodes\n")[1].split("\n## ")[0]
    named = set(re.findall(r"\*\*([^*]+)\*\*", section))
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "nodes").rglob("*.py"))
    nodes = re.findall(r'node_id="\w+",\s+display_name="([^"]+)"', sources)
    assert len(nodes) == sources.count("node_id=") and set(nodes) <= named, set(nodes) - named


def test_links_of_the_readme_lead_somewhere(readme):
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
               for title in re.findall(r"^#+ (.+)$", readme, flags=re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        assert target[1:] in anchors if target.startswith("#") else (ROOT / target).is_file(), target


def test_the_page_on_many_machines_names_options_that_exist(readme):
    from rarity import cli

    page = (ROOT / "docs" / "many_machines.md").read_text(encoding="utf-8")
    assert "`docs/many_machines.md`" in readme
    commands = re.findall(r"^ +rarity (\w+)(.*)$", page, flags=re.MULTILINE)
    assert {"baseline", "fit", "merge"} == {command for command, _ in commands}
    (parsers,) = (action.choices for action in cli._parser()._actions if action.choices)
    for command, rest in commands:
        assert set(re.findall(r"--[\w-]+", rest)) <= set(parsers[command]._option_string_actions), rest


def test_what_is_not_for_artists_stays_out_of_the_archive():
    ignored = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    assert {"tests/", "tools/", "benchmarks/", ".ci/", "/docs/", "generators/cluster/", "noxfile.py"} <= set(ignored)
    kept = {"requirements.txt", "LICENSE", "README.md", "web/", "locales/", "workflows/", "subgraphs/", "density/", "generators/",
            "nodes/"}
    assert not kept & set(ignored)


def test_the_readme_s_example_runs(readme):
    (example,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    names = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102
    assert names["pictures"].shape == (16, 64, 64, 3) and 0 <= names["pictures"].min() and names["pictures"].max() <= 1


MOST_MODULES, MOST_LINES = 14, 300
SHIPPED = [path for part in ("density", "generators", "nodes") for path in sorted((ROOT / part).rglob("*.py"))]


def test_no_room_is_crowded_and_no_file_long():
    modules = [path for path in SHIPPED if path.name != "__init__.py"]
    for folder in {path.parent for path in modules}:
        assert sum(path.parent == folder for path in modules) <= MOST_MODULES, folder
    long = {path.name for path in [*modules, ROOT / "cli.py"] if path.read_text(encoding="utf-8").count("\n") > MOST_LINES}
    assert not long


def test_nobody_asks_which_kind_a_density_is_but_the_room_of_kinds():
    """What differs between them is an attribute or a method: a new kind needs no change elsewhere."""
    asks = re.compile(r"isinstance\([^)]*(Mixture|Neighbour)Density|density\.estimator (==|!=|in|not in) ")
    for path in SHIPPED:
        if path.parent.name != "estimators":
            assert not asks.search(path.read_text(encoding="utf-8")), path


def test_no_module_name_twice():
    names = [path.stem for path in SHIPPED if path.name != "__init__.py"]
    assert not {name for name in names if names.count(name) > 1}


def test_every_room_says_what_it_is_for():
    for path in SHIPPED:
        if path.name == "__init__.py":
            assert path.read_text(encoding="utf-8").startswith('"""'), path
