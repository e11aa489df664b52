"""Nodes that keep densities, embeddings, memories and concepts on disk, in ComfyUI's models/rarity_... folders."""

from comfy_api.latest import io, ui

from ..density.files.store import (
    load_density,
    load_embeddings,
    load_exposure,
    save_density,
    save_embeddings,
    save_exposure,
)
from ..density.novelty.exposure import ExposureMemory
from ..generators.concepts.concept_files import load_concept, save_concepts
from ..generators.concepts.export import export_concepts
from .parts import sockets
from .parts.fits import fits
from .parts.folders import (
    CONCEPTS,
    DENSITIES,
    EMBEDDINGS,
    EXPOSURES,
    LORAS,
    TOKENS,
    digest,
    file_to_read,
    file_to_write,
    name_inside,
    saved_names,
)
from .parts.found_by import found_by
from .parts.said import say

NAME_TOOLTIP = "The file's name, without a folder. .safetensors is added."


def _kept(kind, name):
    """The fingerprint of a save node: it runs again where its file is gone or another, though nothing in the graph changed."""
    known = digest(file_to_write(kind, name)) if name is not None else ""  # None: of a link that has no value yet
    return known or float("nan")  # which equals nothing


def _saved(save, thing, kind, name):
    """Save something under a name, and show the name."""
    path = file_to_write(kind, name)
    save(thing, path)
    return io.NodeOutput(ui=ui.PreviewText(say(f"Saved as {path.name}")))


class RaritySaveDensity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RaritySaveDensity",
            display_name="Save Density",
            category="Rarity/files",
            description="Saves a density as a .safetensors file in ComfyUI's models/rarity_densities, to use it "
            "again without sampling, or to share it. A file of the same name is replaced.",
            **found_by("save baseline", "keep", "export"),
            inputs=[
                sockets.Density.Input("density", tooltip="The density to save."),
                io.String.Input("name", default="letter_R", tooltip=NAME_TOOLTIP + " As folder/name it lies in a folder of its own."),
            ],
            outputs=[
                io.String.Output(display_name="file", tooltip="The saved file inside models/rarity_densities, as Load Density lists it."),
                sockets.Density.Output(display_name="density", tooltip="The same density, for what is to come after it was saved."),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name=None):
        return fits(file_to_write, DENSITIES, name)

    @classmethod
    def fingerprint_inputs(cls, name, density=None):
        return _kept(DENSITIES, name)

    @classmethod
    def execute(cls, density, name):
        path = file_to_write(DENSITIES, name)
        save_density(density, path)
        file = name_inside(DENSITIES, path)
        return io.NodeOutput(file, density, ui=ui.PreviewText(say(f"Saved as {file}")))


class RarityLoadDensity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityLoadDensity",
            display_name="Load Density",
            category="Rarity/files",
            description="Loads a saved density. It only fits embeddings of the model it was made with, and says so if not.",
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


