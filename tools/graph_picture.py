"""A picture of a workflow's graph, for those whose models are too large to run here: it shows what is in it and claims nothing."""

import re
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"  # it has the arrows of the notes
SOURCES = (Path(__file__).resolve().parents[1] / "nodes").glob("*.py")
NAMES = dict(re.findall(r'node_id="(\w+)",\s+display_name="([^"]+)"', "".join(map(Path.read_text, SOURCES))))
WIDTH, HEIGHT = 1200, 686  # what the other previews measure
BACK, NODE, TITLE, NOTE, LINE, TEXT = "#f6f5f1", "#ffffff", "#dcdedf", "#efe3bf", "#9aa3aa", "#23282c"
OURS = "#f2d3ba"  # this pack's nodes


def draw_graph(workflow):
    """Draw a workflow in UI format: its groups, nodes with their titles and chosen models, and links.

    Parameters
    ----------
    workflow : the JSON as saved by ComfyUI.

    Returns
    -------
    A PIL picture, 1200 x 686.
    """
    nodes = {node["id"]: node for node in workflow["nodes"]}
    boxes = [(*node["pos"], *node["size"]) for node in nodes.values()]
    left, top = min(box[0] for box in boxes) - 30, min(box[1] for box in boxes) - 60
    right, bottom = max(box[0] + box[2] for box in boxes) + 30, max(box[1] + box[3] for box in boxes) + 30
    scale = min(WIDTH / (right - left), HEIGHT / (bottom - top))
    shift = ((WIDTH - scale * (right - left)) / 2, (HEIGHT - scale * (bottom - top)) / 2)

    def place(x, y):
        return (x - left) * scale + shift[0], (y - top) * scale + shift[1]

    picture = Image.new("RGB", (WIDTH, HEIGHT), BACK)
    draw = ImageDraw.Draw(picture)
    for group in workflow["groups"]:
        x, y, width, height = group["bounding"]
        draw.rounded_rectangle((*place(x, y), *place(x + width, y + height)), 6, fill="#e8ebec")
        draw.text(place(x + 12, y + 2), group["title"], fill=group["color"], font=_font(27 * scale))
    for _, source, slot, target, into, _ in workflow["links"]:
        draw.line(_curve(place(*_out(nodes[source], slot)), place(*_in(nodes[target], into))), fill=LINE, width=2)
    for node in nodes.values():
        _draw_node(draw, place, scale, node)
    return picture


def _draw_node(draw, place, scale, node):
    (x, y), (width, height), note = node["pos"], node["size"], node["type"] == "MarkdownNote"
    ours = node["type"].startswith("Rarity")
    box = (*place(x, y - 30), *place(x + width, y + height))
    draw.rounded_rectangle(box, 4, fill=NOTE if note else NODE, outline=LINE)
    draw.rounded_rectangle((*box[:2], *place(x + width, y)), 4, fill=NOTE if note else OURS if ours else TITLE, outline=LINE)
    title = node.get("title") or _words(node["type"])
    _fit(draw, place(x + 10, y - 28), title, 21 * scale, (width - 16) * scale)
    if note:
        lines = [line.strip("# *").replace("**", "").replace("*", "") for line in node["widgets_values"][0].split("\n") if line]
        for number, line in enumerate(lines[:7]):
            _fit(draw, place(x + 14, y + 10 + 36 * number), line, 25 * scale, (width - 28) * scale)
    for model in node["properties"].get("models", []):
        _fit(draw, place(x + 10, y + height - 34), model["name"], 22 * scale, (width - 20) * scale)


def _words(kind):
    if kind in NAMES:
        return NAMES[kind]
    return re.sub("(?<=..)([A-Z][a-z])", r" \1", kind).replace("_", "")


def _out(node, slot):
    return node["pos"][0] + node["size"][0], node["pos"][1] + 14 + 20 * slot


def _in(node, slot):
    return node["pos"][0], node["pos"][1] + 14 + 20 * slot


def _curve(start, end):
    """A cubic Bezier that leaves and arrives level, as the editor draws links."""
    reach = max(20.0, abs(end[0] - start[0]) / 2)
    handles = start, (start[0] + reach, start[1]), (end[0] - reach, end[1]), end
    weights = [((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3) for t in (i / 24 for i in range(25))]
    return [tuple(sum(w * handle[axis] for w, handle in zip(row, handles, strict=True)) for axis in (0, 1)) for row in weights]


def _font(size):
    return ImageFont.truetype(FONT, max(6, round(size)))


def _fit(draw, where, text, size, width):
    font = _font(size)
    while len(text) > 2 and draw.textlength(text, font=font) > width:
        text = text[:-2] + "…"
    draw.text(where, text, fill=TEXT, font=font)
