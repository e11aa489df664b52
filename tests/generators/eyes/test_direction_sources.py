"""A direction from whatever is given, and from one thing only."""

import pytest
import torch
from rarity.density import GaussianDensity
from rarity.density.base.errors import RarityError
from rarity.generators.eyes.direction_sources import direction, text_direction


@pytest.fixture(scope="module")
def baseline(tiny_kandinsky):
    return tiny_kandinsky[0].sample("a letter r", 80, steps=3)


def test_words_give_the_difference_of_their_texts(tiny_kandinsky):
    prior, _ = tiny_kandinsky
    wish = text_direction(prior, "bold r\n\n heavy r ", "light r", 1.5)
    bold, heavy, light = torch.nn.functional.normalize(prior.encode_text(["bold r", "heavy r", "light r"]).double(), dim=1)
    apart = (bold + heavy) / 2 - light
    assert torch.allclose(wish.vector, apart / apart.norm()) and wish.strength == 1.5 and wish.name == "bold r"


def test_pictures_and_densities_give_theirs(baseline):
    some, others = baseline.select(range(5)), baseline.select(range(5, 9))
    both = direction(2.0, embeddings_towards=some, embeddings_away=others)
    turned = direction(2.0, embeddings_towards=others, embeddings_away=some)
    assert torch.allclose(both.vector, -turned.vector)
    near, far = direction(2.0, embeddings_towards=some), direction(2.0, embeddings_away=some)
    assert near.target is some and near.strength == 2.0 and far.target is some and far.strength == -2.0
    density = GaussianDensity.fit(baseline, components=4)
    assert torch.allclose(direction(1.0, density=density, component=2).vector.abs(), density.frame.basis[:, 1].abs())
    assert direction(-1.0, density=density).target is density


def test_one_source_and_words_at_both_ends_are_asked_for(tiny_kandinsky, baseline):
    prior, _ = tiny_kandinsky
    for make, message in [
        (lambda: direction(1.0), "exactly one source.*got none"),
        (lambda: direction(1.0, eye=prior, towards="a", away_from="b", embeddings_away=baseline), "got eye, embeddings"),
        (lambda: text_direction(prior, "a bold r", " \n"), "both ends"),
        (lambda: text_direction(prior, "a bold r", "a bold r"), "ends must differ"),
    ]:
        with pytest.raises(RarityError, match=message):
            make()
