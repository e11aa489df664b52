// One colour for the wires of each type of Rarity. A colour that the palette of the page has for a type comes first.
import { app } from "../../scripts/app.js";

const COLOURS = {
  RARITY_PRIOR: "#B39DDB",
  RARITY_DECODER: "#FF8A80",
  RARITY_EMBEDDINGS: "#4DD0E1",
  RARITY_DENSITY: "#FFB74D",
  RARITY_GUARDRAIL: "#AED581",
  RARITY_DIRECTION: "#F48FB1",
  RARITY_TRAJECTORY: "#FFF176",
  RARITY_EXPOSURE: "#A1887F",
  RARITY_CONCEPT: "#E040FB",
  RARITY_GATE: "#69F0AE",
  RARITY_JUDGE: "#90A4AE",
  RARITY_ENCODER: "#82B1FF",
};

function colour() {
  const wires = app.canvas.constructor.link_type_colors, slots = app.canvas.default_connection_color_byType;
  const page = document.documentElement.style; // Nodes 2.0 reads the colours of slots from there
  for (const [type, own] of Object.entries(COLOURS)) {
    wires[type] ||= own;
    slots[type] ||= own;
    if (!page.getPropertyValue(`--color-datatype-${type}`)) page.setProperty(`--color-datatype-${type}`, own);
  }
  app.canvas.setDirty(true, true);
}

app.registerExtension({
  name: "Rarity.WireColours",
  setup() {
    // A palette that is chosen takes away the colours of all types that it does not know.
    app.ui.settings.addEventListener("Comfy.ColorPalette.change", () => setTimeout(colour, 100));
  },
  afterConfigureGraph: colour, // the first palette comes after `setup`, and before the first graph
});
