"""Statistics of shards beside those of the whole, and of streams beside a literal set of rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rarity.density import Embeddings, EmbeddingSpace, GaussianDensity, RarityError, Statistics
from rarity.density.base.keys import FOLDS, fold_of, row_keys
from rarity.density.statistics import sufficient_statistics
from rarity.density.statistics.gather import gather
from rarity.density.statistics.sufficient_statistics import joined

WIDTH = 5


def draw(count, seed=0, width=WIDTH):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * 2 + 3


@pytest.fixture
def few(monkeypatch):
    """A limit that small sets exceed."""
    monkeypatch.setattr(sufficient_statistics, "MAX_ROWS", 40)
    return 40


def same(one, two, exact=True):
    assert torch.equal(one.keys, two.keys) and torch.equal(one.rows, two.rows)
    assert (one.dropped, one.repeats) == (two.dropped, two.repeats)
    for mine, theirs in zip(one.folds, two.folds, strict=True):
        a, b = mine.moments, theirs.moments
        assert a.count == b.count
        if exact:
            assert torch.equal(a.mean, b.mean) and torch.equal(a.scatter, b.scatter) and mine.fourth == theirs.fourth
        else:  # sums of float32 products, grouped differently
            assert torch.allclose(a.mean, b.mean, rtol=1e-6) and mine.fourth == pytest.approx(theirs.fourth, rel=1e-5)
            assert torch.allclose(a.scatter, b.scatter, rtol=1e-5, atol=1e-5 * float(a.scatter.abs().max() + 1e-9))


def test_keys_equal_the_literal_sum():
    """m_i and the last stirring as splitmix64 gives them, in Python's whole numbers."""

    def stir(v):
        v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        v = (v ^ v >> 27) * 0x94D049BB133111EB % 2**64
        return v ^ v >> 31

    for width in (1, 2, 5, 1280):
        rows = draw(3, width, width)
        rows[0, 0] = -0.0
        for row, key in zip(rows, row_keys(rows).tolist(), strict=True):
            row = row + 0.0
            words = torch.cat([row, torch.zeros(width % 2)]).view(torch.int64).tolist()
            total = 0
            for i, word in enumerate(words):
                word %= 2**64
                total += (stir((i + 1) * 0x9E3779B97F4A7C15 % 2**64) | 1) * (word ^ word >> 23)
            assert key % 2**64 == stir(total % 2**64)


def test_keys_tell_rows_of_few_bits_apart_and_spread_evenly():
    grid = torch.cartesian_prod(*[torch.tensor([0.0, 1.0, 2.0, -1.0])] * 7)
    for rows in (grid, grid.bfloat16().float() * 0.1, draw(16_384, 1, 64).bfloat16().float()):
        keys = row_keys(rows)
        assert len(keys.unique()) == len(rows)
        # Shares of a fold and of the lower half: five standard deviations of a fair draw.
        n = len(rows)
        assert (torch.bincount(fold_of(keys)) / n - 1 / FOLDS).abs().max() < 5 * (0.16 / n) ** 0.5
        assert abs(float((keys < 0).double().mean()) - 0.5) < 5 * (0.25 / n) ** 0.5
    assert len(row_keys(torch.eye(64)).unique()) == 64
    assert torch.equal(row_keys(torch.zeros(1, 3)), row_keys(-torch.zeros(1, 3)))


