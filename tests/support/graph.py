"""Read a workflow as the frontend saves it (UI format 0.4) and turn it into what the server runs (API format)."""

import copy

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NOTES = {"Note", "MarkdownNote"}  # nodes that only the frontend knows
INPUTS, OUTPUTS = -10, -20  # the ids by which links inside a subgraph name its own inputs and outputs
LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")  # of a link inside a subgraph


def widget_names(info):
    """The widget names in the order of `widgets_values`; None is the extra slot of "control after generate"."""
    names = []
    for name, socket, options in inputs_of(info):
        if (isinstance(socket, list) or socket in WIDGETS) and not options.get("forceInput"):
            names.append(name)
            if options.get("control_after_generate") or (socket == "INT" and name in ("seed", "noise_seed")):
                names.append(None)
    return names


def inputs_of(info):
    """(name, socket, options) of every input, required ones first, as the frontend orders them."""
    for kind in ("required", "optional"):
        for name, spec in info["input"].get(kind, {}).items():
            yield name, spec[0], spec[1] if len(spec) > 1 else {}


def subgraphs_of(workflow):
    """The subgraphs that a workflow defines, by the id that is the type of their nodes."""
    return {graph["id"]: graph for graph in workflow.get("definitions", {}).get("subgraphs", [])}


def nodes_in(workflow):
    """All nodes of a workflow, with those inside its subgraphs; the nodes that stand for a subgraph are left out."""
    subgraphs = subgraphs_of(workflow)
    for graph in (workflow, *subgraphs.values()):
        yield from (node for node in graph["nodes"] if node["type"] not in subgraphs)


def links_of(graph):
    """(id, origin, slot, target, slot, type) of every link, of a workflow or of a subgraph."""
    return [tuple(link) if isinstance(link, list) else tuple(link[key] for key in LINK) for link in graph["links"]]


class Level:
    """The whole graph of a workflow, or what is inside one node that stands for a subgraph.

    Parameters
    ----------
    graph : the workflow, or the definition of the subgraph.
    subgraphs : from `subgraphs_of`.
    node : the node that stands for it; None for the whole.
    outside : the level on which that node stands.
    """

    def __init__(self, graph, subgraphs, node=None, outside=None):
        self.node, self.outside = node, outside
        self.path = f"{outside.path}{node['id']}:" if node else ""
        self.origins = {link: (origin, slot) for link, origin, slot, *_ in links_of(graph)}
        self.outputs = {slot: link for link, _, _, target, slot, _ in links_of(graph) if target == OUTPUTS}
        self.nodes = [one for one in graph["nodes"] if one["type"] not in subgraphs]
        self.inside = {one["id"]: Level(subgraphs[one["type"]], subgraphs, one, self) for one in graph["nodes"] if one["type"] in subgraphs}

    def levels(self):
        """This one and all inside."""
        yield self
        for level in self.inside.values():
            yield from level.levels()

    def given(self, link):
        """What a link brings, as the frontend sends it: [node, slot], a value of a widget outside, or None."""
        if link is None:
            return None
        origin, slot = self.origins[link]
        if origin == INPUTS:
            item = self.node["inputs"][slot]
            brought = self.outside.given(item["link"])
            return values_of(self.node).get(item["name"]) if brought is None else brought
        level = self.inside.get(origin)
        return level.given(level.outputs[slot]) if level else [f"{self.path}{origin}", slot]


def values_of(node):
    """The values on a node that stands for a subgraph, by the names of its inputs."""
    return dict(zip((item["name"] for item in node["inputs"] if "widget" in item), node["widgets_values"], strict=True))


def to_api(workflow, object_info):
    """Convert a workflow to the API format with the server's own node descriptions; nodes in subgraphs are named OUTER:INNER."""
    prompt = {}
    for level in Level(workflow, subgraphs_of(workflow)).levels():
        for node in level.nodes:
            if node["type"] in NOTES:
                continue
            names = widget_names(object_info[node["type"]])
            inputs = {name: value for name, value in zip(names, node["widgets_values"], strict=True) if name}
            brought = {item["name"]: level.given(item["link"]) for item in node["inputs"]}
            inputs |= {name: value for name, value in brought.items() if value is not None}
            prompt[f"{level.path}{node['id']}"] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def nodes_of(prompt, class_type):
    """The ids of a prompt's nodes of one class."""
    return [key for key, node in prompt.items() if node["class_type"] == class_type]


def next_run(workflow, object_info):
    """The workflow after one press of Run: the frontend increments every number that is set to count up."""
    after = copy.deepcopy(workflow)
    for node in after["nodes"]:
        names = widget_names(object_info[node["type"]]) if node["type"] in object_info else []
        for place, name in enumerate(names):
            if name is None and node["widgets_values"][place] == "increment":
                node["widgets_values"][place - 1] += 1
    return after
