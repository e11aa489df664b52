"""A prompt in other words: which texts are encoded, in which order, and what is no wording."""

import pytest
import torch
from rarity.density.base.errors import RarityError
from rarity.generators.comfyui.prompts.condition import Condition
from rarity.generators.comfyui.prompts.wordings import WORDS, check_wordings, encode_wordings


class Clip:
    """Encodes a text as its letters, one token each, so that what was encoded can be read again."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, tokens):
        return [[torch.tensor([[[float(ord(letter)), 1.0] for letter in tokens]]), {"text": tokens}]]


def test_each_line_is_added_to_the_prompt_once():
    assert check_wordings(" a chair\n", "old\n\n  made of wood \nold\n") == ["a chair, old", "a chair, made of wood"]
    assert len(check_wordings("a chair", WORDS)) == 8


def test_the_prompt_is_encoded_as_it_is_and_each_wording_becomes_an_entry():
    told = []
    conditioning, variations = encode_wordings(Clip(), "a chair ", "old\nred", lambda *done: told.append(done))
    assert [one[1]["text"] for one in conditioning] == ["a chair "], "as CLIP Text Encode gives it"
    assert [one[1]["text"] for one in variations] == ["a chair, old", "a chair, red"]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert Condition(conditioning).changes(variations).shape == (2, 16), "what nodes move between"


def test_a_cancel_ends_it_before_the_next_text():
    def cancelled(done, total):
        raise KeyboardInterrupt(done)

    with pytest.raises(KeyboardInterrupt, match="1"):
        encode_wordings(Clip(), "a chair", "old", cancelled)


@pytest.mark.parametrize("prompt, words, message", [
    (" \n", "old", "The prompt is empty: there is nothing to say in other words."),
    ("a chair", " \n\n", "The words are empty. Expected one or more lines"),
])
def test_nothing_to_say_is_an_error(prompt, words, message):
    with pytest.raises(RarityError, match=message):
        encode_wordings(Clip(), prompt, words)
