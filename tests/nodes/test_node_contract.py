"""What every node owes its users: texts everywhere, a help page, thin code, and a schema that only grows."""

import ast
import inspect
import itertools
import json
import re
import textwrap
from pathlib import Path

import pytest
from node_schemas import SNAPSHOT, broken_promises, object_info, promises
from rarity.nodes import NODES

ROOT = Path(__file__).parents[2]
LABELS = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))

each_node = pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)


def schema_of(node):
    return node.GET_SCHEMA()


@each_node
def test_every_text_is_there(node):
    schema = schema_of(node)
    assert schema.node_id == node.__name__ and schema.node_id.startswith("Rarity")
    assert schema.category.startswith("Rarity/")
    for text in (schema.display_name, schema.description):
        assert text and text.strip() == text
    for item in [*schema.inputs, *schema.outputs]:
        assert item.tooltip and item.tooltip.strip() == item.tooltip and item.tooltip[-1] in ".?", item.id
    for output in schema.outputs:
        assert output.display_name


@each_node
def test_the_help_page_names_every_input_and_output(node):
    schema = schema_of(node)
    page = (ROOT / "web" / "docs" / f"{schema.node_id}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {schema.display_name}\n")
    before, inputs, outputs, example = _split(page, "## Inputs", "## Outputs", "## Example")
    assert before.strip().count("\n") >= 2 and example.strip()
    for item in schema.inputs:
        assert re.search(f"^\\* `{item.id}`[,:]", inputs, re.MULTILINE), item.id
        label = LABELS.get(schema.node_id, {}).get("inputs", {}).get(item.id, {}).get("name")
        assert label is None or f"shown as *{label}*" in inputs, f"{item.id} is shown as {label}"
    assert inputs.count("\n* `") == len(schema.inputs)
    hidden = re.search(r"^Hidden until .*: (.*)\.$", inputs, re.MULTILINE)
    advanced = [item.id for item in schema.inputs if item.extra_dict.get("advanced")]
    assert (re.findall(r"`(\w+)`", hidden[1]) if hidden else []) == advanced
    assert not re.search(r"^\|", page, re.MULTILINE), "ComfyUI shows the page beside the graph, where a table is cut on the right"
    for output in schema.outputs:
        assert f"\n* `{output.display_name}`:" in outputs, output.display_name
    assert outputs.split("\n## ")[0].count("\n* `") == len(schema.outputs)


def _split(text, *marks):
    parts = []
    for mark in marks:
        head, found, text = text.partition(f"\n{mark}\n")
        assert found, f"no section {mark}"
        parts.append(head)
    return [*parts, text]


@each_node
def test_inputs_are_the_parameters_of_execute(node):
    parameters = inspect.signature(node.execute).parameters
    inputs = schema_of(node).inputs
    assert list(parameters) == [item.id for item in inputs]
    for item in inputs:
        assert (parameters[item.id].default is not inspect.Parameter.empty) == bool(item.optional), item.id


@each_node
def test_a_widget_left_out_of_a_script_s_graph_has_the_value_it_shows(node):
    """ComfyUI passes on what a graph holds: for an optional widget that is missing, `execute` decides."""
    parameters = inspect.signature(node.execute).parameters
    for item in schema_of(node).inputs:
        if item.optional and getattr(item, "default", None) is not None:
            assert parameters[item.id].default == item.default, item.id


@each_node
def test_no_more_shows_than_one_person_decides(node):
    """The others are advanced; sockets that have no widget do not count."""
    widgets = [item for item in schema_of(node).inputs if hasattr(item, "default")]
    assert len([item for item in widgets if not item.extra_dict.get("advanced")]) <= 8


@each_node
def test_required_inputs_come_first(node):
    """The frontend lists optional widgets last; saved values are positional."""
    optional = [bool(item.optional) for item in schema_of(node).inputs]
    assert optional == sorted(optional)


@each_node
def test_execute_is_thin(node):
    function = ast.parse(textwrap.dedent(inspect.getsource(node.execute))).body[0]
    assert function.body[-1].end_lineno - function.body[0].lineno + 1 <= 15
    arithmetic = (ast.BinOp, ast.AugAssign, ast.For, ast.While, ast.comprehension)
    found = [ast.unparse(part) for part in ast.walk(function) if isinstance(part, arithmetic)]
    assert not found, f"belongs into the library: {found}"


def test_ids_and_display_names_are_unique():
    for values in ([node.define_schema().node_id for node in NODES], [node.define_schema().display_name for node in NODES]):
        assert len(set(values)) == len(values)


def test_no_help_page_or_label_without_its_node():
    by_id = {node.define_schema().node_id: node.define_schema() for node in NODES}
    assert {page.stem for page in (ROOT / "web" / "docs").glob("*.md")} == set(by_id)
    for node_id, texts in LABELS.items():
        assert set(texts) == {"inputs"}, "everything else the schema says itself"
        assert set(texts["inputs"]) <= {item.id for item in by_id[node_id].inputs}
        for name in (text["name"] for text in texts["inputs"].values()):
            assert not set(name) & set("@{}|$"), "these characters mean something to the frontend's translator"


