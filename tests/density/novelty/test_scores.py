"""Readings of novelty beside their formulas, written out with full matrices one picture at a time."""

import json
import math
from dataclasses import replace

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, RarityError
from rarity.density.novelty.exposure import ExposureMemory
from rarity.density.novelty.scores import HEADS, conformity, score_novelty
from rarity.density.novelty.separation import CHANCE


@pytest.fixture(scope="module")
def items(mixture):
    return mixture(12, 21)


@pytest.fixture(scope="module")
def empty(space):
    return ExposureMemory(space)


@pytest.fixture(scope="module")
def memory(empty, mixture):
    return empty.update(mixture(5, 22)).forget(0.7).update(mixture(4, 23))


def literal_separation(x, seen, others):
    """d min(1, d / b)^64, one picture at a time; a picture that is among the others is left out of them."""
    d = float((seen - x).norm(dim=1).min())
    b = min(v for v in (others - x).norm(dim=1).tolist() if v > 0)
    return d * min(1.0, d / b) ** 64


def literal_chance(others):
    """The separation that one in CHANCE pairs of these pictures does not reach, a pair at a time."""
    d = (others[:, None] - others).norm(dim=2)
    pairs = []
    for i, row in enumerate(d.tolist()):
        for j, distance in enumerate(row):
            b = min(v for k, v in enumerate(row) if k not in (i, j))
            pairs += [distance * min(1.0, distance / b) ** 64] * (i != j)
    return sorted(pairs)[max(1, round(len(pairs) / CHANCE)) - 1]


def test_nearest_and_clearness_equal_the_literal_ones(density, memory, items, mixture):
    baseline = mixture(150, 31)
    reading = score_novelty(items, density, memory, baseline=baseline)
    x, seen, others = (e.double() for e in (items.vectors, memory.vectors, baseline.vectors))
    distances = (x[:, None] - seen).norm(dim=2)
    assert torch.equal(reading.nearest, distances.argmin(dim=1))
    assert torch.allclose(reading.distance, distances.amin(dim=1), rtol=1e-12)
    chance = literal_chance(others)
    expected = [min(1.0, literal_separation(one, seen, others) / chance) for one in x]
    assert reading.clearness.tolist() == pytest.approx(expected, rel=1e-6)


def test_without_a_baseline_the_density_s_own_samples_serve(density, baseline, memory, items):
    one, two = (score_novelty(items, density, memory, baseline=b, seed=s) for b, s in ((None, 0), (baseline, 1)))
    assert torch.allclose(one.clearness, two.clearness, rtol=1e-6)


def test_of_fresh_pictures_at_most_n_in_chance_are_less_clear_than_chance(density, empty, mixture):
    """Clusters and tails are rough: half as many again are allowed, and what 3,000 pictures scatter by."""
    for count in (9, 100, 1000):
        fresh = score_novelty(mixture(3000, 41), density, empty.update(mixture(count, 22)))
        expected = count / CHANCE
        assert float((fresh.clearness < 1).double().mean()) <= 1.5 * expected + 3 * math.sqrt(expected / 3000)


def test_a_memory_of_the_whole_baseline_makes_copies_of_it_and_of_nothing_else(density, baseline, empty, mixture):
    memory = empty.update(baseline)
    copies, new = (score_novelty(e, density, memory) for e in (baseline, mixture(2000, 77)))
    assert (copies.novelty < 1e-2).all() and float((new.clearness == 1).double().mean()) > 0.75


def test_novelty_is_the_product_and_copies_have_none(density, memory, items, mixture):
    new = score_novelty(items, density, memory, baseline=mixture(500, 31))
    assert torch.equal(new.novelty, new.global_bits * new.clearness)
    noise = 1e-3 * torch.randn(12, 16, generator=torch.Generator().manual_seed(0))
    copies = Embeddings(items.vectors + noise, items.space)
    seen = score_novelty(copies, density, memory.update(items), baseline=mixture(500, 31))
    assert (seen.novelty < 0.01).all() and (seen.bits > 0.01).any() and (new.novelty > 0.01).any()


