"""What a model that ships with the pack was never shown is named: it draws something for every word, whether it knows it or not."""

import json

import pytest
from rarity.density.base.errors import RarityError
from rarity.generators.demo import LETTERS
from rarity.generators.eyes.contrast_sources import check_words, contrast_guardrail
from rarity.generators.eyes.prompt_tokens import Reading, read_words, unread, words_of
from rarity.generators.kandinsky.load import load_kandinsky


@pytest.fixture(scope="module")
def miniature():
    return load_kandinsky()[0]


@pytest.fixture(scope="module")
def usual(miniature):
    return {prompt: miniature.sample(prompt, 60, steps=2) for prompt in ("a house", "a letter R", "a bold letter R")}


@pytest.mark.parametrize("prompt, strange", [
    ("a letter G", ()),
    ("An italic Sans-Serif LETTER q", ()),
    ("a house", ("house",)),
    ("a red letter 5, please", ("red", "5", "please")),
    ("ein Buchstabe G", ("ein", "buchstabe")),
])
def test_the_miniature_names_words_it_was_never_shown(miniature, prompt, strange):
    (reading,) = miniature.reads([prompt])
    assert reading.strange == strange
    assert bool(unread([reading])) == bool(strange)


def test_every_word_of_the_training_is_one_token_and_known(miniature):
    """The list in the model's folder is that of its tokenizer's whole words, but for digits and signs."""
    whole = {token.removesuffix("</w>") for token in miniature.tokenizer.get_vocab() if token.endswith("</w>")}
    assert set(miniature.words) == {word for word in whole if word.isalpha() and word.isascii()}


def test_the_sentence_says_what_it_knows(miniature):
    note = unread(miniature.reads(["a house on fire with seven windows"]))[0]
    assert note.startswith("This model does not know 'house', 'on', 'fire', 'with', 'seven' and 1 more in 'a house on fire")
    assert note.endswith("It knows letter, bold, light, italic, serif, sans, mono, the, an, a, A to Z.")


def test_a_model_that_does_not_say_what_it_knows_knows_everything(tmp_path):
    assert read_words(tmp_path) == () == Reading("a house", (1, 2), 2).strange
    (tmp_path / "rarity.json").write_text(json.dumps({"learning_rate": 0.1}))
    assert read_words(tmp_path) == ()
    for wrong in ("a", ["Two words"], [1]):
        (tmp_path / "rarity.json").write_text(json.dumps({"words": wrong}))
        with pytest.raises(RarityError, match=r"must be a list of words in small letters"):
            read_words(tmp_path)


def test_words_are_those_between_signs():
    assert words_of("A Letter-G, it's É; 5 a") == ("a", "letter", "g", "it's", "é", "5")


@pytest.mark.parametrize("prompt, subject, told", [
    ("a letter R", "a letter R", ""),
    ("a bold letter R", "the letter R", ""),
    ("a letter R", "a letter G", "The guardrail's subject 'a letter G' is not in the prompt 'a letter R'"),
    ("a letter R", "a letter A", "The guardrail's subject 'a letter A' is not in the prompt 'a letter R'"),
    ("a house", "", "This model does not know 'house'"),
])
def test_a_subject_that_the_prompt_does_not_speak_of_is_named(miniature, usual, prompt, subject, told):
    notes = contrast_guardrail(miniature, usual[prompt], subject, LETTERS).notes
    # Samples of two steps may be no clear letters: what the guardrail says of that is another sentence.
    found = [note for note in notes if "keeps little" not in note]
    assert [note.startswith(told) for note in found] == ([True] if told else [])


def test_no_subject_means_the_prompt_and_what_it_contains_is_no_alternative(miniature, usual):
    plain, named = (contrast_guardrail(miniature, usual["a letter R"], subject, LETTERS) for subject in (" ", "a letter R"))
    assert plain.subject.equal(named.subject) and plain.others.equal(named.others) and plain.notes == named.notes
    bold = contrast_guardrail(miniature, usual["a bold letter R"], "", LETTERS)
    assert len(bold.others) == 25
    assert bold.notes[0] == "The alternative 'a letter R' is part of the prompt 'a bold letter R', so it was left out."


def test_no_subject_and_no_prompt_is_an_error(miniature, usual):
    pictures = miniature.encode_images(usual["a house"].vectors.new_zeros(12, 64, 64, 3))
    with pytest.raises(RarityError, match="The subject is empty, which means the prompt of the baseline, but"):
        contrast_guardrail(miniature, pictures, "", LETTERS)


@pytest.mark.parametrize("subject, alternatives, told", [
    ("a letter R", [" ", "a letter R"], "got only the subject itself. Write them into alternatives, one a line"),
    ("", [], "The subject needs at least one alternative"),
    ("a \ud83e", ["p"], "The subject .* holds half a character"),
    ("r", ["p", "a \ud83e"], "The alternatives .* holds half a character"),
])
def test_what_can_be_told_without_a_model_names_the_widget(subject, alternatives, told):
    with pytest.raises(RarityError, match=told):
        check_words(subject, alternatives)
    check_words("", ["p"])
