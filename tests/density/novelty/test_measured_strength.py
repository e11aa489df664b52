"""What was measured at several strengths, kept in a file: the same strength again, for the same only, and nothing unsound."""

import json
from dataclasses import replace

import pytest
import torch
from rarity.density import RarityError, inspect_file
from rarity.density.files import container
from rarity.density.files.store import load_strength, save_strength
from rarity.density.novelty.measured_strength import MeasuredStrength
from rarity.density.novelty.strength import Look, find_strength


@pytest.fixture
def measured():
    """Six seeds that fan out with the strength and lose the subject with it; a guardrail that reads the first number, and a gate."""
    g = torch.Generator().manual_seed(0)
    own, added = torch.randn(2, 6, 20, generator=g)

    def look(strength):
        x = own + 2 * strength * added
        return Look(strength, x, torch.stack([*rails(x), 3 - strength + torch.arange(6.0)], dim=1).double())

    found = find_strength(look, 2.0, 0.95)
    tiles = {one.strength: torch.full((4, 2, 3, 3), i, dtype=torch.uint8) for i, one in enumerate(found.looks)}
    return MeasuredStrength(found.looks, 2.0, 0.95, 0.5, tiles, {"weights": "a", "steps": 8})


def rails(x):
    return [5 - x[:, 0].double()]


def test_it_comes_back_bit_for_bit_and_chooses_the_same_strength(measured, tmp_path):
    path = tmp_path / "kept.safetensors"
    save_strength(measured, path)
    again = load_strength(path)
    for one, other in zip(measured.looks, again.looks, strict=True):
        assert one.strength == other.strength and torch.equal(one.x, other.x) and torch.equal(one.slack, other.slack)
        assert torch.equal(measured.tiles[one.strength], again.tiles[one.strength])
    assert again.until == 0.5 and again.source == measured.source
    found, before = again.found, measured.found
    assert found.strength == before.strength > 0 and (found.limit, found.error) == (before.limit, before.error)
    json.dumps(inspect_file(path))
    assert inspect_file(path)["strength"] == before.strength


@pytest.mark.parametrize("guards", [0, 2])
def test_without_guards_it_comes_back_too(measured, tmp_path, guards):
    looks = tuple(replace(look, slack=look.slack[:, :guards]) for look in measured.looks)
    save_strength(replace(measured, looks=looks), tmp_path / "kept.safetensors")
    assert load_strength(tmp_path / "kept.safetensors").looks[0].slack.shape == (6, guards)


@pytest.mark.parametrize("source, rails_now, guards, other", [
    ({"weights": "a", "steps": 8}, rails, 2, []),
    ({"weights": "b", "steps": 8}, rails, 2, ["weights"]),
    ({"weights": "a", "cfg": 1.0}, rails, 2, ["cfg", "steps"]),
    ({"weights": "a", "steps": 8}, rails, 1, ["guardrail"]),
    ({"weights": "a", "steps": 8}, lambda x: [4.99 - x[:, 0].double()], 2, ["guardrail"]),
    ({"weights": "a", "steps": 8}, lambda x: [5 + 1e-6 - x[:, 0].double()], 2, []),
])
def test_it_knows_what_it_was_measured_for(measured, source, rails_now, guards, other):
    """A guardrail is told from others by what it says of the same embeddings, up to rounding."""
    assert measured.other_than(source, rails_now, guards) == other


DAMAGE = {
    "variety": lambda f, t: f.update(variety=0.5), "variety text": lambda f, t: f.update(variety="2"),
    "validity": lambda f, t: f.update(validity=0.0), "until": lambda f, t: f.update(until=1.5), "no until": lambda f, t: f.pop("until"),
    "source": lambda f, t: f.update(source=[]), "no fields": lambda f, t: f.clear(),
    "not from 0": lambda f, t: t.update(strengths=t["strengths"] + 0.1),
    "not in order": lambda f, t: t.update(strengths=t["strengths"].flip(0)),
    "too strong": lambda f, t: t.update(strengths=t["strengths"] * 100),
    "one strength more": lambda f, t: t.update(strengths=torch.cat([t["strengths"], t["strengths"][-1:] + 0.01])),
    "no strengths": lambda f, t: t.update({name: x[:0] for name, x in t.items()}),
    "two pictures": lambda f, t: t.update(x=t["x"][:, :2], slack=t["slack"][:, :2]),
    "one seed": lambda f, t: t.update(x=t["x"][:, :1].expand(-1, 6, -1).contiguous()),
    "other guards": lambda f, t: t.update(slack=t["slack"][:, :-1]),
    "nothing inside": lambda f, t: t.update(slack=-100 - t["slack"]),
    "not a number": lambda f, t: t.update(x=t["x"] * float("nan")),
    "grey": lambda f, t: t.update(tiles=t["tiles"][..., :1]), "no pictures": lambda f, t: t.update(tiles=t["tiles"][:, :0]),
    "missing": lambda f, t: t.pop("x"), "unknown": lambda f, t: t.update(more=t["x"].clone()), "float64": lambda f, t: t.update(x=t["x"].double()),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_well_made_file_with_unsound_content_is_an_error(measured, tmp_path, name):
    """The digest is right: whoever makes such a file can compute it too."""
    fields, tensors = measured.state()
    DAMAGE[name](fields, tensors)
    container.write(tmp_path / "x.safetensors", "strength", fields, {key: x.contiguous() for key, x in tensors.items()})
    for load in (load_strength, inspect_file):
        with pytest.raises(RarityError):
            load(tmp_path / "x.safetensors")
