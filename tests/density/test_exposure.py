"""A memory beside sums over everything it has seen, and its files."""

import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rarity.density import Embeddings, EmbeddingSpace, RarityError, container, files
from rarity.density.exposure import FORGOTTEN, ExposureMemory
from rarity.density.files import inspect_file, load_exposure, save_exposure

unhurried = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def literal(rows, weights):
    """n, mean and scatter, one row at a time."""
    rows, n = rows.double(), sum(weights)
    mean = sum(w * x for w, x in zip(weights, rows, strict=True)) / n
    return n, mean, sum(w * torch.outer(x - mean, x - mean) for w, x in zip(weights, rows, strict=True))


def same_statistics(one, two):
    return (
        one.n_eff == pytest.approx(two.n_eff, rel=1e-12)
        and torch.allclose(one.mean, two.mean, rtol=1e-10, atol=1e-12)
        and torch.allclose(one.scatter, two.scatter, rtol=1e-10, atol=1e-10)
    )


def same(one, two):
    tensors = ("vectors", "weights", "mean", "scatter")
    return (one.space, one.labels, one.n_eff) == (two.space, two.labels, two.n_eff) and all(
        torch.equal(getattr(one, name), getattr(two, name)) for name in tensors
    )


@pytest.fixture
def memory(space, mixture):
    few = mixture(6, 5)
    seen = Embeddings(few.vectors, space, tuple("abcdef"))
    return ExposureMemory(space).update(seen).forget(0.9).update(mixture(3, 6), [0.5, 0, 2.0])


def test_statistics_equal_the_sums(memory, mixture):
    rows = torch.cat([mixture(6, 5).vectors, mixture(3, 6).vectors])
    n, mean, scatter = literal(rows, [0.9] * 6 + [0.5, 0, 2.0])
    assert memory.n_eff == pytest.approx(n) and torch.allclose(memory.mean, mean)
    assert torch.allclose(memory.scatter, scatter, atol=1e-12)
    assert len(memory) == 8 and memory.labels == (*"abcdef", "", "")


def test_order_and_batches_do_not_matter(space, mixture):
    seen = mixture(40, 7)
    whole = ExposureMemory(space).update(seen)
    one_by_one = ExposureMemory(space)
    for i in torch.randperm(40, generator=torch.Generator().manual_seed(0)).tolist():
        one_by_one = one_by_one.update(seen.select([i]))
    a, b = (ExposureMemory(space).update(seen.select(range(*part))) for part in ((0, 13), (13, 40)))
    for other in (one_by_one, a.merge(b), b.merge(a), a.merge(ExposureMemory(space)).merge(b)):
        assert same_statistics(whole, other)


def test_a_memory_is_never_changed(memory, mixture):
    before = memory.state()[1]["scatter"].clone(), len(memory), memory.n_eff
    memory.update(mixture(5, 1)), memory.merge(memory), memory.forget(0.1)
    assert torch.equal(before[0], memory.scatter) and before[1:] == (len(memory), memory.n_eff)


def test_forgetting_decays_and_drops_items_but_not_their_share(space, mixture):
    memory = ExposureMemory(space).update(mixture(5, 1))
    faded = memory.forget(0.5).forget(0.5)
    assert faded.n_eff == pytest.approx(5 / 4) and torch.allclose(faded.mean, memory.mean)
    gone = memory.forget(FORGOTTEN / 2)
    assert len(gone) == 0 and gone.n_eff == pytest.approx(5 * FORGOTTEN / 2)
    assert same(memory.forget(0), ExposureMemory(space)) and same_statistics(memory.forget(1), memory)


def test_belief_is_the_conjugate_posterior(memory, density):
    belief = memory.belief(density)
    assert belief.kappa == 1 + memory.n_eff
    assert torch.allclose(belief.mean, (density.mean + memory.n_eff * memory.mean) / (1 + memory.n_eff))
    empty = ExposureMemory(density.space).belief(density)
    assert empty.kappa == 1 and torch.equal(empty.mean, density.mean)


def test_items_of_no_weight_are_not_seen(space, mixture):
    memory = ExposureMemory(space).update(mixture(4, 1), [0.0] * 4)
    assert same(memory, ExposureMemory(space))


def test_identical_rows_and_constant_columns_have_no_scatter(space):
    memory = ExposureMemory(space).update(Embeddings(torch.full((9, 16), 0.1).half(), space))
    assert memory.n_eff == 9 and memory.scatter.abs().max() < 1e-12


def test_bad_input_says_so(space, memory, density, mixture):
    other = EmbeddingSpace("another", "f", 16)
    foreign = Embeddings(torch.zeros(2, 16), other)
    for use in (
        lambda: memory.update(foreign),
        lambda: memory.merge(ExposureMemory(other)),
        lambda: ExposureMemory(other).belief(density),
    ):
        with pytest.raises(RarityError, match="different embedding spaces"):
            use()
    for weights in ([1.0], [1, -1], [1, float("nan")], [1, float("inf")]):
        with pytest.raises(RarityError, match="2 finite numbers of 0 or more"):
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
    "heavy weights": lambda f, t: t.update(weights=100 * t["weights"]),
    "short mean": lambda f, t: t.update(mean=t["mean"][1:]),
    "narrow vectors": lambda f, t: t.update(vectors=t["vectors"][:, 1:].contiguous()),
    "no scatter": lambda f, t: t.update(scatter=t["scatter"][:0]),
    "oblong scatter": lambda f, t: t.update(scatter=t["scatter"][1:].contiguous()),
    "negative scatter": lambda f, t: t.update(scatter=-t["scatter"]),
    "skewed scatter": lambda f, t: t.update(scatter=t["scatter"].triu()),
    "impossible scatter": lambda f, t: t.update(scatter=t["scatter"] + 1e6 * (1 - torch.eye(16, dtype=torch.float64))),
    "not a number": lambda f, t: t.update(scatter=float("nan") * t["scatter"]),
    "labels": lambda f, t: t.update(labels=bytes_of("[1]")),
    "labels not JSON": lambda f, t: t.update(labels=bytes_of("[")),
    "labels not UTF-8": lambda f, t: t.update(labels=torch.full((9,), 255, dtype=torch.uint8)),
    "nested labels": lambda f, t: t.update(labels=bytes_of("[" * 100_000)),
    "n_eff": lambda f, t: f.update(n_eff=-1.0),
    "n_eff text": lambda f, t: f.update(n_eff="9"),
    "n_eff too small": lambda f, t: f.update(n_eff=0.0),
    "space": lambda f, t: f.update(space={"width": 16}),
    "space width": lambda f, t: f["space"].update(width=17),
    "missing tensor": lambda f, t: t.pop("mean"),
    "unknown tensor": lambda f, t: t.update(more=t["mean"].clone()),
    "no fields": lambda f, t: f.clear(),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_well_made_file_with_unsound_content_is_an_error(name, memory, tmp_path):
    fields, tensors = memory.state()
    DAMAGE[name](fields, tensors)
    container.write(tmp_path / "x.safetensors", "exposure", fields, tensors)
    with pytest.raises(RarityError):
        load_exposure(tmp_path / "x.safetensors")


def test_another_kind_says_so(density, memory, tmp_path):
    files.save_density(density, tmp_path / "d.safetensors")
    with pytest.raises(RarityError, match="holds density, expected exposure"):
        load_exposure(tmp_path / "d.safetensors")
    save_exposure(memory, tmp_path / "m.safetensors")
    with pytest.raises(RarityError, match="holds exposure, expected density"):
        files.load_density(tmp_path / "m.safetensors")
