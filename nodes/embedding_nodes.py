"""Nodes that turn pictures into embeddings, and choose among embeddings."""

from comfy_api.latest import io

from ..density.base.embeddings import Embeddings
from ..density.base.framing import MIDDLE
from ..density.novelty.ranking import check_indices, read_indices
from ..generators.comfyui.clip_vision_eye import eye_of
from ..generators.eyes.openclip import architectures, load_open_clip
from .parts import sockets
from .parts.fits import fits
from .parts.folders import clip_checkpoint, clip_checkpoints
from .parts.found_by import found_by
from .parts.node_progress import node_progress
from .parts.placement import ComfyPlacement, model_dtype


class RarityEncodeImages(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityEncodeImages",
            display_name="Encode Images",
            category="Rarity/embeddings",
            description="Looks at pictures with a model's eye and gives one embedding for each: what the picture shows, as numbers. So "
            "pictures of any origin can be scored, compared and remembered.",
            **found_by("clip vision", "image to embedding", "look at pictures"),
            inputs=[
                io.Image.Input("images", tooltip="The pictures. Eyes look at a square: see framing."),
                sockets.eye_input(f"Looks at the pictures: {sockets.AN_EYE} Embeddings can be compared only with those of the same eye."),
                sockets.framing_input(),
            ],
            outputs=[
                sockets.Embeddings.Output(
                    display_name="embeddings", tooltip="One embedding for each picture, in the order of the pictures."
                )
            ],
        )

    @classmethod
    def execute(cls, images, eye, framing=MIDDLE):
        looks = eye_of(eye, ComfyPlacement(), framing)
        return io.NodeOutput(looks.encode_images(images, progress=node_progress()))


class RaritySelectEmbeddings(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RaritySelectEmbeddings",
            display_name="Select Embeddings",
            category="Rarity/embeddings",
            description="Takes some embeddings out of many, by their numbers: those you liked on a sheet, or those that "
            "Rank Images kept.",
            **found_by("pick", "choose", "index", "filter"),
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
                    display_name="embeddings", tooltip="The chosen embeddings: Decode Kandinsky draws them, Make Rare varies them."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, indices=None):
        return fits(check_indices, indices)

    @classmethod
    def execute(cls, embeddings, indices):
        return io.NodeOutput(embeddings.select(read_indices(indices, len(embeddings))))


class RarityJoinEmbeddings(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityJoinEmbeddings",
            display_name="Join Embeddings",
            category="Rarity/embeddings",
            description="Makes one set out of a list of embeddings. Pictures of different sizes come as a list and are encoded one by "
            "one; after this node they are one set again.",
            **found_by("concat", "batch", "combine", "merge"),
            inputs=[
                sockets.Embeddings.Input("embeddings", tooltip="A list of embeddings, all by the same encoder.")
            ],
            outputs=[
                sockets.Embeddings.Output(display_name="embeddings", tooltip="All of them in one set, in the order of the list.")
            ],
            is_input_list=True,
        )

    @classmethod
    def execute(cls, embeddings):
        return io.NodeOutput(Embeddings.cat(embeddings))


class RarityLoadOpenCLIP(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityLoadOpenCLIP",
            display_name="Load OpenCLIP",
            category="Rarity/embeddings",
            description="Loads an encoder that reads pictures and words, so that Contrast Guardrail and Steer Towards understand words "
            "for the pictures of any model. Nothing is downloaded: the checkpoint lies on your disk.",
            **found_by("clip", "siglip", "eye", "encoder"),
            inputs=[
                io.Combo.Input(
                    "architecture",
                    options=architectures(),
                    default="ViT-H-14",
                    tooltip="The name on the checkpoint's page. OpenAI's own weights need one that ends in -quickgelu.",
                ),
                io.Combo.Input(
                    "checkpoint",
                    options=clip_checkpoints(),
                    tooltip="A .safetensors file of OpenCLIP in ComfyUI's models/clip_vision, such as open_clip_model.safetensors. "
                    "Press R to see files that you put there a moment ago.",
                ),
            ],
            outputs=[
                sockets.Encoder.Output(
                    display_name="encoder",
                    tooltip="Reads pictures and words: Encode Images, Contrast Guardrail and Steer Towards take it.",
                )
            ],
        )

    @classmethod
    def execute(cls, architecture, checkpoint):
        path = clip_checkpoint(checkpoint)
        return io.NodeOutput(load_open_clip(architecture, path, dtype=model_dtype(path), placement=ComfyPlacement()))
