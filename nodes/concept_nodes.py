"""Nodes that teach a model a new word or habit that makes rare pictures, and that make pictures with it."""

from comfy_api.latest import io

from ..generators.concepts.concept import KINDS
from ..generators.concepts.objectives import OBJECTIVES
from ..generators.concepts.sampling import sample_concept
from ..generators.concepts.several import columns, learn_concepts
from ..generators.eyes.encoding import check_text
from .parts import sockets
from .parts.fits import fits
from .parts.folders import CONCEPTS, file_to_keep
from .parts.found_by import found_by
from .parts.node_progress import node_preview, node_progress


class RarityMakeRareConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityMakeRareConcept",
            display_name="Make Rare: Concept",
            category="Rarity/make rare",
            description="Teaches the model itself: changes a word of your prompt, or the model's habits, until nearly everything it "
            "makes is as rare as you dial. What was learnt works with every seed and other prompts. Takes minutes.",
            **found_by("creative", "creativity", "train", "lora", "textual inversion", "unusual", "weird", "rare"),
            inputs=[
                sockets.Prior.Input("prior", tooltip="The prior of Load Kandinsky. It is not changed."),
                sockets.Density.Input(
                    "density", tooltip="What is usual for the prompt, from samples with the same steps and guidance as here."
                ),
                io.String.Input(
                    "prompt", multiline=True, default="a letter R", tooltip="The prompt to learn for. It must hold the word below."
                ),
                io.String.Input(
                    "word",
                    default="R",
                    tooltip="The word of the prompt that gets a new meaning: the subject, or an adjective such as creative in "
                    "a creative handbag. It must be one token. Not needed for a lora alone.",
                ),
                io.Combo.Input(
                    "kind",
                    options=list(KINDS),
                    default="token",
                    tooltip="token: a new meaning for the word, subject or adjective; small, and works in other prompts. "
                    "lora: new habits of the prior; changes structure most. token + lora: both.",
                ),
                io.Int.Input(
                    "one_in",
                    default=1000,
                    min=2,
                    max=1000000,
                    tooltip="The dial: how rarely the model would have made this before it learnt. 1,000 is rare.",
                ),
                sockets.advanced(
                    io.Combo.Input(
                        "objective",
                        options=list(OBJECTIVES),
                        default="band",
                        tooltip="band: goes to the rarity you dial by the shortest way; for a token. places: each sample goes to a "
                        "place of its own at that rarity, so that the change shows and samples stay varied; for a lora. paper: the "
                        "published objective, which never stops.",
                    )
                ),
                io.Int.Input(
                    "iterations",
                    default=100,
                    min=1,
                    max=100000,
                    tooltip="How often it tries and corrects itself. 50 to 300 is usual: watch the preview.",
                ),
                sockets.advanced(
                    io.Float.Input(
                        "learning_rate",
                        default=0.0,
                        min=0.0,
                        max=1.0,
                        step=0.00001,
                        round=0.000001,
                        tooltip="How much it changes at every try. 0 takes the model's own: 0.0001 for a full Kandinsky, "
                        "0.001 for the miniature. Lower it when the report says that learning went astray.",
                    )
                ),
                sockets.advanced(
                    io.Int.Input(
                        "batch",
                        default=8,
                        min=1,
                        max=1024,
                        tooltip="Samples at every try. More is steadier and slower. What does not fit in memory at once is taken in parts.",
                    )
                ),
                sockets.advanced(
                    io.Int.Input(
                        "rank",
                        default=10,
                        min=1,
                        max=1024,
                        tooltip="For a lora: how much it can hold. 10 is plenty.",
                    )
                ),
                io.Int.Input(
                    "steps",
                    default=5,
                    min=2,
                    max=1000,
                    tooltip="Denoising steps of the prior; learning goes through all of them. Give Sample Prior the same number for the baseline.",
                ),
                io.Float.Input(
                    "guidance",
                    default=4.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="How strictly the prior follows the prompt. The same as in Sample Prior.",
                ),
                sockets.advanced(
                    io.Int.Input(
                        "keep_every",
                        default=25,
                        min=1,
                        max=10000,
                        tooltip="Iterations between two checkpoints to look at and go back to.",
                    )
                ),
                sockets.seed_input("Draws all noise. How far learning comes differs from seed to seed: try some."),
                sockets.advanced(
                    io.Int.Input(
                        "seeds",
                        default=1,
                        min=1,
                        max=64,
                        tooltip="How many concepts to learn, one after the other: seed, seed + 1, ... What follows runs once for each.",
                    )
                ),
                sockets.Guardrail.Input(
                    "guardrail", optional=True, tooltip="The chain of guardrails: what the pictures must stay while it learns."
                ),
                sockets.Direction.Input("direction", optional=True, tooltip="The chain of directions: which way to be rare."),
                sockets.Gate.Input(
                    "gate",
                    optional=True,
                    tooltip="Validity Gate: asks on the way whether pictures are still the subject, and goes back or stops if not. The "
                    "gate's every is then used instead of keep every.",
                ),
                sockets.Decoder.Input(
                    "decoder", optional=True, tooltip="Draws a preview of four samples at every checkpoint. Learning does without it."
                ),
                sockets.advanced(
                    io.String.Input(
                        "keep_as",
                        optional=True,
                        default="",
                        tooltip="Saves what was learnt so far under this name at every checkpoint. Press cancel when you like what you "
                        "see, and go on with Load Concept. Empty keeps nothing.",
                    )
                ),
                sockets.advanced(
                    io.String.Input(
                        "negative_prompt",
                        optional=True,
                        default="",
                        tooltip="What to stay away from. Empty is fine.",
                    )
                ),
            ],
            outputs=[
                sockets.Concept.Output(
                    display_name="concept", is_output_list=True, tooltip="What was learnt: Sample Concept makes new pictures with it."
                ),
                sockets.Trajectory.Output(
                    display_name="trajectory",
                    is_output_list=True,
                    tooltip="The same samples at every checkpoint, for Interest Curve and Pick Step.",
                ),
                io.String.Output(
                    display_name="report", is_output_list=True, tooltip="In words: how rare it became, checkpoint by checkpoint."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, prompt=None, keep_as=None):
        return fits(check_text, prompt) and fits(file_to_keep, CONCEPTS, keep_as)

    @classmethod
    def execute(cls, prior, density, prompt, word, kind, one_in, objective, iterations, learning_rate, batch, rank, steps,
                guidance, keep_every, seed, seeds, guardrail=(), direction=(), gate=None, decoder=None, keep_as="", negative_prompt=""):
        progress, preview = node_preview()
        concepts = learn_concepts(
            prior, density, prompt, word, one_in, guardrail, seed=seed, seeds=seeds, keep=file_to_keep(CONCEPTS, keep_as),
            decoder=decoder, preview=preview, progress=progress, kind=kind, objective=objective, directions=direction,
            iterations=iterations, learning_rate=learning_rate or None, batch=batch, rank=rank, steps=steps,
            guidance=guidance, negative_prompt=negative_prompt, keep_every=keep_every, gate=gate,
        )
        return io.NodeOutput(*columns(concepts))


class RaritySampleConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RaritySampleConcept",
            display_name="Sample Concept",
            category="Rarity/concepts",
            description="Makes new samples with what was learnt: any checkpoint, any seed, and other prompts.",
            **found_by("use concept", "lora", "textual inversion"),
            inputs=[
                sockets.Prior.Input("prior", tooltip="The prior of Load Kandinsky: the model that the concept was learnt with."),
                sockets.Concept.Input("concept", tooltip="What was learnt, from Make Rare: Concept or Load Concept."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="What to make. Empty takes the prompt it was learnt for. Another one must hold the learnt word.",
                ),
                io.Int.Input(
                    "checkpoint",
                    default=-1,
                    min=-4096,
                    max=4096,
                    tooltip="How far learning had come: -1 is the last checkpoint, 0 the model before it learnt. "
                    "Interest Curve numbers them.",
                ),
                io.Int.Input("count", default=16, min=1, max=1000000, tooltip="How many samples."),
                sockets.seed_input("Draws the samples. The same seed gives the same sample at every checkpoint, more or less rare."),
                sockets.advanced(
                    io.Int.Input(
                        "steps", default=0, min=0, max=1000, tooltip="Denoising steps of the prior. 0 takes those it was learnt with."
                    )
                ),
                sockets.advanced(
                    io.Float.Input(
                        "guidance",
                        default=0.0,
                        min=0.0,
                        max=30.0,
                        step=0.1,
                        tooltip="How strictly the prior follows the prompt. 0 takes what it was learnt with.",
                    )
                ),
                sockets.advanced(
                    io.String.Input(
                        "negative_prompt",
                        optional=True,
                        dynamic_prompts=True,
                        default="",
                        tooltip="What to stay away from. Empty takes what it was learnt with.",
                    )
                ),
            ],
            outputs=[
                sockets.Embeddings.Output(display_name="embeddings", tooltip="The samples: Decode Kandinsky draws them, Score Novelty scores them."),
            ],
        )

    @classmethod
    def execute(cls, prior, concept, prompt, checkpoint, count, seed, steps, guidance, negative_prompt=""):
        own = {"steps": steps or None, "guidance": guidance or None, "negative_prompt": negative_prompt or None}
        embeddings = sample_concept(
            prior, concept, count, prompt=prompt.strip(), checkpoint=checkpoint, seed=seed, progress=node_progress(), **own
        )
        return io.NodeOutput(embeddings)
