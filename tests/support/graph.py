"""Read a workflow as the frontend saves it (UI format 0.4) and turn it into what the server runs (API format)."""

import copy

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NOTES = {"Note", "MarkdownNote"}  # live in the frontend only


def widget_names(info):
    """The names behind the positions of `widgets_values`; None is the extra slot of "control after generate"."""
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


def to_api(workflow, object_info):
    """Convert a workflow to the API format with the server's own node descriptions."""
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
    """The workflow after one press of Run: the frontend moves on every number that is to count up."""
    after = copy.deepcopy(workflow)
    for node in after["nodes"]:
        names = widget_names(object_info[node["type"]]) if node["type"] not in NOTES else []
        for place, name in enumerate(names):
            if name is None and node["widgets_values"][place] == "increment":
                node["widgets_values"][place - 1] += 1
    return after
