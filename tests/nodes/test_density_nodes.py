"""Estimators and merging through the nodes: as the library does it, and with errors an artist can act on."""

import pytest
import torch
from rarity import nodes
from rarity.density import RarityError
from rarity.density.estimators.choose import CHOICES, fit_density


@pytest.fixture
def parts(run, model):
    """Three baselines of three seeds, of sizes that differ."""
    return [run(nodes.RaritySamplePrior, prior=model[0], count=60 + 10 * seed, steps=3, seed=seed)[0] for seed in range(3)]


def test_the_menu_is_the_library_s_and_the_first_kind_is_the_default(run, baseline):
    menu = nodes.RarityFitDensity.define_schema().inputs[-1]
    assert tuple(menu.options) == CHOICES and menu.default == "ppca" and menu.optional
    default = run(nodes.RarityFitDensity, embeddings=baseline, components=4)[0]
    assert default.estimator == "ppca" and default.frame.components == 4


@pytest.mark.parametrize("estimator", ["ledoit-wolf", "oas", "mixture", "neighbours"])
def test_each_estimator_is_the_library_s(run, parts, estimator):
    embeddings = parts[2]
    density = run(nodes.RarityFitDensity, embeddings=embeddings, components=0, estimator=estimator)[0]
    expected = fit_density(embeddings, estimator)
    assert density.estimator == estimator
    assert torch.equal(density.bits(embeddings.vectors), expected.bits(embeddings.vectors))
    assert "80" in run(nodes.RarityDescribeDensity, density=density)[0]


def test_auto_says_what_it_chose(run, baseline):
    density = run(nodes.RarityFitDensity, embeddings=baseline, estimator="auto")[0]
    assert "Chosen:" in run(nodes.RarityDescribeDensity, density=density)[0]


def test_merged_is_what_all_samples_give_in_any_order(run, parts):
    from rarity.density import Embeddings

    fits = [run(nodes.RarityFitDensity, embeddings=part, components=4)[0] for part in parts]
    whole = run(nodes.RarityFitDensity, embeddings=Embeddings.cat(parts), components=0)[0]
    x = parts[0].vectors
    for order in ((0, 1, 2), (2, 0, 1)):
        named = {f"density_{place}": fits[i] for place, i in enumerate(order, 1)}
        merged = run(nodes.RarityMergeDensities, **named)[0]
        assert merged.count == whole.count == 210
        torch.testing.assert_close(merged.bits(x), whole.bits(x), rtol=1e-6, atol=1e-6)  # sums in another order


def test_a_folder_of_densities_merges_and_one_more_is_noticed(run, model, folders):
    settings = {"prior": model[0], "prompt": "a", "steps": 2, "seed": 3}
    whole = run(nodes.RarityFitDensity, embeddings=run(nodes.RaritySamplePrior, count=210, **settings)[0], components=4)[0]
    marks = []
    for first, count in ((0, 80), (80, 50), (130, 80)):
        part = run(nodes.RaritySamplePrior, count=count, first=first, **settings)[0]
        density = run(nodes.RarityFitDensity, embeddings=part, components=4)[0]
        (file,), (same,) = run(nodes.RaritySaveFile, what=[density], name=[f"usual/{first}"])
        assert file == f"usual/{first}.safetensors" and same is density and (folders / file).is_file()
        marks.append(nodes.RarityMergeDensities.fingerprint_inputs(folder="usual"))
    assert {*map(len, marks)} == {64}, "ComfyUI saves them in every picture: no path may stand in them"
    assert len(set(marks)) == 3 and nodes.RarityMergeDensities.fingerprint_inputs(density_1=None, folder=None) == ""
    merged = run(nodes.RarityMergeDensities, folder="usual")[0]
    assert torch.equal(merged.statistics.keys, whole.statistics.keys) and merged.count == 210
    two = run(nodes.RarityMergeDensities, density_1=density, folder="")[0]
    assert two.count == 80
    with pytest.raises(RarityError, match="130.safetensors: 80 of 80 samples are in both sets.*first"):
        run(nodes.RarityMergeDensities, density_1=density, folder="usual")


def test_a_folder_that_is_not_there_or_outside_and_nothing_at_all(run, folders):
    with pytest.raises(RarityError, match='no saved file in the folder \'nowhere\'.*such as "nowhere/1"'):
        run(nodes.RarityMergeDensities, folder="nowhere")
    with pytest.raises(RarityError, match="cannot be used"):
        run(nodes.RarityMergeDensities, folder="../usual")
    with pytest.raises(RarityError, match="no densities to merge"):
        run(nodes.RarityMergeDensities)


def test_merge_refuses_what_does_not_belong_together(run, parts):
    one, other = (run(nodes.RarityFitDensity, embeddings=part, components=4)[0] for part in parts[:2])
    shrunk = run(nodes.RarityFitDensity, embeddings=parts[1], estimator="oas")[0]
    with pytest.raises(RarityError, match="same seed"):
        run(nodes.RarityMergeDensities, density_1=one, density_2=one)
    near = run(nodes.RarityFitDensity, embeddings=parts[0], estimator="neighbours")[0]
    with pytest.raises(RarityError, match="of the estimators neighbours, oas"):
        run(nodes.RarityMergeDensities, density_1=near, density_2=shrunk)
    assert run(nodes.RarityMergeDensities, density_1=one, density_2=other)[0].count == 130
