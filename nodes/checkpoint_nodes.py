"""Nodes for the way to a rare result: one draws its readings, and one picks the checkpoint to keep."""

from comfy_api.latest import io

from ..density.drawing.interest_curve import interest_curve
from ..density.steering.checkpoints import MODES, pick_checkpoints
from .parts import sockets
from .parts.found_by import found_by


class RarityInterestCurve(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityInterestCurve",
            display_name="Interest Curve",
            category="Rarity/make rare",
            description="Draws everything that was measured on the way to rare, step by step, with pictures along the way. It shows up "
            "to where the subject is kept, and where it is lost.",
            **found_by("plot", "explore", "wundt", "steps", "trajectory"),
            inputs=[
                sockets.Trajectory.Input("trajectory", tooltip="The trajectory of Make Rare, Make Rare: Concept or Load Concept."),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Pictures of the checkpoints: Pick Step with the mode all, then Decode Kandinsky.",
                ),
                io.Int.Input(
                    "sample",
                    optional=True,
                    default=0,
                    min=0,
                    max=4095,
                    tooltip="Which sample the pictures show, counted from 0: the same number as in Pick Step.",
                ),
            ],
            outputs=[io.Image.Output(display_name="curve", tooltip="The curves, to preview or save.")],
        )

    @classmethod
    def execute(cls, trajectory, images=None, sample=0):
        return io.NodeOutput(interest_curve(trajectory, images, sample))


class RarityPickStep(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityPickStep",
            display_name="Pick Step",
            category="Rarity/make rare",
            description="Goes back on the way to rare: to a step you liked on the curve, or to the last step at which a "
            "vision-language model still said Yes.",
            is_input_list=True,
            **found_by("step back", "choose step", "undo", "less rare", "explore"),
            inputs=[
                sockets.Trajectory.Input(
                    "trajectory", tooltip="The trajectory of Make Rare or Make Rare: Concept. From a list of several it picks in each."
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="last",
                    tooltip="last: the result. by number: the checkpoint of that number. last valid: the last before the first No "
                    "among the answers. all: every checkpoint, to be drawn and asked about.",
                ),
                io.Int.Input(
                    "number",
                    default=0,
                    min=-4096,
                    max=4096,
                    tooltip="For by number: 0 is the start, 1 the first kept step, -1 the last.",
                ),
                io.Int.Input(
                    "sample",
                    default=-1,
                    min=-1,
                    max=4095,
                    tooltip="Only this sample, counted from 0. -1 takes every one.",
                ),
                io.String.Input(
                    "answers",
                    optional=True,
                    force_input=True,
                    tooltip="For last valid: one Yes or No for each picture of the mode all, as a list, in their order.",
                ),
            ],
            outputs=[
                sockets.Embeddings.Output(
                    display_name="embeddings", is_output_list=True, tooltip="The picked embeddings: Decode Kandinsky draws them."
                ),
                io.String.Output(
                    display_name="report",
                    is_output_list=True,
                    tooltip="In words: which checkpoint of each sample, and how rare it is.",
                ),
            ],
        )

    @classmethod
    def execute(cls, trajectory, mode, number, sample, answers=None):
        return io.NodeOutput(
            *pick_checkpoints(trajectory, mode[0], number=number[0], sample=sample[0], answers=answers)
        )
