"""What a memory holds, and its files."""

import struct
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rarity.density import Embeddings, EmbeddingSpace, RarityError
from rarity.density.files import container, store
from rarity.density.files.store import inspect_file, load_exposure, save_exposure
from rarity.density.novelty.exposure import FORGOTTEN, ExposureMemory

unhurried = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def same(one, two):
    return (one.space, one.labels) == (two.space, two.labels) and all(
        torch.equal(getattr(one, name), getattr(two, name)) for name in ("vectors", "weights", "keys")
    )


@pytest.fixture
def memory(space, mixture):
    few = mixture(6, 5)
    seen = Embeddings(few.vectors, space, tuple("abcdef"))
    return ExposureMemory(space).update(seen).forget(0.9).update(mixture(3, 6), [0.5, 0, 2.0])


def test_it_holds_what_was_seen_and_how_well(memory, mixture):
    assert torch.equal(memory.vectors, torch.cat([mixture(6, 5).vectors, mixture(3, 6).vectors[[0, 2]]]))
    assert memory.weights.tolist() == pytest.approx([0.9] * 6 + [0.5, 2.0])
    assert memory.n_eff == pytest.approx(7.9) and len(memory) == 8 and memory.labels == (*"abcdef", "", "")


def test_batches_do_not_matter(space, mixture):
    seen = mixture(40, 7)
    whole = ExposureMemory(space).update(seen)
    a, b = (ExposureMemory(space).update(seen.select(range(*part))) for part in ((0, 13), (13, 40)))
    for other in (a.merge(b), a.merge(ExposureMemory(space)).merge(b), a.update(seen.select(range(13, 40)))):
        assert same(whole, other)


def test_a_memory_is_never_changed(memory, mixture):
    before = {name: tensor.clone() for name, tensor in memory.state()[1].items()}
    memory.update(mixture(5, 1)), memory.merge(memory), memory.forget(0.1)
    assert all(torch.equal(tensor, memory.state()[1][name]) for name, tensor in before.items())


def test_a_picture_counts_once_on_whatever_way_it_comes(space, mixture, tmp_path):
    """As it is, in half precision, from a file, out of another memory, twice in one set: weights 0.5, 0.9 and 1 make 1."""
    seen = mixture(8, 3)
    half = replace(seen, vectors=seen.vectors.half())
    memory = ExposureMemory(space).update(seen, [0.5] * 8)
    save_exposure(memory, tmp_path / "m.safetensors")
    for more in (half, half.select([0, 1, 2, 3, 4, 5, 6, 7, 0, 1])):
        for again in (memory.update(more).forget(0.9), load_exposure(tmp_path / "m.safetensors").update(more).forget(0.9)):
            assert torch.equal(again.vectors, seen.vectors) and again.weights.tolist() == pytest.approx([0.9] * 8)
            both = again.merge(ExposureMemory(space).update(seen.select([2, 5])))
            assert len(both) == 8 and both.weights.tolist() == pytest.approx([0.9, 0.9, 1, 0.9, 0.9, 1, 0.9, 0.9])


def test_rows_that_began_in_one_row_are_pictures_of_their_own(space, mixture):
    """They keep its key, as results of two rarities do."""
    seen = mixture(4, 3)
    moved = replace(seen, vectors=1.05 * seen.vectors)
    memory = ExposureMemory(space).update(seen).update(moved)
    assert len(memory) == 8 and len(memory.update(moved).update(seen)) == 8


def test_forgetting_decays_and_drops_what_is_forgotten(space, mixture):
    memory = ExposureMemory(space).update(mixture(5, 1))
    assert memory.forget(0.5).forget(0.5).n_eff == pytest.approx(5 / 4)
    for nothing in (memory.forget(FORGOTTEN / 2), memory.forget(0)):
        assert same(nothing, ExposureMemory(space)) and nothing.n_eff == 0
    assert same(memory.forget(1), memory)


def test_items_of_no_weight_are_not_seen(space, mixture):
    memory = ExposureMemory(space).update(mixture(4, 1), [0.0] * 4)
    assert same(memory, ExposureMemory(space))


def test_bad_input_says_so(memory, mixture):
    other = EmbeddingSpace("another", "f", 16)
    foreign = Embeddings(torch.zeros(2, 16), other)
    for use in (
        lambda: memory.update(foreign),
        lambda: memory.merge(ExposureMemory(other)),
    ):
        with pytest.raises(RarityError, match="different embedding spaces"):
            use()
    for weights in ([1.0], [1, -1], [1, float("nan")], [1, float("inf")], [1, 1e8]):
        with pytest.raises(RarityError, match="2 numbers from 0 to 1,000,000"):
            memory.update(mixture(2), weights)
    for keep in (-0.1, 1.1, float("nan"), True, "half"):
        with pytest.raises(RarityError, match="share from 0 to 1"):
            memory.forget(keep)


