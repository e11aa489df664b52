"""A bypassed Make Rare: ComfyUI hands its embeddings, a whole baseline, to whatever stood behind `rare` and `usual`."""

import json
from pathlib import Path

import pytest
import torch
from graph import nodes_in
from rarity import nodes
from rarity.density.base.embeddings import Embeddings
from rarity.density.base.errors import RarityError
from rarity.density.drawing import contact_sheet
from rarity.density.drawing.contact_sheet import HEADINGS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def whole(model):
    rows = torch.randn(2000, model[1].space.width, generator=torch.Generator().manual_seed(0))
    return Embeddings(rows, model[1].space)


@pytest.mark.parametrize("name", ["RarityDecodeKandinsky", "RarityToClipVisionOutput"])
def test_a_whole_baseline_is_not_drawn_by_mistake(run, model, whole, name):
    given = {"decoder": model[1], "steps": 1} if name == "RarityDecodeKandinsky" else {}
    said = "got 2,000 embeddings, one picture each, and at most is 256. .* bypassed .*Make Rare.* set at most to 2000"
    with pytest.raises(RarityError, match=said):
        run(getattr(nodes, name), embeddings=whole, **given)
    some = whole.select(range(3))
    with pytest.raises(RarityError, match="got 3 embeddings"):
        run(getattr(nodes, name), embeddings=some, at_most=2, **given)
    assert len(run(getattr(nodes, name), embeddings=some, at_most=3, **given)[0]) == 3


def test_no_shipped_workflow_changes_the_limit():
    for path in (ROOT / "workflows").glob("*.json"):
        for node in nodes_in(json.loads(path.read_text(encoding="utf-8"))):
            if node["type"] in ("RarityDecodeKandinsky", "RarityToClipVisionOutput"):
                assert node["widgets_values"][-1] == 256


def test_what_is_not_shown_to_be_rare_is_not_called_rare(run, density, baseline, monkeypatch):
    written, write = [], contact_sheet.write
    monkeypatch.setattr(contact_sheet, "write", lambda figure, x, y, text, *given, **told: (written.append(text), write(figure, x, y, text, *given, **told)))
    pictures = torch.rand(4, 8, 8, 3)

    def titles(trajectory=None, **chosen):
        written.clear()
        given = {} if trajectory is None else {"trajectory": trajectory}
        run(nodes.RarityContactSheet, rare=pictures, usual=pictures, **given, **chosen)
        return written[0], next(text for text in written if text != written[0] and not text.startswith("1 in "))

    def made(one_in):
        return run(nodes.RarityMakeRare, density=density, embeddings=baseline, one_in=one_in, count=4, steps=5)[2]

    assert titles() == (HEADINGS[0], "Not known to be rare")
    assert titles(made(50)) == HEADINGS
    assert titles(made(2)) == (HEADINGS[0], "Moved to 1 in 2")
    assert titles(rare_title="Round 2", usual_title="Round 1") == ("Round 1", "Round 2")
