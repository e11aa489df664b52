"""Every kind of density on disk, and embeddings read batch by batch beside those read at once."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rarity.density import (
    Embeddings,
    RarityError,
    fit_density,
    inspect_file,
    load_density,
    load_embeddings,
    save_density,
    save_embeddings,
)
from rarity.density.files import container
from rarity.density.files.store import stream_embeddings
from rarity.density.statistics import sufficient_statistics

unhurried = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def path(mixture, tmp_path):
    drawn = mixture(30, 1)
    labelled = Embeddings(drawn.vectors, drawn.space, tuple(f"r{i}" for i in range(30)), drawn.source)
    save_embeddings(labelled, tmp_path / "e.safetensors")
    return tmp_path / "e.safetensors"


@pytest.mark.parametrize("estimator", ["ppca", "ledoit-wolf", "oas", "full", "neighbours", "mixture"])
@pytest.mark.parametrize("most", [20_000, 100])
def test_every_kind_comes_back_with_all_it_was_learnt_from(estimator, most, mixture, tmp_path, monkeypatch):
    monkeypatch.setattr(sufficient_statistics, "MAX_ROWS", most)
    density = fit_density(
        mixture(150, 1), estimator, components=0 if estimator in ("ledoit-wolf", "oas", "full") else 3
    )
    save_density(density, tmp_path / "d.safetensors")
    loaded = load_density(tmp_path / "d.safetensors")
    x = mixture(20, 2).vectors
    assert (
        type(loaded) is type(density)
        and loaded.estimator == estimator == inspect_file(tmp_path / "d.safetensors")["estimator"]
    )
    assert torch.equal(loaded.log_prob(x), density.log_prob(x)) and torch.equal(loaded.bits(x), density.bits(x))
    assert torch.equal(loaded.statistics.keys, density.statistics.keys) and len(loaded.statistics.rows) == min(
        150, most
    )
    save_density(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "d.safetensors").read_bytes()


@pytest.mark.parametrize("estimator", ["mixture", "neighbours", "kde", 3, None])
def test_another_estimator_than_the_tensors_is_an_error(estimator, density, tmp_path):
    fields, tensors = density.state()
    container.write(tmp_path / "d.safetensors", "density", {**fields, "estimator": estimator}, tensors)
    with pytest.raises(RarityError, match="damaged"):
        load_density(tmp_path / "d.safetensors")


def test_statistics_of_another_count_are_an_error(density, tmp_path):
    fields, tensors = density.state()
    container.write(tmp_path / "d.safetensors", "density", {**fields, "count": 1999}, tensors)
    with pytest.raises(RarityError, match="learnt from 1,999 samples, and its statistics are of 2,000"):
        load_density(tmp_path / "d.safetensors")


@pytest.mark.parametrize("rows", [1, 7, 30, 4096])
def test_a_stream_is_what_is_read_at_once(rows, path):
    space, source, count, batches = stream_embeddings(path, rows)
    parts, whole = list(batches), load_embeddings(path)
    joined = Embeddings.cat(parts)
    assert (space, source, count) == (whole.space, whole.source, 30) and all(len(part) <= rows for part in parts)
    assert torch.equal(joined.vectors, whole.vectors) and joined.labels == whole.labels and joined.source == source


@unhurried
@given(data=st.data())
def test_damage_to_a_stream_is_an_error_at_the_end_at_the_latest(data, path):
    good = path.read_bytes()
    whole = load_embeddings(path)
    at, bit = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 7))
    bad = data.draw(
        st.sampled_from([good[:at], good + b"x", good[:at] + bytes([good[at] ^ (1 << bit)]) + good[at + 1 :]])
    )
    path.write_bytes(bad)
    try:
        joined = Embeddings.cat(stream_embeddings(path, 8)[3])
    except RarityError:
        return
    finally:
        path.write_bytes(good)
    assert torch.equal(joined.vectors, whole.vectors) and joined.labels == whole.labels


def test_a_stream_of_the_wrong_thing_says_so(density, path, tmp_path):
    save_density(density, tmp_path / "d.safetensors")
    with pytest.raises(RarityError, match="holds density, expected embeddings"):
        stream_embeddings(tmp_path / "d.safetensors")
    with pytest.raises(RarityError, match="could not be opened"):
        stream_embeddings(tmp_path / "none.safetensors")
    batches = stream_embeddings(path, 8)[3]
    save_embeddings(load_embeddings(path).select(range(20)), path)
    with pytest.raises(RarityError, match="replaced while it was read"):
        next(batches)
