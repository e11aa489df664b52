"""The way from one rare embedding to another: as rare all along, exact at its ends, no seam anywhere."""

import copy

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, RarityError, optimize
from rarity.density.variation import slerp_on_shell


def parts(density, x):
    w, r = density.whiten(x)
    return w, r, density.score(x)


def test_bits_stay_between_those_of_the_ends_and_ends_are_exact(density, baseline):
    a, b = baseline.select(range(30)), baseline.select(range(30, 60))
    way = slerp_on_shell(density, a, b, 9)
    x = way.vectors.view(30, 9, 16)
    assert torch.equal(x[:, 0], a.vectors) and torch.equal(x[:, -1], b.vectors)
    bits = density.bits(way.vectors).view(30, 9)
    low, high = torch.minimum(bits[:, :1], bits[:, -1:]), torch.maximum(bits[:, :1], bits[:, -1:])
    assert (bits >= low - 1e-6).all() and (bits <= high + 1e-6).all()
    assert way.source["kind"] == "variations"


def test_two_equally_rare_ends_have_equally_rare_variations(density, baseline):
    rare = optimize(density, baseline.select(range(20)), 500, steps=5).final
    way = slerp_on_shell(density, rare.select(range(10)), rare.select(range(10, 20)), 7)
    score = torch.tensor(density.score_at(density.bits(rare.vectors)[0].item())).double()
    assert torch.allclose(density.score(way.vectors), score, rtol=1e-5)
    middle = way.vectors.view(10, 7, 16)[:, 3]
    straight = (rare.vectors[:10] + rare.vectors[10:]) / 2
    assert (density.score(straight) < density.score(middle)).all()  # a straight line cuts through the shell


def test_steps_are_equal_angles_by_the_literal_formula(density, baseline):
    a, b = baseline.select([3]), baseline.select([8])
    way = slerp_on_shell(density, a, b, 5)
    w, _, _ = parts(density, way.vectors)
    u = [row / row.norm() for row in w]
    angle = torch.arccos(u[0] @ u[4])
    for i in range(5):
        t = i / 4
        literal = (torch.sin((1 - t) * angle) * u[0] + torch.sin(t * angle) * u[4]) / torch.sin(angle)
        assert torch.allclose(u[i], literal, atol=1e-5)  # float32 storage


def test_identical_and_opposite_ends(density, baseline):
    a = baseline.select(range(6))
    assert torch.allclose(slerp_on_shell(density, a, a, 4).vectors, a.vectors.repeat_interleave(4, dim=0), atol=1e-5)
    w, r, score = parts(density, a.vectors)
    opposite = Embeddings(density.unwhiten(-w, -r), a.space)
    way = slerp_on_shell(density, a, opposite, 5)
    assert torch.isfinite(way.vectors).all()
    assert torch.allclose(density.score(way.vectors).view(6, 5), score[:, None].expand(6, 5), rtol=1e-4)
    steps = (way.vectors.view(6, 5, 16)[:, 1:] - way.vectors.view(6, 5, 16)[:, :-1]).norm(dim=2)
    assert (steps > 0).all() and (steps < 2 * steps.mean()).all()


def test_nonsense_is_refused(density, baseline):
    a = baseline.select(range(3))
    mixture = copy.copy(density)
    mixture.estimator = "mixture"
    foreign = Embeddings(a.vectors, EmbeddingSpace("another", "encoder", 16))
    for make, message in [
        (lambda: slerp_on_shell(density, a, a, 1), "at least 2"),
        (lambda: slerp_on_shell(density, a, baseline.select([0]), 3), "as many ends"),
        (lambda: slerp_on_shell(density, a, foreign, 3), "different embedding spaces"),
        (lambda: slerp_on_shell(mixture, a, a, 3), "estimator ppca"),
    ]:
        with pytest.raises(RarityError, match=message):
            make()
