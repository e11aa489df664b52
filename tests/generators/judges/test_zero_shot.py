"""The zero-shot judge: the literal formula, and words that mean at every time what they meant when it was made."""

import pytest
import torch
from rarity.density import RarityError
from rarity.generators.concepts.word import find_word, meaning
from rarity.generators.demo import LETTERS
from rarity.generators.judges.zero_shot import ContrastJudge
from rarity.generators.kandinsky.load import load_kandinsky
from torch.nn.functional import normalize


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(6, 20, 20, 3, generator=torch.Generator().manual_seed(0))


def test_the_probability_is_a_softmax_over_the_words(tiny_kandinsky, pictures):
    prior, _ = tiny_kandinsky
    judge = ContrastJudge(prior, " a letter r ", ["bold", "", "a letter r", "p "])
    texts = normalize(prior.encode_text(["a letter r", "bold", "p"]).double(), dim=1)
    odds = torch.exp(100 * normalize(prior.encode_images(pictures).vectors.double(), dim=1) @ texts.T)
    torch.testing.assert_close(judge.probability(pictures), odds[:, 0] / odds.sum(dim=1), rtol=1e-9, atol=1e-12)
    assert judge.subject == "a letter r"
    assert judge.source == {"kind": "contrast", "texts": ["a letter r", "bold", "p"], "space": prior.space.to_dict()}


def test_what_learning_makes_of_the_words_is_not_believed(tiny_kandinsky, pictures):
    prior, _ = tiny_kandinsky
    judge = ContrastJudge(prior, "a letter r", ["bold"])
    before, said = judge.probability(pictures), prior.encode_text(["a letter r"])
    with meaning(prior, find_word(prior, "a letter r", "r"), torch.randn(prior.space.width)):
        assert not torch.equal(prior.encode_text(["a letter r"]), said), "the same words mean something else now"
        assert torch.equal(judge.probability(pictures), before)


def test_cancel_and_inference_mode(tiny_kandinsky, pictures):
    with torch.inference_mode():
        judge = ContrastJudge(tiny_kandinsky[0], "a letter r", ["p"])
    expected = judge.probability(pictures)
    with torch.inference_mode():
        assert torch.equal(judge.probability(pictures), expected)

    def cancel(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        judge.probability(pictures, progress=cancel)


def test_a_subject_without_alternatives(tiny_kandinsky):
    with pytest.raises(RarityError, match="needs at least one alternative"):
        ContrastJudge(tiny_kandinsky[0], "a letter r", ["a letter r", " "])


def test_the_miniature_tells_its_letters_apart():
    prior, decoder = load_kandinsky()
    shown = {letter: decoder.decode(prior.sample(f"a letter {letter}", 12, seed=3, steps=5), steps=8) for letter in "RP"}
    judge = ContrastJudge(prior, "a letter R", LETTERS)
    assert (judge.probability(shown["R"]) > 0.5).all() and (judge.probability(shown["P"]) < 0.5).all()
