"""Ranking against a literal sort, its errors, and the choice of items by their numbers."""

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, RarityError, most_novel, rank
from rarity.density.novelty.ranking import read_indices

SPACE = EmbeddingSpace("an encoder", "f", 3)


def items(n):
    return Embeddings(torch.arange(3.0 * n).view(n, 3), SPACE, labels=tuple(map(str, range(n))))


@pytest.mark.parametrize("keep", [1, 3, 7, 100])
@pytest.mark.parametrize("floor", [0.0, 1.5, 4.0])
def test_rank_is_a_sort_that_keeps_the_order_of_equals(keep, floor):
    scores = [0.0, 4.0, 2.0, 4.0, 1.5, 9.0, 2.0]
    literal = sorted((i for i in range(7) if scores[i] >= floor), key=lambda i: (-scores[i], i))[:keep]
    assert rank(items(7), scores, keep, floor).tolist() == literal
    assert rank(items(7), torch.tensor(scores), keep, floor).tolist() == literal


def test_infinite_novelty_comes_first_and_the_floor_itself_passes():
    assert rank(items(3), [1.0, float("inf"), 2.0], 2, 2.0).tolist() == [1, 2]


def test_most_novel_keeps_everything_together():
    images = torch.rand(4, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    kept, chosen, scores, indices = most_novel(images, items(4), [1.0, 3.0, 0.0, 2.0], 3, 1.0)
    assert indices == [1, 3, 0] and scores == [3.0, 2.0, 1.0]
    assert torch.equal(kept, images[indices]) and chosen.labels == ("1", "3", "0")


@pytest.mark.parametrize("scores, keep, floor, words", [
    ([1.0, 2.0], 1, 0.0, "Expected 3 scores, one for each picture, got 2"),
    ([[1.0, 2.0, 3.0]], 1, 0.0, r"got shape \(1, 3\)"),
    ([1.0, float("nan"), 2.0], 1, 0.0, "1 of 3 scores are not a number"),
    ([1.0, 2.0, 3.0], 0, 0.0, "at least 1 picture, got 0"),
    ([1.0, 3.0, 2.0], 2, 5.0, r"most novel has 3.00 bits \(1 in 8\), the floor is 5 bits \(1 in 32\)"),
])
def test_errors_say_what_to_do(scores, keep, floor, words):
    with pytest.raises(RarityError, match=words):
        rank(items(3), scores, keep, floor)


@pytest.mark.parametrize("text, expected", [
    ("0", [0]), ("2,0", [2, 0]), ("1-3", [1, 2, 3]), (" 4 ; 0-1\n4 ", [4, 0, 1, 4]), ("3-3", [3]),
])
def test_numbers_and_ranges(text, expected):
    assert read_indices(text, 5) == expected


@pytest.mark.parametrize("text", ["5", "0-5", "3-1", "-1", "1.0", "a", "1--2", "9" * 5000, "0-" + "9" * 400, "²"])
def test_what_is_no_number_of_an_item_is_refused(text):
    with pytest.raises(RarityError, match="whole numbers from 0 to 4"):
        read_indices(text, 5)
