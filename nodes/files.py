"""Nodes that keep a density on disk, in ComfyUI's models/rarity_densities."""

from comfy_api.latest import io, ui

from ..density.files import load_density, save_density
from . import sockets
from .folders import density_names, density_to_read, density_to_write, digest


class RaritySaveDensity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RaritySaveDensity",
            display_name="Save Density",
            category="Rarity/files",
            description="Saves a density as a .safetensors file in ComfyUI's models/rarity_densities, to use it "
            "again without sampling, or to share it. A file of the same name is replaced.",
            inputs=[
                sockets.Density.Input("density", tooltip="The density to save."),
                io.String.Input(
                    "name", default="letter_R", tooltip="The file's name, without a folder. .safetensors is added."
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, density, name):
        path = density_to_write(name)
        save_density(density, path)
        return io.NodeOutput(ui=ui.PreviewText(f"Saved as {path.name}"))


class RarityLoadDensity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityLoadDensity",
            display_name="Load Density",
            category="Rarity/files",
            description="Loads a saved density. It only fits embeddings of the model it was made with, and says so if not.",
            inputs=[
                io.Combo.Input(
                    "name",
                    options=density_names(),
                    tooltip="A file in ComfyUI's models/rarity_densities. Press R to see files saved a moment ago.",
                ),
            ],
            outputs=[sockets.Density.Output(display_name="density", tooltip="The density, as it was saved.")],
        )

    @classmethod
    def fingerprint_inputs(cls, name):
        return digest(density_to_read(name))

    @classmethod
    def execute(cls, name):
        return io.NodeOutput(load_density(density_to_read(name)))
