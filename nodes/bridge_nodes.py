"""Nodes between embeddings and the sockets that ComfyUI and other packs carry them in."""

from comfy_api.latest import io, ui

from ..density.base.embeddings import few_enough
from ..generators.comfyui.clip_vision_eye import eye_of
from ..generators.comfyui.sockets_bridge import (
    describe_outputs,
    embeddings_from,
    to_clip_vision_outputs,
    to_rows,
)
from .parts import sockets
from .parts.found_by import found_by
from .parts.placement import ComfyPlacement
from .parts.said import say


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
                sockets.eye_input(f"The eye that made the embeddings: {sockets.AN_EYE} If another one made them, the error names both."),
                io.ClipVisionOutput.Input(
                    "clip_vision_output", optional=True, tooltip="What CLIP Vision Encode gives: of one picture or of a batch."
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
    def execute(cls, eye, clip_vision_output=None, prior_latent=None, ip_adapter_embeds=None):
        looks = eye_of(eye, ComfyPlacement())
        return io.NodeOutput(embeddings_from(
            looks, clip_vision_output=clip_vision_output, prior_latent=prior_latent, ip_adapter_embeds=ip_adapter_embeds
        ))


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
                sockets.eye_input(
                    "The eye that the model was trained with: an encoder of Load CLIP Vision or Load OpenCLIP, or a Kandinsky's prior. The "
                    "node then checks that this eye made the embeddings.",
                    optional=True,
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that draws. The node then checks that the model reads image embeddings of this length.",
                ),
                sockets.at_most_input(),
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
    def execute(cls, embeddings, eye=None, model=None, at_most=sockets.AT_MOST):
        embeddings = few_enough(embeddings, at_most, "Embeddings to CLIP Vision")
        looks = None if eye is None else eye_of(eye, ComfyPlacement())
        outputs = to_clip_vision_outputs(embeddings, eye=looks, model=model)
        rows = to_rows(embeddings, eye=looks)
        text = describe_outputs(embeddings, eye=looks, model=model)
        return io.NodeOutput(outputs, *rows, ui=ui.PreviewText(say(text)))
