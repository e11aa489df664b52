"""Nodes that read a folder of pictures, make new pictures of them without a network, and show where each piece came from."""

import comfy.model_management
from comfy_api.latest import io

from ..density.base.errors import RarityError
from ..generators.eyes.picture_folder import load_pictures
from ..generators.local_score.new_pictures import Recipe, new_from_either
from ..generators.local_score.origins_map import origins_map
from ..generators.local_score.patch_origins import patch_origins
from .parts import sockets
from .parts.fits import fits
from .parts.found_by import found_by
from .parts.node_progress import node_preview, node_progress
from .parts.picture_folders import fingerprint_of, picture_folder, picture_folders
from .parts.said import say

PLACES = {
    "same place": "local",
    "anywhere": "boundary-broken",
    "anywhere, tileable": "equivariant",
    "whole pictures": "ideal",
}
SIZES = {
    "as for photographs": "photographs",
    "as for faces": "faces",
    "as for drawings": "drawings",
    "from the pictures": "pictures",
    "my own list": "list",
}


class RarityLoadPictures(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityLoadPictures",
            display_name="Load Pictures",
            category="Rarity/pictures",
            description="Loads a folder of pictures as one batch of one size, and says whose each picture is, as its metadata.csv has it.",
            **found_by("folder", "load images", "batch", "directory", "credit", "licence", "attribution", "metadata.csv"),
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=list(picture_folders()),
                    tooltip="A folder in ComfyUI's input folder; pictures in its folders count. Press R to see a new one. The built-in one has "
                    "60 free pictograms of bags.",
                ),
                io.Int.Input(
                    "size",
                    default=64,
                    min=0,
                    max=4096,
                    tooltip="The middle square of each picture is scaled to so many pixels. 0 leaves pictures as they are; then all must be of "
                    "one size.",
                ),
                io.Int.Input(
                    "at_most", default=256, min=1, max=100000, tooltip="So many pictures are read, the first in the order of their names."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The pictures; what was transparent is white."),
                io.String.Output(
                    display_name="credits", tooltip="One line for each picture: its title, author, licence and source, or its file's name. For "
                    "Patch Origins."
                ),
                io.String.Output(display_name="report", tooltip="In words: how many pictures, and how many of them have credits."),
            ],
        )

    @classmethod
    def validate_inputs(cls, folder=None):
        return fits(picture_folder, folder)

    @classmethod
    def fingerprint_inputs(cls, folder, size, at_most):
        return fingerprint_of(folder, at_most)

    @classmethod
    def execute(cls, folder, size, at_most):
        found = load_pictures(picture_folder(folder), size, at_most, progress=node_progress())
        return io.NodeOutput(found.images, found.lines(), found.report())


