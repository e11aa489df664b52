"""The shipped workflows fit the nodes: values by position, links between sockets that exist, tidy on the canvas."""

import inspect
import json
from collections import Counter
from pathlib import Path

import pytest
from graph import (
    INPUTS,
    NOTES,
    OUTPUTS,
    inputs_of,
    links_of,
    nodes_in,
    nodes_of,
    subgraphs_of,
    to_api,
    values_of,
    widget_names,
)
from node_schemas import object_info
from PIL import Image
from rarity.generators.demo import DRAWINGS, demo, subject_of
from rarity.nodes import NODES

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
OURS = object_info(NODES)
# The few core nodes the workflows use, as ComfyUI 0.3.64 describes them; tests/comfyui converts with the server's own.
CORE = {
    "SaveImage": {"input": {"required": {"images": ["IMAGE", {}], "filename_prefix": ["STRING", {}]}}, "output": []},
    "PreviewImage": {"input": {"required": {"images": ["IMAGE", {}]}}, "output": []},
    "PreviewAny": {"input": {"required": {"source": ["*", {}]}}, "output": []},
    "RebatchImages": {"input": {"required": {"images": ["IMAGE", {}], "batch_size": ["INT", {}]}}, "output": ["IMAGE"]},
    "CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [[], {}]}}, "output": ["MODEL", "CLIP", "VAE"]},
    "unCLIPCheckpointLoader": {"input": {"required": {"ckpt_name": [[], {}]}}, "output": ["MODEL", "CLIP", "VAE", "CLIP_VISION"]},
    "CLIPVisionLoader": {"input": {"required": {"clip_name": [[], {}]}}, "output": ["CLIP_VISION"]},
    "CLIPTextEncode": {"input": {"required": {"text": ["STRING", {}], "clip": ["CLIP", {}]}}, "output": ["CONDITIONING"]},
    "ConditioningZeroOut": {"input": {"required": {"conditioning": ["CONDITIONING", {}]}}, "output": ["CONDITIONING"]},
    "unCLIPConditioning": {"input": {"required": {
        "conditioning": ["CONDITIONING", {}], "clip_vision_output": ["CLIP_VISION_OUTPUT", {}], "strength": ["FLOAT", {}],
        "noise_augmentation": ["FLOAT", {}]}}, "output": ["CONDITIONING"]},
    "EmptyLatentImage": {"input": {"required": {"width": ["INT", {}], "height": ["INT", {}], "batch_size": ["INT", {}]}},
                         "output": ["LATENT"]},
    "StableCascade_EmptyLatentImage": {"input": {"required": {
        "width": ["INT", {}], "height": ["INT", {}], "compression": ["INT", {}], "batch_size": ["INT", {}]}},
        "output": ["LATENT", "LATENT"]},
    "StableCascade_StageB_Conditioning": {"input": {"required": {"conditioning": ["CONDITIONING", {}], "stage_c": ["LATENT", {}]}},
                                          "output": ["CONDITIONING"]},
    "KSampler": {"input": {"required": {
        "model": ["MODEL", {}], "seed": ["INT", {"control_after_generate": True}], "steps": ["INT", {}], "cfg": ["FLOAT", {}],
        "sampler_name": [[], {}], "scheduler": [[], {}], "positive": ["CONDITIONING", {}], "negative": ["CONDITIONING", {}],
        "latent_image": ["LATENT", {}], "denoise": ["FLOAT", {}]}}, "output": ["LATENT"]},
    "UNETLoader": {"input": {"required": {"unet_name": [[], {}], "weight_dtype": [[], {}]}}, "output": ["MODEL"]},
    "CLIPLoader": {"input": {"required": {"clip_name": [[], {}], "type": [[], {}]}, "optional": {"device": [[], {}]}}, "output": ["CLIP"]},
    "DualCLIPLoader": {"input": {"required": {"clip_name1": [[], {}], "clip_name2": [[], {}], "type": [[], {}]},
                                 "optional": {"device": [[], {}]}}, "output": ["CLIP"]},
    "VAELoader": {"input": {"required": {"vae_name": [[], {}]}}, "output": ["VAE"]},
    "FluxGuidance": {"input": {"required": {"conditioning": ["CONDITIONING", {}], "guidance": ["FLOAT", {}]}}, "output": ["CONDITIONING"]},
    "EmptySD3LatentImage": {"input": {"required": {"width": ["INT", {}], "height": ["INT", {}], "batch_size": ["INT", {}]}},
                            "output": ["LATENT"]},
    "VAEDecode": {"input": {"required": {"samples": ["LATENT", {}], "vae": ["VAE", {}]}}, "output": ["IMAGE"]},
}
# Of ComfyUI-Distributed 1.4.1, which cannot be installed here: as its source declares them.
DISTRIBUTED = {
    "DistributedValue": {"input": {"required": {"default_value": ["STRING", {}], "worker_values": ["STRING", {}]}}, "output": ["*"]},
    "DistributedCollector": {"input": {"required": {"images": ["IMAGE", {}], "load_balance": ["BOOLEAN", {}]},
                                       "optional": {"audio": ["AUDIO", {}]}}, "output": ["IMAGE", "AUDIO"]},
}
INFO = OURS | CORE | DISTRIBUTED

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_quickstart_is_the_first_by_name():
    assert WORKFLOWS[0].stem == "Rarity 01 Quickstart"
    assert [path.stem[:9] for path in WORKFLOWS] == [f"Rarity {number:02}" for number in range(1, len(WORKFLOWS) + 1)]


