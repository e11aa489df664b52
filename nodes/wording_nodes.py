"""The node that says a prompt in other words."""

from comfy_api.latest import io

from ..generators.comfyui.prompts.wordings import WORDS, check_wordings, encode_wordings
from .parts.fits import fits
from .parts.found_by import found_by
from .parts.node_progress import node_progress


class RarityOtherWordings(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityOtherWordings",
            display_name="Prompt and Other Wordings",
            category="Rarity/make rare",
            description="Encodes a prompt, and the same prompt in other words, for Seed Variety and Make Rare Conditioning: they go between "
            "and beyond the wordings, and so vary what the words vary. Takes the place of CLIP Text Encode.",
            **found_by("prompt", "paraphrase", "variation", "variety", "wildcard", "clip text encode", "styles", "different"),
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder, as CLIP Text Encode takes it."),
                io.String.Input("prompt", multiline=True, default="a photograph of a house", tooltip="What the pictures show."),
                io.String.Input(
                    "words",
                    multiline=True,
                    default=WORDS,
                    tooltip="What may vary, one a line: each line is added to the prompt behind a comma, and makes one other wording. They say "
                    "where to look, and a picture may mix them or go beyond them. Four or more lines are better than two.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="conditioning", tooltip="The prompt itself, as CLIP Text Encode gives it: for positive."),
                io.Conditioning.Output(display_name="variations", tooltip="The other wordings, for variations of Seed Variety or Make Rare Conditioning."),
            ],
        )

    @classmethod
    def validate_inputs(cls, prompt=None, words=None):
        return fits(check_wordings, prompt, words)

    @classmethod
    def execute(cls, clip, prompt, words):
        return io.NodeOutput(*encode_wordings(clip, prompt, words, node_progress()))