class RaritySaveEmbeddings(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RaritySaveEmbeddings",
            display_name="Save Embeddings",
            category="Rarity/files",
            description="Saves embeddings as a .safetensors file in ComfyUI's models/rarity_embeddings: a baseline that "
            "took long to sample, or pictures you liked. A file of the same name is replaced.",
            **found_by("keep", "export"),
            inputs=[
                sockets.Embeddings.Input("embeddings", tooltip="The embeddings to save."),
                io.String.Input("name", default="letter_R", tooltip=NAME_TOOLTIP),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name=None):
        return fits(file_to_write, EMBEDDINGS, name)

    @classmethod
    def fingerprint_inputs(cls, name, embeddings=None):
        return _kept(EMBEDDINGS, name)

    @classmethod
    def execute(cls, embeddings, name):
        return _saved(save_embeddings, embeddings, EMBEDDINGS, name)


class RarityLoadEmbeddings(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityLoadEmbeddings",
            display_name="Load Embeddings",
            category="Rarity/files",
            description="Loads saved embeddings. They only fit the model they were made with, and say so if not.",
            **found_by("reuse", "import"),
            inputs=[
                io.Combo.Input(
                    "name",
                    options=saved_names(EMBEDDINGS),
                    tooltip="A file in ComfyUI's models/rarity_embeddings. Press R to see files saved a moment ago.",
                ),
            ],
            outputs=[sockets.Embeddings.Output(display_name="embeddings", tooltip="The embeddings, as they were saved.")],
        )

    @classmethod
    def fingerprint_inputs(cls, name):
        return digest(file_to_read(EMBEDDINGS, name))

    @classmethod
    def execute(cls, name):
        return io.NodeOutput(load_embeddings(file_to_read(EMBEDDINGS, name)))


class RaritySaveExposure(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RaritySaveExposure",
            display_name="Save Exposure",
            category="Rarity/files",
            description="Saves what was seen as a .safetensors file in ComfyUI's models/rarity_exposures, so that the next "
            "run knows it. A file of the same name is replaced.",
            **found_by("save memory", "already seen", "remember"),
            inputs=[
                sockets.Exposure.Input("exposure", tooltip="The memory to save, from Update Exposure."),
                io.String.Input("name", default="seen", tooltip=NAME_TOOLTIP + " Load Exposure takes the same one."),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name=None):
        return fits(file_to_write, EXPOSURES, name)

    @classmethod
    def fingerprint_inputs(cls, name, exposure=None):
        return _kept(EXPOSURES, name)

    @classmethod
    def execute(cls, exposure, name):
        return _saved(save_exposure, exposure, EXPOSURES, name)


class RarityLoadExposure(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityLoadExposure",
            display_name="Load Exposure",
            category="Rarity/files",
            description="Loads what was seen in earlier runs. When Save Exposure has changed the file, the next run notices.",
            **found_by("load memory", "already seen", "history"),
            inputs=[
                io.String.Input(  # no menu: the file of a first run does not exist yet
                    "name",
                    default="seen",
                    tooltip="A file in ComfyUI's models/rarity_exposures, by the name it is saved under.",
                ),
                sockets.Embeddings.Input(
                    "embeddings",
                    optional=True,
                    tooltip="Any embeddings of your model. With them, a name that was not saved yet is an empty memory; "
                    "without them it is an error.",
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


class RaritySaveConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RaritySaveConcept",
            display_name="Save Concept",
            category="Rarity/files",
            description="Saves a learnt concept with all its checkpoints as a .safetensors file in ComfyUI's "
            "models/rarity_concepts. A file of the same name is replaced.",
            is_input_list=True,
            **found_by("keep", "lora", "textual inversion"),
            inputs=[
                sockets.Concept.Input(
                    "concept", tooltip="The concept to save, from Make Rare: Concept. Those of several seeds are numbered: name_1, name_2."
                ),
                io.String.Input("name", default="rare_R", tooltip=NAME_TOOLTIP),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name=(None,)):
        return fits(file_to_write, CONCEPTS, name[0])

    @classmethod
    def fingerprint_inputs(cls, name, concept=None):
        return _kept(CONCEPTS, name[0])

    @classmethod
    def execute(cls, concept, name):
        return io.NodeOutput(ui=ui.PreviewText(say(save_concepts(concept, file_to_write(CONCEPTS, name[0])))))


class RarityLoadConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityLoadConcept",
            display_name="Load Concept",
            category="Rarity/files",
            description="Loads a learnt concept, also one that Make Rare: Concept kept while it learnt. It only fits the model it was "
            "learnt with, and says so if not.",
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
            description="Writes a learnt concept for other programs, such as diffusers: its token as a textual inversion in "
            "ComfyUI's models/embeddings, its LoRA in models/loras, which ComfyUI's own LoRA loaders cannot use: it is of Kandinsky's "
            "prior. Only what was exported here before is replaced.",
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
