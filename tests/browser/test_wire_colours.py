"""Wires of Rarity's types have colours, as the page draws them; they come back after another palette, and the palette's own come first."""

import json
import re

from comfyui import ROOT

OURS = dict(re.findall(r'^  (\w+): "(#\w{6})"', (ROOT / "web" / "wire_colours.js").read_text(encoding="utf-8"), re.MULTILINE))
SEEN = """types => types.map(type => [app.canvas.constructor.link_type_colors[type], app.canvas.default_connection_color_byType[type],
  getComputedStyle(document.documentElement).getPropertyValue(`--color-datatype-${type}`).trim()])"""
# The page draws a wire of its picture in its colour somewhere.
DRAWN = """colour => {
  const canvas = app.canvas.canvas, pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const [r, g, b] = [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16));
  let found = 0;
  for (let i = 0; i < pixels.length; i += 4)
    found += Math.abs(pixels[i] - r) + Math.abs(pixels[i + 1] - g) + Math.abs(pixels[i + 2] - b) < 12;
  return found;
}"""


def test_each_type_has_its_colour_and_keeps_it_when_the_palette_changes(editor):
    workflow = json.loads((ROOT / "workflows" / "Rarity 01 Quickstart.json").read_text(encoding="utf-8"))
    editor.open(workflow, "wires")
    expected = [[colour] * 3 for colour in OURS.values()]
    assert editor.page.evaluate(SEEN, list(OURS)) == expected
    if not editor.vue:
        for kind in ("RARITY_EMBEDDINGS", "RARITY_DENSITY"):
            assert editor.page.evaluate(DRAWN, OURS[kind]) > 100, kind
    for palette in ("light", "dark"):
        editor.page.evaluate("palette => app.extensionManager.setting.set('Comfy.ColorPalette', palette)", palette)
        editor.page.wait_for_timeout(600)  # the palette takes the colours away at once, and they come back after it
        editor.page.wait_for_function(f"([types, expected]) => JSON.stringify(({SEEN})(types)) === JSON.stringify(expected)", arg=[list(OURS), expected])
    assert not editor.complaints