def test_rows_are_told_to_folds_and_all_are_there():
    rows = draw(200)
    seen = Statistics(WIDTH).update(rows)
    assert seen.count == 200 and sorted(map(tuple, seen.rows.tolist())) == sorted(map(tuple, rows.tolist()))
    whole = rows.double()
    assert torch.allclose(joined(seen.folds).moments.covariance(), torch.cov(whole.T, correction=0), rtol=1e-5)
    for f in range(FOLDS):
        others = seen.rows[seen.row_folds != f].double()
        assert torch.allclose(joined(seen.folds, [f]).moments.covariance(), torch.cov(others.T, correction=0), rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_shards_and_streams_give_the_whole_in_any_order(sizes, random):
    rows = draw(sum(sizes), 3)
    whole = Statistics(WIDTH).update(rows)
    parts = list(rows.split(sizes))
    random.shuffle(parts)
    shards = [Statistics(WIDTH).update(part) for part in parts]
    merged, streamed = shards[0], Statistics(WIDTH)
    for shard in shards[1:]:
        merged = merged.merge(shard)
    for part in parts:
        streamed.update(part)
    same(merged, whole)
    same(streamed, whole)


@pytest.mark.parametrize("sizes", [[300], [7] * 43, [30, 15, 200, 56], [41, 260], [1] * 90])
def test_beyond_the_limit_the_rows_with_the_smallest_keys_are_kept_in_any_order(few, sizes):
    rows = draw(sum(sizes), 4)
    keys, order = row_keys(rows).sort()
    streamed = Statistics(WIDTH)
    for part in rows.split(sizes):
        streamed.update(part)
        assert len(streamed.rows) == min(few, streamed.count)  # reading in between changes nothing
    assert torch.equal(streamed.keys, keys) and torch.equal(streamed.rows, rows[order][:few])
    backwards = Statistics(WIDTH)
    for part in reversed(rows.split(sizes)):
        backwards.update(part)
    same(streamed, backwards, exact=False)
    third = len(rows) // 3
    shards = [Statistics(WIDTH).update(part) for part in (rows[:third], rows[third : third + 5], rows[third + 5 :])]
    for a, b, c in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        same(shards[a].merge(shards[b]).merge(shards[c]), streamed, exact=False)
    covariance = joined(streamed.folds).moments.covariance()
    assert torch.allclose(covariance, torch.cov(rows.double().T, correction=0), rtol=1e-5, atol=1e-5)


def test_repeats_and_unusable_rows_are_dropped_and_counted():
    rows = draw(50)
    bad = rows[:4].clone()
    bad[0, 1], bad[1, 2], bad[2, 0] = float("nan"), float("inf"), -float("inf")
    seen = Statistics(WIDTH).update(torch.cat([rows, bad, rows[:10]])).update(rows[20:30]).update(torch.empty(0, WIDTH))
    assert (seen.count, seen.dropped, seen.repeats) == (50, 3, 21)
    huge = torch.full((1, WIDTH), 3e38)  # its sum is beyond float32, it is not
    assert Statistics(WIDTH).update(huge).count == 1
    zeros = Statistics(WIDTH).update(torch.tensor([[0.0] * WIDTH, [-0.0] * WIDTH]))
    assert (zeros.count, zeros.repeats) == (1, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_their_float32_values(dtype):
    rows = draw(70).to(dtype)
    same(Statistics(WIDTH).update(rows), Statistics(WIDTH).update(rows.float()))


def test_shards_with_common_rows_are_refused():
    rows = draw(90)
    one, two = Statistics(WIDTH).update(rows[:60]), Statistics(WIDTH).update(rows[50:])
    with pytest.raises(RarityError, match="10 of 40 samples are in both sets.*same seed.*another seed"):
        one.merge(two)
    with pytest.raises(RarityError, match="width 5 and 6"):
        one.merge(Statistics(6))
    with pytest.raises(RarityError, match=r"shape \[b, 5\], got \(2, 6\)"):
        one.update(torch.zeros(2, 6))
    assert one.count == 60


def test_copies_and_merges_leave_their_sources_alone(few):
    for count in (30, 70):
        one = Statistics(WIDTH).update(draw(count))
        before, rows, whole = one.rows, one.rows.clone(), joined(one.folds).moments.scatter.clone()
        twin = one.copy().update(draw(200, 9))
        merged = one.merge(Statistics(WIDTH).update(draw(20, 8)))
        assert (one.count, twin.count, merged.count) == (count, count + 200, count + 20)
        one.copy().update(draw(5, 7))
        assert torch.equal(one.rows, rows) and torch.equal(before, rows)
        assert torch.equal(joined(one.folds).moments.scatter, whole)
        one.update(draw(200, 9))
        same(one, twin, exact=False)
        assert torch.equal(before, rows)


def test_under_inference_mode_all_is_ordinary():
    with torch.inference_mode():
        seen = Statistics(WIDTH).update(draw(30)).update(draw(30, 1))
        assert not seen.rows.is_inference() and not joined(seen.folds).moments.scatter.is_inference()
    seen.update(draw(30, 2))
    same(seen, Statistics(WIDTH).update(torch.cat([draw(30, s) for s in range(3)])))


def test_the_state_makes_the_same_statistics_again(few):
    for count in (30, 40, 90):
        rows = draw(count)
        one = Statistics(WIDTH).update(rows).update(rows[:5])
        fields, tensors = one.state()
        again = Statistics.from_state(WIDTH, fields, tensors)
        same(one, again)
        same(one.merge(Statistics(WIDTH).update(draw(9, 5))), again.merge(Statistics(WIDTH).update(draw(9, 5))))
        assert (len(tensors["fold_scatters"]) > 0) == (count > few)


def test_rows_are_known_by_the_keys_they_are_given():
    rows, keys = draw(60), torch.randperm(60, generator=torch.Generator().manual_seed(1))
    seen = Statistics(WIDTH).update(rows, keys)
    assert torch.equal(seen.keys, torch.arange(60)) and torch.equal(seen.rows, rows[keys.argsort()])
    again = rows * (1 + 1e-7)
    seen.update(again, keys)
    assert (seen.count, seen.repeats) == (60, 60) and torch.equal(seen.rows, rows[keys.argsort()]), "drawn again, elsewhere"
    bad = again.clone()
    bad[3] = float("nan")
    fresh = Statistics(WIDTH).update(bad, keys)
    assert (fresh.count, fresh.dropped) == (59, 1) and int(keys[3]) not in fresh.keys.tolist()
    for wrong in (keys[:-1], keys.double(), keys[:, None]):
        with pytest.raises(RarityError, match="Keys of 60 rows must be as many int64"):
            seen.update(rows, wrong)


def test_a_state_of_the_first_format_is_known_by_its_bytes(few):
    for count in (30, 90):
        one = Statistics(WIDTH).update(draw(count))
        fields, tensors = one.state()
        tensors.pop("row_keys")
        same(Statistics.from_state(WIDTH, fields, tensors), one)


OLD_DAMAGE = {  # a row's key is that of its bytes: each change of a row shows
    "rows out of order": lambda f, t: t.update(rows=t["rows"].flip(0)),
    "a row twice": lambda f, t: t.update(rows=torch.cat([t["rows"][:1], t["rows"][:-1]])),
    "another row": lambda f, t: t["rows"][3].add_(1),
}
DAMAGE = {
    "count": lambda f, t: f.update(count=f["count"] + 1),
    "count text": lambda f, t: f.update(count="90"),
    "repeats": lambda f, t: f.update(repeats=-1),
    "keys out of order": lambda f, t: t.update(row_keys=t["row_keys"].flip(0)),
    "a key twice": lambda f, t: t["row_keys"][4].copy_(t["row_keys"][3]),
    "few keys": lambda f, t: t.update(row_keys=t["row_keys"][1:]),
    "late keys": lambda f, t: t["row_keys"][-1].fill_(2**63 - 1),
    "narrow rows": lambda f, t: t.update(rows=t["rows"][:, :4].contiguous()),
    "later keys out of order": lambda f, t: t.update(later_keys=t["later_keys"].flip(0)),
    "early later keys": lambda f, t: t["later_keys"].fill_(-(2**63)),
    "no moments": lambda f, t: t.update(fold_means=t["fold_means"][:0]),
    "short scatter": lambda f, t: t.update(fold_scatters=t["fold_scatters"][:, 1:]),
    "negative variance": lambda f, t: t["fold_scatters"][0, 0].neg_(),
    "impossible covariance": lambda f, t: t["fold_scatters"][:, 1].fill_(1e9),
    "impossible fourth": lambda f, t: t["fold_fourths"].zero_(),
}


@pytest.mark.parametrize("name", [*DAMAGE, *OLD_DAMAGE])
def test_a_damaged_state_is_refused(few, name):
    fields, tensors = Statistics(WIDTH).update(draw(90)).state()
    tensors = {key: tensor.clone() for key, tensor in tensors.items() if key != "row_keys" or name in DAMAGE}
    (DAMAGE | OLD_DAMAGE)[name](fields, tensors)
    with pytest.raises(RarityError, match="statistics in this file are damaged"):
        Statistics.from_state(WIDTH, fields, tensors)


def test_batches_are_gathered_with_what_their_sources_have_alike(space, mixture):
    parts = [mixture(30, seed) for seed in range(3)]
    seen, found, source = gather(iter(parts))
    assert seen.count == 90 and found == space and source == {"prompt": "a test"}
    at_once = gather(Embeddings.cat(parts))
    same(at_once[0], seen)
    with pytest.raises(RarityError, match="no embeddings to learn"):
        gather([])
    with pytest.raises(RarityError, match="learnt from embeddings, got Tensor"):
        gather([parts[0].vectors])
    with pytest.raises(RarityError, match="different embedding spaces"):
        gather([parts[0], Embeddings(parts[1].vectors, EmbeddingSpace("other", "f", 16))])


def test_a_stream_is_cancelled_by_its_progress(mixture):
    def cancel(done, total):
        raise KeyboardInterrupt

    taken = []
    with pytest.raises(KeyboardInterrupt):
        GaussianDensity.fit((taken.append(s) or mixture(60, s) for s in range(9)), progress=cancel)
    assert taken == [0]
