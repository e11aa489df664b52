"""Nodes around ComfyUI's own models: what they usually make."""

import comfy.samplers
from comfy_api.latest import io

from ..density.base.framing import MIDDLE
from ..generators.comfyui.clip_vision_eye import eye
from ..generators.comfyui.model_baseline import ModelPictures, draw_model_baseline
from .parts import sockets
from .parts.fits import fits
from .parts.folders import folder_to_keep
from .parts.found_by import found_by
from .parts.node_progress import node_preview
from .parts.placement import ComfyPlacement


class RarityBaselineFromModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityBaselineFromModel",
            display_name="Baseline from Model",
            category="Rarity/model",
            description="Draws many small, quick pictures with any model and prompt, and looks at each: what this model usually "
            "makes. The answers are the baseline that rarity is measured against. Connect exactly one eye: clip_vision, encoder or prior.",
            **found_by("usual", "sample model", "what a model makes", "seed", "random", "baseline"),
            inputs=[
                io.Model.Input("model", tooltip="Any model that KSampler takes, with its LoRAs. It is not changed."),
                io.Conditioning.Input("positive", tooltip="The prompt, as KSampler takes it; masks and ControlNet hints included."),
                io.Conditioning.Input("negative", tooltip="The negative prompt, as KSampler takes it."),
                io.Vae.Input("vae", tooltip="The model's own VAE."),
                io.Int.Input(
                    "count",
                    default=200,
                    min=1,
                    max=1000000,
                    tooltip="How many pictures. 200 is enough to try things; take 2,000 where the figure 1 in N matters.",
                ),
                sockets.seed_input("Of the first picture; the next one has the next seed, whatever the batch."),
                io.Int.Input(
                    "steps",
                    default=10,
                    min=1,
                    max=10000,
                    tooltip="Sampling steps of each picture. Few will do: the eye sees what it is, not how fine it is.",
                ),
                io.Float.Input(
                    "cfg", default=7.0, min=0.0, max=100.0, step=0.1, tooltip="As in KSampler: use what you draw with later."
                ),
                io.Combo.Input(
                    "sampler_name", options=list(comfy.samplers.SAMPLER_NAMES), default="euler", tooltip="As in KSampler."
                ),
                io.Combo.Input(
                    "scheduler", options=list(comfy.samplers.SCHEDULER_NAMES), default="normal", tooltip="As in KSampler."
                ),
                io.Int.Input(
                    "width",
                    default=512,
                    min=16,
                    max=16384,
                    step=8,
                    tooltip="In pixels. Small is quick; stay near what the model was trained for.",
                ),
                io.Int.Input("height", default=512, min=16, max=16384, step=8, tooltip="In pixels, as width."),
                sockets.advanced(
                    io.Int.Input(
                        "batch",
                        default=4,
                        min=1,
                        max=4096,
                        tooltip="Pictures at a time. Speed and memory depend on it, the pictures do not; halved where memory is short.",
                    )
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="The eye: a CLIP encoder of Load CLIP Vision.",
                ),
                sockets.Encoder.Input(
                    "encoder", optional=True, tooltip="The eye: the encoder of Load OpenCLIP, which reads words as well."
                ),
                sockets.Prior.Input("prior", optional=True, tooltip="The eye: the prior of Load Kandinsky."),
                sockets.advanced(
                    io.Boolean.Input(
                        "stop_when_enough",
                        optional=True,
                        default=False,
                        tooltip="Ends before count when twice as many pictures would say the same, at 2,000 at the earliest. "
                        "The report says how many it took.",
                    )
                ),
                io.String.Input(
                    "keep_as",
                    optional=True,
                    default="",
                    tooltip="Keeps the embeddings in models/rarity_embeddings under this name while they are made: "
                    "a run that was stopped goes on where it was. Empty keeps nothing.",
                ),
                sockets.framing_input(),
                sockets.first_input("pictures"),
            ],
            outputs=[
                sockets.Embeddings.Output(
                    display_name="embeddings", tooltip="The baseline: one embedding a picture, for Fit Density."
                ),
                io.String.Output(
                    display_name="report", tooltip="In words: how many pictures there are, of which seeds and settings."
                ),
                io.Image.Output(display_name="pictures", tooltip="The last few of the pictures that were drawn, to look at."),
            ],
        )

    @classmethod
    def validate_inputs(cls, keep_as=None):
        return fits(folder_to_keep, keep_as)

    @classmethod
    def execute(cls, model, positive, negative, vae, count, seed, steps, cfg, sampler_name, scheduler, width, height, batch,
                clip_vision=None, encoder=None, prior=None, stop_when_enough=False, keep_as="", framing=MIDDLE, first=0):
        placement = ComfyPlacement()
        looks = eye("Baseline from Model", placement, framing, clip_vision=clip_vision, encoder=encoder, prior=prior)
        pictures = ModelPictures(
            model, positive, negative, vae, seed, steps, cfg, sampler_name, scheduler, width, height
        )
        progress, preview = node_preview()
        return io.NodeOutput(*draw_model_baseline(
            pictures, looks, count, first=first, batch_size=batch, stop_when_enough=stop_when_enough, folder=folder_to_keep(keep_as),
            placement=placement, progress=progress, preview=preview,
        ))
