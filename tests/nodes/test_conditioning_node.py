"""Nodes that draw with ComfyUI's models, without these models: what is no eye is named before anything is drawn. tests/comfyui runs the rest."""

import pytest
from rarity import nodes
from rarity.density.base.errors import RarityError


@pytest.mark.parametrize("node, more", [
    (nodes.RarityBaselineFromModel, {"positive": []}),
    (nodes.RaritySeedVariety, {"positive": []}),
    (nodes.RarityMakeRareConditioning, {"positive": [], "density": None}),
    (nodes.RarityMakeRareWord, {"clip": object(), "density": None}),
])
def test_what_is_no_eye_is_refused_with_what_to_connect(run, density, node, more):
    given = {"model": object(), "negative": [], "vae": object(), **more} | ({"density": density} if "density" in more else {})
    with pytest.raises(RarityError, match="An eye must be an encoder of Load CLIP Vision or Load OpenCLIP, or the prior of Load Kandinsky; got str"):
        run(node, eye="an eye", **given)
