"""Interest Curve and Pick Step as ComfyUI runs them, and variations of a picture through Make Rare."""

import pytest
import torch
from rarity import nodes
from rarity.density import RarityError


def pick(run, trajectory, mode, number=0, sample=-1, answers=None):
    """ComfyUI gives a node that takes lists every input as one, widgets included, and takes its outputs as lists."""
    given = {} if answers is None else {"answers": answers}
    found = run(nodes.RarityPickStep, trajectory=[trajectory], mode=[mode], number=[number], sample=[sample], **given)
    return [only for (only,) in found]


def test_checkpoints_are_drawn_asked_about_and_picked(run, model, rare):
    trajectory = rare[2]
    laid_out = pick(run, trajectory, "all", sample=1)[0]
    assert len(laid_out) == len(trajectory.steps) == 2
    pictures = run(nodes.RarityDecodeKandinsky, decoder=model[1], embeddings=laid_out, steps=2)[0]
    curve = run(nodes.RarityInterestCurve, trajectory=trajectory, images=pictures, sample=1)[0]
    bare = run(nodes.RarityInterestCurve, trajectory=trajectory)[0]
    assert curve.shape[0] == bare.shape[0] == 1 and curve.shape[1] > bare.shape[1] > 0
    picked, report = pick(run, trajectory, "last valid", sample=1, answers=["Yes.", "no, a smear"])
    assert torch.equal(picked.vectors, trajectory.start.vectors[1:2]) and report.startswith("sample 1: checkpoint 0")
    assert torch.equal(pick(run, trajectory, "last")[0].vectors, rare[0].vectors)
    assert torch.equal(pick(run, trajectory, "by number", number=0)[0].vectors, trajectory.start.vectors)


def test_of_several_trajectories_each_is_picked_from(run, density, baseline, rare):
    other = run(nodes.RarityMakeRare, density=density, embeddings=baseline, one_in=50, count=3, steps=10, seed=1)[2]
    settings = dict(trajectory=[rare[2], other], number=[1], sample=[1])
    both, reports = run(nodes.RarityPickStep, mode=["all"], **settings)
    assert [len(rows) for rows in both] == [2, 2] and len(reports) == 2
    first, second = run(nodes.RarityPickStep, mode=["last valid"], answers=["Yes", "No", "Yes", "Yes"], **settings)[0]
    assert torch.equal(first.vectors, rare[2].start.vectors[1:2]) and torch.equal(second.vectors, other.final.vectors[1:2])
    with pytest.raises(RarityError, match="Expected 4 answers, for the checkpoints of 2 trajectories .* got 1"):
        run(nodes.RarityPickStep, mode=["last valid"], answers=["Yes"], **settings)


def test_answers_that_are_none_stop_the_run(run, rare):
    with pytest.raises(RarityError, match=r"Answer 1 \(sample 1, checkpoint 1\) is neither Yes nor No: 'I cannot tell'"):
        pick(run, rare[2], "last valid", sample=1, answers=["Yes", "I cannot tell"])
    with pytest.raises(RarityError, match="Expected 6 answers"):
        pick(run, rare[2], "last valid", answers=["Yes"])
    with pytest.raises(RarityError, match="needs answers"):
        pick(run, rare[2], "last valid")


def test_variations_of_a_picture(run, model, density, baseline, rare):
    drawn = run(nodes.RarityDecodeKandinsky, decoder=model[1], embeddings=rare[0], steps=2)[0]
    picture = run(nodes.RarityEncodeImages, images=drawn[:1], eye=model[0])[0]

    def vary(**options):
        return run(
            nodes.RarityMakeRare, density=density, embeddings=baseline, one_in=50, count=4, steps=5, picture=picture, **options
        )

    made, usual, trajectory, report = vary(how_far=0.2)
    assert len(made) == len(usual) == 4 and trajectory.in_band.all() and "4 of 4" in report
    farther = vary(how_far=1.0)[2]
    assert (trajectory.readings["how far"][0] < farther.readings["how far"][0]).all()
    assert torch.equal(vary(how_far=0.2)[0].vectors, made.vectors)
    assert torch.equal(vary()[0].vectors, vary(how_far=0.4)[0].vectors), "the schema's default"
