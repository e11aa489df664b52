"""Read a workflow as the frontend saves it (UI format 0.4) and turn it into what the server runs (API format)."""

import copy

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NOTES = {"Note", "MarkdownNote"}  # nodes that only the frontend knows


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


def flattened(workflow, object_info):
    """The workflow with subgraphs replaced by their nodes, named OUTER:INNER, as the frontend sends them."""
    definitions = {graph["id"]: graph for graph in workflow.get("definitions", {}).get("subgraphs", [])}
    nodes, links = [], [list(link) for link in workflow["links"]]
    for outer in workflow["nodes"]:
        if outer["type"] not in definitions:
            nodes.append(outer)
            continue
        graph = copy.deepcopy(definitions[outer["type"]])
        values = iter(outer["widgets_values"])
        given = [next(values) if "widget" in item else None for item in outer["inputs"]]
        inner = {node["id"]: node | {"id": f"{outer['id']}:{node['id']}"} for node in graph["nodes"]}
        for link in graph["links"]:
            source, target = inner.get(link["origin_id"]), inner.get(link["target_id"])
            if source and target:
                name = f"{outer['id']}:{link['id']}"
                links.append([name, source["id"], link["origin_slot"], target["id"], link["target_slot"], link["type"]])
                target["inputs"][link["target_slot"]]["link"] = name
            elif source:  # to an output of the subgraph
                for outside in links:
                    if outside[1:3] == [outer["id"], link["target_slot"]]:
                        outside[1:3] = source["id"], link["origin_slot"]
            else:  # from an input of the subgraph: a link, a widget's value, or nothing
                item = target["inputs"][link["target_slot"]]
                item["link"] = outer["inputs"][link["origin_slot"]]["link"]
                if item["link"] is None and "widget" in item:
                    place = widget_names(object_info[target["type"]]).index(item["name"])
                    target["widgets_values"][place] = given[link["origin_slot"]]
        nodes += inner.values()
    return workflow | {"nodes": nodes, "links": links}


def to_api(workflow, object_info):
    """Convert a workflow to the API format with the server's own node descriptions."""
    workflow = flattened(workflow, object_info)
    origin = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        names = widget_names(object_info[node["type"]])
        inputs = {name: value for name, value in zip(names, node["widgets_values"], strict=True) if name}
        inputs |= {item["name"]: origin[item["link"]] for item in node["inputs"] if item["link"] is not None}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def nodes_of(prompt, class_type):
    """The ids of a prompt's nodes of one class."""
    return [key for key, node in prompt.items() if node["class_type"] == class_type]


def next_run(workflow, object_info):
    """The workflow after one press of Run: the frontend increments every number that is set to count up."""
    after = copy.deepcopy(workflow)
    for node in after["nodes"]:
        names = widget_names(object_info[node["type"]]) if node["type"] not in NOTES else []
        for place, name in enumerate(names):
            if name is None and node["widgets_values"][place] == "increment":
                node["widgets_values"][place - 1] += 1
    return after