@each_workflow
def test_the_template_browser_has_a_square_picture_of_it(path):
    with Image.open(path.with_suffix(".jpg")) as picture:
        assert picture.size == (512, 512)


@each_workflow
def test_format(path):
    workflow = read(path)
    assert workflow["version"] == 0.4
    ids = [node["id"] for graph in graphs(workflow) for node in graph["nodes"]]
    links = [link[0] for graph in graphs(workflow) for link in links_of(graph)]
    assert len(set(ids)) == len(ids) and max(ids) == workflow["last_node_id"]
    assert len(set(links)) == len(links) and max(links) == workflow["last_link_id"]
    assert {node["type"] for node in nodes_in(workflow)} <= INFO.keys() | NOTES


@each_workflow
def test_nodes_say_where_they_come_from(path):
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for node in nodes_in(read(path)):
        if node["type"] in NOTES:
            continue
        properties = node["properties"]
        assert properties["Node name for S&R"] == node["type"]
        if node["type"] in OURS:
            assert f'\nname = "{properties["cnr_id"]}"\n' in project and f'\nversion = "{properties["ver"]}"\n' in project
        elif node["type"] in DISTRIBUTED:
            assert properties["aux_id"] == "robertvoy/ComfyUI-Distributed"
        else:
            assert properties["cnr_id"] == "comfy-core"


@each_workflow
def test_values_stand_where_the_schema_expects_them(path):
    for node in nodes_in(read(path)):
        if node["type"] in NOTES:
            continue
        info = INFO[node["type"]]
        options = {name: (socket, given) for name, socket, given in inputs_of(info)}
        values = dict(zip(widget_names(info), node["widgets_values"], strict=True))
        for name, value in values.items():
            if name is None:
                assert value in ("fixed", "increment", "decrement", "randomize")
                continue
            socket, given = options[name]
            socket = "COMBO" if isinstance(socket, list) else socket
            kinds = {"INT": int, "FLOAT": (int, float), "STRING": str, "COMBO": str, "BOOLEAN": bool}
            assert isinstance(value, kinds[socket]), f"{node['type']}.{name}: {value!r}"
            assert given.get("min", value) <= value <= given.get("max", value) if socket in ("INT", "FLOAT") else True
            elsewhere = ("checkpoint", "sampler_name")  # menus of this machine's files, and of ComfyUI's samplers
            named_here = socket == "COMBO" and node["type"] in OURS and name not in elsewhere
            assert value in given["options"] if named_here else True
        saved = [item["name"] for item in node["inputs"]]
        sockets = [name for name in options if name not in values]
        assert saved == sockets + [name for name in options if name in values], "as the frontend orders them"
        assert [output["type"] for output in node["outputs"]] == info["output"]


