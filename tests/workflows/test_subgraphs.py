"""The converter of tests/support/graph.py: a subgraph in a subgraph, one definition twice, values and links through both."""

from graph import nodes_in, to_api

INFO = {
    "Number": {"input": {"required": {"value": ["INT", {"control_after_generate": True}]}}},
    "Sum": {"input": {"required": {"left": ["INT", {}], "right": ["INT", {}]}, "optional": {"more": ["LIST", {}]}}},
}
LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def node(number, kind, values, links, widgets=()):
    """A node whose inputs are {name: link}."""
    inputs = [{"name": name, "link": link} | ({"widget": {"name": name}} if name in widgets else {}) for name, link in links.items()]
    return {"id": number, "type": kind, "inputs": inputs, "widgets_values": values}


def links(*listed):
    return [dict(zip(LINK, (*link, "INT"), strict=True)) for link in listed]


def workflow():
    """Number 1 -> outer 2 and outer 3, each with an inner 5 that adds; what comes out of 3 is added to what passes through 2."""
    both = ("left", "right")
    inner = {"id": "inner", "nodes": [node(4, "Sum", [0, 0], {"left": 41, "right": 42}, both)],
             "links": links((41, -10, 0, 4, 0), (42, -10, 1, 4, 1), (43, 4, 0, -20, 0))}
    outer = {"id": "outer", "nodes": [node(5, "inner", [7, 8], {"left": 51, "right": 52}, both)],
             "links": links((51, -10, 0, 5, 0), (52, -10, 1, 5, 1), (53, 5, 0, -20, 0), (54, -10, 0, -20, 1))}
    return {
        "nodes": [node(1, "Number", [3, "fixed"], {"value": None}, ("value",)), node(2, "outer", [0, 10], {"left": 61, "right": None}, both),
                  node(3, "outer", [20, 30], {"left": None, "right": None}, both), node(6, "Sum", [0, 0], {"left": 62, "right": 63}, both)],
        "links": [[61, 1, 0, 2, 0, "INT"], [62, 2, 1, 6, 0, "INT"], [63, 3, 0, 6, 1, "INT"]],
        "definitions": {"subgraphs": [inner, outer]},
    }


def test_what_is_sent():
    assert to_api(workflow(), INFO) == {
        "1": {"class_type": "Number", "inputs": {"value": 3}},
        "2:5:4": {"class_type": "Sum", "inputs": {"left": ["1", 0], "right": 10}},
        "3:5:4": {"class_type": "Sum", "inputs": {"left": 20, "right": 30}},
        "6": {"class_type": "Sum", "inputs": {"left": ["1", 0], "right": ["3:5:4", 0]}},
    }


def test_all_nodes_are_found_and_those_that_stand_for_others_are_not():
    assert sorted(one["id"] for one in nodes_in(workflow())) == [1, 4, 6]
