"""What every node owes its users: texts everywhere, a help page, thin code, and a schema that only grows."""

import ast
import inspect
import json
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
        assert f"| `{item.id}` |" in inputs, item.id
        label = LABELS.get(schema.node_id, {}).get("inputs", {}).get(item.id, {}).get("name")
        assert label is None or f"shown as *{label}*" in inputs, f"{item.id} is shown as {label}"
    assert inputs.count("| `") == len(schema.inputs)
    for output in schema.outputs:
        assert f"| `{output.display_name}` |" in outputs, output.display_name
    assert outputs.split("\n## ")[0].count("| `") == len(schema.outputs)


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


def test_schemas_only_grow():
    now = {name: promises(info) for name, info in object_info(NODES).items()}
    then = json.loads(SNAPSHOT.read_text())
    assert not broken_promises(then, now)
    # what lies on this machine
    menus = {("RarityLoadKandinsky", "model"), ("RarityLoadDensity", "name"), ("RarityLoadEmbeddings", "name"), ("RarityLoadConcept", "name"),
             ("RarityLoadOpenCLIP", "architecture"), ("RarityLoadOpenCLIP", "checkpoint"),
             ("RarityBaselineFromModel", "sampler_name"), ("RarityBaselineFromModel", "scheduler"),
             ("RarityOptimizeConditioning", "sampler_name"), ("RarityOptimizeConditioning", "scheduler"),
             ("RarityOptimizeToken", "sampler_name"), ("RarityOptimizeToken", "scheduler"), ("RarityValidityGate", "judge"),
             ("RarityVarySeeds", "sampler_name"), ("RarityVarySeeds", "scheduler")}
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
