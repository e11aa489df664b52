"""Lead the links of a workflow around its nodes, with the editor's own reroutes, so that none runs behind a node.

A link passes a column of nodes through the gap above one of them, or below the last.
"""

TITLE, FOLDED_WIDTH, BESIDE, ABOVE, STEP = 30, 225, 16, 8, 4


def lead_around(workflow, columns):
    """Write `extra.reroutes` and `extra.linkExtensions`. `columns`: (left, width, ids from top to bottom, bottom) of each."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    column_of = {number: place for place, (_, _, ids, _) in enumerate(columns) for number in ids}
    reroutes, extensions, taken = {}, [], {}
    for link, source, slot, target, into, _ in sorted(workflow["links"], key=lambda link: abs(column_of[link[1]] - column_of[link[3]])):
        start, end = height(nodes[source], slot), height(nodes[target], into)
        if column_of[source] == column_of[target]:
            points = around(columns, column_of[source], nodes[source], nodes[target], (source, slot), taken)
        else:
            points = path(columns, nodes, column_of[source], column_of[target], start, end, (source, slot), taken)
        parent, key = None, (source, slot)
        for point in points:
            key = (*key, point)
            if key not in reroutes:
                reroutes[key] = {"id": len(reroutes) + 1, "pos": list(point), "linkIds": []}
                reroutes[key] |= {"parentId": parent} if parent else {}
            reroutes[key]["linkIds"].append(link)
            parent = reroutes[key]["id"]
        extensions += [{"id": link, "parentId": parent}] if parent else []
    workflow["extra"] |= {"reroutes": list(reroutes.values()), "linkExtensions": extensions}


def height(node, slot):
    """Where a link leaves or reaches a node."""
    return node["pos"][1] + (-TITLE // 2 if node["flags"].get("collapsed") else 14 + 20 * slot)


def around(columns, place, source, target, wire, taken):
    """The points of a link within one column: out on the right, back to the left through the gap above its end."""
    left, width, ids, _ = columns[place]
    y = _free(place, target["pos"][1] - TITLE - ABOVE, wire, taken, -1)
    back = (left - BESIDE, y)
    if not source["flags"].get("collapsed"):
        return [(left + width + BESIDE, y), back]
    if ids.index(target["id"]) == ids.index(source["id"]) + 1:
        return [(left + FOLDED_WIDTH + BESIDE, y), back]
    return [(left + width + BESIDE, height(source, 0)), (left + width + BESIDE, y), back]


def path(columns, nodes, first, last, y, end, wire, taken):
    """The points of a link from height `y` in the column `first` to height `end` in the column `last`, past those between."""
    left, width, _, _ = columns[first]
    folded = nodes[wire[0]]["flags"].get("collapsed") and width > FOLDED_WIDTH
    points = [(left + width + BESIDE, y)] if folded else []
    for place in range(first + 1, last):
        left, width, ids, bottom = columns[place]
        gaps = [(nodes[number]["pos"][1] - TITLE - ABOVE, -1) for number in ids] + [(bottom + ABOVE, 1)]
        gap, side = min(gaps, key=lambda gap: (abs(gap[0] - y) + abs(gap[0] - end), abs(gap[0] - y)))
        y = _free(place, gap, wire, taken, side)
        points += [(left - BESIDE, y), (left + width + BESIDE, y)]
    return points


def _free(column, gap, wire, taken, side):
    """A height in a gap for one output's links: beside those of other outputs that pass there."""
    wires = taken.setdefault((column, gap), [])
    if wire not in wires:
        wires.append(wire)
    return gap + side * STEP * wires.index(wire)
