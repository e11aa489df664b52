"""One node saves whatever this pack keeps; a baseline that was kept while it was drawn is one entry of a menu."""

import math

import pytest
import torch
from rarity import nodes
from rarity.density.base.errors import RarityError


def test_what_is_connected_decides_the_folder(run, baseline, density, folders):
    exposure = run(nodes.RarityExposureUpdate, embeddings=baseline)[0]
    for thing, kind in ((density, "rarity_densities"), (baseline, "rarity_embeddings"), (exposure, "rarity_exposures")):
        with torch.inference_mode():
            output = nodes.RaritySaveFile.execute(what=[thing], name=["shared/one"])
        assert output.args == (["shared/one.safetensors"], [thing])
        assert output.ui.as_dict()["text"][0] == f"Saved as shared/one.safetensors in models/{kind}"
        assert (folders.with_name(kind) / "shared" / "one.safetensors").is_file()


def test_a_list_is_numbered_and_nothing_or_something_else_is_refused(run, baseline):
    assert run(nodes.RaritySaveFile, what=[baseline, baseline.select([0])], name=["two"])[0] == ["two_1.safetensors", "two_2.safetensors"]
    assert len(run(nodes.RarityLoadEmbeddings, name="two_2.safetensors")[0]) == 1
    with pytest.raises(RarityError, match="nothing to save: an empty list came in"):
        run(nodes.RaritySaveFile, what=[], name=["none"])
    with pytest.raises(RarityError, match="holds a density, embeddings, an exposure or a concept, got Tensor"):
        run(nodes.RaritySaveFile, what=[torch.zeros(1)], name=["none"])


def test_a_file_that_is_gone_is_saved_again(run, baseline, density, folders):
    mark = lambda: nodes.RaritySaveFile.fingerprint_inputs(name=["x"])  # noqa: E731
    assert math.isnan(mark()) and math.isnan(nodes.RaritySaveFile.fingerprint_inputs(name=[None]))
    run(nodes.RaritySaveFile, what=[density], name=["x"])
    one = mark()
    run(nodes.RaritySaveFile, what=[baseline], name=["x"])
    both = mark()
    assert one == one and both not in (one, mark.__name__)
    (folders / "x.safetensors").unlink()
    assert mark() not in (one, both)


def test_a_kept_baseline_is_one_entry_of_the_menu_and_loads_as_it_was_drawn(run, model, monkeypatch, folders):
    from rarity.generators.runtime import kept_baselines

    monkeypatch.setattr(kept_baselines, "SHARD", 3)
    asked = {"prior": model[0], "prompt": "a", "steps": 2, "keep_as": "series/chairs"}
    monkeypatch.setattr(type(model[0]), "batch_size", 2, raising=False)
    drawn = run(nodes.RaritySamplePrior, count=7, **asked)[0]
    folder = folders.with_name("rarity_embeddings") / "series" / "chairs"
    if len(list(folder.iterdir())) < 2:  # one batch was larger than the shard
        drawn = run(nodes.RaritySamplePrior, count=12, **asked)[0]
    files = sorted(folder.iterdir())
    assert len(files) > 1
    run(nodes.RaritySaveFile, what=[drawn.select([0])], name=["series/1"])
    assert nodes.RarityLoadEmbeddings.define_schema().inputs[0].options == ["series/1.safetensors", "series/chairs"]
    mark = nodes.RarityLoadEmbeddings.fingerprint_inputs(name="series/chairs")
    assert len(mark) == 64 and "chairs" not in mark, "ComfyUI saves it in every picture: no path may stand in it"
    (loaded,) = run(nodes.RarityLoadEmbeddings, name="series/chairs")
    assert torch.equal(loaded.vectors, drawn.vectors) and torch.equal(loaded.keys, drawn.keys) and loaded.source == drawn.source
    run(nodes.RaritySamplePrior, count=len(drawn) + 1, **asked)
    assert nodes.RarityLoadEmbeddings.fingerprint_inputs(name="series/chairs") != mark
    (last,) = set(folder.iterdir()) - set(files)
    files[1].rename(folder.parent / "elsewhere.safetensors")
    with pytest.raises(RarityError, match=f"{last.name} should begin with sample|should begin with sample .* is missing"):
        run(nodes.RarityLoadEmbeddings, name="series/chairs")
