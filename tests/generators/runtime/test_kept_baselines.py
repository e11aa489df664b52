"""Baselines that are kept while they are drawn, go on where they stopped, and end when they are long enough."""

import pytest
import torch
from rarity.density.base.embeddings import Embeddings
from rarity.density.base.errors import RarityError
from rarity.density.estimators.convergence import Convergence
from rarity.density.estimators.gaussian import GaussianDensity
from rarity.density.files.store import load_embeddings
from rarity.density.statistics.sufficient_statistics import Statistics
from rarity.generators.kandinsky.load import load_kandinsky
from rarity.generators.kandinsky.prior_baseline import draw_baseline, keep_samples
from rarity.generators.runtime import kept_baselines as module

SETTINGS = {"seed": 3, "steps": 2, "guidance": 2.0, "negative_prompt": "bold"}


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def prior(tiny_kandinsky):
    return tiny_kandinsky[0]


@pytest.fixture
def shards_of_ten(monkeypatch):
    monkeypatch.setattr(module, "SHARD", 10)


def stop_at(steps):
    def progress(done, total):
        if done >= steps:
            raise Stopped

    return progress


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def names(folder):
    return [path.name for path in sorted(folder.iterdir())]


def test_without_anything_special_it_is_the_prior_s_samples(prior):
    got, report = draw_baseline(prior, "a letter r", 30, **SETTINGS)
    expected = prior.sample("a letter r", 30, **SETTINGS)
    assert torch.equal(got.vectors, expected.vectors) and got.source == expected.source
    assert report == "30 samples of 'a letter r'."


def test_what_was_stopped_goes_on(prior, tmp_path, shards_of_ten):
    folder, expected = tmp_path / "mine", prior.sample("a", 33, **SETTINGS)
    with pytest.raises(Stopped):
        draw_baseline(prior, "a", 33, folder=folder, batch_size=4, progress=stop_at(30), **SETTINGS)  # 14 samples, and more
    assert names(folder) == ["000000000.safetensors"]
    kept = sum(len(load_embeddings(path)) for path in folder.iterdir())
    assert kept == 12, "every batch that was whole"
    calls = []
    got, _ = draw_baseline(prior, "a", 33, folder=folder, batch_size=4, progress=lambda *call: calls.append(call), **SETTINGS)
    close(got.vectors, expected.vectors)
    assert got.source == expected.source and calls[-1] == (42, 42), "of the 21 that were missing"
    assert sum(len(load_embeddings(path)) for path in folder.iterdir()) == 33
    again, _ = draw_baseline(prior, "a", 33, folder=folder, progress=stop_at(0), **SETTINGS)
    assert torch.equal(again.vectors, got.vectors), "nothing is drawn a second time"
    fewer, _ = draw_baseline(prior, "a", 17, folder=folder, progress=stop_at(0), **SETTINGS)
    assert torch.equal(fewer.vectors, got.vectors[:17])
    more, _ = draw_baseline(prior, "a", 40, folder=folder, **SETTINGS)
    assert torch.equal(more.vectors[:33], got.vectors)
    close(more.vectors, prior.sample("a", 40, **SETTINGS).vectors)


def test_parts_of_one_seed_are_the_whole_wherever_they_are_drawn(prior):
    whole = prior.sample("a", 30, **SETTINGS)
    parts = [draw_baseline(prior, "a", count, first=first, batch_size=4, **SETTINGS) for first, count in ((0, 11), (11, 19))]
    got = Embeddings.cat([part for part, _ in parts])
    assert torch.equal(got.keys, whole.keys), "a sample's key is that of its number"
    close(got.vectors, whole.vectors)
    assert parts[0][0].source == whole.source and parts[1][1] == "19 samples of 'a', from number 11 on."
    overlapping, _ = draw_baseline(prior, "a", 12, first=10, **SETTINGS)
    one, other = (Statistics(prior.space.width).update(part.vectors, part.keys) for part in (parts[0][0], overlapping))
    with pytest.raises(RarityError, match="1 of 12 samples are in both sets"):
        one.merge(other)
    one.update(overlapping.vectors, overlapping.keys)
    assert (one.count, one.repeats) == (22, 1), "or counted once"


