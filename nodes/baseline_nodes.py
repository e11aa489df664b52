"""Nodes that draw many small pictures with ComfyUI's own models, to learn what is usual or how to make seeds differ."""

from comfy_api.latest import io

from ..density.base.framing import MIDDLE
from ..generators.comfyui.clip_vision_eye import eye_of
from ..generators.comfyui.model_baseline import ModelPictures, draw_model_baseline
from ..generators.comfyui.vary_seeds import vary_seeds
from .parts import sockets
from .parts.fits import fits
from .parts.folders import STRENGTHS, file_to_keep, folder_to_keep
from .parts.found_by import found_by
from .parts.node_progress import node_preview
from .parts.placement import ComfyPlacement


class RarityBaselineFromModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityBaselineFromModel",
            display_name="Baseline from Model",
            category="Rarity/density",
            description="Draws many small, quick pictures with any model and prompt, and looks at each, to learn what this model "
            "usually makes. These pictures are the baseline that rarity is measured against.",
            **found_by("usual", "sample model", "what a model makes", "seed", "random", "baseline"),
            inputs=[
                io.Model.Input("model", tooltip="Any model that KSampler takes, with its LoRAs. It is not changed."),
                io.Conditioning.Input("positive", tooltip="The prompt, as KSampler takes it; masks and ControlNet hints included."),
                io.Conditioning.Input("negative", tooltip="The negative prompt, as KSampler takes it."),
                io.Vae.Input("vae", tooltip="The model's own VAE."),
                sockets.eye_input(f"Looks at the pictures: {sockets.AN_EYE}"),
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
                    tooltip="Sampling steps of each picture. Few are enough: the eye sees what a picture shows, not how fine it is.",
                ),
                io.Float.Input(
                    "cfg", default=7.0, min=0.0, max=100.0, step=0.1, tooltip="As in KSampler: use what you draw with later."
                ),
                *sockets.sampler_inputs("As in KSampler."),
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
                        tooltip="Pictures at a time. Changes speed and memory, not the pictures. Halved where memory is short.",
                    )
                ),
                sockets.advanced(
                    io.Boolean.Input(
                        "stop_when_enough",
                        optional=True,
                        default=False,
                        tooltip="Ends before count when twice as many pictures would say the same, but not before 2,000. "
                        "The report says how many it took.",
                    )
                ),
                io.String.Input(
                    "keep_as",
                    optional=True,
                    default="",
                    tooltip="Keeps the embeddings in models/rarity_embeddings under this name while they are made: "
                    "a run that was stopped goes on from there. Empty keeps nothing.",
                ),
                sockets.framing_input(),
                sockets.first_input("pictures"),
                *sockets.sampling_inputs(),
            ],
            outputs=[
                sockets.Embeddings.Output(
                    display_name="embeddings", tooltip="The baseline: one embedding (what a picture shows, as numbers) for each picture, for Fit Density."
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
    def execute(cls, model, positive, negative, vae, eye, count, seed, steps, cfg, sampler_name, scheduler, width, height, batch,
                stop_when_enough=False, keep_as="", framing=MIDDLE, first=0, guider=None, sampler=None, sigmas=None):
        placement = ComfyPlacement()
        looks = eye_of(eye, placement, framing)
        pictures = ModelPictures(
            model, positive, negative, vae, seed, steps, cfg, sampler_name, scheduler, width, height, guider, sampler, sigmas
        )
        progress, preview = node_preview()
        return io.NodeOutput(*draw_model_baseline(
            pictures, looks, count, first=first, batch_size=batch, stop_when_enough=stop_when_enough, folder=folder_to_keep(keep_as),
            placement=placement, progress=progress, preview=preview,
        ))


class RaritySeedVariety(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RaritySeedVariety",
            display_name="Seed Variety",
            category="Rarity/make rare",
            description="For models that draw nearly the same picture for every seed: gives each seed a prompt of its own, varied so "
            "that pictures differ as much as you ask and still are the subject. It measures the right strength on a few dozen small "
            "pictures. Goes between CLIP Text Encode and KSampler.",
            **found_by("vary seeds", "variety", "diversity", "seed", "same image", "similar", "same picture", "different", "variation", "turbo", "random"),
            inputs=[
                io.Model.Input("model", tooltip="Any model that KSampler takes, with its LoRAs. It is not changed."),
                io.Conditioning.Input("positive", tooltip="The prompt, as KSampler takes it; masks and ControlNet hints included."),
                io.Conditioning.Input("negative", tooltip="The negative prompt, as KSampler takes it. It is not varied."),
                io.Vae.Input("vae", tooltip="The model's own VAE."),
                sockets.eye_input(f"Measures how far apart pictures lie: {sockets.AN_EYE}"),
                io.Float.Input(
                    "variety",
                    default=2.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="How far apart pictures of different seeds are to lie: 1 is as without this node, 2 is twice as far. 0 is "
                    "as far as pictures still are the subject; a guardrail or a gate must be connected to tell.",
                ),
                io.Int.Input(
                    "count",
                    default=4,
                    min=1,
                    max=256,
                    tooltip="How many seeds, and so how many pictures KSampler draws.",
                ),
                sockets.seed_input("The first seed; the next ones follow. Another seed needs no new measuring."),
                io.Int.Input(
                    "steps", default=8, min=1, max=10000, tooltip="Sampling steps of the small pictures: those you draw with, or somewhat fewer."
                ),
                io.Float.Input("cfg", default=7.0, min=0.0, max=100.0, step=0.1, tooltip="As in KSampler: 1 for most turbo models."),
                *sockets.sampler_inputs("As in KSampler."),
                io.Int.Input(
                    "width",
                    default=512,
                    min=16,
                    max=16384,
                    step=8,
                    tooltip="Of the small pictures, in pixels. Small is quick; stay near what the model was trained for.",
                ),
                io.Int.Input("height", default=512, min=16, max=16384, step=8, tooltip="In pixels, as width."),
                sockets.Guardrail.Input(
                    "guardrail", optional=True, tooltip="The chain of guardrails, made from pictures that the same eye looked at."
                ),
                sockets.Gate.Input(
                    "gate",
                    optional=True,
                    tooltip='Validity Gate: knows by words whether a picture is "still a cat". Without a gate or a guardrail only the variety counts.',
                ),
                sockets.advanced(
                    io.Int.Input(
                        "keep",
                        default=0,
                        min=0,
                        max=256,
                        optional=True,
                        tooltip="How many seeds to keep. A small picture of every seed is drawn; of those that still are the subject, the "
                        "seeds that differ most go on to KSampler. 0 keeps all seeds, and draws no small pictures for it.",
                    )
                ),
                sockets.advanced(
                    io.Float.Input(
                        "strength",
                        default=0.0,
                        min=0.0,
                        max=100.0,
                        step=0.001,
                        optional=True,
                        tooltip="A strength that this node found before for the same model and prompt: then nothing is measured. Set "
                        "until, too, to the value found with it. 0 measures the strength.",
                    )
                ),
                sockets.advanced(
                    io.Float.Input(
                        "validity", default=0.95, min=0.01, max=1.0, step=0.01, optional=True,
                        tooltip="Of the pictures that are the subject without variation, the share that must stay it: 0.95 is 95 of 100.",
                    )
                ),
                sockets.advanced(
                    io.Float.Input(
                        "until", default=0.0, min=0.0, max=1.0, step=0.01, optional=True,
                        tooltip="The first part of the sampling that is varied; the rest follows the prompt as you wrote it. 0 "
                        "measures this, too: half of the sampling where that is enough, else all of it.",
                    )
                ),
                sockets.advanced(
                    io.Int.Input(
                        "pictures",
                        default=8,
                        min=3,
                        max=64,
                        optional=True,
                        tooltip="Small pictures at each of five strengths: 8 are 40 in all. With more, the result is surer, above all how many stay the subject.",
                    )
                ),
                sockets.advanced(
                    io.Int.Input(
                        "batch",
                        default=4,
                        min=1,
                        max=4096,
                        optional=True,
                        tooltip="Small pictures at a time. Changes speed and memory, not the result. Halved where memory is short.",
                    )
                ),
                sockets.framing_input(),
                *sockets.sampling_inputs(),
                io.String.Input(
                    "keep_as",
                    optional=True,
                    default="",
                    tooltip="Keeps what was measured in models/rarity_strengths under this name: with the same model, prompt and settings "
                    "nothing is measured again, also after a restart. For another prompt it is measured anew, and the file is replaced. "
                    "Empty keeps it until ComfyUI ends.",
                ),
                io.Conditioning.Input(
                    "variations",
                    optional=True,
                    tooltip="Other wordings of the prompt, encoded by the same CLIP and joined by Conditioning (Combine): wooden, seen from "
                    "above, at night. Each seed then goes its own way between and beyond them, which varies more and loses the subject less "
                    "than moving in all directions.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning",
                    is_output_list=True,
                    tooltip="A list: the prompt as each seed varies it, for KSampler's positive. KSampler draws once for each.",
                ),
                io.Int.Output(
                    display_name="seeds", is_output_list=True, tooltip="A list: the seed of each prompt, for KSampler's seed. Keep the batch size at 1."
                ),
                io.Float.Output(
                    display_name="strength", tooltip="How strongly the prompt is varied. Write it into the widget strength, and nothing is measured again."
                ),
                io.Float.Output(display_name="until", tooltip="The part of the sampling that is varied. Write it into the widget until, together with strength."),
                io.String.Output(display_name="report", tooltip="In words and numbers: how varied, how often still the subject, at which strength."),
                io.Image.Output(
                    display_name="curve",
                    tooltip="Variety, and how often pictures are still the subject, at each strength, with pictures of four seeds and the strength that was chosen.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, keep_as=None):
        return fits(file_to_keep, STRENGTHS, keep_as)

    @classmethod
    def execute(cls, model, positive, negative, vae, eye, variety, count, seed, steps, cfg, sampler_name, scheduler, width, height,
                guardrail=(), gate=None, keep=0, strength=0.0, validity=0.95, until=0.0, pictures=8, batch=4, framing=MIDDLE,
                guider=None, sampler=None, sigmas=None, keep_as="", variations=None):
        placement = ComfyPlacement()
        looks = eye_of(eye, placement, framing)
        drawing = ModelPictures(
            model, positive, negative, vae, seed, steps, cfg, sampler_name, scheduler, width, height, guider, sampler, sigmas
        )
        progress, preview = node_preview()
        return io.NodeOutput(*vary_seeds(
            drawing, looks, guardrail, gate=gate, variations=variations, variety=variety, validity=validity, count=count, keep=keep,
            strength=strength, until=until, pictures=pictures, batch_size=batch, placement=placement, progress=progress, preview=preview,
            path=file_to_keep(STRENGTHS, keep_as),
        ))
