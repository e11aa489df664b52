"""Nodes that keep the subject in rare pictures. Guardrails are chained: each node adds its guardrail to the chain."""

from comfy_api.latest import io

from ..density.steering.gates import ON_NO
from ..density.steering.guardrails import AnchorGuardrail, ResidualGuardrail
from ..generators.demo import LETTERS
from ..generators.eyes.contrast_sources import check_subject, check_words, contrast_guardrails
from ..generators.judges.validity_gate import ValidityGate, choose_judge
from ..generators.judges.vlm import Vlm
from .parts import sockets
from .parts.fits import fits
from .parts.folders import judge_folder, judges
from .parts.found_by import found_by
from .parts.placement import WIDE_FIRST, ComfyPlacement, model_dtype

ALTERNATIVES = "\n".join(LETTERS)
CHAIN_TOOLTIP = "Another guardrail to keep as well. Leave it empty for the first one."
OUTPUT_TOOLTIP = "The chain with this guardrail added: the next guardrail or a Make Rare node takes it."


def _chain_input():
    return sockets.Guardrail.Input("guardrail", optional=True, tooltip=CHAIN_TOOLTIP)


def _words_fit(subject, alternatives):
    return alternatives is None or fits(check_words, subject, alternatives.splitlines())


def _chain_output():
    return sockets.Guardrail.Output(display_name="guardrails", tooltip=OUTPUT_TOOLTIP)


class RarityAnchorGuardrail(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityAnchorGuardrail",
            display_name="Anchor Guardrail",
            category="Rarity/guardrails",
            description="Keeps rare embeddings pointing the same way as the baseline, the usual samples: inside the cone in which "
            "nearly all of these lie.",
            **found_by("stay close", "keep subject", "similar", "limit"),
            inputs=[
                sockets.Embeddings.Input("embeddings", tooltip="The baseline: its average is the anchor."),
                io.Float.Input(
                    "quantile",
                    default=0.01,
                    min=0.0,
                    max=0.5,
                    step=0.01,
                    tooltip="Which share of the usual samples lies outside the cone. Smaller is a wider cone.",
                ),
                _chain_input(),
            ],
            outputs=[_chain_output()],
        )

    @classmethod
    def execute(cls, embeddings, quantile, guardrail=()):
        return io.NodeOutput((*guardrail, AnchorGuardrail.from_baseline(embeddings, quantile=quantile)))


class RarityResidualGuardrail(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityResidualGuardrail",
            display_name="Residual Guardrail",
            category="Rarity/guardrails",
            description="Keeps rare embeddings inside the directions the model really uses: what a density's main directions leave "
            "over (fine detail and noise) may not be larger than in usual samples.",
            **found_by("avoid artifacts", "stay natural", "limit"),
            inputs=[
                sockets.Density.Input("density", tooltip="The density whose left-over is watched."),
                io.Float.Input(
                    "max_percentile",
                    default=99.0,
                    min=50.0,
                    max=100.0,
                    step=0.1,
                    tooltip="How large the left-over may be: 99 means not larger than in 99 of 100 usual samples.",
                ),
                _chain_input(),
            ],
            outputs=[_chain_output()],
        )

    @classmethod
    def execute(cls, density, max_percentile, guardrail=()):
        return io.NodeOutput((*guardrail, ResidualGuardrail(density, max_percentile)))


class RarityContrastGuardrail(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityContrastGuardrail",
            display_name="Contrast Guardrail",
            category="Rarity/guardrails",
            description="Keeps the subject: the model's own eye must still prefer your subject to every alternative. With this "
            "guardrail a rare R stays an R.",
            **found_by("keep subject", "still a", "not a", "negative", "limit"),
            inputs=[
                sockets.Embeddings.Input("embeddings", tooltip="The baseline: it shows how clear usual samples are."),
                io.String.Input(
                    "subject", default="a letter R", tooltip="What the pictures must stay, in the words of your prompt. Empty is the prompt itself."
                ),
                io.String.Input(
                    "alternatives",
                    multiline=True,
                    default=ALTERNATIVES,
                    tooltip="What they must not turn into, one a line. A line that means the same as the subject to the encoder is "
                    "left out.",
                ),
                io.Float.Input(
                    "quantile",
                    default=0.5,
                    min=0.0,
                    max=0.9,
                    step=0.05,
                    tooltip="How clear the subject must stay: 0.5 means clearer than half of the usual samples. Higher is stricter.",
                ),
                sockets.eye_input(
                    f"The eye of the baseline, which reads the words: {sockets.A_READER} Leave it empty for an eye that reads no words, and "
                    "connect alternative_pictures.",
                    sockets.READERS,
                    optional=True,
                ),
                _chain_input(),
                io.Boolean.Input(
                    "centred",
                    optional=True,
                    default=False,
                    tooltip="Takes away the difference between all texts and all pictures before comparing. Try it where one "
                    "alternative wins everywhere.",
                ),
                sockets.Embeddings.Input(
                    "alternative_pictures",
                    optional=True,
                    tooltip="Pictures of what it must not turn into: a second guardrail that compares pictures with pictures.",
                ),
            ],
            outputs=[_chain_output()],
        )

    @classmethod
    def validate_inputs(cls, subject=None, alternatives=None, eye=()):
        return eye is not None or _words_fit(subject, alternatives)  # here None means that the input is linked

    @classmethod
    def execute(cls, embeddings, subject, alternatives, quantile, eye=None, guardrail=(), centred=False, alternative_pictures=None):
        rails = contrast_guardrails(
            embeddings, eye, subject, alternatives.splitlines(), alternative_pictures, quantile, centred
        )
        return io.NodeOutput((*guardrail, *rails))