def test_an_empty_memory_leaves_the_density_s_own_bits(density, empty, items):
    reading = score_novelty(items, density, empty)
    assert torch.equal(reading.novelty, density.bits(items.vectors)) and torch.equal(reading.bits, reading.novelty)
    assert (reading.nearest == -1).all() and reading.distance.isinf().all() and (reading.clearness == 1).all()
    rows = reading.rows()
    assert len(rows) == 12 and rows[0]["distance"] is None and rows[0]["nearest"] == -1
    json.dumps(rows, allow_nan=False)


def test_items_of_no_weight_change_nothing(density, memory, items):
    glanced = memory.update(items, [0.0] * 12)
    assert score_novelty(items, density, glanced).rows() == score_novelty(items, density, memory).rows()


def test_order_of_the_pictures_does_not_matter(density, memory, items):
    one, other = (score_novelty(e, density, memory) for e in (items, items.select(range(11, -1, -1))))
    for name, value in vars(one).items():
        if isinstance(value, torch.Tensor):
            assert torch.allclose(value, getattr(other, name).flip(0), rtol=1e-9)


def test_conformity_is_a_cosine_to_the_mean(density, items):
    expected = [float(x @ density.frame.mean / (x.norm() * density.frame.mean.norm())) for x in items.vectors.double()]
    assert conformity(items, density).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_identical_rows_are_finite(dtype, density, memory, space, mixture):
    same = Embeddings(mixture(1, 9).vectors.expand(6, -1).to(dtype), space)
    reading = score_novelty(same, density, memory.update(same))
    assert all(None not in row.values() for row in reading.rows()) and (reading.novelty == 0).all()


def test_bad_input_says_so(density, memory, items, mixture):
    foreign = EmbeddingSpace("another", "f", 16)
    others = Embeddings(items.vectors, foreign)
    for wrong in ((others, density, memory), (items, density, ExposureMemory(foreign))):
        with pytest.raises(RarityError, match="different embedding spaces"):
            score_novelty(*wrong)
    with pytest.raises(RarityError, match="different embedding spaces"):
        score_novelty(items, density, memory, baseline=others)
    with pytest.raises(RarityError, match="at least 50 pictures to say how near is too near, got 20"):
        score_novelty(items, density, memory, baseline=mixture(20, 1))


def test_the_headline_lies_in_its_interval(density, memory, items, mixture, empty):
    for seen in (memory, empty.update(mixture(300, 5).select(range(30)))):
        reading = score_novelty(items, density, seen, baseline=mixture(500, 31))
        assert (reading.bits_low <= reading.novelty).all() and (reading.novelty <= reading.bits_high).all()
    reading = score_novelty(items, density, empty)
    low, high = density.calibration.interval(density.score(items.vectors))
    assert torch.equal(reading.bits_low, low) and torch.equal(reading.bits_high, high)  # nothing seen: the density's


def test_copies_at_many_distances_are_told_from_new_pictures(density, empty, mixture):
    """Each moved its own way, and all the same way, by up to the distance at which a new picture's neighbour lies."""
    seen, new, g = mixture(100, 51), mixture(300, 52), torch.Generator().manual_seed(1)
    memory = empty.update(seen)
    fresh = score_novelty(new, density, memory, baseline=mixture(5000, 53))
    typical = float(fresh.distance.median())
    for ways in (100, 1):
        for strength in (0.01, 0.1, 0.3):
            way = torch.nn.functional.normalize(torch.randn(ways, 16, generator=g), dim=1)
            copies = Embeddings(seen.vectors + strength * typical * way, seen.space)
            copied = score_novelty(copies, density, memory, baseline=mixture(5000, 53))
            clearer = (fresh.clearness - copied.clearness[:, None]).sign()  # of each pair, 1 where the new one is
            assert float((1 + clearer).mean() / 2) > 0.98, (ways, strength)


