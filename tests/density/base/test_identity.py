"""Who a row is: keys that are the same wherever a sample is drawn, and that go with it everywhere."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from rarity.density import (
    Embeddings,
    EmbeddingSpace,
    GaussianDensity,
    RarityError,
    fit_density,
    inspect_file,
    load_density,
    load_embeddings,
    save_density,
    save_embeddings,
)
from rarity.density.base.identity import picture_keys, sample_keys
from rarity.density.base.keys import shuffled
from rarity.density.files import container
from rarity.density.files.store import stream_embeddings

ORIGIN = {"kind": "prior", "prompt": "a “letter” R", "seed": 5, "guidance": 4.0}
SPACE = EmbeddingSpace("test encoder", "0123456789abcdef", 16)


def stir(v):
    v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    v = (v ^ v >> 27) * 0x94D049BB133111EB % 2**64
    return v ^ v >> 31


def test_keys_of_samples_are_the_literal_outputs_of_splitmix():
    start = int.from_bytes(hashlib.blake2b(json.dumps(ORIGIN, sort_keys=True).encode(), digest_size=8).digest(), "little")
    numbers = [0, 1, 7, 2**64 - 1, 2**64 + 1]
    literal = [stir((start + (n + 1) * 0x9E3779B97F4A7C15) % 2**64) for n in numbers]
    assert [key % 2**64 for key in sample_keys(ORIGIN, numbers).tolist()] == literal
    assert literal[1] == literal[4], "numbers count modulo 2^64, as seeds do"
    begun = torch.tensor([3, -4, 3, 3, 3])
    branched = [stir((stir(start ^ k % 2**64) + (n + 1) * 0x9E3779B97F4A7C15) % 2**64) for k, n in zip(begun.tolist(), numbers, strict=True)]
    assert [key % 2**64 for key in sample_keys(ORIGIN, numbers, begun).tolist()] == branched


def test_every_sample_of_every_origin_has_a_key_of_its_own():
    changed = [{"seed": 6}, {"prompt": "a letter R"}, {"guidance": 4.5}, {"space": 1}]
    keys = [sample_keys(ORIGIN | more, range(5000)) for more in [{}, *changed]]
    keys.append(sample_keys(ORIGIN, range(5000), keys[0]))
    assert len(torch.cat(keys).unique()) == 30_000
    assert torch.equal(sample_keys(dict(reversed(ORIGIN.items())), range(2)), keys[0][:2])
    assert torch.equal(torch.cat([sample_keys(ORIGIN, range(3)), sample_keys(ORIGIN, range(3, 9))]), keys[0][:9])


def test_a_picture_keeps_its_key_through_a_png():
    """ComfyUI's Save Image cuts, others round: a picture that has whole grey levels is the same for both."""
    pictures = torch.rand(3, 8, 6, 3, generator=torch.Generator().manual_seed(0))
    keys = picture_keys(pictures, SPACE.to_dict())
    saved = np.clip(255.0 * pictures.numpy(), 0, 255).astype(np.uint8)
    for loaded in (saved.astype(np.float32) / 255.0, torch.from_numpy(saved) / 255):
        assert torch.equal(picture_keys(torch.as_tensor(loaded), SPACE.to_dict()), keys)
    every = (torch.arange(256) / 255).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    assert torch.equal(picture_keys((every * 255).round() / 255, {}), picture_keys(every, {}))
    changed = pictures.clone()
    changed[0, 0, 0, 0] = (changed[0, 0, 0, 0] + 0.5) % 1
    assert (picture_keys(changed, SPACE.to_dict()) == keys).tolist() == [False, True, True]
    others = [picture_keys(pictures, {}), picture_keys(pictures.transpose(1, 2), SPACE.to_dict()), picture_keys(pictures.view(3, 6, 8, 3), SPACE.to_dict())]
    assert len(torch.cat([keys, *others]).unique()) == 12


@pytest.fixture
def rows():
    vectors = torch.randn(9, 16, generator=torch.Generator().manual_seed(1))
    return Embeddings(vectors, SPACE, tuple("abcdefghi"), {"prompt": "x"}, sample_keys(ORIGIN, range(9)))


def test_keys_go_where_rows_go(rows, tmp_path):
    keys = rows.keys
    assert torch.equal(rows.select([4, 0, 4]).keys, keys[[4, 0, 4]]) and torch.equal(rows.select(keys > 0).keys, keys[keys > 0])
    assert torch.equal(Embeddings.cat([rows.select([2]), rows]).keys, torch.cat([keys[2:3], keys]))
    half = dataclasses.replace(rows, vectors=rows.vectors.half())
    assert torch.equal(half.keys, keys) and not torch.equal(half.vectors, rows.vectors)
    save_embeddings(half, tmp_path / "e.safetensors")
    assert torch.equal(load_embeddings(tmp_path / "e.safetensors").keys, keys)
    parts = list(stream_embeddings(tmp_path / "e.safetensors", 4)[3])
    assert torch.equal(torch.cat([part.keys for part in parts]), keys)
    with torch.inference_mode():
        assert not rows.select([0]).keys.is_inference()


