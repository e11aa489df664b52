"""Nodes that turn pictures into embeddings, and choose among embeddings."""

from comfy_api.latest import io

from ..density.errors import RarityError
from ..density.ranking import read_indices
from ..generators.native import encode_with_clip_vision
from . import sockets
from .progress import node_progress


class RarityEncodeImages(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityEncodeImages",
            display_name="Encode Images",
            category="Rarity/embeddings",
            description="Looks at pictures with a model's eye: one embedding for each, so that pictures of any origin "
            "can be scored, compared and remembered. Connect exactly one eye, prior or clip_vision.",
            inputs=[
                io.Image.Input("images", tooltip="The pictures. The middle square of each is looked at."),
                sockets.Prior.Input(
                    "prior",
                    optional=True,
                    tooltip="The prior of Load Kandinsky: its own eye, for a density of samples of this very model.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="A CLIP encoder of Load CLIP Vision. Its embeddings are compared with those of the same encoder only.",
                ),
            ],
            outputs=[
                sockets.Embeddings.Output(
                    display_name="embeddings", tooltip="One embedding a picture, in the order of the pictures."
                )
            ],
        )

    @classmethod
    def execute(cls, images, prior=None, clip_vision=None):
        if (prior is None) == (clip_vision is None):
            raise RarityError(
                "Encode Images needs exactly one of prior and clip_vision, "
                f"got {'none' if prior is None else 'both'}. Connect the one that the density was made with."
            )
        if prior is not None:
            return io.NodeOutput(prior.encode_images(images, progress=node_progress()))
        return io.NodeOutput(encode_with_clip_vision(clip_vision, images, progress=node_progress()))


class RaritySelectEmbeddings(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RaritySelectEmbeddings",
            display_name="Select Embeddings",
            category="Rarity/embeddings",
            description="Takes some embeddings out of many, by their numbers: those you liked on a sheet, or those that "
            "Rank Images kept.",
            inputs=[
                sockets.Embeddings.Input("embeddings", tooltip="The embeddings to choose from."),
                io.String.Input(
                    "indices",
                    default="0",
                    tooltip="Their numbers, counted from 0, in the order you want: 0, 2, 5-8. The sheets show them.",
                ),
            ],
            outputs=[
                sockets.Embeddings.Output(
                    display_name="embeddings", tooltip="The chosen embeddings: Decode draws them, Optimize varies them."
                )
            ],
        )

    @classmethod
    def execute(cls, embeddings, indices):
        return io.NodeOutput(embeddings.select(read_indices(indices, len(embeddings))))