def test_what_is_far_from_everything_is_not_taken_for_a_copy(density, empty, mixture):
    """All distances are alike from far away, so that a ratio alone would be as near 1 as that of a copy."""
    way = torch.nn.functional.normalize(mixture(20, 61).vectors.double() - density.frame.mean, dim=1)
    far = Embeddings(density.frame.mean + 6 * density.frame.spectrum.sum().sqrt() * way, density.space)
    reading = score_novelty(far, density, empty.update(mixture(100, 51)))
    assert (reading.clearness == 1).all() and (reading.novelty > 5).all()


def test_pictures_of_the_baseline_itself_are_read_like_others(density, baseline, empty, mixture):
    """A picture among those it is compared with is left out of them; it would be its own nearest otherwise."""
    memory = empty.update(mixture(100, 51))
    among, fresh = (score_novelty(e, density, memory).clearness for e in (baseline, mixture(2000, 54)))
    assert float((among < 1).double().mean()) == pytest.approx(float((fresh < 1).double().mean()), abs=0.01)


def cells(line):
    return [part.strip() for part in line.split("  ") if part.strip()]


def in_half(rows):
    return replace(rows, vectors=rows.vectors.half())


def test_rounding_changes_nobody(density, baseline, empty, mixture):
    """Seen pictures of the baseline itself are recognised, and unseen ones are not taken for copies, in half precision, too."""
    for seen, shown in ((baseline, in_half(baseline)), (in_half(baseline), baseline)):
        memory = empty.update(seen.select(range(300)))
        reading = score_novelty(shown, density, memory, baseline=baseline)
        assert float(reading.clearness[:300].max()) < 1e-6
        exact = score_novelty(baseline, density, empty.update(baseline.select(range(300))), baseline=baseline)
        assert torch.allclose(reading.clearness[300:], exact.clearness[300:], atol=0.1)


def test_the_table_has_a_line_a_picture_under_its_heads(density, space, mixture):
    seen = Embeddings(mixture(3, 1).vectors, space, ("an old one", "", "another"))
    items = Embeddings.cat([seen.select([0, 1]), mixture(2, 9)])
    memory = ExposureMemory(space).update(seen)
    lines = score_novelty(items, density, memory).table().split("\n")
    assert len(lines) == 5 and len({len(line) for line in lines}) == 1
    assert cells(lines[0]) == list(HEADS)
    first, second, third = map(cells, lines[1:4])
    assert first[0] == "0" and first[1] == "0.00" and first[3] == "1" and first[5] == "0%" and first[7] == "an old one"
    assert second[7] == "1"  # it has no label: its number stands for it
    reading = score_novelty(items, density, memory)
    assert float(third[1]) == pytest.approx(float(reading.novelty[2]), abs=0.006)
    assert float(third[8]) == pytest.approx(float(reading.conformity[2]), abs=0.0006)
    named = Embeddings(items.vectors, space, ("a", "b", "c", "d"))
    assert [line.split()[0] for line in score_novelty(named, density, memory).table().split("\n")[1:]] == list("abcd")


def test_the_short_list_names_the_newest_first(density, space, mixture):
    seen = Embeddings(mixture(3, 1).vectors, space, ("an old one", "", "another"))
    items = Embeddings.cat([seen.select([0]), mixture(9, 9)])
    reading = score_novelty(items, density, ExposureMemory(space).update(seen))
    lines = reading.brief().split("\n")
    newest = int(reading.novelty.argmax())
    assert len(lines) == 7 and lines[0].startswith(f"picture {newest}: 1 in ") and lines[6] == "and 4 that are less new"
    alone = score_novelty(items.select([0]), density, ExposureMemory(space).update(seen))
    assert alone.brief() == "picture 0: not new, much like an old one"


def test_the_table_of_an_empty_memory_says_nothing_of_what_was_seen(density, empty, items):
    far = Embeddings(50 * items.vectors, items.space)
    heads, *lines = (cells(line) for line in score_novelty(far, density, empty).table().split("\n"))
    assert heads == [head for head in HEADS if head not in ("unseen", "nearest seen")]
    assert all(len(line) == len(heads) for line in lines) and any(line[3] == "over 1e9" for line in lines)
