"""Spaces that differ are an error; embeddings refuse what cannot be used."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rarity.density import Embeddings, EmbeddingSpace, RarityError, drop_unusable


def test_a_space_round_trips(space):
    assert EmbeddingSpace.from_dict(space.to_dict()) == space


def test_another_space_is_named_on_both_sides(space):
    other = EmbeddingSpace("other encoder", "ffff", 16)
    with pytest.raises(RarityError, match="baseline.*Expected test encoder.*got other encoder.*make one of them anew with the model of the other"):
        space.require_same(other, "baseline")
    with pytest.raises(RarityError):  # the same encoder in another scaling is another space
        space.require_same(EmbeddingSpace(space.encoder, space.fingerprint, 16, "unit"), "baseline")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(json_values | st.fixed_dictionaries(dict.fromkeys(("encoder", "fingerprint", "width", "kind"), json_values)))
def test_hostile_space_fields_are_one_error(fields):
    with pytest.raises(RarityError):
        assert EmbeddingSpace.from_dict(fields) is None or fields["kind"] in ("raw", "unit", "std")
        raise RarityError("sound by chance")


def test_embeddings_keep_a_float32_copy(space):
    given_tensor = torch.ones(3, 16, dtype=torch.float64)
    kept = Embeddings(given_tensor, space)
    given_tensor.zero_()
    assert kept.vectors.dtype == torch.float32 and kept.vectors.sum() == 48


def test_embeddings_made_under_inference_mode_take_part_in_autograd(space):
    with torch.inference_mode():
        kept = Embeddings(torch.ones(3, 16), space)
    weight = torch.ones(16, requires_grad=True)
    (kept.vectors @ weight).sum().backward()
    assert not kept.vectors.is_inference()


@pytest.mark.parametrize(
    "vectors, message",
    [
        (torch.zeros(16), r"shape \[N, 16\], got shape \(16,\)"),
        (torch.zeros(4, 15), "must be 16 wide, got 15"),
        (torch.zeros(0, 16), "at least one row"),
        (torch.cat([torch.zeros(3, 16), torch.full((2, 16), float("nan"))]), "2 of 5 embeddings .* not finite"),
    ],
)
def test_unusable_vectors_are_refused(space, vectors, message):
    with pytest.raises(RarityError, match=message):
        Embeddings(vectors, space)


@pytest.mark.parametrize("source", [{"a": object()}, {1: "a"}, {"a": float("inf")}, {"a": torch.zeros(1)}, ["a"]])
def test_a_source_that_is_not_json_is_refused(space, source):
    with pytest.raises(RarityError):
        Embeddings(torch.zeros(1, 16), space, source=source)


def test_labels_follow_their_rows(space):
    embeddings = Embeddings(torch.arange(4.0)[:, None].expand(4, 16), space, ("a", "b", "c", "d"))
    chosen = embeddings.select([3, 0])
    assert chosen.labels == ("d", "a") and chosen.vectors[:, 0].tolist() == [3.0, 0.0]
    assert embeddings.select(torch.tensor([False, True, False, True])).labels == ("b", "d")
    joined = Embeddings.cat([embeddings, chosen])
    assert len(joined) == 6 and joined.labels == ("a", "b", "c", "d", "d", "a")
    with pytest.raises(RarityError, match="one label for each"):
        Embeddings(torch.zeros(2, 16), space, ("a",))
    for bad in ([4], [], [0.5], [-5]):
        with pytest.raises(RarityError):
            embeddings.select(bad)


def test_joining_keeps_what_all_parts_agree_on(space):
    parts = [Embeddings(torch.zeros(1, 16), space, source={"prompt": "a", "seed": s}) for s in (1, 2)]
    assert Embeddings.cat(parts).source == {"prompt": "a"}
    with pytest.raises(RarityError, match="different embedding spaces"):
        Embeddings.cat([parts[0], Embeddings(torch.zeros(1, 16), EmbeddingSpace("x", "y", 16))])
    with pytest.raises(RarityError):
        Embeddings.cat([])


def test_unusable_rows_are_dropped_and_counted():
    rows = torch.tensor([[1.0, 0.0], [1.0, -0.0], [float("inf"), 0.0], [2.0, 0.0], [1.0, 0.0]])
    kept, not_finite, repeats = drop_unusable(rows)
    assert kept.tolist() == [[1.0, 0.0], [2.0, 0.0]] and (not_finite, repeats) == (1, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_unusable_rows_of_any_precision_are_dropped_and_gradients_stay(dtype):
    rows = torch.tensor([[1.0, 0.5], [1.0, 0.5], [float("nan"), 0.0], [2.0, 0.0]], dtype=dtype, requires_grad=True)
    kept, not_finite, repeats = drop_unusable(rows)
    assert kept.tolist() == [[1.0, 0.5], [2.0, 0.0]] and (not_finite, repeats) == (1, 1)
    assert kept.dtype == dtype and kept.requires_grad
    if dtype == torch.float64:  # what float32 would not tell apart differs
        assert len(drop_unusable(torch.tensor([[1.0], [1.0 + 1e-12]], dtype=dtype))[0]) == 2
