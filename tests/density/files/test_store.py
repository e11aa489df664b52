"""Files come back bit for bit; whatever else a file holds is one clear error."""

import json
import os
import struct
import tracemalloc

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rarity.density import (
    Embeddings,
    RarityError,
    inspect_file,
    load_density,
    load_embeddings,
    safe_path,
    save_density,
    save_embeddings,
)
from rarity.density.files import container

unhurried = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def saved(density, tmp_path):
    save_density(density, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


@pytest.fixture(scope="module")
def small(mixture):
    """Few embeddings, so that a flipped bit is as likely to hit the header as the numbers."""
    few = mixture(8, 5)
    return Embeddings(few.vectors, few.space, tuple("abcdefgh"), {"prompt": "“a” $letter", "guidance": 1e-05})


def same_density(one, two):
    (fields, tensors), (other_fields, other_tensors) = one.state(), two.state()
    return fields == other_fields and all(torch.equal(tensors[name], other_tensors[name]) for name in tensors)


def same_embeddings(one, two):
    return torch.equal(one.vectors, two.vectors) and (one.space, one.labels, one.source) == (
        two.space,
        two.labels,
        two.source,
    )


def test_a_density_comes_back_bit_for_bit(density, saved, baseline, tmp_path):
    loaded = load_density(saved)
    assert same_density(density, loaded)
    x = 2 * baseline.vectors
    assert torch.equal(density.bits(x), loaded.bits(x)) and torch.equal(density.interval(x)[1], loaded.interval(x)[1])
    save_density(loaded, tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == saved.read_bytes()


def test_embeddings_come_back_bit_for_bit(small, mixture, tmp_path):
    for embeddings in (small, mixture(3)):
        save_embeddings(embeddings, tmp_path / "e.safetensors")
        assert same_embeddings(load_embeddings(tmp_path / "e.safetensors"), embeddings)


def test_a_file_can_be_inspected(saved, density):
    seen = inspect_file(saved)
    assert seen["kind"] == "density" and seen["count"] == 2000 and seen["space"] == density.space.to_dict()
    assert seen["source"]["prompt"] == "a test" and seen["tensors"]["basis"] == [16, 9]
    json.dumps(seen)


def test_other_readers_can_open_it(saved, density):
    assert torch.equal(safetensors.torch.load_file(saved)["mean"], density.frame.mean)


@unhurried
@given(data=st.data())
def test_damage_is_an_error_or_makes_no_difference(data, small, tmp_path):
    """Truncated, extended, bit-flipped, spliced: RarityError, or the very same content (1e-05 and 1E-05)."""
    path = tmp_path / "e.safetensors"
    save_embeddings(small, path)
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    kind = data.draw(st.sampled_from(["cut", "flip", "add", "insert", "remove"]))
    bad = {
        "cut": lambda: good[:at],
        "flip": lambda: good[:at] + bytes([good[at] ^ (1 << data.draw(st.integers(0, 7)))]) + good[at + 1 :],
        "add": lambda: good + data.draw(st.binary(min_size=1, max_size=9)),
        "insert": lambda: good[:at] + data.draw(st.binary(min_size=1, max_size=9)) + good[at:],
        "remove": lambda: good[:at] + good[at + 1 :],
    }[kind]()
    path.write_bytes(bad)
    try:
        loaded = load_embeddings(path)
    except RarityError:
        return
    assert same_embeddings(loaded, small)


@unhurried
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda b: struct.pack("<Q", len(b)) + b))
def test_arbitrary_bytes_are_an_error(tmp_path, data):
    (tmp_path / "x.safetensors").write_bytes(data)
    for load in (load_density, load_embeddings, inspect_file):
        with pytest.raises(RarityError):
            load(tmp_path / "x.safetensors")


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["F64", "U8", "rarity", "density", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["dtype", "shape", "data_offsets", "rarity", "vectors", "space"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@unhurried
@given(
    head=st.dictionaries(st.sampled_from(["format", "version", "kind", "space", "source"]), json_like), entry=json_like
)
def test_well_formed_headers_with_senseless_content_are_an_error(tmp_path, head, entry):
    head = {"format": "rarity", "version": [1, 0], "kind": "embeddings", **head}
    header = {"__metadata__": {"rarity": json.dumps(head)}, "vectors": entry, "labels": entry}
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 16)
    with pytest.raises(RarityError):
        inspect_file(tmp_path / "x.safetensors")


def write_header(path, header, size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if size:
            file.truncate(size)  # sparse: the disk holds none of it


def test_oversized_files_are_refused_before_they_are_read(tmp_path, density):
    path = tmp_path / "huge.safetensors"
    head = {"format": "rarity", "version": [1, 0], "kind": "density"}
    attacks = {
        "header": lambda: path.write_bytes(struct.pack("<Q", 2**63) + b"{}"),
        "long header": lambda: write_header(path, b" " * (container.MAX_HEADER + 1)),
        "body": lambda: write_header(path, {"__metadata__": {"rarity": json.dumps(head)}}, size=3 << 30),
        "nested": lambda: write_header(path, b"[" * 500_000),
        "digits": lambda: write_header(path, b'{"a":' + b"9" * 900_000 + b"}"),
    }
    for name, attack in attacks.items():
        attack()
        tracemalloc.start()
        with pytest.raises(RarityError):
            load_density(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 32 << 20, name


def test_foreign_files_say_so(tmp_path):
    path = tmp_path / "lora.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(RarityError, match="not one that Rarity saved"):
        load_density(path)
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, {"rarity": json.dumps({"format": "other"})})
    with pytest.raises(RarityError, match="not one that Rarity saved"):
        load_density(path)


def test_another_kind_says_so(saved):
    with pytest.raises(RarityError, match="holds density, expected embeddings"):
        load_embeddings(saved)


def test_missing_files_and_folders_say_so(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path, tmp_path / "zero\0byte"):
        with pytest.raises(RarityError, match="could not be opened"):
            load_density(path)


def test_a_newer_major_version_is_refused_a_minor_one_read(density, tmp_path, monkeypatch):
    path = tmp_path / "new.safetensors"
    monkeypatch.setattr(container, "VERSION", (1, 7))
    save_density(density, path)
    monkeypatch.setattr(container, "VERSION", (1, 0))
    assert same_density(load_density(path), density)
    monkeypatch.setattr(container, "VERSION", (2, 0))
    save_density(density, path)
    monkeypatch.setattr(container, "VERSION", (1, 0))
    with pytest.raises(RarityError, match="format 2.0; this Rarity reads up to 1.x. Update"):
        load_density(path)


DAMAGE = {
    "skewed basis": lambda f, t: t.update(basis=t["basis"] * 1.01),
    "reversed variances": lambda f, t: t.update(variances=t["variances"].flip(0)),
    "negative variance": lambda f, t: t.update(variances=-t["variances"]),
    "not a number": lambda f, t: t.update(mean=t["mean"] * float("nan")),
    "short mean": lambda f, t: t.update(mean=t["mean"][:-1]),
    "empty variances": lambda f, t: t.update(variances=t["variances"][:0], basis=t["basis"][:, :0]),
    "unsorted scores": lambda f, t: t.update(calibration_scores=t["calibration_scores"].flip(0)),
    "few scores": lambda f, t: t.update(calibration_scores=t["calibration_scores"][:9]),
    "negative shape": lambda f, t: t.update(calibration_tail=torch.tensor([-0.5, 1.0], dtype=torch.float64)),
    "no draws": lambda f, t: t.update(calibration_draws=t["calibration_draws"][:0]),
    "wide draws": lambda f, t: t.update(calibration_draws=t["calibration_draws"].T.contiguous()),
    "no residuals": lambda f, t: t.update(residual_calibration=t["residual_calibration"][:0]),
    "missing tensor": lambda f, t: t.pop("spectrum"),
    "unknown tensor": lambda f, t: t.update(more=t["mean"].clone()),
    "float32": lambda f, t: t.update(mean=t["mean"].float()),
    "sigma2": lambda f, t: f.update(residual_variance=0.0),
    "sigma2 text": lambda f, t: f.update(residual_variance="1"),
    "norms": lambda f, t: f.update(norm_range=[2.0, 1.0]),
    "norm text": lambda f, t: f.update(norm_range="ab"),
    "count": lambda f, t: f.update(count=-1),
    "space": lambda f, t: f.update(space={"width": 16}),
    "space width": lambda f, t: f["space"].update(width=17),
    "source": lambda f, t: f.update(source=[]),
    "notes": lambda f, t: f.update(notes=[1]),
    "no fields": lambda f, t: f.clear(),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_well_made_file_with_unsound_content_is_an_error(name, density, tmp_path):
    """The digest is right: whoever makes such a file can compute it too."""
    fields, tensors = density.state()
    DAMAGE[name](fields, tensors)
    container.write(tmp_path / "x.safetensors", "density", fields, tensors)
    for load in (load_density, inspect_file):
        with pytest.raises(RarityError):
            load(tmp_path / "x.safetensors")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(saved, density, mixture, monkeypatch):
    before = saved.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RarityError, match="could not be written: No space left on device"):
        save_density(density, saved)
    assert saved.read_bytes() == before and [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_source_too_long_to_save_is_an_error(space, tmp_path):
    wordy = Embeddings(torch.zeros(1, 16), space, source={"prompt": "a" * container.MAX_HEADER})
    with pytest.raises(RarityError, match="too long"):
        save_embeddings(wordy, tmp_path / "e.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["letters", "letters.safetensors", "réserve", "sub folder/letters", " padded "])
def test_plain_names_stay_in_their_folder(tmp_path, name):
    path = safe_path(tmp_path, name)
    assert path.is_relative_to(tmp_path.resolve()) and path.name.endswith(".safetensors")
    assert not path.name.endswith(".safetensors.safetensors")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        None,
        "..",
        "../x",
        "a/../../x",
        "/etc/x",
        "a//b",
        "a\\b",
        "C:x",
        "a\0b",
        "a\nb",
        ".hidden",
        "a/.git/b",
        "x" * 300,
        "CON",
        "a/nul.txt",
        "Lpt1.safetensors",
        "a/" * 3000 + "b",
    ],
)
def test_names_that_leave_or_break_the_folder_are_refused(tmp_path, name):
    with pytest.raises(RarityError, match="file name"):
        safe_path(tmp_path, name)


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "loop.safetensors").symlink_to(tmp_path / "loop.safetensors")
    with pytest.raises(RarityError, match="loop"):
        load_embeddings(safe_path(tmp_path, "loop"))


def test_a_link_that_leaves_the_folder_is_refused(tmp_path):
    inside = tmp_path / "densities"
    inside.mkdir()
    (inside / "out").symlink_to(tmp_path)
    with pytest.raises(RarityError, match="leaves its folder"):
        safe_path(inside, "out/x")


@unhurried
@given(st.text(max_size=40))
def test_no_name_leaves_its_folder(tmp_path, name):
    try:
        path = safe_path(tmp_path, name)
    except RarityError:
        return
    assert path.is_relative_to(tmp_path.resolve()) and path != tmp_path.resolve()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")
def test_a_pipe_is_no_file(tmp_path):
    """Opening it would wait forever."""
    os.mkfifo(tmp_path / "d.safetensors")
    with pytest.raises(RarityError, match="it is a pipe, not a file"):
        load_density(tmp_path / "d.safetensors")


def test_what_could_not_be_loaded_again_is_not_saved(baseline, tmp_path, monkeypatch):
    monkeypatch.setitem(container.KINDS, "embeddings", (1000, container.KINDS["embeddings"][1]))
    with pytest.raises(RarityError, match="at most 1,000 could be loaded again"):
        save_embeddings(baseline, tmp_path / "much.safetensors")
    assert not list(tmp_path.iterdir())
