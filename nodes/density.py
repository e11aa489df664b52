"""Nodes that learn what a model usually makes, and show it."""

from comfy_api.latest import io, ui

from ..density.gaussian import GaussianDensity
from ..density.plots import density_map
from . import sockets
from .progress import node_progress


class RarityFitDensity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityFitDensity",
            display_name="Fit Density",
            category="Rarity/density",
            description="Learns what is usual from a baseline, and calibrates it on samples it was not fitted to, "
            "so that 1 in 1,000 means 1 in 1,000 whatever the prompt or model.",
            inputs=[
                sockets.Embeddings.Input("embeddings", tooltip="The baseline, from Sample Prior: at least a few hundred."),
                io.Int.Input(
                    "components",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="How many main directions the density has. 0 picks the number that predicts unseen samples best.",
                ),
            ],
            outputs=[
                sockets.Density.Output(
                    display_name="density", tooltip="What is usual for this prompt, and how rare anything else is."
                ),
            ],
        )

    @classmethod
    def execute(cls, embeddings, components):
        return io.NodeOutput(GaussianDensity.fit(embeddings, components=components, progress=node_progress()))


class RarityDensityMap(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityDensityMap",
            display_name="Density Map",
            category="Rarity/density",
            description="A picture of the density: where the usual samples lie, where 1 in 1,000 begins, "
            "and the way the rare ones took.",
            inputs=[
                sockets.Density.Input("density", tooltip="The density to show."),
                sockets.Embeddings.Input(
                    "embeddings", optional=True, tooltip="The baseline: drawn as the cloud of usual samples."
                ),
                sockets.Trajectory.Input(
                    "trajectory", optional=True, tooltip="The trajectory of Optimize: drawn as the way each picture took."
                ),
            ],
            outputs=[io.Image.Output(display_name="map", tooltip="The map, to preview or save.")],
        )

    @classmethod
    def execute(cls, density, embeddings=None, trajectory=None):
        return io.NodeOutput(density_map(density, embeddings, trajectory))


class RarityDescribeDensity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityDescribeDensity",
            display_name="Describe Density",
            category="Rarity/density",
            description="Says in words what a density learned, and whether its samples can resolve the rarity you want.",
            inputs=[
                sockets.Density.Input("density", tooltip="The density to describe."),
                io.Int.Input(
                    "one_in",
                    default=1000,
                    min=2,
                    max=1000000,
                    tooltip="The rarity you have in mind, as 1 in N: the text says how sure the density is of it.",
                ),
            ],
            outputs=[io.String.Output(display_name="text", tooltip="The description, for Preview Any or a text file.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, density, one_in):
        text = density.describe(one_in)
        return io.NodeOutput(text, ui=ui.PreviewText(text))
