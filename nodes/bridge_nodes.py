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

ONE_SOURCE = "Connect only one of these here. For a second one use a second node, and Join Embeddings makes one set of both."


class RarityFromClipVisionOutput(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityFromClipVisionOutput",
            display_name="Embeddings from CLIP Vision",
            category="Rarity/embeddings",
            description="Takes the embeddings (what pictures show, as numbers) out of what CLIP Vision Encode, the Kandinsky 2.2 nodes "
            "or the IP-Adapter nodes made, so that they can be scored, remembered and steered like any other. Connect what those nodes "
            "made, and the eye that made it.",
            **found_by("convert", "image embeds", "ip-adapter", "ipadapter", "kandinsky22"),
            inputs=[
                io.ClipVisionOutput.Input(
                    "clip_vision_output", optional=True, tooltip="What CLIP Vision Encode gives: of one picture or of a batch."
                ),
                io.ClipVision.Input(
                    "clip_vision", optional=True, tooltip="The encoder that made it. If it was another one, the error names both."
                ),
                sockets.Prior.Input(
                    "prior", optional=True, tooltip="Instead of clip_vision: the prior of Load Kandinsky, of the same Kandinsky that made the embeddings."
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
            outputs=[sockets.Embeddings.Output(display_name="embeddings", tooltip="One embedding for each picture.")],
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
            description="Passes rare embeddings (what pictures show, as numbers) to Stable Diffusion: unCLIP Conditioning takes them "
            "as if they came from real pictures. The Kandinsky 2.2 nodes and the IP-Adapter nodes take them, too. The output is a "
            "list, and the nodes behind run once for each embedding.",
            **found_by("convert", "unclip", "revision", "stable cascade", "ip-adapter", "ipadapter", "kandinsky22"),
            inputs=[
                sockets.Embeddings.Input("embeddings", tooltip="The embeddings to draw: those of Make Rare, for instance."),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="The encoder that the model was trained with. The node then checks that this encoder made the embeddings.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that draws. The node then checks that the model reads image embeddings of this length.",
                ),
                sockets.at_most_input(),
                sockets.Prior.Input(
                    "prior", optional=True, tooltip="The node then checks that the embeddings are of this Kandinsky."
                ),
            ],
            outputs=[
                io.ClipVisionOutput.Output(
                    display_name="clip_vision_output",
                    is_output_list=True,
                    tooltip="A list with one entry for each embedding, for unCLIP Conditioning. It holds the embeddings alone, no tokens.",
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
