"""How much of a picture an eye sees, and that it is said where much of it is not seen."""

import pytest
import torch
from rarity.density.base.embeddings import Embeddings
from rarity.density.base.errors import RarityError
from rarity.density.base.framing import MIDDLE, WHOLE, framed, framing_of, partly_seen, view
from rarity.density.base.spaces import EmbeddingSpace

GREY = (0.5, 0.25, 0.75)


@pytest.mark.parametrize("height, width", [(4, 9), (9, 4), (1, 2), (5, 5)])
def test_the_whole_picture_stands_in_the_middle_of_a_square_of_one_colour(height, width):
    images = torch.rand(2, height, width, 3, generator=torch.Generator().manual_seed(0))
    shown, side = framed(images, WHOLE, GREY), max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    expected = torch.tensor(GREY).expand(2, side, side, 3).clone()
    expected[:, top : top + height, left : left + width] = images
    assert torch.equal(shown, expected)
    assert framed(images, MIDDLE, GREY) is images


def test_gradients_pass():
    images = torch.rand(1, 2, 5, 3, requires_grad=True)
    framed(images, WHOLE, GREY).sum().backward()
    assert torch.equal(images.grad, torch.ones_like(images))


def test_another_framing_is_an_error():
    with pytest.raises(RarityError, match="middle square or as the whole picture, got 'fit'"):
        framed(torch.rand(1, 2, 3, 3), "fit", GREY)


def test_a_source_says_what_was_not_seen():
    assert view(64, 256) == {"unseen": 0.75} and view(256, 64) == {"unseen": 0.75}
    assert view(64, 64) == view(64, 64, WHOLE) == view(64, 256, crops=False) == {}
    assert view(64, 256, WHOLE) == {"framing": WHOLE}
    assert framing_of(view(64, 256, WHOLE)) == WHOLE and framing_of({}) == framing_of({"framing": 3}) == MIDDLE


def test_a_sentence_where_much_is_not_seen_and_where_framings_are_mixed():
    wide, photograph, whole, square = view(64, 256), view(200, 300), view(64, 256, WHOLE), view(64, 64)
    (note,) = partly_seen(wide, square)
    assert "only the middle square was looked at, 25% of the longest" in note and '"whole picture"' in note
    assert partly_seen(photograph, square) == partly_seen(whole, square) == partly_seen(square, wide) == ()
    assert "were looked at whole, others by their middle square only" in partly_seen(whole, photograph)[0]
    assert len(partly_seen(wide, whole)) == 2
    assert partly_seen({"unseen": "much", "framing": []}) == (), "a file may hold anything"


def test_what_is_joined_keeps_the_largest_share_that_was_not_seen():
    space = EmbeddingSpace("an encoder", "0123", 4)
    parts = [
        Embeddings(torch.rand(1, 4), space, source={"kind": "pictures", **seen})
        for seen in (view(64, 64), view(64, 256), view(200, 300))
    ]
    assert Embeddings.cat(parts).source == {"kind": "pictures", "unseen": 0.75}
    assert Embeddings.cat(parts[:1]).source == {"kind": "pictures"}
