"""Picking among kept steps: every mode by its literal meaning, and answers read by one rule."""

import pytest
import torch
from rarity.density import Embeddings, RarityError, Trajectory, all_checkpoints, pick_checkpoint
from rarity.density.steering.checkpoints import read_answer


@pytest.fixture(scope="module")
def way(space):
    """3 samples, 4 checkpoints; the first number of a row is its sample, the second its checkpoint."""
    kept = []
    for s in range(4):
        x = torch.zeros(3, 16)
        x[:, 0], x[:, 1] = torch.arange(3), s
        kept.append(Embeddings(x, space, ("a", "b", "c")))
    bits = torch.arange(12.0).view(4, 3)
    return Trajectory((0, 10, 20, 25), tuple(kept), {"bits": bits}, 9.0, torch.ones(3, dtype=torch.bool), False)


def places(embeddings):
    return [tuple(row) for row in embeddings.vectors[:, :2].int().tolist()]


def test_all_are_laid_out_sample_by_sample(way):
    assert places(all_checkpoints(way)) == [(n, s) for n in range(3) for s in range(4)]
    assert all_checkpoints(way).labels == tuple("aaaabbbbcccc")
    assert places(all_checkpoints(way, 1)) == [(1, s) for s in range(4)]
    assert places(pick_checkpoint(way, "all", sample=2)[0]) == [(2, s) for s in range(4)]


def test_last_and_by_number(way):
    assert torch.equal(pick_checkpoint(way)[0].vectors, way.final.vectors)
    assert places(pick_checkpoint(way, "by number", number=1)[0]) == [(0, 1), (1, 1), (2, 1)]
    assert places(pick_checkpoint(way, "by number", number=-1, sample=2)[0]) == [(2, 3)]
    assert torch.equal(pick_checkpoint(way, "by number")[0].vectors, way.start.vectors)


def test_last_valid_is_the_last_before_the_first_no_of_each_sample(way):
    answers = ["yes", "no", "yes", "yes"] + ["Yes"] * 4 + ["Yes", "Yes", "Yes", "No"]
    picked, report = pick_checkpoint(way, "last valid", answers=answers)
    assert places(picked) == [(0, 0), (1, 3), (2, 2)]
    lines = report.splitlines()
    assert lines[1] == "sample 1: checkpoint 3 of 0 to 3, step 25, 10.0 bits, 1 in 1,024" and len(lines) == 3
    one, _ = pick_checkpoint(way, "last valid", sample=2, answers=["Yes", "Yes", "No", "No"])
    assert places(one) == [(2, 1)]


def test_a_no_at_the_start_leaves_nothing_to_go_back_to(way):
    answers = ["no"] * 4 + ["yes"] * 8
    picked, report = pick_checkpoint(way, "last valid", answers=answers)
    assert places(picked) == [(1, 3), (2, 3)] and "sample 0: left out, No at the very start" in report
    with pytest.raises(RarityError, match="No at the very start of every sample"):
        pick_checkpoint(way, "last valid", answers=["No"] * 12)


@pytest.mark.parametrize("answer, yes", [
    ("Yes", True), ("no", False), ("  YES.", True), ("**No**, it is a face.", False), ("\n'Yes', it is", True), ("_no_", False),
    ("No\nYes", False),
])
def test_the_first_word_decides(answer, yes):
    assert read_answer(answer) is yes


@pytest.mark.parametrize("answer", ["", "maybe", "Not sure", "Yesterday", "It is a yes", "none", "1", None, ["yes"]])
def test_anything_else_is_quoted_with_its_place(way, answer):
    with pytest.raises(RarityError, match="neither Yes nor No"):
        read_answer(answer)
    with pytest.raises(RarityError, match=r"Answer 6 \(sample 1, checkpoint 2\) is neither Yes nor No"):
        pick_checkpoint(way, "last valid", answers=["yes"] * 6 + [answer] + ["yes"] * 5)


def test_what_there_is_not_is_refused(way):
    for options, message in [
        ({"mode": "best"}, "last, by number, last valid, all; got 'best'"),
        ({"mode": "by number", "number": 4}, "number from 0, the start, to 3"),
        ({"mode": "by number", "number": -5}, "got -5"),
        ({"mode": "last", "sample": 3}, "sample from 0 to 2"),
        ({"mode": "last valid"}, "needs answers"),
        ({"mode": "last valid", "answers": ["yes"] * 4}, "Expected 12 answers, 4 checkpoints of 3 samples, got 4"),
    ]:
        with pytest.raises(RarityError, match=message):
            pick_checkpoint(way, **options)