class RarityLoadJudge(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityLoadJudge",
            display_name="Load Judge",
            category="Rarity/guardrails",
            description="Loads a vision-language model (one that answers questions about a picture). Validity Gate asks it whether a "
            "picture still is the subject. Nothing is downloaded: the model's folder lies in ComfyUI's models/LLM.",
            **found_by("vlm", "llm", "ask", "vision language model", "qwen", "smolvlm", "llava", "paligemma"),
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(judges()),
                    tooltip="A folder in ComfyUI's models/LLM. Press R to see a folder that you put there a moment ago.",
                ),
            ],
            outputs=[sockets.Judge.Output(display_name="judge", tooltip="The model, for as many Validity Gates as you like.")],
        )

    @classmethod
    def execute(cls, model):
        folder = judge_folder(model)
        return io.NodeOutput(Vlm(folder, dtype=model_dtype(folder, WIDE_FIRST), placement=ComfyPlacement()))


class RarityValidityGate(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityValidityGate",
            display_name="Validity Gate",
            category="Rarity/guardrails",
            description="Looks at the pictures while they become rare and asks: is this still the subject? After a No it goes back to "
            "what was valid. It sees what guardrails cannot see, because guardrails watch the embedding and not the picture.",
            **found_by("judge", "check subject", "ask", "vlm", "is it still"),
            inputs=[
                io.String.Input(
                    "subject",
                    default="a letter R",
                    tooltip="What the pictures must stay, in the words of your prompt. With embeddings connected, empty is the prompt itself.",
                ),
                io.Int.Input(
                    "every",
                    default=25,
                    min=1,
                    max=10000,
                    tooltip="Steps, or iterations of learning, between two times it asks. Each time all pictures are drawn.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.5,
                    min=0.01,
                    max=0.99,
                    step=0.01,
                    tooltip="A picture is valid when its probability of a Yes is at least this. Higher is stricter.",
                ),
                io.Combo.Input(
                    "on_no",
                    options=list(ON_NO),
                    default="step back",
                    tooltip="step back: goes back to what was valid last, and on from there another way. stop: stays there. go on: "
                    "only writes the answer into the trajectory.",
                ),
                sockets.Decoder.Input(
                    "decoder",
                    optional=True,
                    tooltip="Draws the pictures that the gate looks at: the decoder of the same model. Make Rare: Conditioning and "
                    "Make Rare: Word draw by themselves.",
                ),
                sockets.eye_input(
                    f"Who looks, and tells the subject from the alternatives: {sockets.A_READER}", sockets.READERS, optional=True
                ),
                sockets.Judge.Input(
                    "judge", optional=True, tooltip=(
                        "Who looks, instead of an eye: the vision-language model of Load Judge."
                    )
                ),
                io.String.Input(
                    "alternatives",
                    multiline=True,
                    optional=True,
                    default=ALTERNATIVES,
                    tooltip="For an eye: what the pictures might be instead, one a line. A line that means the same as "
                    "the subject to the encoder is left out.",
                ),
                sockets.Embeddings.Input(
                    "embeddings",
                    optional=True,
                    tooltip="The baseline. Where its prompt does not speak of the subject, the report says so.",
                ),
            ],
            outputs=[
                sockets.Gate.Output(display_name="gate", tooltip="The gate: Make Rare, Make Rare: Conditioning, Make Rare: Word and Make Rare: Concept take it.")
            ],
        )

    @classmethod
    def validate_inputs(cls, subject=None, alternatives=None, eye=(), embeddings=()):
        # here None means that the input is linked
        return (embeddings is None or fits(check_subject, subject)) and (eye is not None or _words_fit(subject, alternatives))

    @classmethod
    def execute(cls, subject, every, threshold, on_no, decoder=None, eye=None, judge=None, alternatives=ALTERNATIVES, embeddings=None):
        chosen = choose_judge(subject, eye, alternatives.splitlines(), model=judge, baseline=embeddings)
        return io.NodeOutput(ValidityGate(chosen, decoder, every, threshold, on_no))
