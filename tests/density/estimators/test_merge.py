"""A density of merged shards beside the density of all samples at once."""

from itertools import permutations
from pathlib import Path

import pytest
import torch
from rarity.density import (
    Embeddings,
    EmbeddingSpace,
    GaussianDensity,
    MixtureDensity,
    RarityError,
    fit_density,
    load_density,
    merge_densities,
    save_density,
)
from rarity.density.base.identity import sample_keys
from rarity.density.statistics import sufficient_statistics


@pytest.fixture(scope="module")
def shards(mixture):
    return [mixture(count, seed) for count, seed in ((300, 1), (700, 2), (500, 3))]


@pytest.mark.parametrize("estimator", ["ppca", "ledoit-wolf", "oas", "full", "neighbours"])
def test_shards_merge_to_the_density_of_the_whole_in_any_order(estimator, shards, mixture):
    parts = [fit_density(shard, estimator) for shard in shards]
    whole = fit_density(Embeddings.cat(shards), estimator)
    x = mixture(50, 9).vectors
    for order in permutations(parts):
        merged = merge_densities(order)
        assert type(merged) is type(whole) and merged.frame.components == whole.frame.components
        assert torch.equal(merged.log_prob(x), whole.log_prob(x)) and torch.equal(merged.bits(x), whole.bits(x))
        assert merged.estimator == estimator and merged.source == {"prompt": "a test"} == whole.source


def test_beyond_the_rows_that_are_kept_they_merge_to_rounding(shards, mixture, monkeypatch, tmp_path):
    monkeypatch.setattr(sufficient_statistics, "MAX_ROWS", 400)
    parts = [GaussianDensity.fit(shard, components=5) for shard in shards]
    whole = GaussianDensity.fit(shards, components=5)
    for i, part in enumerate(parts):
        save_density(part, tmp_path / f"{i}.safetensors")
    parts = [load_density(tmp_path / f"{i}.safetensors") for i in range(3)]
    x = mixture(50, 9).vectors
    assert len(whole.calibration.scores) == 400 and whole.count == 1500
    for order in permutations(parts):
        merged = merge_densities(order, components=5)
        assert merged.count == 1500 and torch.equal(merged.statistics.keys, whole.statistics.keys)
        # Sums of float32 products, grouped differently: 1e-7 of the spread in every covariance.
        assert torch.allclose(merged.log_prob(x), whole.log_prob(x), rtol=1e-5)
        assert torch.allclose(merged.bits(x), whole.bits(x), rtol=1e-3)


def test_mixtures_keep_their_number_of_modes(shards, mixture):
    parts, whole = ([MixtureDensity.fit(shard, modes=3) for shard in some] for some in (shards, [Embeddings.cat(shards)]))
    merged = merge_densities(parts)
    assert len(merged.modes.weights) == 3
    assert torch.equal(merged.bits(mixture(50, 9).vectors), whole[0].bits(mixture(50, 9).vectors))


def test_of_several_estimators_all_samples_choose(shards, mixture):
    merged = merge_densities([fit_density(shard, kind) for shard, kind in zip(shards, ("ppca", "oas", "mixture"), strict=True)])
    whole = fit_density(Embeddings.cat(shards), "auto")
    assert merged.estimator == whole.estimator
    assert torch.equal(merged.bits(mixture(50, 9).vectors), whole.bits(mixture(50, 9).vectors))


@pytest.mark.parametrize("shared", [399, 0])
def test_pictures_that_two_machines_drew_are_not_counted_twice(mixture, shared):
    """Picture i of a model has the seed plus i; whoever draws it in another batch rounds it otherwise."""
    rows, first = mixture(801, 1), 400 - shared
    origin = {"kind": "model", "model": "BaseModel", "cfg": 7.0}
    one = Embeddings(rows.vectors[:400], rows.space, keys=sample_keys(origin, range(5, 405)))
    g = torch.Generator().manual_seed(3)
    off = 1 + 1e-7 * torch.randn(400, 16, generator=g, dtype=torch.float64)
    again = rows.vectors[first : first + 400] * off
    two = Embeddings(again, rows.space, keys=sample_keys(origin, range(5 + first, 405 + first)))
    parts = [GaussianDensity.fit(part) for part in (one, two)]
    if not shared:
        assert merge_densities(parts).count == 800
        return
    with pytest.raises(RarityError, match="399 of 400 samples are in both sets.*seed plus i"):
        merge_densities(parts)
    at_once = GaussianDensity.fit([one, two])
    assert at_once.count == 401 and any("399 of 800 samples were repeats" in note for note in at_once.notes)


def test_one_density_merges_to_itself(density, mixture):
    again = merge_densities([density], components=9, seed=3)
    assert torch.equal(again.bits(mixture(20).vectors), density.bits(mixture(20).vectors))


def test_what_cannot_be_merged_says_why(shards, density):
    ppca, oas = GaussianDensity.fit(shards[0]), GaussianDensity.fit(shards[1], estimator="oas")
    with pytest.raises(RarityError, match="of the estimators neighbours, oas"):
        merge_densities([fit_density(shards[0], "neighbours"), oas])
    with pytest.raises(RarityError, match="300 of 300 samples are in both sets"):
        merge_densities([ppca, ppca])
    with pytest.raises(RarityError, match="no densities to merge"):
        merge_densities([])
    with pytest.raises(RarityError, match="^b.safetensors: 300 of 300 samples are in both sets"):
        merge_densities(iter([(Path("a.safetensors"), ppca), (Path("b.safetensors"), ppca)]))
    other = GaussianDensity.fit(Embeddings(shards[1].vectors, EmbeddingSpace("other", "f", 16)))
    with pytest.raises(RarityError, match="different embedding spaces"):
        merge_densities([ppca, other])
