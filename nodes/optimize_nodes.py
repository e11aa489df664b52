"""The node that makes embeddings rare, its dial, and the node that says in which direction."""

from comfy_api.latest import io

from ..density.base.errors import RarityError, quoted
from ..density.calibration.surprisal import MIN_SCORES
from ..density.estimators.choose import check_steers
from ..density.steering.starts import check_starts, make_rare
from ..generators.eyes.direction_sources import check_ends
from ..generators.eyes.direction_sources import direction as make_direction
from .parts import sockets
from .parts.fits import fits
from .parts.found_by import found_by
from .parts.node_progress import node_progress
from .parts.upstream import estimator_before, number_before

STOPS = {f"{number:,}": number for number in (10, 100, 1_000, 10_000, 100_000, 1_000_000)}
BOLD, LIGHT = "a bold letter R", "a light letter R"  # two phrases that the miniature knows


def number_of(stop):
    """The number of a stop of the dial. Raises RarityError for another text: ComfyUI 0.3.64 does not check its menus."""
    if stop not in STOPS:
        raise RarityError(
            f"Rarity Dial stops at {', '.join(STOPS)}; got {quoted(stop)}. Choose one of these, or type a number into 1 in of Make Rare."
        )
    return STOPS[stop]


class RarityMakeRare(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityMakeRare",
            display_name="Make Rare",
            category="Rarity/make rare",
            description="Moves usual samples to the rarity you dial, 1 in N, and keeps them inside the guardrails. It works on "
            "embeddings (what pictures show, as numbers).",
            **found_by(
                "rare", "creative", "creativity", "different", "unusual", "unique", "weird", "surprise", "variation", "novel", "random",
            ),
            inputs=[
                sockets.Density.Input("density", tooltip="What is usual, from Fit Density."),
                sockets.Embeddings.Input(
                    "embeddings",
                    tooltip="Samples to start from: best the baseline that the density learnt from. From other samples results come "
                    "out rarer than dialled if the baseline is small.",
                ),
                io.Int.Input(
                    "one_in",
                    default=1000,
                    min=2,
                    max=1000000,
                    tooltip="The dial: how rarely the model would make this by itself. "
                    "10 is unusual, 1,000 is rare, 10,000 is beyond what 2,000 samples can measure.",
                ),
                io.Int.Input("count", default=16, min=1, max=4096, tooltip="How many rare embeddings to make."),
                io.Combo.Input(
                    "start_from",
                    options=["usual", "rarer"],
                    default="rarer",
                    tooltip="rarer: one of the baseline's rarest tenth, which are already unusual. usual: any sample; results stay plainer.",
                ),
                io.Int.Input(
                    "steps",
                    default=100,
                    min=1,
                    max=10000,
                    tooltip="Steps along the wanted rarity while the guardrails pull. 100 takes well under a second.",
                ),
                sockets.seed_input("Picks which samples to start from. Another seed gives other rare pictures."),
                sockets.Guardrail.Input(
                    "guardrail",
                    optional=True,
                    tooltip="The chain of guardrails. Without one the pictures are rare, but may no longer be the subject.",
                ),
                sockets.Direction.Input(
                    "direction",
                    optional=True,
                    tooltip="The chain of directions: which way to be rare. Guardrails and the dialled rarity go first.",
                ),
                sockets.Embeddings.Input(
                    "picture",
                    optional=True,
                    tooltip="Variations of this picture, from Encode Images, instead of samples of the baseline. "
                    "Several pictures are taken in turn.",
                ),
                io.Float.Input(
                    "how_far",
                    optional=True,
                    default=0.4,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="With a picture: how far from it. 0 is the picture itself at the dialled rarity, 1 is as far as unrelated "
                    "samples, 2 its opposite. The dial 1 in says how rare.",
                ),
                sockets.Gate.Input(
                    "gate",
                    optional=True,
                    tooltip="Validity Gate: looks at the pictures on the way, and sends back those that are no longer the subject.",
                ),
            ],
            outputs=[
                sockets.Embeddings.Output(display_name="rare", tooltip="The rare embeddings: Decode Kandinsky draws them."),
                sockets.Embeddings.Output(
                    display_name="usual", tooltip="As many usual samples, picked at random, to set beside the rare ones."
                ),
                sockets.Trajectory.Output(
                    display_name="trajectory", tooltip="Every kept step and its readings, for the map and the contact sheet."
                ),
                io.String.Output(
                    display_name="report", tooltip="In words: how rare they are, and how many kept every guardrail."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, count=None, embeddings=None):
        steers = fits(check_steers, estimator_before("density"))
        return steers and fits(check_starts, count, number_before("embeddings", MIN_SCORES))

    @classmethod
    def execute(cls, density, embeddings, one_in, count, start_from, steps, seed, guardrail=(), direction=(),
                picture=None, how_far=0.4, gate=None):
        trajectory, usual = make_rare(
            density, embeddings, one_in, count, guardrail, start_from=start_from, picture=picture, how_far=how_far,
            directions=direction, steps=steps, seed=seed, gate=gate, progress=node_progress(),
        )
        return io.NodeOutput(trajectory.final, usual, trajectory, trajectory.report())


class RarityDial(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityDial",
            display_name="Rarity Dial",
            category="Rarity/make rare",
            description="Sets how rare results are to be, in stops: one click from 1 in 100 to 1 in 1,000. Connect it to 1 in of one "
            "or several Make Rare nodes.",
            **found_by("dial", "how rare", "1 in 1000", "creative", "creativity", "slider", "amount", "strength"),
            inputs=[
                io.Combo.Input(
                    "stop",
                    options=list(STOPS),
                    default="1,000",
                    tooltip="1 in so many. 10 is unusual, 1,000 is rare, 10,000 is beyond what 2,000 samples can measure. For a "
                    "number between the stops type it into 1 in itself.",
                ),
            ],
            outputs=[io.Int.Output(display_name="1 in", tooltip="The number: for 1 in of Make Rare and the others.")],
        )

    @classmethod
    def validate_inputs(cls, stop=None):
        return fits(number_of, stop)

    @classmethod
    def execute(cls, stop):
        return io.NodeOutput(number_of(stop))


class RaritySteerTowards(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RaritySteerTowards",
            display_name="Steer Towards",
            category="Rarity/make rare",
            description="Says which way to be rare: bolder rather than lighter, more like these pictures, less like those. "
            "Connect one source: an eye for words, embeddings for pictures, or a density.",
            **found_by("steer", "more like", "less like", "style", "slider", "explore", "towards"),
            inputs=[
                io.Float.Input(
                    "strength",
                    default=2.0,
                    min=-20.0,
                    max=20.0,
                    step=0.1,
                    tooltip="How far, in standard deviations (one is how far usual samples typically lie from their average). 2 is "
                    "clearly visible, 0 changes nothing, below 0 goes the other way.",
                ),
                sockets.eye_input(f"For a direction in words, the eye that reads them: {sockets.A_READER}", sockets.READERS, optional=True),
                io.String.Input(
                    "towards",
                    multiline=True,
                    optional=True,
                    default=BOLD,
                    tooltip="With an eye: where to, one phrase a line. Differ from the other box in one word only.",
                ),
                io.String.Input(
                    "away_from",
                    multiline=True,
                    optional=True,
                    default=LIGHT,
                    tooltip="With an eye: where from, one phrase a line.",
                ),
                sockets.Embeddings.Input(
                    "embeddings_towards",
                    optional=True,
                    tooltip="Pictures to go to. If only these are connected: nearer to the nearest of them. With embeddings away, too: "
                    "from those to these.",
                ),
                sockets.Embeddings.Input(
                    "embeddings_away",
                    optional=True,
                    tooltip="Pictures to come from. If only these are connected: further from the nearest of them.",
                ),
                sockets.Density.Input(
                    "density", optional=True, tooltip=(
                        "A density: goes along one of its main directions, or nearer to what it calls usual."
                    )
                ),
                io.Int.Input(
                    "component",
                    optional=True,
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="With a density: which of its main directions, 1 is the largest. 0 goes towards the density itself.",
                ),
                sockets.Direction.Input(
                    "direction", optional=True, tooltip="Another direction to follow as well. Leave it empty for the first one."
                ),
            ],
            outputs=[
                sockets.Direction.Output(
                    display_name="directions",
                    tooltip="The chain with this direction added: the next direction or Make Rare takes it.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, towards=None, away_from=None, eye=()):
        return eye is not None or fits(check_ends, towards, away_from)  # a link is None here

    @classmethod
    def execute(cls, strength, eye=None, towards=BOLD, away_from=LIGHT, embeddings_towards=None, embeddings_away=None,
                density=None, component=0, direction=()):
        one = make_direction(
            strength, eye=eye, towards=towards, away_from=away_from, embeddings_towards=embeddings_towards,
            embeddings_away=embeddings_away, density=density, component=component,
        )
        return io.NodeOutput((*direction, one))
