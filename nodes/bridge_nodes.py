"""Nodes between embeddings and the sockets that ComfyUI and other packs carry them in."""

from comfy_api.latest import io, ui

from ..density.base.embeddings import few_enough
from ..generators.comfyui.clip_vision_eye import eye
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
            description="Takes the embeddings out of what CLIP Vision Encode, the Kandinsky 2.2 nodes or the IP-Adapter nodes made: then "
            "they can be scored, remembered and steered like any other. Connect what was made, and the eye that made it.",
            **found_by("convert", "image embeds", "ip-adapter", "ipadapter", "kandinsky22"),
            inputs=[
                io.ClipVisionOutput.Input(
                    "clip_vision_output", optional=True, tooltip="What CLIP Vision Encode gives: of one picture or of a batch."
                ),
                io.ClipVision.Input(
                    "clip_vision", optional=True, tooltip="The encoder that made it. Another one is an error that names both."
                ),
                sockets.Prior.Input(
                    "prior", optional=True, tooltip="Instead of clip_vision: the prior of Load Kandinsky, of the Kandinsky that made it."
                ),
                sockets.PriorLatent.Input(
                    "prior_latent", optional=True, tooltip="What comfyui-kandinsky22 makes of a prompt or a picture."
                ),
                sockets.IpAdapterEmbeds.Input(
                    "ip_adapter_embeds",
                    optional=True,
                    tooltip="What IPAdapter Encoder makes with a standard model. Plus and FaceID models keep something else.",
                ),
            ],
            outputs=[sockets.Embeddings.Output(display_name="embeddings", tooltip="One embedding a picture.")],
        )

    @classmethod
    def execute(cls, clip_vision_output=None, clip_vision=None, prior=None, prior_latent=None, ip_adapter_embeds=None):
        node = "Embeddings from CLIP Vision"
        made = {"clip_vision_output": clip_vision_output, "prior_latent": prior_latent, "ip_adapter_embeds": ip_adapter_embeds}
        carried = the_one(node, advice=ONE_SOURCE, **made)
        space = eye(node, ComfyPlacement(), clip_vision=clip_vision, prior=prior).space
        if carried is clip_vision_output:
            return io.NodeOutput(from_clip_vision_output(carried, space, clip_vision))
        return io.NodeOutput(from_rows(carried, space, "socket of another pack"))


class RarityToClipVisionOutput(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityToClipVisionOutput",
            display_name="Embeddings to CLIP Vision",
            category="Rarity/embeddings",
            description="Hands rare embeddings to Stable Diffusion: unCLIP Conditioning takes them as if they were pictures "
            "that were looked at. Also to the Kandinsky 2.2 nodes and to the IP-Adapter nodes. One output an embedding, and everything "
            "behind it runs once for each.",
            **found_by("convert", "unclip", "revision", "stable cascade", "ip-adapter", "ipadapter", "kandinsky22"),
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
                sockets.Prior.Input(
                    "prior", optional=True, tooltip="Connected, the embeddings are checked to be of this Kandinsky's space."
                ),
            ],
            outputs=[
                io.ClipVisionOutput.Output(
                    display_name="clip_vision_output",
                    is_output_list=True,
                    tooltip="A list with one entry an embedding, for unCLIP Conditioning. It holds no token states.",
                ),
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
    def execute(cls, embeddings, clip_vision=None, model=None, at_most=sockets.AT_MOST, prior=None):
        embeddings = few_enough(embeddings, at_most, "Embeddings to CLIP Vision")
        outputs = to_clip_vision_outputs(embeddings, clip_vision=clip_vision, model=model)
        rows = to_rows(embeddings, prior=prior, clip_vision=clip_vision)
        text = describe_outputs(embeddings, clip_vision=clip_vision, model=model)
        return io.NodeOutput(outputs, *rows, ui=ui.PreviewText(say(text)))