class RarityLocalScore(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityLocalScore",
            display_name="Local Score",
            category="Rarity/pictures",
            description="Makes new pictures from your pictures, with no model at all: every small piece looks like a piece of one of "
            "yours, and the whole looks like none of them. Connect images, or latent and vae.",
            **found_by("texture", "patches", "no model", "collage", "creative", "random", "new from folder", "variation"),
            inputs=[
                io.Int.Input("count", default=4, min=1, max=256, tooltip="How many new pictures."),
                sockets.seed_input(
                    "Draws the noise that the pictures start from. The same seed gives the same pictures."
                ),
                io.Combo.Input(
                    "pieces_from",
                    options=list(PLACES),
                    default="same place",
                    tooltip="Where a piece may come from. Same place: for pictures that lie alike, such as letters or faces; fast. "
                    "Anywhere: for textures and scenes. Tileable: the same, without a seam. Whole pictures only repeats yours.",
                ),
                io.Combo.Input(
                    "patch_sizes",
                    options=list(SIZES),
                    default="as for photographs",
                    tooltip="How far a pixel looks at each step. Published sizes fit trained networks; from the pictures measures how "
                    "far apart pixels of your own pictures still depend on each other. My own list is written into the advanced input sizes.",
                ),
                io.Float.Input(
                    "patch_scale",
                    default=1.0,
                    min=0.1,
                    max=10.0,
                    step=0.05,
                    tooltip="The dial between faithful and inventive: above 1 larger pieces of your pictures survive, "
                    "below 1 they are mixed in smaller ones.",
                ),
                sockets.advanced(
                    io.Int.Input(
                        "steps",
                        default=20,
                        min=1,
                        max=1000,
                        tooltip="Steps from noise to picture. 20 is the published number.",
                    )
                ),
                sockets.advanced(
                    io.Int.Input(
                        "patches",
                        default=20000,
                        min=0,
                        max=100000000,
                        tooltip="How many pieces each pixel chooses from, where they may come from anywhere. More is slower and "
                        "closer to your pictures. 0 takes all there are.",
                    )
                ),
                io.Float.Input(
                    "max_minutes",
                    default=10.0,
                    min=0.1,
                    max=100000.0,
                    step=0.1,
                    tooltip="The time is estimated first. If it would take longer than this, an error says so and offers faster "
                    "settings.",
                ),
                io.Image.Input(
                    "images", optional=True, tooltip="Your pictures: two or more, all of one size. Load Pictures reads a folder."
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="Instead of images: a batch of latents, for larger pictures. Needs vae.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="Decodes what was made from latent."),
                sockets.advanced(
                    io.String.Input(
                        "sizes",
                        optional=True,
                        default="",
                        tooltip='The list for "my own list": odd numbers of pixels, from the last step to the first, such as '
                        "3 3 5 7 11 17. It is stretched over the steps.",
                    )
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The new pictures, for any node that takes pictures.")
            ],
        )

    @classmethod
    def execute(
        cls,
        count,
        seed,
        pieces_from,
        patch_sizes,
        patch_scale,
        steps,
        patches,
        max_minutes,
        images=None,
        latent=None,
        vae=None,
        sizes="",
    ):
        kind, schedule = _choice(PLACES, pieces_from), _choice(SIZES, patch_sizes)
        recipe = Recipe(kind, schedule, patch_scale, steps, patches or None, sizes, max_minutes)
        progress, preview = node_preview()
        return io.NodeOutput(new_from_either(
            images, latent and latent["samples"], vae and vae.decode, count, recipe,
            device=comfy.model_management.get_torch_device(), seed=seed, progress=progress, preview=preview,
        ))


class RarityPatchOrigins(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RarityPatchOrigins",
            display_name="Patch Origins",
            category="Rarity/pictures",
            description="Shows which of your pictures each piece of a new picture came from, so that its sources can be "
            "credited: a map in colours with a legend, and the shares as text.",
            **found_by("credit", "attribution", "sources", "where from"),
            inputs=[
                io.Image.Input("images", tooltip="The new pictures, from Local Score."),
                io.Image.Input("sources", tooltip="The pictures they were made from, of the same size."),
                io.Int.Input(
                    "patch",
                    default=9,
                    min=1,
                    max=255,
                    step=2,
                    tooltip="The size of the pieces that are compared, in pixels; odd. Larger pieces give a calmer map.",
                ),
                io.Combo.Input(
                    "pieces_from",
                    options=["same place", "anywhere"],
                    default="same place",
                    tooltip="Where the pieces may have come from, as in Local Score. Anywhere takes longer.",
                ),
                io.Float.Input(
                    "max_minutes",
                    optional=True,
                    default=10.0,
                    min=0.1,
                    max=100000.0,
                    step=0.1,
                    tooltip="For pieces from anywhere: the time is estimated first. If it would take longer than this, an error says "
                    "so and offers faster settings.",
                ),
                io.String.Input(
                    "source_credits",
                    optional=True,
                    force_input=True,
                    tooltip="Whose the sources are, one line for each, from Load Pictures: sources of one line are one, with its name. Without it "
                    "sources have numbers.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="map", tooltip="Each picture beside its map, and the sources in their colours."
                ),
                io.String.Output(display_name="credits", tooltip=(
                    "One line for each picture: its sources and their shares. Then the credits of all, if they are known."
                )),
            ],
        )

    @classmethod
    def execute(cls, images, sources, patch, pieces_from, max_minutes=10.0, source_credits=""):
        moved = _choice({"same place": False, "anywhere": True}, pieces_from)
        settings = {"moved": moved, "minutes": max_minutes, "credits": source_credits, "progress": node_progress()}
        origins = patch_origins(images, sources, patch, **settings)
        say(origins.brief())
        return io.NodeOutput(origins_map(images, sources, origins), origins.table())


def _choice(menu, name):
    """The value of a menu's entry. ComfyUI does not check the entries of saved workflows itself."""
    if name not in menu:
        raise RarityError(f"There is no choice {name!r} here. Choose one of: {', '.join(menu)}.")
    return menu[name]