@each_workflow
def test_links(path):
    workflow = read(path)
    for graph in graphs(workflow):
        nodes, used = {node["id"]: node for node in graph["nodes"]}, Counter()
        for link, source, slot, target, place, kind in links_of(graph):
            output = graph["inputs"][slot] if source == INPUTS else nodes[source]["outputs"][slot]
            item = graph["outputs"][place] if target == OUTPUTS else nodes[target]["inputs"][place]
            assert link in output["linkIds" if source == INPUTS else "links"]
            assert item["linkIds"] == [link] if target == OUTPUTS else item["link"] == link
            assert output["type"] == kind and (set(kind.split(",")) & set(item["type"].split(",")) or "*" in (kind, item["type"]))
            used[target, place] += 1
        assert set(used.values()) <= {1}
        assert all(used[node["id"], place] or item["link"] is None for node in graph["nodes"] for place, item in enumerate(node["inputs"]))
    for key, node in to_api(workflow, INFO).items():
        missing = INFO[node["class_type"]]["input"]["required"].keys() - node["inputs"].keys()
        assert not missing, f"{node['class_type']} {key}: {missing} not connected"


def graphs(workflow):
    """The workflow and what is inside its subgraphs."""
    return workflow, *subgraphs_of(workflow).values()


def stands_for(node, graph):
    """Check that a node has the name, the inputs and the outputs of its subgraph."""
    assert node["type"] == graph["id"] and node["title"] == graph["name"] and graph["description"]
    for side in ("inputs", "outputs"):
        assert [(item["name"], item.get("label"), item["type"]) for item in node[side]] == \
            [(item["name"], item.get("label"), item["type"]) for item in graph[side]]
    assert len(values_of(node)) == len(node["widgets_values"])
    assert "proxyWidgets" not in node["properties"], "the page of 0.33.0 would forget values that are changed, once they are saved"


@each_workflow
def test_what_one_chooses_or_looks_at_is_not_inside_a_subgraph(path):
    """Files that may be missing, seeds (whose "control after generate" does not work there), prompts, pictures and reports."""
    workflow = read(path)
    for node in workflow["nodes"]:
        if node["type"] in subgraphs_of(workflow):
            stands_for(node, subgraphs_of(workflow)[node["type"]])
    for graph in subgraphs_of(workflow).values():
        for node in graph["nodes"]:
            assert node["type"] not in ("SaveImage", "PreviewAny", "CLIPTextEncode", "KSampler") and "Load" not in node["type"]
            values = dict(zip(widget_names(INFO[node["type"]]), node["widgets_values"], strict=True))
            for item in node["inputs"]:
                chosen = "seed" in item["name"] or item["name"] == "prompt" and values["prompt"]
                assert item["link"] is not None or not chosen, f"{graph['name']}: {node['type']}.{item['name']}"


def outer(node):
    """(left, top, right, bottom) of a node with its title bar, which stands 30 above its position."""
    (x, y), (width, height) = node["pos"], node["size"]
    if node["flags"].get("collapsed"):
        return x, y - 30, x + 225, y  # as wide as Nodes 2.0 draws it
    return x, y - 30, x + width, y + height


@each_workflow
def test_the_widgets_before_one_that_stands_outside_of_a_subgraph_stand_outside_too(path):
    """The page of 0.3.64 leaves out what is not linked when it saves, and takes a widget by its place when it opens."""
    for graph in subgraphs_of(read(path)).values():
        nodes = {node["id"]: node for node in graph["nodes"]}
        targets = {link: (nodes[target], place) for link, source, _, target, place, _ in links_of(graph) if source == INPUTS}
        for item in graph["inputs"]:
            node, place = targets[item["linkIds"][0]]  # the one that the page asks for the widget
            if "widget" in node["inputs"][place]:
                assert all(one["link"] is not None for one in node["inputs"][:place] if "widget" in one), f"{graph['name']}: {item['name']}"


