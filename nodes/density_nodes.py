"""Nodes that learn what a model usually makes, and show it."""

from itertools import chain

from comfy_api.latest import io, ui

from ..density.calibration.enough import check_enough
from ..density.drawing.density_map import density_map
from ..density.estimators.choose import CHOICES, check_estimator, fit_density
from ..density.estimators.cross_fit import check_components, check_width
from ..density.estimators.merge import merge_densities
from ..density.files.store import load_densities
from ..generators.eyes.usual_words import EXAMPLES, phrases_of, usual_in_words
from .parts import sockets
from .parts.fits import fits
from .parts.folders import DENSITIES, digests, files_in, kandinsky_width
from .parts.found_by import found_by
from .parts.node_progress import node_progress
from .parts.said import say
from .parts.upstream import model_before, number_before


class RarityFitDensity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityFitDensity",
            display_name="Fit Density",
            category="Rarity/density",
            description="Learns from a baseline (usual samples) what is usual, and checks the figures on samples that it did not learn "
            "from. So 1 in 1,000 means the same for every prompt and model.",
            **found_by("learn usual", "distribution", "statistics", "train", "rarity"),
            inputs=[
                sockets.Embeddings.Input("embeddings", tooltip="The baseline, from Sample Prior: at least a few hundred."),
                io.Int.Input(
                    "components",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="How many main directions the density has. 0 picks the number that predicts unseen samples best.",
                ),
                io.Combo.Input(
                    "estimator",
                    options=list(CHOICES),
                    default="ppca",
                    optional=True,
                    tooltip="The method of learning. ppca: some main directions; right for most prompts. auto: tries all but "
                    "neighbours and takes the method that predicts unseen samples best. mixture: several kinds of usual things, as for "
                    "a prompt that means two things. neighbours: how near the nearest samples are; it can score, but Make Rare cannot "
                    "steer with it. qis: every direction by itself, for a few hundred samples of long embeddings. ledoit-wolf, oas, "
                    "full: the same in simpler ways, for many samples.",
                ),
            ],
            outputs=[
                sockets.Density.Output(
                    display_name="density", tooltip="What is usual for this prompt, and how rare anything else is."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, embeddings=None, components=None, estimator="ppca"):
        known = fits(check_estimator, estimator) and fits(check_components, estimator, components)
        known = known and fits(check_width, components, kandinsky_width(model_before("embeddings")))
        return known and fits(check_enough, number_before("embeddings"), components or 0)  # None: components are linked

    @classmethod
    def execute(cls, embeddings, components, estimator="ppca"):
        density = fit_density(embeddings, estimator, components=components, progress=node_progress())
        return io.NodeOutput(density)


class RarityMergeDensities(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityMergeDensities",
            display_name="Merge Densities",
            category="Rarity/density",
            description="Makes one density of several that were learnt apart, on several machines or days. The result is the same as "
            "learning from all samples at once. Connect the densities, or name the folder they were saved in.",
            **found_by("combine", "join", "add baselines", "shards"),
            inputs=[
                sockets.Density.Input("density_1", optional=True, tooltip="A density: Fit Density or Load Density."),
                sockets.Density.Input(
                    "density_2",
                    optional=True,
                    tooltip="Another density, of the same model and estimator, from samples of another seed or of other numbers of one seed.",
                ),
                sockets.Density.Input("density_3", optional=True, tooltip="A third one, if there is one."),
                sockets.Density.Input(
                    "density_4", optional=True, tooltip="A fourth one. For more than four, merge what this node gives, or name a folder."
                ),
                io.String.Input(
                    "folder",
                    optional=True,
                    default="",
                    tooltip="A folder inside models/rarity_densities: all densities in it are merged, too, such as those that several "
                    "machines saved as usual/1, usual/2. Empty takes none.",
                ),
            ],
            outputs=[
                sockets.Density.Output(
                    display_name="density", tooltip="The density of all samples together, in whatever order they came."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, density_1=None, density_2=None, density_3=None, density_4=None, folder=""):
        return digests(files_in(DENSITIES, folder))

    @classmethod
    def execute(cls, density_1=None, density_2=None, density_3=None, density_4=None, folder=""):
        given = filter(None, (density_1, density_2, density_3, density_4))
        saved = load_densities(files_in(DENSITIES, folder))
        return io.NodeOutput(merge_densities(chain(given, saved), progress=node_progress()))


class RarityDensityMap(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityDensityMap",
            display_name="Density Map",
            category="Rarity/density",
            description="Draws a density: where the usual samples lie, where 1 in 1,000 begins, and the way of the rare ones from the "
            "usual ones.",
            **found_by("plot", "visualize", "explore", "scatter"),
            inputs=[
                sockets.Density.Input("density", tooltip="The density to show."),
                sockets.Embeddings.Input(
                    "embeddings", optional=True, tooltip="The baseline: drawn as the cloud of usual samples."
                ),
                sockets.Trajectory.Input(
                    "trajectory", optional=True, tooltip="The trajectory of Make Rare: drawn as the way of each picture."
                ),
            ],
            outputs=[io.Image.Output(display_name="map", tooltip="The map, to preview or save.")],
        )

    @classmethod
    def execute(cls, density, embeddings=None, trajectory=None):
        return io.NodeOutput(density_map(density, embeddings, trajectory, progress=node_progress()))


class RarityDescribeDensity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityDescribeDensity",
            display_name="Describe Density",
            category="Rarity/density",
            description="Says in words what a density learnt about what is usual, and whether its samples are enough for the rarity you want.",
            **found_by("explain", "report", "statistics", "usual"),
            inputs=[
                sockets.Density.Input("density", tooltip="The density to describe."),
                io.Int.Input(
                    "one_in",
                    default=1000,
                    min=2,
                    max=1000000,
                    tooltip="The rarity you have in mind, as 1 in N: the text says how sure the density is of it.",
                ),
            ],
            outputs=[io.String.Output(display_name="text", tooltip="The description, for Preview Any or a text file.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, density, one_in):
        text = density.describe(one_in)
        return io.NodeOutput(text, ui=ui.PreviewText(say(text)))


class RarityUsualInWords(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityUsualInWords",
            display_name="Usual in Words",
            category="Rarity/density",
            description="Says in your words what a model's habit is: which share of the usual samples the eye reads as each phrase, or "
            "as none of them. It says the same of rare samples, to show what changed.",
            **found_by("habit", "bias", "explain", "classify", "share", "words", "usual"),
            inputs=[
                sockets.Embeddings.Input("embeddings", tooltip="The usual samples, such as the baseline of Sample Prior."),
                io.String.Input(
                    "phrases",
                    multiline=True,
                    default="a bold letter R\na light letter R",
                    tooltip="What to look for, one phrase a line, two or more. The clearest phrases are the prompt with one word changed.",
                ),
                sockets.seed_input("Draws the examples that a prior imagines for each phrase."),
                sockets.eye_input(
                    "The eye of the samples. The prior of Load Kandinsky imagines examples of each phrase: so the node knows how often it "
                    "misreads, and corrects the shares. The encoder of Load OpenCLIP reads the words alone, which is less sure.",
                    sockets.READERS,
                ),
                sockets.Embeddings.Input("rare", optional=True, tooltip="Rare samples, from Make Rare, to set beside the usual ones."),
                sockets.advanced(
                    io.Int.Input(
                        "examples",
                        optional=True,
                        default=EXAMPLES,
                        min=20,
                        max=10000,
                        tooltip="How many examples of each phrase a prior imagines. With more, phrases that look alike are told apart more surely.",
                    )
                ),
            ],
            outputs=[io.String.Output(display_name="text", tooltip="The shares as a table, for Preview Any or a text file.")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, phrases=None):
        return fits(phrases_of, phrases)

    @classmethod
    def execute(cls, embeddings, phrases, seed, eye, rare=None, examples=EXAMPLES):
        text = usual_in_words(embeddings, phrases, eye, rare=rare, examples=examples, seed=seed, progress=node_progress())
        return io.NodeOutput(text, ui=ui.PreviewText(say(text)))