def test_a_memory_comes_back_bit_for_bit(memory, space, tmp_path):
    for one in (memory, ExposureMemory(space), memory.forget(1e-4)):
        save_exposure(one, tmp_path / "m.safetensors")
        assert same(load_exposure(tmp_path / "m.safetensors"), one)
        assert inspect_file(tmp_path / "m.safetensors")["kind"] == "exposure"


def test_a_loaded_memory_goes_on(memory, mixture, tmp_path):
    save_exposure(memory, tmp_path / "m.safetensors")
    assert same(load_exposure(tmp_path / "m.safetensors").update(mixture(2)), memory.update(mixture(2)))


@unhurried
@given(data=st.data())
def test_damage_is_an_error_or_makes_no_difference(data, memory, tmp_path):
    path = tmp_path / "m.safetensors"
    save_exposure(memory, path)
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    kind = data.draw(st.sampled_from(["cut", "flip", "add", "insert", "remove"]))
    extra = data.draw(st.binary(min_size=1, max_size=9))
    bad = {
        "cut": good[:at],
        "flip": good[:at] + bytes([good[at] ^ (1 << data.draw(st.integers(0, 7)))]) + good[at + 1 :],
        "add": good + extra,
        "insert": good[:at] + extra + good[at:],
        "remove": good[:at] + good[at + 1 :],
    }[kind]
    path.write_bytes(bad)
    try:
        loaded = load_exposure(path)
    except RarityError:
        return
    assert same(loaded, memory)


@unhurried
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda b: struct.pack("<Q", len(b)) + b))
def test_arbitrary_bytes_are_an_error(tmp_path, data):
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(RarityError):
        load_exposure(tmp_path / "x.safetensors")


def bytes_of(text):
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


DAMAGE = {
    "negative weight": lambda f, t: t.update(weights=-t["weights"]),
    "zero weight": lambda f, t: t.update(weights=0 * t["weights"]),
    "few weights": lambda f, t: t.update(weights=t["weights"][1:]),
    "heavy weights": lambda f, t: t.update(weights=1e8 * t["weights"]),
    "not a number": lambda f, t: t.update(weights=float("nan") * t["weights"]),
    "narrow vectors": lambda f, t: t.update(vectors=t["vectors"][:, 1:].contiguous()),
    "few keys": lambda f, t: t.update(keys=t["keys"][1:].contiguous()),
    "labels": lambda f, t: t.update(labels=bytes_of("[1]")),
    "labels not JSON": lambda f, t: t.update(labels=bytes_of("[")),
    "labels not UTF-8": lambda f, t: t.update(labels=torch.full((9,), 255, dtype=torch.uint8)),
    "nested labels": lambda f, t: t.update(labels=bytes_of("[" * 100_000)),
    "space": lambda f, t: f.update(space={"width": 16}),
    "space width": lambda f, t: f["space"].update(width=17),
    "missing tensor": lambda f, t: t.pop("weights"),
    "unknown tensor": lambda f, t: t.update(more=t["weights"].clone()),
    "no fields": lambda f, t: f.clear(),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_well_made_file_with_unsound_content_is_an_error(name, memory, tmp_path):
    fields, tensors = memory.state()
    DAMAGE[name](fields, tensors)
    container.write(tmp_path / "x.safetensors", "exposure", fields, tensors)
    with pytest.raises(RarityError):
        load_exposure(tmp_path / "x.safetensors")


def test_a_file_of_an_earlier_version_loads(memory, tmp_path):
    """It holds the mean and the scatter of what was seen, too; or no keys, which are then those of the bytes."""
    fields, tensors = memory.state()
    earlier = {"mean": memory.vectors.double().mean(dim=0), "scatter": torch.eye(16, dtype=torch.float64)}
    container.write(tmp_path / "x.safetensors", "exposure", fields, tensors | earlier)
    assert same(load_exposure(tmp_path / "x.safetensors"), memory)
    del tensors["keys"]
    container.write(tmp_path / "x.safetensors", "exposure", fields, tensors)
    bare = ExposureMemory(memory.space).update(Embeddings(memory.vectors, memory.space, memory.labels), memory.weights)
    assert same(load_exposure(tmp_path / "x.safetensors"), bare)
    container.write(tmp_path / "x.safetensors", "exposure", fields, tensors | {"mean": float("nan") * earlier["mean"]})
    with pytest.raises(RarityError):
        load_exposure(tmp_path / "x.safetensors")


def test_another_kind_says_so(density, memory, tmp_path):
    store.save_density(density, tmp_path / "d.safetensors")
    with pytest.raises(RarityError, match="holds density, expected exposure"):
        load_exposure(tmp_path / "d.safetensors")
    save_exposure(memory, tmp_path / "m.safetensors")
    with pytest.raises(RarityError, match="holds exposure, expected density"):
        store.load_density(tmp_path / "m.safetensors")
