"""Nodes that set pictures side by side."""

from comfy_api.latest import io

from ..density.sheets import contact_sheet
from . import sockets


class RarityContactSheet(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityContactSheet",
            display_name="Contact Sheet",
            category="Rarity/novelty",
            description="One picture with the usual pictures on the left and the rare ones on the right, "
            "each rare one with how rare it is.",
            inputs=[
                io.Image.Input("rare", tooltip="The rare pictures, from Decode."),
                io.Image.Input("usual", optional=True, tooltip="The usual pictures to set beside them."),
                sockets.Trajectory.Input(
                    "trajectory", optional=True, tooltip="The trajectory of Optimize: gives each rare picture its caption."
                ),
            ],
            outputs=[io.Image.Output(display_name="sheet", tooltip="The contact sheet, to preview or save.")],
        )

    @classmethod
    def execute(cls, rare, usual=None, trajectory=None):
        captions = trajectory.captions() if trajectory else None
        return io.NodeOutput(contact_sheet(usual, rare, captions))
