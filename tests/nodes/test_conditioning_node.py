"""RarityMakeRareConditioning, RarityMakeRareWord and RaritySeedVariety without their models: what is missing is said before anything is drawn. tests/comfyui runs the rest."""

import pytest
from rarity import nodes
from rarity.density.base.errors import RarityError


@pytest.mark.parametrize("eyes, got", [({}, "none"), ({"clip_vision": object(), "prior": object()}, "clip_vision and prior")])
def test_exactly_one_eye_is_connected(run, density, eyes, got):
    with pytest.raises(RarityError, match=f"Make Rare: Conditioning needs exactly one of .*, got {got}"):
        run(nodes.RarityMakeRareConditioning, model=object(), positive=[], negative=[], vae=object(), density=density, **eyes)
    with pytest.raises(RarityError, match=f"Make Rare: Word needs exactly one of .*, got {got}"):
        run(nodes.RarityMakeRareWord, model=object(), clip=object(), negative=[], vae=object(), density=density, **eyes)
    with pytest.raises(RarityError, match=f"Seed Variety needs exactly one of .*, got {got}"):
        run(nodes.RaritySeedVariety, model=object(), positive=[], negative=[], vae=object(), **eyes)
