"""The schemas of all nodes as JSON, and the committed snapshot that only grows.

    python tests/support/node_schemas.py            print them, as ComfyUI's /object_info would
    python tests/support/node_schemas.py --append   add what is new to the snapshot; refuses anything else
    --comfyui FOLDER                                with the real comfy_api of a ComfyUI checkout, not the stand-in
"""

import argparse
import json
import sys
from pathlib import Path

SNAPSHOT = Path(__file__).parents[1] / "nodes" / "schemas.json"


def object_info(nodes):
    """Describe node classes the way ComfyUI's /object_info does, as plain JSON values."""
    infos = (node.GET_NODE_INFO_V1() for node in nodes)
    return json.loads(json.dumps({info["name"]: info | {"python_module": None} for info in infos}))


def promises(info):
    """Reduce a node's description to what saved workflows rely on."""
    inputs = []
    for kind in ("required", "optional"):
        for name in info["input_order"].get(kind, []):
            socket, options = info["input"][kind][name]
            kept = {key: options[key] for key in ("default", "min", "max", "options") if key in options}
            if options.get("control_after_generate"):
                kept["control_after_generate"] = True
            inputs.append({"id": name, "type": socket, "optional": kind == "optional"} | kept)
    return {"inputs": inputs, "outputs": info["output"], "output_node": info["output_node"]}


def broken_promises(old, new):
    """List what would break a saved workflow; empty if `new` only adds to `old`.

    Inputs and outputs may be added behind the others, and new inputs must be optional. A socket may become optional.
    Limits may widen, menus may grow.
    """
    problems = []
    for name, before in old.items():
        after = new.get(name)
        if after is None:
            problems.append(f"{name} is gone: keep it, marked deprecated")
            continue
        if after["outputs"][: len(before["outputs"])] != before["outputs"]:
            problems.append(f"{name}: outputs were {before['outputs']}, are {after['outputs']}")
        if after["output_node"] != before["output_node"]:
            problems.append(f"{name}: output_node was {before['output_node']}")
        for position, was in enumerate(before["inputs"]):
            now = after["inputs"][position] if position < len(after["inputs"]) else {"id": "nothing"}
            problems += [f"{name}.{was['id']}: {problem}" for problem in _broken_input(was, now)]
        added = after["inputs"][len(before["inputs"]):]
        problems += [f"{name}.{item['id']}: a new input must be optional" for item in added if not item["optional"]]
    return problems


def _broken_input(was, now):
    if now["id"] != was["id"]:
        return [f"{now['id']} stands in its place; inputs keep their order"]
    fixed = ("type", "default", "control_after_generate", *(["optional"] if was["optional"] or "default" in was else []))
    problems = [f"{key} was {was.get(key)}, is {now.get(key)}" for key in fixed if was.get(key) != now.get(key)]
    if "min" in was and not now.get("min", was["min"]) <= was["min"]:
        problems.append(f"min rose from {was['min']} to {now['min']}")
    if "max" in was and not now.get("max", was["max"]) >= was["max"]:
        problems.append(f"max fell from {was['max']} to {now['max']}")
    lost = [option for option in was.get("options", []) if option not in now.get("options", [])]
    return problems + [f"the choice {option!r} is gone" for option in lost]


def load_nodes(comfyui=None):
    """Import the pack's nodes on the real ComfyUI of a checkout, or on the stand-in."""
    if comfyui is None:
        from standin import STANDIN

        sys.path.insert(0, str(STANDIN))
    else:
        sys.path.insert(0, str(comfyui))
        sys.argv[1:] = ["--cpu"]  # for ComfyUI's own argument parser
        import comfy.options

        comfy.options.enable_args_parsing()
    from rarity.nodes import NODES

    return NODES


def main():
    parser = argparse.ArgumentParser(description="Schemas of all nodes.")
    parser.add_argument("--comfyui", type=Path)
    parser.add_argument("--append", action="store_true")
    arguments = parser.parse_args()
    infos = object_info(load_nodes(arguments.comfyui))
    if not arguments.append:
        return json.dump(infos, sys.stdout, indent=1)
    new = {name: promises(info) for name, info in infos.items()}
    old = json.loads(SNAPSHOT.read_text()) if SNAPSHOT.exists() else {}
    problems = broken_promises(old, new)
    if problems:
        sys.exit("Saved workflows would break:\n" + "\n".join(problems))
    SNAPSHOT.write_text(json.dumps(new, indent=1) + "\n")


if __name__ == "__main__":
    main()
