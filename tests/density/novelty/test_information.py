"""Information gain beside its formula with plain inverses and determinants, and what repeats and orders must not do."""

import math

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, RarityError
from rarity.density.novelty import information as module
from rarity.density.novelty.exposure import ExposureMemory
from rarity.density.novelty.information import SCALE_ROWS, information_gain, scale, session_gains


@pytest.fixture(scope="module")
def items(mixture):
    return mixture(12, 21)


@pytest.fixture(scope="module")
def empty(space):
    return ExposureMemory(space)


@pytest.fixture(scope="module")
def memory(empty, mixture):
    return empty.update(mixture(5, 22)).forget(0.7).update(mixture(4, 23))


def literal_kernel(a, b, h):
    squares = [[float((x - y).square().sum()) for y in b.double()] for x in a.double()]
    return torch.tensor([[math.exp(-square / (2 * h * h)) for square in row] for row in squares])


def literal_gain(x, memory, h, resolution):
    """1/2 log2(1 + v / l), v = 1 - k' (K + l / w)^-1 k."""
    if len(memory) == 0:
        return 0.5 * math.log2(1 + 1 / resolution)
    k = literal_kernel(x[None], memory.vectors, h)[0].double()
    noisy = literal_kernel(memory.vectors, memory.vectors, h).double() + (resolution / memory.weights).diag()
    return 0.5 * math.log2(1 + (1 - float(k @ torch.linalg.inv(noisy) @ k)) / resolution)


def test_the_scale_is_the_median_distance_to_the_nearest_other_sample(density):
    rows = density.statistics.rows[:SCALE_ROWS].double()
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)
    assert scale(density) == pytest.approx(float(distances.amin(dim=1).median()), rel=1e-9)


@pytest.mark.parametrize("most", [2048, 3])
def test_information_gain_equals_the_inverse_formula(most, density, memory, empty, items, monkeypatch):
    monkeypatch.setattr(module, "RESOLUTION", 1e-3)  # so that the plain inverse keeps its digits, too
    monkeypatch.setattr(module, "MOST_SEEN", most)
    h = scale(density)
    for seen in (memory, empty):
        expected = []
        for x in items.vectors:
            near = ExposureMemory(items.space)
            if len(seen):
                closest = (seen.vectors.double() - x.double()).norm(dim=1).argsort()[:most]
                near = near.update(Embeddings(seen.vectors[closest], items.space), seen.weights[closest])
            expected.append(literal_gain(x, near, h, 1e-3))
        assert information_gain(items, density, seen).tolist() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("others", [0, 8, 32, 128, 500])
def test_a_repeat_gains_almost_nothing_however_many_others_were_seen(others, density, empty, items, mixture):
    """The embedding is 16 wide: a linear kernel would have run out of directions after the second of these."""
    memory = empty.update(mixture(others, 70)) if others else empty
    first = information_gain(items, density, memory)
    assert (first > 9).all()
    for i, gain in enumerate(first):
        again = information_gain(items.select([i]), density, memory.update(items.select([i])))
        assert 0 < again < 0.05 * gain and again <= 0.5 + 1e-6


def test_a_glance_teaches_less_than_a_look_and_a_copy_gains_less_than_a_new_picture(density, empty, items):
    one, way = items.select([0]), torch.nn.functional.normalize(torch.ones(1, 16), dim=1)
    again = [float(information_gain(one, density, empty.update(one, [w]))) for w in (0.01, 0.1, 1.0, 10.0)]
    assert again == sorted(again, reverse=True) and again[0] > 1
    copies = [Embeddings(one.vectors + s * scale(density) * way, one.space) for s in (1e-4, 1e-2, 0.3, 3.0)]
    gains = [float(information_gain(copy, density, empty.update(one))) for copy in copies]
    assert gains == sorted(gains) and gains[0] < 2 and gains[-1] > 14


def test_the_nearest_pictures_alone_give_an_upper_bound(density, empty, items, mixture, monkeypatch):
    memory = empty.update(mixture(300, 5))
    exact = information_gain(items, density, memory)
    monkeypatch.setattr(module, "MOST_SEEN", 100)
    bound = information_gain(items, density, memory)
    assert (bound >= exact - 1e-9).all() and (bound - exact).max() < 0.5


def test_a_gain_does_not_depend_on_the_other_pictures_asked_about(density, empty, items, mixture, monkeypatch):
    memory = empty.update(mixture(60, 5))
    for most in (2048, 10):
        monkeypatch.setattr(module, "MOST_SEEN", most)
        together = information_gain(items, density, memory)
        alone = torch.cat([information_gain(items.select([i]), density, memory) for i in range(12)])
        assert torch.allclose(together, alone, rtol=1e-9)


def test_session_gains_are_those_of_a_memory_that_takes_each_picture_in(density, memory, items):
    seen, gains = memory, []
    session = Embeddings.cat([items, items.select([3])])
    for i in range(len(session)):
        gains.append(float(information_gain(session.select([i]), density, seen)))
        seen = seen.update(session.select([i]))
    assert session_gains(session, density, memory).tolist() == pytest.approx(gains, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("most", [2048, 30])
def test_a_session_s_total_does_not_depend_on_its_order(most, density, memory, empty, mixture, monkeypatch):
    monkeypatch.setattr(module, "MOST_SEEN", most)
    session = Embeddings.cat([mixture(100, 3), mixture(10, 3)])  # ten shown twice
    for seen in (memory, empty, empty.update(mixture(500, 4))):
        orders = [torch.randperm(110, generator=torch.Generator().manual_seed(s)) for s in range(6)]
        totals = [float(session_gains(session.select(order), density, seen).sum()) for order in orders]
        assert max(totals) - min(totals) < 1e-9 * min(totals)


def test_a_session_s_total_is_the_determinant(density, empty, mixture):
    session = mixture(60, 3)
    kernel = literal_kernel(session.vectors, session.vectors, scale(density)).double()
    expected = 0.5 * torch.linalg.eigvalsh(kernel / module.RESOLUTION).log1p().sum() / math.log(2)
    assert float(session_gains(session, density, empty).sum()) == pytest.approx(float(expected), rel=1e-9)


def test_identical_pictures_teach_less_and_less(density, empty, items):
    same = items.select([0] * 40)
    gains = session_gains(same, density, empty.update(same, [1e-3] * 40))
    assert torch.isfinite(gains).all() and (gains.diff() < 0).all() and gains[-1] > 0


def test_bad_input_says_so(density, memory, items, monkeypatch):
    foreign = EmbeddingSpace("another", "f", 16)
    for use in (information_gain, session_gains):
        with pytest.raises(RarityError, match="different embedding spaces"):
            use(Embeddings(items.vectors, foreign), density, memory)
        with pytest.raises(RarityError, match="different embedding spaces"):
            use(items, density, ExposureMemory(foreign))
    monkeypatch.setattr(module, "MOST_SHOWN", 11)
    with pytest.raises(RarityError, match="at most 11 pictures, got 12"):
        session_gains(items, density, memory)
