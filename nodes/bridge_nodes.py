"""Nodes between embeddings and the sockets that ComfyUI and other packs carry them in."""

from comfy_api.latest import io, ui

from ..density.base.embeddings import few_enough
from ..generators.comfyui.clip_vision_eye import clip_vision_space, eye
from ..generators.comfyui.sockets_bridge import (
    describe_outputs,
    from_clip_vision_output,
    from_rows,
    to_clip_vision_outputs,
    to_rows,
)
from ..generators.eyes.encoding import the_one
from .parts import sockets
from .parts.found_by import found_by
from .parts.placement import ComfyPlacement
from .parts.said import say

ONE_SOURCE = "Connect one here: a second source takes a second of these nodes, and Join Embeddings makes one set of both."


class RarityFromClipVisionOutput(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityFromClipVisionOutput",
            display_name="Embeddings from CLIP Vision",
            category="Rarity/embeddings",
            description="Takes the embeddings out of what CLIP Vision Encode made, and makes sure that they are this "
            "encoder's: then they can be scored, remembered and steered like any other.",
            **found_by("convert", "image embeds"),
            inputs=[
                io.ClipVisionOutput.Input("clip_vision_output", tooltip="What CLIP Vision Encode gives: of one picture or of a batch."),
                io.ClipVision.Input("clip_vision", tooltip="The encoder that made it. Another one is an error that names both."),
            ],
            outputs=[sockets.Embeddings.Output(display_name="embeddings", tooltip="One embedding a picture.")],
        )

    @classmethod
    def execute(cls, clip_vision_output, clip_vision):
        space = clip_vision_space(clip_vision)
        return io.NodeOutput(from_clip_vision_output(clip_vision_output, space, clip_vision))


class RarityToClipVisionOutput(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityToClipVisionOutput",
            display_name="Embeddings to CLIP Vision",
            category="Rarity/embeddings",
            description="Hands rare embeddings to Stable Diffusion: unCLIP Conditioning takes them as if they were pictures "
            "that were looked at. One output an embedding, and everything behind it runs once for each.",
            **found_by("convert", "unclip", "revision", "stable cascade"),
            inputs=[
                sockets.Embeddings.Input("embeddings", tooltip="The embeddings to draw: those of Make Rare, for instance."),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="The encoder the model was trained with. Connected, it is checked to be the embeddings' own.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that draws. Connected, it is checked to read image embeddings, and of this width.",
                ),
                sockets.at_most_input(),
            ],
            outputs=[
                io.ClipVisionOutput.Output(
                    display_name="clip_vision_output",
                    is_output_list=True,
                    tooltip="A list with one entry an embedding, for unCLIP Conditioning. It holds no token states.",
                )
            ],
        )

    @classmethod
    def execute(cls, embeddings, clip_vision=None, model=None, at_most=sockets.AT_MOST):
        embeddings = few_enough(embeddings, at_most, "Embeddings to CLIP Vision")
        outputs = to_clip_vision_outputs(embeddings, clip_vision=clip_vision, model=model)
        text = describe_outputs(embeddings, clip_vision=clip_vision, model=model)
        return io.NodeOutput(outputs, ui=ui.PreviewText(say(text)))


class RarityFromOtherPacks(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityFromOtherPacks",
            display_name="Embeddings from Other Packs",
            category="Rarity/embeddings",
            description="Takes the embeddings out of what the Kandinsky 2.2 nodes or the IP-Adapter nodes carry. Connect one of "
            "prior_latent and ip_adapter_embeds, and the eye that made it.",
            **found_by("convert", "ip-adapter", "ipadapter", "kandinsky22"),
            inputs=[
                sockets.PriorLatent.Input(
                    "prior_latent", optional=True, tooltip="What comfyui-kandinsky22 makes of a prompt or a picture."
                ),
                sockets.IpAdapterEmbeds.Input(
                    "ip_adapter_embeds",
                    optional=True,
                    tooltip="What IPAdapter Encoder makes with a standard model. Plus and FaceID models keep something else.",
                ),
                sockets.Prior.Input("prior", optional=True, tooltip="The prior of Load Kandinsky, of the same Kandinsky."),
                io.ClipVision.Input("clip_vision", optional=True, tooltip="The encoder that the other nodes used."),
            ],
            outputs=[sockets.Embeddings.Output(display_name="embeddings", tooltip="One embedding a picture.")],
        )

    @classmethod
    def execute(cls, prior_latent=None, ip_adapter_embeds=None, prior=None, clip_vision=None):
        node = "Embeddings from Other Packs"
        rows = the_one(node, advice=ONE_SOURCE, prior_latent=prior_latent, ip_adapter_embeds=ip_adapter_embeds)
        space = eye(node, ComfyPlacement(), prior=prior, clip_vision=clip_vision).space
        return io.NodeOutput(from_rows(rows, space, "socket of another pack"))


class RarityToOtherPacks(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityToOtherPacks",
            display_name="Embeddings to Other Packs",
            category="Rarity/embeddings",
            description="Hands rare embeddings to the Kandinsky 2.2 nodes or to the IP-Adapter nodes. One entry an embedding, "
            "and everything behind it runs once for each.",
            **found_by("convert", "ip-adapter", "ipadapter", "kandinsky22"),
            inputs=[
                sockets.Embeddings.Input("embeddings", tooltip="The embeddings to draw: those of Make Rare, for instance."),
                sockets.Prior.Input(
                    "prior", optional=True, tooltip="Connected, the embeddings are checked to be of this Kandinsky's space."
                ),
                io.ClipVision.Input(
                    "clip_vision", optional=True, tooltip="Connected, the embeddings are checked to be of this encoder's space."
                ),
                sockets.at_most_input(),
            ],
            outputs=[
                sockets.PriorLatent.Output(
                    display_name="prior_latent",
                    is_output_list=True,
                    tooltip="For image_embeds of comfyui-kandinsky22, which wants 1,280 numbers of Kandinsky 2.2.",
                ),
                sockets.IpAdapterEmbeds.Output(
                    display_name="ip_adapter_embeds",
                    is_output_list=True,
                    tooltip="For pos_embed of IPAdapter Embeds with a standard model. Plus and FaceID models want something else.",
                ),
            ],
        )

    @classmethod
    def execute(cls, embeddings, prior=None, clip_vision=None, at_most=sockets.AT_MOST):
        embeddings = few_enough(embeddings, at_most, "Embeddings to Other Packs")
        rows = to_rows(embeddings, prior=prior, clip_vision=clip_vision)
        return io.NodeOutput(*rows)
