"""Nodes that save and load densities, embeddings, exposures and concepts, in ComfyUI's models/rarity_... folders."""

from comfy_api.latest import io, ui

from ..density.files.store import load_density, load_exposure
from ..density.novelty.exposure import ExposureMemory
from ..generators.concepts.concept_files import load_concept
from ..generators.concepts.export import export_concepts
from ..generators.runtime.kept_baselines import load_kept
from .parts import sockets
from .parts.fits import fits
from .parts.folders import (
    CONCEPTS,
    DENSITIES,
    EXPOSURES,
    LORAS,
    TOKENS,
    baseline_names,
    baseline_to_read,
    digest,
    digests,
    file_to_read,
    file_to_write,
    saved_names,
)
from .parts.found_by import found_by
from .parts.said import say
from .parts.saving import check_name, kept_as, save_all


class RaritySaveFile(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RaritySaveFile",
            display_name="Save Rarity File",
            category="Rarity/files",
            description="Saves a density, embeddings, an exposure (what was seen) or a learnt concept as a .safetensors file in "
            "ComfyUI's models folder, to use it again without making it anew, or to share it. A file of the same name is replaced.",
            is_input_list=True,
            **found_by(
                "save density", "save embeddings", "save exposure", "save concept", "save baseline", "save memory", "remember", "keep", "export"
            ),
            inputs=[
                sockets.Kept.Input(
                    "what", tooltip="What to save: a density, embeddings, an exposure or a concept. A list is numbered: name_1, name_2."
                ),
                io.String.Input(
                    "name",
                    default="letter_R",
                    tooltip="The file's name; .safetensors is added. As folder/name it lies in a folder of its own. Load Density, Load "
                    "Embeddings, Load Exposure and Load Concept know it by this name.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="file", is_output_list=True, tooltip="The saved file inside the folder of its kind, as the loaders list it."
                ),
                sockets.Kept.Output(
                    display_name="saved", is_output_list=True, tooltip=(
                        "What was saved, unchanged, for nodes that are to run after the file was written."
                    )
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name=(None,)):
        return fits(check_name, name[0])

    @classmethod
    def fingerprint_inputs(cls, name, what=None):
        return kept_as(name[0])

    @classmethod
    def execute(cls, what, name):
        files, text = save_all(what, name[0])
        return io.NodeOutput(files, what, ui=ui.PreviewText(say(text)))


class RarityLoadDensity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityLoadDensity",
            display_name="Load Density",
            category="Rarity/files",
            description="Loads a saved density. It fits only the model it was made with; with embeddings of another model an error "
            "says so.",
            **found_by("load baseline", "reuse"),
            inputs=[
                io.Combo.Input(
                    "name",
                    options=saved_names(DENSITIES),
                    tooltip="A file in ComfyUI's models/rarity_densities. Press R to see files saved a moment ago.",
                ),
            ],
            outputs=[sockets.Density.Output(display_name="density", tooltip="The density, as it was saved.")],
        )

    @classmethod
    def fingerprint_inputs(cls, name):
        return digest(file_to_read(DENSITIES, name))

    @classmethod
    def execute(cls, name):
        return io.NodeOutput(load_density(file_to_read(DENSITIES, name)))


class RarityLoadEmbeddings(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityLoadEmbeddings",
            display_name="Load Embeddings",
            category="Rarity/files",
            description="Loads saved embeddings, or a baseline that was kept while it was drawn (keep as). They fit only the model "
            "they were made with; with another model an error says so.",
            **found_by("reuse", "import", "load kept baseline", "keep as"),
            inputs=[
                io.Combo.Input(
                    "name",
                    options=baseline_names(),
                    tooltip="A file in ComfyUI's models/rarity_embeddings, or the name a baseline is kept as there. Press R to see what was "
                    "saved a moment ago.",
                ),
            ],
            outputs=[sockets.Embeddings.Output(display_name="embeddings", tooltip="The embeddings, as they were saved.")],
        )

    @classmethod
    def fingerprint_inputs(cls, name):
        return digests(baseline_to_read(name))

    @classmethod
    def execute(cls, name):
        return io.NodeOutput(load_kept(baseline_to_read(name)))


class RarityLoadExposure(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityLoadExposure",
            display_name="Load Exposure",
            category="Rarity/files",
            description="Loads what was seen in earlier runs. When Save Rarity File has changed the file, the next run notices.",
            **found_by("load memory", "already seen", "history"),
            inputs=[
                io.String.Input(  # not a menu, because the file of a first run does not exist yet
                    "name",
                    default="seen",
                    tooltip="A file in ComfyUI's models/rarity_exposures, by the name it is saved under.",
                ),
                sockets.Embeddings.Input(
                    "embeddings",
                    optional=True,
                    tooltip="Any embeddings of your model. With them, a name that was not saved yet gives an empty memory; without "
                    "them it is an error.",
                ),
            ],
            outputs=[sockets.Exposure.Output(display_name="exposure", tooltip="The memory: Score Novelty takes it.")],
        )

    @classmethod
    def fingerprint_inputs(cls, name, embeddings=None):
        return digest(file_to_read(EXPOSURES, name))

    @classmethod
    def execute(cls, name, embeddings=None):
        path = file_to_read(EXPOSURES, name)
        if embeddings is not None and not path.is_file():
            return io.NodeOutput(ExposureMemory(embeddings.space))
        return io.NodeOutput(load_exposure(path))


class RarityLoadConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityLoadConcept",
            display_name="Load Concept",
            category="Rarity/files",
            description="Loads a learnt concept, also one that Make Rare: Concept kept while it learnt. It fits only the model it was "
            "learnt with; with another model an error says so.",
            **found_by("reuse", "lora", "textual inversion"),
            inputs=[
                io.Combo.Input(
                    "name",
                    options=saved_names(CONCEPTS),
                    tooltip="A file in ComfyUI's models/rarity_concepts. Press R to see files saved a moment ago.",
                ),
            ],
            outputs=[
                sockets.Concept.Output(display_name="concept", tooltip="The concept, as it was saved: Sample Concept takes it."),
                sockets.Trajectory.Output(
                    display_name="trajectory", tooltip="Its checkpoints, for Interest Curve and Pick Step."
                ),
                io.String.Output(display_name="report", tooltip="In words: what was learnt and how rare it became."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, name):
        return digest(file_to_read(CONCEPTS, name))

    @classmethod
    def execute(cls, name):
        concept = load_concept(file_to_read(CONCEPTS, name))
        return io.NodeOutput(concept, concept.trajectory, concept.report())


class RarityExportConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityExportConcept",
            display_name="Export Concept",
            category="Rarity/files",
            description="Writes a learnt concept for other programs, such as diffusers: its token as a textual inversion in ComfyUI's "
            "models/embeddings, its LoRA in models/loras. ComfyUI's own LoRA loaders cannot use that LoRA, because it belongs to "
            "Kandinsky's prior. Only files that were exported here before are replaced.",
            is_input_list=True,
            **found_by("diffusers", "lora", "textual inversion", "share"),
            inputs=[
                sockets.Concept.Input(
                    "concept", tooltip="The concept, from Make Rare: Concept or Load Concept. Several are numbered: name_1, name_2."
                ),
                io.String.Input(
                    "name", default="rare-r", tooltip="The files' name, one word without a folder. The token is called <name>."
                ),
                io.Int.Input(
                    "checkpoint", default=-1, min=-4096, max=4096, tooltip="Which checkpoint: -1 is the last. Interest Curve numbers them."
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name=(None,)):
        return fits(file_to_write, TOKENS, name[0])

    @classmethod
    def fingerprint_inputs(cls, name, concept=None, checkpoint=None):
        return digest(file_to_write(TOKENS, name[0])) + digest(file_to_write(LORAS, name[0])) or float("nan")

    @classmethod
    def execute(cls, concept, name, checkpoint):
        paths = file_to_write(TOKENS, name[0]), file_to_write(LORAS, name[0])
        return io.NodeOutput(ui=ui.PreviewText(say(export_concepts(concept, *paths, checkpoint[0]))))
