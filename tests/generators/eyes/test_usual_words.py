"""A model's habit in words: shares that are known because they were asked for, of letters whose weight the model draws."""

import re

import pytest
from rarity.density import Embeddings, RarityError
from rarity.generators.eyes.usual_words import usual_in_words
from rarity.generators.kandinsky.load import load_kandinsky

PHRASES = "a bold letter R\na light letter R"
FAST = {"steps": 5, "guidance": 4.0}


@pytest.fixture(scope="module")
def prior():
    return load_kandinsky()[0]


@pytest.fixture(scope="module")
def drawn(prior):
    """120 samples of each kind that the tests mix."""
    texts = (*PHRASES.splitlines(), "a serif letter R")
    return {text.split()[1]: prior.sample(text, 120, seed=50 + i, **FAST) for i, text in enumerate(texts)}


def mix(drawn, **counts):
    return Embeddings.cat([drawn[kind].select(range(count)) for kind, count in counts.items()])


def read(text):
    """(share, low, high) of each line, in per cent, for each set."""
    found = re.findall(r"(\d+)% \((\d+) to (\d+)\)", text)
    return [tuple(map(int, one)) for one in found]


def test_the_share_that_was_mixed_is_read(prior, drawn):
    """36 bold and 84 light of 120: 30 and 70 in 100. The dial turned it: 90 bold and 30 light."""
    text = usual_in_words(mix(drawn, bold=36, light=84), PHRASES, prior, rare=mix(drawn, bold=90, light=30))
    (bold, rare_bold, light, rare_light, none, _) = read(text)
    assert bold[1] <= 30 <= bold[2] and rare_bold[1] <= 75 <= rare_bold[2] and light[1] <= 70 <= light[2]
    assert none[0] <= 5 and bold[2] - bold[1] < 20
    lines = text.splitlines()
    assert "more" in lines[1] and "less" in lines[2] and "100%" in lines[1]


def test_a_third_kind_is_none_of_these(prior, drawn):
    """A serif R is as heavy as the mean of both kinds."""
    text = usual_in_words(mix(drawn, bold=30, light=30, serif=60), PHRASES, prior)
    bold, light, none = read(text)
    assert none[1] <= 50 <= none[2] and none[0] > 40 and bold[0] < 32 and light[0] < 32


class ReadsOnly:
    """The prior's eye, which imagines nothing."""

    def __init__(self, prior):
        self.space, self.encode_text, self.reads = prior.space, prior.encode_text, prior.reads


def test_words_alone_say_that_they_know_less(prior, drawn):
    text = usual_in_words(mix(drawn, bold=36, light=84), PHRASES, ReadsOnly(prior))
    bold, light, _ = read(text)
    assert bold[0] == pytest.approx(30, abs=5) and light[0] == pytest.approx(70, abs=5)
    assert "words alone" in text and "examples read right" not in text


def test_phrases_that_mean_the_same_are_named(prior, drawn):
    text = usual_in_words(drawn["bold"], "a bold letter R\na letter R bold\nA bold letter R", prior)
    assert "The eye often takes 'a bold letter R' for" in text


def test_too_few_phrases_and_foreign_samples_are_errors(prior, drawn, tiny_kandinsky):
    for settings, message in (
        ({"phrases": "a bold letter R\n\na bold letter R", "eye": prior}, "at least two.*got 'a bold letter R'"),
        ({"phrases": PHRASES, "eye": tiny_kandinsky[0]}, "different embedding spaces"),
        ({"phrases": PHRASES, "eye": prior, "examples": 5}, "at least 20 different examples"),
    ):
        with pytest.raises(RarityError, match=message):
            usual_in_words(drawn["bold"], **settings)
