"""Nodes that say how new a picture is to somebody, keep the newest, remember what was shown; and how varied a set is, and whether it copies."""

from comfy_api.latest import io, ui

from ..density.base.embeddings import Embeddings
from ..density.drawing.contact_sheet import HEADINGS, contact_sheet, headings_of
from ..density.drawing.score_sheet import (
    kept_sheet,
    novelty_sheet,
    originality_brief,
    originality_sheet,
    originality_table,
)
from ..density.novelty.exposure import ExposureMemory
from ..density.novelty.originality import originality
from ..density.novelty.ranking import most_novel
from ..density.novelty.scores import score_novelty
from ..density.novelty.set_report import measure_variety
from ..generators.eyes.preprocessing import join_pictures
from .parts import sockets
from .parts.found_by import found_by
from .parts.node_progress import node_progress
from .parts.said import say


class RarityScoreNovelty(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityScoreNovelty",
            display_name="Score Novelty",
            category="Rarity/novelty",
            description="Says how new each picture is: rare for the model, and unlike anything already seen. The score is in bits: 1 "
            "bit is every second picture, 10 bits is 1 in 1,024.",
            **found_by("creative", "creativity", "unusual", "surprise", "how new", "how rare", "different", "similar", "unique"),
            inputs=[
                sockets.Embeddings.Input(
                    "embeddings", tooltip="The pictures to score, as Encode Images or Sample Prior give them."
                ),
                sockets.Density.Input("density", tooltip="What is usual, of the same model: Fit Density or Load Density."),
                sockets.Exposure.Input(
                    "exposure",
                    optional=True,
                    tooltip="What was seen already, from Load Exposure. Without it only rarity counts.",
                ),
                sockets.Embeddings.Input(
                    "baseline",
                    optional=True,
                    tooltip="Usual pictures that were not seen: they show how near to a seen picture a new one comes by chance. "
                    "Without them the samples that the density learnt from are used.",
                ),
                io.Image.Input(
                    "images", optional=True, tooltip="The pictures themselves, to write their scores under them."
                ),
            ],
            outputs=[
                io.Float.Output(
                    display_name="scores",
                    is_output_list=True,
                    tooltip="The novelty of each picture in bits, as a list: Rank Images takes it.",
                ),
                io.String.Output(display_name="table", tooltip="All readings of all pictures, for Preview Any or a text file."),
                io.Image.Output(
                    display_name="annotated", tooltip="The pictures with their scores; bars where no pictures are connected."
                ),
                sockets.Embeddings.Output(display_name="embeddings", tooltip="The embeddings, as they came in."),
            ],
        )

    @classmethod
    def execute(cls, embeddings, density, exposure=None, baseline=None, images=None):
        memory = exposure if exposure is not None else ExposureMemory(density.space)
        progress = node_progress()
        novelty = score_novelty(embeddings, density, memory, baseline=baseline, progress=progress)
        sheet = novelty_sheet(novelty, images, progress=progress)
        say(novelty.brief())
        return io.NodeOutput(novelty.novelty.tolist(), novelty.table(), sheet, embeddings)


