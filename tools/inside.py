"""Place the nodes inside the subgraphs of a workflow: in columns, from the subgraph's inputs on the left to its outputs on the right."""

from graph import INPUTS, OUTPUTS, links_of
from wires import lead_around

TITLE, WIDTH, GAP = 30, 260, 60
BESIDE = 70  # of the frames of the inputs and outputs, whose widths only the page knows
FRAME, SLOT, MARGIN = 160, 20, 10  # width of such a frame; height of a line in it, and what is left free around the lines
START = FRAME + BESIDE  # of the nodes: the frame of the inputs stands at 0, for 0.3.64 opens a subgraph with the view outside it
FIRST = 14  # from a node's position to its first socket, as wires.py counts


def place_inside(graph, needs, number):
    """Write places, sizes and reroutes into a definition of a subgraph.

    Parameters
    ----------
    graph : the definition.
    needs : for each id the least height of the node's body, and of its whole box in Nodes 2.0.
    number : the last reroute so far, for reroutes are numbered through the whole workflow.

    Returns
    -------
    int : the last reroute after that.
    """
    columns = _columns(graph)
    height = max(_stack(column, START + place * (WIDTH + GAP), needs) for place, column in enumerate(columns))
    right = START + len(columns) * (WIDTH + GAP) - GAP
    ends = [_frame(graph, INPUTS, 0, height), _frame(graph, OUTPUTS, right + BESIDE, height)]
    ways = [(node["pos"][0], WIDTH, [one["id"] for one in column], height) for column in columns for node in column[:1]]
    ways = [(ends[0]["pos"][0], FRAME, [INPUTS], height), *ways, (ends[1]["pos"][0], FRAME, [OUTPUTS], height)]
    flat = {"nodes": [*graph["nodes"], *ends], "links": links_of(graph), "extra": {}}
    lead_around(flat, ways)
    graph["reroutes"] = flat["extra"]["reroutes"]
    for reroute in graph["reroutes"]:
        reroute |= {key: reroute[key] + number for key in ("id", "parentId") if key in reroute}
    parents = {extension["id"]: {"parentId": extension["parentId"] + number} for extension in flat["extra"]["linkExtensions"]}
    graph["links"] = [{key: value for key, value in link.items() if key != "parentId"} | parents.get(link["id"], {}) for link in graph["links"]]
    graph["state"]["lastRerouteId"] = number + len(graph["reroutes"])
    return graph["state"]["lastRerouteId"]


def _columns(graph):
    """The nodes by how many others stand before them on their longest way from the inputs."""
    before = {node["id"]: [origin for _, origin, _, target, *_ in links_of(graph) if target == node["id"] and origin != INPUTS] for node in graph["nodes"]}

    def depth(number):
        return max((depth(other) + 1 for other in before[number]), default=0)

    columns = [[] for _ in graph["nodes"]]
    for node in graph["nodes"]:
        columns[depth(node["id"])].append(node)
    return [column for column in columns if column]


def _stack(column, x, needs):
    """Put nodes one below the other; returns where they end."""
    y = -GAP
    for node in column:
        body, box = needs[node["id"]]
        y += GAP
        node["pos"], node["size"], node["flags"] = [x, y + TITLE], [WIDTH, body], {}
        y += max(body + TITLE, box)
    return y


def _frame(graph, end, x, height):
    """Place the frame of the inputs or of the outputs in the middle of the height; returns it as a node whose sockets are there."""
    kind, side = ("input", FRAME - MARGIN) if end == INPUTS else ("output", MARGIN)
    slots = graph[f"{kind}s"]
    tall = (len(slots) + 1) * SLOT + 2 * MARGIN  # the last line is free, for another
    top = max((height - tall) // 2, 0)
    graph[f"{kind}Node"]["bounding"] = [x, top, FRAME, tall]
    for place, slot in enumerate(slots):
        slot["pos"] = [x + side, top + MARGIN + SLOT // 2 + SLOT * place]
    return {"id": end, "pos": [x, top + MARGIN + SLOT // 2 - FIRST], "flags": {}}