@pytest.mark.parametrize("language", sorted(path.parent.name for path in (ROOT / "locales").glob("*/nodeDefs.json") if path.parent.name != "en"))
def test_a_language_has_every_text_of_every_node(language):
    """What a language lacks ComfyUI shows in English; half a translation reads worse than none."""
    texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    expected, found = set(), set()
    for node in NODES:
        schema = node.define_schema()
        expected |= {(schema.node_id, "display_name"), (schema.node_id, "description")}
        expected |= {(schema.node_id, "inputs", item.id, key) for item in schema.inputs for key in ("name", "tooltip")}
        expected |= {(schema.node_id, "outputs", str(i), key) for i in range(len(schema.outputs)) for key in ("name", "tooltip")}
    for node_id, entry in texts.items():
        found |= {(node_id, key) for key in entry if isinstance(entry[key], str)}
        found |= {(node_id, part, item, key) for part in ("inputs", "outputs") for item, said in entry.get(part, {}).items() for key in said}
    assert found == expected, f"missing: {sorted(expected - found)}, too many: {sorted(found - expected)}"
    written = json.dumps([list(_strings(entry)) for entry in texts.values()], ensure_ascii=False)
    assert not set(written) & set("@{}|$"), "these characters mean something to the frontend's translator"
    assert all(text.strip() == text and text for entry in texts.values() for text in _strings(entry))


def _strings(entry):
    return itertools.chain.from_iterable([part] if isinstance(part, str) else _strings(part) for part in entry.values())


def test_the_pictures_of_help_pages_are_there_small_and_described():
    """ComfyUI serves them beside the pages; what no page nor the README shows need not ship."""
    pages = [path.read_text(encoding="utf-8") for path in [*(ROOT / "web" / "docs").glob("*.md"), ROOT / "README.md"]]
    shown = {name.removeprefix("web/docs/"): words for page in pages for words, name in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page)}
    files = {path.name: path.stat().st_size for path in (ROOT / "web" / "docs").glob("*.jpg")}
    files |= {f"docs/{path.name}": path.stat().st_size for path in (ROOT / "docs").glob("*.webp")}  # of the readme alone
    assert set(shown) == set(files) and all(len(words) > 20 for words in shown.values())
    assert max(files.values()) < 120_000 and sum(files.values()) < 800_000


def test_schemas_only_grow():
    now = {name: promises(info) for name, info in object_info(NODES).items()}
    then = json.loads(SNAPSHOT.read_text())
    assert not broken_promises(then, now)
    # what lies on this machine
    menus = {("RarityLoadKandinsky", "model"), ("RarityLoadDensity", "name"), ("RarityLoadEmbeddings", "name"), ("RarityLoadConcept", "name"),
             ("RarityLoadOpenCLIP", "architecture"), ("RarityLoadOpenCLIP", "checkpoint"),
             ("RarityBaselineFromModel", "sampler_name"), ("RarityBaselineFromModel", "scheduler"),
             ("RarityMakeRareConditioning", "sampler_name"), ("RarityMakeRareConditioning", "scheduler"),
             ("RarityMakeRareWord", "sampler_name"), ("RarityMakeRareWord", "scheduler"), ("RarityLoadJudge", "model"), ("RarityLoadPictures", "folder"),
             ("RaritySeedVariety", "sampler_name"), ("RaritySeedVariety", "scheduler")}
    assert _without(now, menus) == _without(then, menus), "run: python tests/support/node_schemas.py --append"


def _without(schemas, menus):
    copy = json.loads(json.dumps(schemas))
    for node, name in menus:
        for item in copy[node]["inputs"]:
            if item["id"] == name:
                item.pop("options")
    return copy


def _node(**changes):
    inputs = [{"id": "count", "type": "INT", "optional": False, "default": 16, "min": 1, "max": 10},
              {"id": "kind", "type": "COMBO", "optional": False, "options": ["a", "b"]}]
    return {"N": {"inputs": inputs, "outputs": ["IMAGE"], "output_node": False} | changes}


@pytest.mark.parametrize("change, broken", [
    ({}, False),
    ({"outputs": ["IMAGE", "STRING"]}, False),
    ({"outputs": ["STRING", "IMAGE"]}, True),
    ({"output_node": True}, True),
    ({"inputs": _node()["N"]["inputs"] + [{"id": "x", "type": "INT", "optional": True}]}, False),
    ({"inputs": _node()["N"]["inputs"] + [{"id": "x", "type": "INT", "optional": False}]}, True),
    ({"inputs": _node()["N"]["inputs"][::-1]}, True),
    ({"inputs": _node()["N"]["inputs"][:1]}, True),
    ({"inputs": [_node()["N"]["inputs"][0], _node()["N"]["inputs"][1] | {"optional": True}]}, False),
    ({"inputs": [_node()["N"]["inputs"][0] | {"optional": True}, _node()["N"]["inputs"][1]]}, True),
    ({"inputs": [_node()["N"]["inputs"][0] | {"default": 8}, _node()["N"]["inputs"][1]]}, True),
    ({"inputs": [_node()["N"]["inputs"][0] | {"max": 20}, _node()["N"]["inputs"][1]]}, False),
    ({"inputs": [_node()["N"]["inputs"][0] | {"max": 5}, _node()["N"]["inputs"][1]]}, True),
    ({"inputs": [_node()["N"]["inputs"][0], _node()["N"]["inputs"][1] | {"options": ["a", "b", "c"]}]}, False),
    ({"inputs": [_node()["N"]["inputs"][0], _node()["N"]["inputs"][1] | {"options": ["a"]}]}, True),
])
def test_the_snapshot_notices_what_would_break_a_workflow(change, broken):
    assert bool(broken_promises(_node(), _node(**change))) == broken


def test_the_snapshot_notices_a_removed_node():
    assert broken_promises(_node(), {})


def test_the_page_has_one_colour_for_each_type_of_ours():
    outputs = ",".join(kind for node in json.loads(SNAPSHOT.read_text()).values() for kind in node["outputs"])
    ours = {kind for kind in outputs.split(",") if kind.startswith("RARITY_")}
    colours = dict(re.findall(r'^  (\w+): "(#\w{6})"', (ROOT / "web" / "wire_colours.js").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(colours) == ours and len(set(colours.values())) == len(colours)
