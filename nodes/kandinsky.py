"""Nodes around Kandinsky 2.2: load it, sample its prior, draw its embeddings."""

import comfy.model_management
from comfy_api.latest import io

from ..generators.kandinsky import MINIATURE, load_kandinsky
from . import sockets
from .folders import kandinsky_model, kandinsky_models
from .progress import node_progress


class RarityLoadKandinsky(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityLoadKandinsky",
            display_name="Load Kandinsky",
            category="Rarity/model",
            description="Loads a Kandinsky 2.2 model in its two halves: the prior imagines what a picture could be, "
            "the decoder draws it. The miniature is built in and draws capital letters; nothing to download.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(kandinsky_models()),
                    default=MINIATURE,
                    tooltip="The built-in miniature, or a Kandinsky 2.2 folder inside ComfyUI's models/diffusers.",
                ),
            ],
            outputs=[
                sockets.Prior.Output(
                    display_name="prior", tooltip="Turns a prompt into image embeddings: Sample Prior takes it."
                ),
                sockets.Decoder.Output(
                    display_name="decoder", tooltip="Turns image embeddings into pictures: Decode takes it."
                ),
            ],
        )

    @classmethod
    def execute(cls, model):
        device = comfy.model_management.get_torch_device()
        prior, decoder = load_kandinsky(kandinsky_model(model), device=device)
        return io.NodeOutput(prior, decoder)


class RaritySamplePrior(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RaritySamplePrior",
            display_name="Sample Prior",
            category="Rarity/model",
            description="Asks the model many times what it would make for a prompt, without drawing anything. "
            "The answers (image embeddings) are the baseline that rarity is measured against.",
            inputs=[
                sockets.Prior.Input("prior", tooltip="The prior of Load Kandinsky."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="a letter R",
                    tooltip='What to make. The miniature knows "a letter R" and "a bold italic serif letter R" '
                    "(A to Z; light, bold, italic, serif, sans, mono).",
                ),
                io.Int.Input(
                    "count",
                    default=2000,
                    min=1,
                    max=1000000,
                    tooltip="How many samples. 2,000 is enough to try things; take 20,000 where the figure 1 in N matters.",
                ),
                sockets.seed_input("Draws the samples. The same seed and prompt always give the same baseline."),
                io.Int.Input(
                    "steps", default=25, min=2, max=1000, tooltip="Denoising steps of the prior. 25 is its usual number."
                ),
                io.Float.Input(
                    "guidance",
                    default=4.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="How strictly the prior follows the prompt. 2 to 4 gives a clean baseline; 1 lets it wander.",
                ),
                io.String.Input(
                    "negative_prompt", optional=True, default="", tooltip="What to stay away from. Empty is fine."
                ),
            ],
            outputs=[
                sockets.Embeddings.Output(
                    display_name="embeddings",
                    tooltip="The baseline: one image embedding a sample, with the prompt and seed they came from.",
                ),
            ],
        )

    @classmethod
    def execute(cls, prior, prompt, count, seed, steps, guidance, negative_prompt=""):
        embeddings = prior.sample(
            prompt,
            count,
            seed=seed,
            steps=steps,
            guidance=guidance,
            negative_prompt=negative_prompt,
            progress=node_progress(),
        )
        return io.NodeOutput(embeddings)


class RarityDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityDecode",
            display_name="Decode",
            category="Rarity/model",
            description="Draws image embeddings: one picture for each.",
            inputs=[
                sockets.Decoder.Input("decoder", tooltip="The decoder of Load Kandinsky."),
                sockets.Embeddings.Input(
                    "embeddings", tooltip="What to draw. They must come from the same model as the decoder."
                ),
                sockets.seed_input("Draws the decoder's noise. The same seed gives the same pictures."),
                io.Int.Input(
                    "steps", default=0, min=0, max=1000, tooltip="Denoising steps. 0 takes the model's own number."
                ),
                io.Float.Input(
                    "guidance",
                    default=0.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="How strictly the picture follows its embedding. 0 takes the model's own value.",
                ),
            ],
            outputs=[io.Image.Output(display_name="images", tooltip="The pictures, in the order of the embeddings.")],
        )

    @classmethod
    def execute(cls, decoder, embeddings, seed, steps, guidance):
        own = {"steps": steps or None, "guidance": guidance or None}
        return io.NodeOutput(decoder.decode(embeddings, seed=seed, progress=node_progress(), **own))