class RarityRankImages(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityRankImages",
            display_name="Rank Images",
            category="Rarity/novelty",
            description="Keeps the newest pictures, newest first. Pictures, embeddings and scores stay together.",
            is_input_list=True,
            **found_by("best", "sort", "keep", "select", "newest", "unique", "different", "filter"),
            inputs=[
                io.Image.Input("images", tooltip="The pictures, in the order they were scored in."),
                sockets.Embeddings.Input("embeddings", tooltip="Their embeddings, from Score Novelty."),
                io.Float.Input("scores", force_input=True, tooltip="Their scores, from Score Novelty."),
                io.Int.Input("keep", default=4, min=1, max=4096, tooltip="Keeps at most this many."),
                io.Float.Input(
                    "floor",
                    default=3.0,
                    min=0.0,
                    max=64.0,
                    step=0.5,
                    tooltip="Keeps no picture with fewer bits than this: 3 is 1 in 8, 7 is 1 in 128. 0 lets all pass. If none passes, "
                    "the run stops and says which score the best picture had.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The kept pictures, newest first."),
                sockets.Embeddings.Output(display_name="embeddings", tooltip="Their embeddings, in the same order."),
                io.Float.Output(display_name="scores", is_output_list=True, tooltip="Their scores, in the same order."),
                io.String.Output(
                    display_name="indices",
                    tooltip="Their numbers among the pictures that came in, counted from 0: Select Embeddings takes them.",
                ),
                io.Image.Output(display_name="sheet", tooltip=(
                    "The kept pictures on one sheet, newest first, each with how new it is."
                )),
            ],
        )

    @classmethod
    def execute(cls, images, embeddings, scores, keep, floor):
        progress = node_progress()
        pictures, items = join_pictures(images, progress=progress), Embeddings.cat(embeddings)
        kept, chosen, their_scores, indices = most_novel(pictures, items, scores, keep[0], floor[0], progress=progress)
        sheet = kept_sheet(kept, their_scores, indices, progress=progress)
        return io.NodeOutput(kept, chosen, their_scores, ", ".join(map(str, indices)), sheet)


class RarityExposureUpdate(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityExposureUpdate",
            display_name="Update Exposure",
            category="Rarity/novelty",
            description="Adds pictures to an exposure, the memory of what was seen. Connect the pictures you show, not those you throw "
            "away.",
            **found_by("memory", "already seen", "remember", "history", "similar"),
            inputs=[
                sockets.Embeddings.Input("embeddings", tooltip="The pictures that are shown now, as embeddings."),
                io.Float.Input(
                    "keep",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much of the old memory stays, before the new pictures are added. 1 forgets nothing; "
                    "at 0.9 a picture counts half after 7 updates; 0 remembers the new ones only.",
                ),
                sockets.Exposure.Input(
                    "exposure", optional=True, tooltip="What was seen before. Without it a new memory begins."
                ),
            ],
            outputs=[
                sockets.Exposure.Output(
                    display_name="exposure", tooltip="The memory with these pictures in it: Save Rarity File keeps it."
                )
            ],
        )

    @classmethod
    def execute(cls, embeddings, keep, exposure=None):
        memory = exposure if exposure is not None else ExposureMemory(embeddings.space)
        return io.NodeOutput(memory.forget(keep).update(embeddings))


class RarityContactSheet(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityContactSheet",
            display_name="Contact Sheet",
            category="Rarity/pictures",
            description="Sets the usual pictures on the left and the rare ones on the right of one sheet. A caption under each rare "
            "picture says how rare it is. Any two sets can stand there: write their titles.",
            **found_by("grid", "compare", "before after", "overview", "collage"),
            inputs=[
                io.Image.Input("rare", tooltip="The rare pictures, from Decode Kandinsky."),
                io.Image.Input("usual", optional=True, tooltip="The usual pictures to set beside them."),
                sockets.Trajectory.Input(
                    "trajectory", optional=True, tooltip="The trajectory of Make Rare: gives each rare picture its caption."
                ),
                io.String.Input(
                    "usual_title", optional=True, default=HEADINGS[0], tooltip="The title above the usual pictures."
                ),
                io.String.Input(
                    "rare_title", optional=True, default=HEADINGS[1], tooltip=(
                        "The title above the rare pictures. Rare on purpose stands there only where the trajectory "
                        "shows it."
                    )
                ),
            ],
            outputs=[io.Image.Output(display_name="sheet", tooltip="The contact sheet, to preview or save.")],
        )

    @classmethod
    def execute(cls, rare, usual=None, trajectory=None, usual_title=HEADINGS[0], rare_title=HEADINGS[1]):
        captions = trajectory.captions() if trajectory else None
        titles = headings_of(usual_title, rare_title, trajectory)
        return io.NodeOutput(contact_sheet(usual, rare, captions, headings=titles, progress=node_progress()))


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
