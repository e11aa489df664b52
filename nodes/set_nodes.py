"""Nodes that look at a set of pictures: how varied it is, and whether it copies another set."""

from comfy_api.latest import io, ui

from ..density.drawing.score_sheet import originality_brief, originality_sheet, originality_table
from ..density.novelty.originality import originality
from ..density.novelty.set_report import measure_variety
from .parts import sockets
from .parts.found_by import found_by
from .parts.node_progress import node_progress
from .parts.said import say


class RarityMeasureVariety(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityMeasureVariety",
            display_name="Measure Variety",
            category="Rarity/novelty",
            description="Says how varied a set of pictures is: how many different ones it holds in effect, and how much of a second "
            "set, the reference, it covers.",
            **found_by("variety", "variation", "different", "same image", "similar", "vendi", "seed"),
            inputs=[
                sockets.Embeddings.Input("embeddings", tooltip="The set, as Encode Images or Sample Prior give it."),
                sockets.Embeddings.Input(
                    "reference",
                    optional=True,
                    tooltip="Another set to compare with, such as the baseline: how much of it the set covers, and how much of the set "
                    "lies beyond it.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="table", tooltip="Every measure with its meaning, for Preview Any."),
                io.Float.Output(
                    display_name="vendi",
                    tooltip="How many different pictures there are in effect: 1 when all are alike, at most their number.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, embeddings, reference=None):
        variety = measure_variety(embeddings, reference, progress=node_progress())
        return io.NodeOutput(variety.table(), variety.vendi, ui=ui.PreviewText(say(variety.brief())))


class RarityCheckOriginality(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityCheckOriginality",
            display_name="Check Originality",
            category="Rarity/novelty",
            description="Finds for each picture the picture of a second set, the reference, that it resembles most, and says how "
            "probable it is that it was copied from it.",
            **found_by("copy", "plagiarism", "nearest", "similar", "duplicate", "unique"),
            inputs=[
                sockets.Embeddings.Input("embeddings", tooltip="The pictures in question."),
                sockets.Embeddings.Input(
                    "reference", tooltip="What they may copy: an artist's works, a data set, your own earlier pictures."
                ),
                sockets.Embeddings.Input(
                    "unrelated",
                    optional=True,
                    tooltip="Pictures of the same kind that copy none of the reference, at least 20. They show how alike pictures are "
                    "by chance. Needed where the reference is small.",
                ),
                io.Image.Input("images", optional=True, tooltip="The pictures in question themselves, for the sheet."),
                io.Image.Input("reference_images", optional=True, tooltip="The pictures of the reference, for the sheet."),
            ],
            outputs=[
                io.Float.Output(
                    display_name="copy_probability",
                    is_output_list=True,
                    tooltip="For each picture, 0 to 1: how probable it is that the nearest of the reference was copied.",
                ),
                io.String.Output(display_name="table", tooltip=(
                    "For each picture the nearest one of the reference, for Preview Any."
                )),
                io.Image.Output(
                    display_name="sheet",
                    tooltip="Each picture beside the one it resembles most; bars where no pictures are connected.",
                ),
            ],
        )

    @classmethod
    def execute(cls, embeddings, reference, unrelated=None, images=None, reference_images=None):
        progress = node_progress()
        found = originality(embeddings, reference, unrelated=unrelated, progress=progress)
        sheet = originality_sheet(found, reference, images, reference_images, progress=progress)
        say(originality_brief(found))
        return io.NodeOutput(found.copy_probability[:, 0].tolist(), originality_table(found), sheet)