def test_rows_of_which_nothing_is_known_are_their_bytes(rows):
    one, two = Embeddings(rows.vectors, SPACE), Embeddings(rows.vectors.double(), SPACE, source={"prompt": "y"})
    assert torch.equal(one.keys, two.keys) and len(one.keys.unique()) == 9
    assert not torch.equal(Embeddings(rows.vectors + 1e-6, SPACE).keys, one.keys)


@pytest.mark.parametrize("keys", [torch.zeros(8, dtype=torch.int64), torch.zeros(9), torch.zeros(9, 1, dtype=torch.int64), [1] * 9])
def test_other_keys_than_one_a_row_are_refused(rows, keys):
    with pytest.raises(RarityError, match="Keys of 9 embeddings must be as many whole numbers"):
        dataclasses.replace(rows, keys=keys)


def test_a_density_keeps_the_keys_it_is_given(mixture, tmp_path):
    drawn = mixture(200, 1)
    drawn = dataclasses.replace(drawn, keys=sample_keys(ORIGIN, range(200)))
    density = GaussianDensity.fit(drawn)
    save_density(density, tmp_path / "d.safetensors")
    for one in (density, load_density(tmp_path / "d.safetensors")):
        assert torch.equal(one.statistics.keys, drawn.keys.sort().values)


@pytest.mark.parametrize("estimator", ["ppca", "mixture", "neighbours"])
def test_what_is_drawn_from_a_density_is_known_by_its_density_and_seed(mixture, estimator):
    """Not by its numbers: a picture's noise comes from its key, and another processor rounds the numbers otherwise."""
    drawn = dataclasses.replace(mixture(200, 1), keys=sample_keys(ORIGIN, range(200)))
    elsewhere = dataclasses.replace(drawn, vectors=drawn.vectors.double() * (1 + 1e-7))
    here, there = (fit_density(each, estimator, components=3).sample(6, seed=2) for each in (drawn, elsewhere))
    assert torch.equal(here.keys, there.keys)
    other = fit_density(mixture(200, 2), estimator, components=3)
    seen = [here.keys, fit_density(drawn, estimator, components=3).sample(6, seed=3).keys, other.sample(6, seed=2).keys]
    assert len(torch.cat(seen).unique()) == 18


def test_files_of_the_first_format_load_with_the_keys_of_their_bytes(mixture, tmp_path, monkeypatch):
    rows, path = mixture(120, 1), tmp_path / "old.safetensors"
    density = GaussianDensity.fit(rows)
    monkeypatch.setattr(container, "VERSION", (1, 0))
    labels = torch.frombuffer(bytearray(b"[]"), dtype=torch.uint8)
    fields = {"space": rows.space.to_dict(), "count": 120, "source": rows.source}
    container.write(path, "embeddings", fields, {"vectors": rows.vectors, "labels": labels})
    assert torch.equal(load_embeddings(path).keys, rows.keys)
    assert torch.equal(torch.cat([part.keys for part in stream_embeddings(path, 50)[3]]), rows.keys)
    fields, tensors = density.state()
    tensors.pop("row_keys")
    container.write(path, "density", fields, tensors)
    monkeypatch.undo()
    assert torch.equal(load_density(path).statistics.keys, density.statistics.keys)
    assert torch.equal(load_density(path).bits(rows.vectors), density.bits(rows.vectors))


@pytest.mark.parametrize("keys", [torch.arange(8), torch.zeros(0, dtype=torch.int64)])
def test_a_file_with_other_keys_than_rows_is_an_error(rows, tmp_path, keys):
    path = tmp_path / "e.safetensors"
    fields = {"space": SPACE.to_dict(), "count": 9, "source": {}}
    labels = torch.frombuffer(bytearray(b"[]"), dtype=torch.uint8)
    container.write(path, "embeddings", fields, {"vectors": rows.vectors, "labels": labels, "keys": keys})
    for read in (load_embeddings, inspect_file, lambda path: list(stream_embeddings(path, 4)[3])):
        with pytest.raises(RarityError, match="[Kk]eys"):
            read(path)


def test_an_order_of_some_rows_is_their_order_among_all():
    keys = sample_keys(ORIGIN, range(500))
    order = keys[shuffled(keys, 3)].tolist()
    some = keys[torch.arange(0, 500, 7)].flip(0)
    assert some[shuffled(some, 3)].tolist() == [key for key in order if key in {*some.tolist()}]
    assert order != keys[shuffled(keys, 4)].tolist() and sorted(order) == sorted(keys.tolist())
    first = torch.stack([shuffled(keys[:10], seed)[0] for seed in range(2000)])
    assert (torch.bincount(first, minlength=10) / 2000 - 0.1).abs().max() < 5 * (0.09 / 2000) ** 0.5, "all come first as often"