def flat(graph):
    """(nodes, links, reroutes by id, for each link the last reroute) of a workflow, or of a subgraph with its frames as nodes."""
    if "inputNode" not in graph:
        extra = graph["extra"]
        return graph["nodes"], links_of(graph), {one["id"]: one for one in extra["reroutes"]}, {one["id"]: one["parentId"] for one in extra["linkExtensions"]}
    frames = [{"id": frame["id"], "type": "frame", "flags": {}, "pos": [frame["bounding"][0], frame["bounding"][1] + 6], "size": frame["bounding"][2:]}
              for frame in (graph["inputNode"], graph["outputNode"])]
    last = {link["id"]: link["parentId"] for link in graph["links"] if "parentId" in link}
    return [*graph["nodes"], *frames], links_of(graph), {one["id"]: one for one in graph["reroutes"]}, last


@each_workflow
def test_it_reads_from_left_to_right_and_nodes_stand_apart(path):
    workflow = read(path)
    for graph in graphs(workflow):
        listed, links, _, _ = flat(graph)
        nodes = {node["id"]: node for node in listed}
        for _, source, _, target, _, _ in links:
            assert nodes[source]["pos"][0] <= nodes[target]["pos"][0]
        boxes = [(node["type"], *outer(node)) for node in listed]
        for i, (one, left, top, right, bottom) in enumerate(boxes):
            for other, left2, top2, right2, bottom2 in boxes[:i]:
                apart = max(left2 - right, left - right2, top2 - bottom, top - bottom2)
                assert apart >= 60 - 1e-6, f"{one} and {other} stand {apart} apart"
    for node in workflow["nodes"]:
        left, top, right, bottom = outer(node)
        if node["type"] not in NOTES:
            assert any(x <= left and y <= top and right <= x + width and bottom <= y + height
                       for x, y, width, height in (group["bounding"] for group in workflow["groups"])), f"{node['type']} is in no group"


def way(nodes, link, reroutes, last):
    """The corners of a link: where it leaves, its reroutes, where it arrives."""
    number, source, slot, target, into, _ = link
    through = [last[number]] if number in last else []
    while through and reroutes[through[0]].get("parentId"):
        through.insert(0, reroutes[through[0]]["parentId"])

    def height(node, place):
        return node["pos"][1] + (-15 if node["flags"].get("collapsed") else 14 + 20 * place)

    start, end = nodes[source], nodes[target]
    corners = [(outer(start)[2], height(start, slot)), *(reroutes[place]["pos"] for place in through)]
    return [*corners, (end["pos"][0], height(end, into))]


@each_workflow
def test_no_link_runs_behind_a_node(path):
    for listed, links, reroutes, last in map(flat, graphs(read(path))):
        nodes = {node["id"]: node for node in listed}
        for link in links:
            corners = way(nodes, link, reroutes, last)
            for (x, y), (x2, y2) in zip(corners, corners[1:], strict=False):
                for node in listed:
                    if node["id"] in (link[1], link[3]):
                        continue
                    left, top, right, bottom = outer(node)
                    for share in (i / 64 for i in range(65)):
                        at = x + share * (x2 - x), y + share * (y2 - y)
                        behind = left + 20 < at[0] < right - 20 and top < at[1] < bottom
                        assert not behind, f"{link} runs behind {node['id']} at {at}"


@each_workflow
def test_fitted_into_the_window_its_text_is_drawn(path):
    """ComfyUI gives a template three quarters of the window, and draws no text below 8 / 14 of full size."""
    boxes = [outer(node) for node in read(path)["nodes"]]
    width = max(box[2] for box in boxes) - min(box[0] for box in boxes) + 20
    height = max(box[3] for box in boxes) - min(box[1] for box in boxes) + 20
    for window in ((1440, 900), (1536, 730), (1920, 1080)):
        assert min(0.75 * window[0] / width, 0.75 * window[1] / height) >= 8 / 14, f"{window}: {width} x {height}"
    assert read(path)["extra"]["ds"]["scale"] >= 8 / 14, "0.3.64 opens it as it was saved"


APPS = [path for path in WORKFLOWS if "linearData" in read(path)["extra"]]


def test_three_workflows_are_apps_and_the_quickstart_is_one():
    assert len(APPS) == 3 and "Rarity 01 Quickstart" in [path.stem for path in APPS]


@pytest.mark.parametrize("path", APPS, ids=lambda path: path.stem)
def test_an_app_shows_widgets_and_pictures_that_exist(path):
    workflow = read(path)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, name, *_ in workflow["extra"]["linearData"]["inputs"]:
        assert name in widget_names(INFO[nodes[number]["type"]])
    for number in workflow["extra"]["linearData"]["outputs"]:
        assert nodes[number]["type"] == "SaveImage"


