"""The benchmark of conditioning: its miniature world, its starts and its noises, on little of everything."""

from string import ascii_uppercase
from types import SimpleNamespace

import pytest
import torch
from rarity.generators.kandinsky.load import load_kandinsky


@pytest.fixture(scope="module")
def world(benchmark_module, tmp_path_factory):
    module, patch = benchmark_module("conditioning"), pytest.MonkeyPatch()
    patch.setattr(module, "TRIALS", 20)
    patch.setattr(module, "SHOWN", 50)
    prior, decoder = load_kandinsky()
    folder = tmp_path_factory.mktemp("encoded")
    yield SimpleNamespace(
        module=module, prior=prior, decoder=decoder, folder=folder, subject=module.Subject("R", 100, 2, prior, decoder, folder)
    )
    patch.undo()


def test_usual_pictures_are_the_same_from_the_cache(world):
    again, pictures = world.module.encoded("R", 100, 0, world.prior, world.decoder, world.folder, 100)
    assert torch.equal(pictures, world.subject.usual)
    # Loaded as they were; drawn and encoded anew in batches of another size, to float32's rounding.
    torch.testing.assert_close(world.prior.encode_images(pictures).vectors, again.vectors, atol=1e-4, rtol=1e-4)


def test_an_embedding_is_that_of_the_picture_and_an_offset_moves_it(world):
    condition, basis = world.subject.conditions[0], world.subject.variations[:, :3]
    steered = world.module.World(world.prior, world.decoder, condition, basis)
    offset = torch.tensor([0.5, -1.0, 0.0], requires_grad=True)
    x = steered.embed(offset, range(2))
    pictures = steered.pictures(offset.detach(), range(2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(x.detach(), world.prior.encode_images(pictures).vectors, atol=1e-4, rtol=1e-4)
    x.square().sum().backward()
    assert (offset.grad != 0).all()
    moved = world.module.World(world.prior, world.decoder, condition + basis @ offset.detach(), basis).embed(torch.zeros(3), range(2))
    torch.testing.assert_close(x.detach(), moved, atol=1e-4, rtol=1e-4)


def test_both_kinds_of_noise_are_drawn_and_only_the_watched_one_is_steered_with(world, monkeypatch):
    seen, literal = [], world.module.World.embed
    monkeypatch.setattr(world.module.World, "embed", lambda self, offset, rows: seen.append(rows) or literal(self, offset, rows))
    # One step, its gradient, the start, and as many pictures of the noise after the watched one at the end.
    made = world.module.make(world.module.Method("", "gradient", 4, 1, 0.1), world.subject, world.prior, world.decoder)
    watched = world.module.WATCHED
    assert made.drawn == 2 * 4 * watched  # two conditions
    steered_with = {row for rows in seen for row in rows if row < 1000}
    assert steered_with == set(range(2 * watched))
    for kind in world.module.NOISES:
        assert torch.cat(made.pictures[kind]).shape == (2 * watched, 64, 64, 3)
    assert not torch.equal(made.vectors["watched"][0], made.vectors["never seen"][0])


def test_in_band_and_readable_are_counted_together(world, monkeypatch):
    bits = torch.tensor([9.0, 9.5, 12.0, 10.9])  # the target is 9.97
    monkeypatch.setattr(world.subject, "other", SimpleNamespace(bits=lambda x: bits))
    letters = [ascii_uppercase.index(letter) for letter in "RPRR"]
    pictures, vectors = world.subject.usual[:4], torch.zeros(4, world.prior.space.width)
    got = world.module.measure(world.subject, vectors, pictures, lambda pictures: torch.eye(26)[letters])
    assert (got["in band"], got["readable"], got["both"]) == (0.75, 0.75, 0.5)
    assert got["varied"] == pytest.approx(1.0)
