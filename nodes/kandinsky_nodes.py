"""Nodes around Kandinsky: load it, sample its prior, draw its embeddings."""

from comfy_api.latest import io

from ..density.base.embeddings import check_few, few_enough
from ..generators.eyes.encoding import check_text
from ..generators.kandinsky.load import MINIATURE, load_kandinsky
from ..generators.kandinsky.prior_baseline import draw_baseline
from .parts import sockets
from .parts.fits import fits
from .parts.folders import check_kandinsky, check_kept_as, folder_to_keep, kandinsky_model, kandinsky_models
from .parts.found_by import found_by
from .parts.node_progress import node_progress
from .parts.placement import ComfyPlacement, model_dtype
from .parts.upstream import number_before


class RarityLoadKandinsky(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityLoadKandinsky",
            display_name="Load Kandinsky",
            category="Rarity/kandinsky",
            description="Loads a Kandinsky 2.1 or 2.2 model in its two halves: the prior imagines what a picture could be, the decoder "
            "draws it. Two small models are built in, and nothing is downloaded for them: the miniature draws capital letters, the other "
            "draws things such as bags, houses and cats.",
            **found_by("kandinsky loader", "load model", "miniature", "letters", "things"),
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(kandinsky_models()),
                    default=MINIATURE,
                    tooltip="A built-in model, or a Kandinsky folder inside ComfyUI's models/diffusers.",
                ),
                io.String.Input(
                    "repository",
                    optional=True,
                    default="",
                    tooltip="Downloads this Hugging Face repository and uses it instead, such as "
                    "kandinsky-community/kandinsky-2-2-prior. Empty: nothing is downloaded.",
                ),
            ],
            outputs=[
                sockets.Prior.Output(
                    display_name="prior", tooltip="Turns a prompt into image embeddings: Sample Prior takes it."
                ),
                sockets.Decoder.Output(
                    display_name="decoder", tooltip="Turns image embeddings into pictures: Decode Kandinsky takes it."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, model=None, repository=""):
        return fits(check_kandinsky, model, repository)

    @classmethod
    def execute(cls, model, repository=""):
        folder, decoder = kandinsky_model(model, repository)
        return io.NodeOutput(
            *load_kandinsky(folder, decoder=decoder, dtype=model_dtype(folder), placement=ComfyPlacement())
        )


class RaritySamplePrior(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RaritySamplePrior",
            display_name="Sample Prior",
            category="Rarity/kandinsky",
            description="Asks the model many times what it would make for a prompt, without drawing anything. The answers are image "
            "embeddings (what a picture would show, as numbers). They are the baseline that rarity is measured against.",
            **found_by("kandinsky prior", "baseline", "usual", "what a model makes", "random samples"),
            inputs=[
                sockets.Prior.Input("prior", tooltip="The prior of Load Kandinsky."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
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
                    "steps",
                    default=25,
                    min=2,
                    max=1000,
                    tooltip="Denoising steps of the prior. 25 is its usual number.",
                ),
                io.Float.Input(
                    "guidance",
                    default=4.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="How strictly the prior follows the prompt. 2 to 4 gives a clean baseline; 1 lets it wander.",
                ),
                sockets.advanced(
                    io.String.Input(
                        "negative_prompt",
                        optional=True,
                        dynamic_prompts=True,
                        default="",
                        tooltip="What to stay away from. Empty is fine.",
                    )
                ),
                sockets.advanced(
                    io.Boolean.Input(
                        "stop_when_enough",
                        optional=True,
                        default=False,
                        tooltip="Ends before count when twice as many samples would say the same. "
                        "The report says how many it took.",
                    )
                ),
                sockets.advanced(
                    io.String.Input(
                        "keep_as",
                        optional=True,
                        default="",
                        tooltip="Keeps the samples in models/rarity_embeddings under this name while they are drawn: a run that was "
                        "stopped goes on from there. Empty keeps nothing.",
                    )
                ),
                sockets.first_input("samples"),
            ],
            outputs=[
                sockets.Embeddings.Output(
                    display_name="embeddings",
                    tooltip="The baseline: one image embedding for each sample, with the prompt and seed they came from.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="In words: how many samples there are, whether they are known to be enough, and which parts of the prompt "
                    "are not read.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, prompt=None, keep_as=None, negative_prompt=""):
        return fits(check_text, prompt) and fits(check_kept_as, keep_as, prompt, negative_prompt)

    @classmethod
    def execute(
        cls, prior, prompt, count, seed, steps, guidance, negative_prompt="", stop_when_enough=False, keep_as="", first=0
    ):
        settings = {"seed": seed, "steps": steps, "guidance": guidance, "negative_prompt": negative_prompt}
        embeddings, report = draw_baseline(
            prior,
            prompt,
            count,
            first=first,
            stop_when_enough=stop_when_enough,
            folder=folder_to_keep(keep_as),
            progress=node_progress(),
            **settings,
        )
        return io.NodeOutput(embeddings, report)


class RarityDecodeKandinsky(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityDecodeKandinsky",
            display_name="Decode Kandinsky",
            category="Rarity/kandinsky",
            description="Draws image embeddings (what a picture shows, as numbers): one picture for each.",
            **found_by("kandinsky decoder", "draw", "embeddings to image", "unclip"),
            inputs=[
                sockets.Decoder.Input("decoder", tooltip="The decoder of Load Kandinsky."),
                sockets.Embeddings.Input(
                    "embeddings", tooltip="The embeddings to draw. They must come from the same model as the decoder."
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
                sockets.advanced(
                    io.String.Input(
                        "prompt",
                        optional=True,
                        dynamic_prompts=True,
                        default="",
                        tooltip="For Kandinsky 2.1, whose decoder reads a prompt as well. "
                        "Empty takes the one the embeddings were sampled for.",
                    )
                ),
                sockets.at_most_input(),
            ],
            outputs=[io.Image.Output(display_name="images", tooltip="The pictures, in the order of the embeddings.")],
        )

    @classmethod
    def validate_inputs(cls, embeddings=None, at_most=sockets.AT_MOST):
        return fits(check_few, number_before("embeddings"), at_most, "Decode Kandinsky")

    @classmethod
    def execute(cls, decoder, embeddings, seed, steps, guidance, prompt="", at_most=sockets.AT_MOST):
        own = {"steps": steps or None, "guidance": guidance or None, "prompt": prompt or None}
        chosen = few_enough(embeddings, at_most, "Decode Kandinsky")
        return io.NodeOutput(decoder.decode(chosen, seed=seed, progress=node_progress(), **own))
