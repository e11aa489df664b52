"""Nodes that make a prompt, or a new word in it, rare, for models that take no image embedding."""

from comfy_api.latest import io

from ..density.base.framing import framing_of
from ..generators.comfyui.clip_vision_eye import eye_of
from ..generators.comfyui.model_baseline import ModelPictures
from ..generators.comfyui.steer_condition import optimize_conditioning
from ..generators.comfyui.token import Word, optimize_token
from ..generators.steering.engines import ENGINES
from .parts import sockets
from .parts.fits import fits
from .parts.folders import TOKENS, embeddings_in, file_to_write, times_lost, written
from .parts.found_by import found_by
from .parts.node_progress import node_preview
from .parts.placement import ComfyPlacement


def _drawing_inputs():
    """The inputs for what is usual, the eye, the rarity, the engine, and the drawing of pictures."""
    return [
        sockets.Density.Input(
            "density",
            tooltip="What is usual: Fit Density of Baseline from Model, with this very prompt, eye, sampler and size.",
        ),
        sockets.eye_input("The eye of the baseline. The engine gradient works with an encoder of Load CLIP Vision only."),
        io.Int.Input(
            "one_in",
            default=100,
            min=2,
            max=1000000,
            tooltip="The dial: how rarely the model would make this by itself. "
            "A baseline of 200 pictures can measure 1 in 100, one of 2,000 pictures 1 in 1,000.",
        ),
        io.Combo.Input(
            "engine",
            options=list(ENGINES),
            default="gradient",
            tooltip="gradient: calculates the way; needs several times the memory of drawing, an eye of Load CLIP Vision and the sampler euler. "
            "evolution: draws and compares; needs no more memory than drawing, but many more pictures.",
        ),
        sockets.advanced(
            io.Int.Input(
                "pictures",
                default=4,
                min=1,
                max=64,
                tooltip="Seeds that are watched together. 1 is quickest and fits that seed only. With more seeds the result holds more "
                "surely for any seed.",
            )
        ),
        sockets.advanced(
            io.Int.Input(
                "iterations",
                default=30,
                min=1,
                max=10000,
                tooltip="The most steps of the engine. It ends as soon as all pictures are as rare as dialled.",
            )
        ),
        sockets.seed_input("Of the first picture; the next one has the next seed, as in Baseline from Model."),
        io.Int.Input(
            "steps",
            default=6,
            min=1,
            max=10000,
            tooltip="Sampling steps of each picture: few, and those of the baseline. You can draw with more later.",
        ),
        io.Float.Input("cfg", default=7.0, min=0.0, max=100.0, step=0.1, tooltip="As in KSampler, and as in the baseline."),
        *sockets.sampler_inputs("As in the baseline.", " The engine gradient works with euler only."),
        sockets.advanced(
            io.Int.Input("width", default=512, min=16, max=16384, step=8, tooltip="In pixels, as in the baseline. Small is quick.")
        ),
        sockets.advanced(io.Int.Input("height", default=512, min=16, max=16384, step=8, tooltip="In pixels, as width.")),
    ]


def _watching_inputs():
    """The inputs for what the pictures must keep."""
    return [
        sockets.Guardrail.Input(
            "guardrail",
            optional=True,
            tooltip="The chain of guardrails. Without one the pictures are rare, but may no longer be the subject.",
        ),
        sockets.Direction.Input("direction", optional=True, tooltip="The chain of directions: which way to be rare."),
        sockets.Gate.Input(
            "gate", optional=True, tooltip="Looks at the pictures on the way and asks whether they are still the subject."
        ),
    ]


def _memory_input():
    """The input for the memory that gradients may take."""
    return sockets.advanced(
        io.Float.Input(
            "memory",
            optional=True,
            default=0.0,
            min=0.0,
            max=1000.0,
            step=0.1,
            tooltip="For gradient: the most GiB it may take besides the loaded models. 0 takes what is free.",
        )
    )


def _found_outputs():
    """The outputs about the watched pictures."""
    return [
        sockets.Trajectory.Output(
            display_name="trajectory", tooltip="The watched pictures at every checkpoint, for Interest Curve and the map."
        ),
        io.String.Output(
            display_name="report",
            tooltip="In words: how rare they are, whether that holds for other seeds, and what it took.",
        ),
        io.Image.Output(display_name="pictures", tooltip="The watched pictures as they are now, one for each seed."),
    ]


class RarityMakeRareConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityMakeRareConditioning",
            display_name="Make Rare: Conditioning",
            category="Rarity/make rare",
            description="Changes what a prompt means to your model, until the pictures it draws are as rare as you dial: for Stable "
            "Diffusion and every other model that takes words and no image embedding. Takes minutes, not milliseconds.",
            **found_by(
                "rare", "creative", "creativity", "different", "unusual", "weird", "surprise", "prompt variation", "stable diffusion", "flux",
            ),
            inputs=[
                io.Model.Input("model", tooltip="The model you draw with, with its LoRAs. It is not changed."),
                io.Conditioning.Input(
                    "positive", tooltip="The prompt to change, one entry. Its masks, areas and hints are kept as they are."
                ),
                io.Conditioning.Input("negative", tooltip="The negative prompt, as KSampler takes it. It is not changed."),
                io.Vae.Input("vae", tooltip="The model's own VAE."),
                *_drawing_inputs(),
                *_watching_inputs(),
                io.Conditioning.Input(
                    "variations",
                    optional=True,
                    tooltip="For evolution: other wordings of the prompt, joined by Conditioning (Combine). It searches between and "
                    "beyond them. Without any it searches the main directions of the prompt's own words.",
                ),
                sockets.advanced(
                    io.Int.Input(
                        "dimensions",
                        optional=True,
                        default=8,
                        min=1,
                        max=200,
                        tooltip="For evolution: how many of these directions it may use. More reach further and take longer.",
                    )
                ),
                sockets.advanced(
                    io.Float.Input(
                        "step_size",
                        optional=True,
                        default=0.0,
                        min=0.0,
                        max=10.0,
                        step=0.001,
                        tooltip="How boldly it goes, in units of the prompt's own spread. 0 is the engine's own: 0.02 for gradient, 0.3 for "
                        "evolution.",
                    )
                ),
                _memory_input(),
                *sockets.sampling_inputs(),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="The prompt with its new meaning: KSampler takes it, with any seed."
                ),
                *_found_outputs(),
            ],
        )

    @classmethod
    def execute(cls, model, positive, negative, vae, density, eye, one_in, engine, pictures, iterations, seed, steps, cfg,
                sampler_name, scheduler, width, height, guardrail=(), direction=(), gate=None, variations=None, dimensions=8,
                step_size=0.0, memory=0.0, guider=None, sampler=None, sigmas=None):
        placement = ComfyPlacement()
        looks = eye_of(eye, placement, framing_of(density.source))
        drawing = ModelPictures(model, positive, negative, vae, seed, steps, cfg, sampler_name, scheduler, width, height, guider,
                                sampler, sigmas)
        progress, preview = node_preview()
        return io.NodeOutput(*optimize_conditioning(
            drawing, looks, density, one_in, guardrail, engine=engine, directions=direction, pictures=pictures,
            iterations=iterations, gate=gate, variations=variations, dimensions=dimensions, step_size=step_size,
            memory_gib=memory, placement=placement, progress=progress, preview=preview,
        ))


class RarityMakeRareWord(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityMakeRareWord",
            display_name="Make Rare: Word",
            category="Rarity/make rare",
            description="Invents a word for your model: it begins as a word you know, and changes until pictures of a prompt with it are "
            "as rare as you dial. The word is saved in ComfyUI's models/embeddings, so that any prompt can say embedding:name. For Stable "
            "Diffusion, Flux, Z-Image and others that read such files. Takes minutes, not milliseconds.",
            **found_by("rare", "creative", "textual inversion", "embedding", "new word", "unusual", "unique", "weird"),
            inputs=[
                io.Model.Input("model", tooltip="The model you draw with, with its LoRAs. It is not changed."),
                io.Clip.Input("clip", tooltip="The model's own text encoders. They are not changed."),
                io.String.Input(
                    "prompt",
                    default="a photo of a *",
                    multiline=True,
                    tooltip="What the word is learnt in: the prompt of the baseline, with the placeholder where the word is to stand.",
                ),
                sockets.advanced(
                    io.String.Input("placeholder", default="*", tooltip="The word or sign in the prompt that stands for the new word.")
                ),
                io.String.Input(
                    "start_word",
                    default="chair",
                    tooltip="The word that the new word begins as; with several words, their mean. embedding:name goes on from a saved word.",
                ),
                io.String.Input(
                    "name",
                    default="rare-chair",
                    tooltip="What prompts will call it: embedding:name. One word. Only a file that was exported here before is replaced.",
                ),
                io.Conditioning.Input("negative", tooltip="The negative prompt, as KSampler takes it. It is not changed."),
                io.Vae.Input("vae", tooltip="The model's own VAE."),
                *_drawing_inputs(),
                *_watching_inputs(),
                sockets.advanced(
                    io.Int.Input(
                        "dimensions",
                        optional=True,
                        default=8,
                        min=1,
                        max=64,
                        tooltip="For evolution: how many directions it may use, those that similar words vary in. More reach further and "
                        "take longer.",
                    )
                ),
                sockets.advanced(
                    io.Float.Input(
                        "step_size",
                        optional=True,
                        default=0.0,
                        min=0.0,
                        max=10.0,
                        step=0.001,
                        tooltip="How boldly it goes, in units of what tells words apart. 0 is the engine's own: 0.05 for gradient, 0.5 for "
                        "evolution.",
                    )
                ),
                _memory_input(),
                *sockets.sampling_inputs(),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="The prompt with the new word: KSampler takes it, with any seed."
                ),
                *_found_outputs(),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name=None):
        return fits(file_to_write, TOKENS, name)

    @classmethod
    def fingerprint_inputs(cls, name="", start_word="", **others):
        return [times_lost(file_to_write(TOKENS, name)), *embeddings_in(start_word)]

    @classmethod
    def execute(cls, model, clip, prompt, placeholder, start_word, name, negative, vae, density, eye, one_in, engine, pictures,
                iterations, seed, steps, cfg, sampler_name, scheduler, width, height, guardrail=(), direction=(), gate=None,
                dimensions=8, step_size=0.0, memory=0.0, guider=None, sampler=None, sigmas=None):
        placement, path = ComfyPlacement(), file_to_write(TOKENS, name)
        looks = eye_of(eye, placement, framing_of(density.source))
        word = Word(clip, prompt, placeholder, start_word)
        drawing = ModelPictures(model, word.positive, negative, vae, seed, steps, cfg, sampler_name, scheduler, width, height, guider,
                                sampler, sigmas)
        progress, preview = node_preview()
        found = optimize_token(
            word, drawing, looks, density, one_in, guardrail, path=path, name=name, engine=engine, directions=direction,
            pictures=pictures, iterations=iterations, gate=gate, dimensions=dimensions, step_size=step_size,
            memory_gib=memory, placement=placement, progress=progress, preview=preview,
        )
        written(path)
        return io.NodeOutput(*found)