@pytest.mark.parametrize("path", sorted((ROOT / "subgraphs").glob("*.json")), ids=lambda path: path.stem)
def test_a_blueprint_fits_the_nodes(path):
    blueprint = read(path)
    (outer,), (graph,) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
    stands_for(outer, graph)
    assert outer["title"] == path.stem
    from_outside = {(link["target_id"], link["target_slot"]) for link in graph["links"] if link["origin_id"] == -10}
    for key, node in to_api(blueprint, INFO).items():
        (inner,) = [one for one in graph["nodes"] if f"{outer['id']}:{one['id']}" == key]
        required = OURS[node["class_type"]]["input"]["required"].keys()
        open_ones = {item["name"] for place, item in enumerate(inner["inputs"]) if (inner["id"], place) in from_outside}
        assert required <= node["inputs"].keys() | open_ones
        assert node["inputs"].keys() <= {name for name, _, _ in inputs_of(OURS[node["class_type"]])}


def test_the_quickstart_is_the_demo():
    """The same numbers as `rarity demo`, so that the pictures are the same; tests/comfyui compares the pictures."""
    prompt = to_api(read(ROOT / "workflows" / "Rarity 01 Quickstart.json"), INFO)
    defaults = {name: parameter.default for name, parameter in inspect.signature(demo).parameters.items()}

    def inputs(class_type):
        return [prompt[key]["inputs"] for key in nodes_of(prompt, class_type)]

    (loader,), (sample,), (fit,), (contrast,), (optimize,), (dial,) = map(inputs, (
        "RarityLoadKandinsky", "RaritySamplePrior", "RarityFitDensity", "RarityContrastGuardrail", "RarityMakeRare", "RarityDial"))
    assert loader["model"] == defaults["folder"] and fit["components"] == 0
    assert sample["prompt"] == defaults["prompt"] and sample["count"] == defaults["baseline"]
    assert contrast["subject"] == subject_of(defaults["prompt"], defaults["folder"])
    assert contrast["alternatives"].splitlines() == list(DRAWINGS)
    assert (optimize["one_in"], dial["stop"]) == ([*nodes_of(prompt, "RarityDial"), 0], f"{defaults['one_in']:,}")
    assert (optimize["count"], optimize["start_from"]) == (defaults["count"], "rarer")
    decoders = inputs("RarityDecodeKandinsky")
    assert [item["seed"] for item in (sample, optimize, *decoders)] == [defaults["seed"]] * 4
    assert [(item["steps"], item["guidance"]) for item in decoders] == [(0, 0), (0, 0)]
    assert len(inputs("RarityContactSheet")) == len(inputs("RarityDensityMap")) == 1 and len(inputs("SaveImage")) == 2


def test_each_machine_s_part_of_many_machines_is_its_own_and_is_saved_before_it_is_collected():
    """ComfyUI-Distributed sends a worker only what the collector needs, so Save Rarity File must stand on the way to it."""
    prompt = to_api(read(ROOT / "workflows" / "Rarity 14 Many machines.json"), INFO)

    def upstream(key):
        links = [value[0] for value in prompt[key]["inputs"].values() if isinstance(value, list)]
        return {key}.union(*map(upstream, links))

    (collector,), (save,), (sample,) = (
        nodes_of(prompt, kind) for kind in ("DistributedCollector", "RaritySaveFile", "RaritySamplePrior"))
    assert save in upstream(collector)
    first, name = (prompt[prompt[key]["inputs"][item][0]]["inputs"] for key, item in ((sample, "first"), (save, "name")))
    firsts, names = ({"0": values["default_value"], **json.loads(values["worker_values"])} for values in (first, name))
    assert (firsts.pop("_type"), names.pop("_type")) == ("INT", "STRING") and firsts.keys() == names.keys()
    count = prompt[sample]["inputs"]["count"]
    assert [int(value) for value in firsts.values()] == [count * i for i in range(4)]
    assert [names[key] for key in firsts] == [f"usual/{value}" for value in firsts.values()]