def test_a_part_that_is_kept_goes_on_and_is_never_taken_for_another(prior, tmp_path, shards_of_ten):
    whole = prior.sample("a", 60, **SETTINGS)
    part, _ = draw_baseline(prior, "a", 25, first=30, folder=tmp_path, batch_size=5, **SETTINGS)
    assert names(tmp_path) == ["000000030.safetensors", "000000040.safetensors", "000000050.safetensors"]
    close(part.vectors, whole.vectors[30:55])
    again, _ = draw_baseline(prior, "a", 12, first=30, folder=tmp_path, progress=stop_at(0), **SETTINGS)
    assert torch.equal(again.vectors, part.vectors[:12]) and torch.equal(again.keys, whole.keys[30:42])
    more, _ = draw_baseline(prior, "a", 30, first=30, folder=tmp_path, **SETTINGS)
    assert torch.equal(more.vectors[:25], part.vectors) and torch.equal(more.keys, whole.keys[30:])
    for first in (0, 40):
        with pytest.raises(RarityError, match=f"begins with sample 30; asked for were samples from {first} on"):
            draw_baseline(prior, "a", 12, first=first, folder=tmp_path, **SETTINGS)


@pytest.mark.parametrize("count, first, message", [(0, 0, "count must be at least 1, got 0"), (5, -1, "0 or more, got -1")])
def test_ranges_that_hold_nothing(prior, count, first, message):
    with pytest.raises(RarityError, match=message):
        draw_baseline(prior, "a", count, first=first, **SETTINGS)


def test_a_density_learns_from_the_folder_without_holding_it(prior, tmp_path, shards_of_ten):
    streamed = keep_samples(prior, tmp_path / "mine", "a", 80, batch_size=16, **SETTINGS)
    density = GaussianDensity.fit(part for part in streamed)
    whole = GaussianDensity.fit(prior.sample("a", 80, **SETTINGS))
    close(density.frame.mean, whole.frame.mean)
    assert density.count == 80 and max(len(load_embeddings(path)) for path in (tmp_path / "mine").iterdir()) == 16
    assert "first" not in density.source and density.source["prompt"] == "a"


@pytest.mark.parametrize("changed, message", [
    ({"guidance": 3.0}, r"guidance 2\.0 \(asked for: 3\.0\)"),
    ({"seed": 4}, r"seed 3 \(asked for: 4\)"),
    ({"steps": 3}, "steps 2"),
    ({"negative_prompt": ""}, "negative_prompt 'bold'"),
    ({"prompt": "b"}, "prompt 'a'"),
])
def test_another_setting_is_an_error_that_names_it(prior, tmp_path, changed, message):
    draw_baseline(prior, "a", 5, folder=tmp_path, **SETTINGS)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    wanted = {"prompt": "a", **SETTINGS, **changed}
    with pytest.raises(RarityError, match=f"another baseline: {message}"):
        draw_baseline(prior, count=9, folder=tmp_path, **wanted)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_another_model_is_an_error(prior, tmp_path, tiny_kandinsky_21):
    draw_baseline(prior, "a", 5, folder=tmp_path, **SETTINGS)
    with pytest.raises(RarityError, match="different embedding spaces"):
        draw_baseline(tiny_kandinsky_21[0], "a", 9, folder=tmp_path, **SETTINGS)


def test_a_gap_and_a_damaged_file_are_errors(prior, tmp_path, shards_of_ten):
    draw_baseline(prior, "a", 30, folder=tmp_path, batch_size=10, **SETTINGS)
    first, second, _ = sorted(tmp_path.iterdir())
    second.rename(second.with_suffix(".moved"))
    with pytest.raises(RarityError, match="should begin with sample 10, but begins with 20"):
        draw_baseline(prior, "a", 30, folder=tmp_path, **SETTINGS)
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(RarityError, match="damaged"):
        draw_baseline(prior, "a", 30, folder=tmp_path, **SETTINGS)


def test_it_ends_when_there_are_enough(tmp_path, monkeypatch):
    """The miniature's own samples; tolerances wide enough to be reached at the first doubling."""
    prior = load_kandinsky()[0]
    wide = {"nats": 10.0, "bits": 100.0, "first": 400}
    monkeypatch.setattr(module, "Convergence", lambda space: Convergence(space, **wide))
    got, report = draw_baseline(prior, "a letter R", 20_000, stop_when_enough=True, folder=tmp_path, steps=2)
    assert len(got) == 800 and "800 samples are enough" in report and report.startswith("800 samples of 'a letter R'.")
    assert sum(len(load_embeddings(path)) for path in tmp_path.iterdir()) == 1024, "the last batch is kept whole"
    again, _ = draw_baseline(prior, "a letter R", 20_000, stop_when_enough=True, folder=tmp_path, steps=2, progress=stop_at(0))
    assert torch.equal(again.vectors, got.vectors)
    short, report = draw_baseline(prior, "a letter R", 500, stop_when_enough=True, steps=2)
    assert len(short) == 500 and "500 samples are not known to be enough" in report
