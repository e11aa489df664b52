"""Words as encoders read them: without capitals, with one space for many, and no further than their length."""

import logging

import pytest
import torch
from rarity import nodes
from rarity.density.base.errors import RarityError
from tiny_kandinsky import TOKENS
from tiny_open_clip import NAME, SIZE, build_tiny_open_clip

LONG = " ".join("abcdefghijklmnopqrst")  # more than the tiny model's tokens


@pytest.fixture(params=["kandinsky", "open_clip"])
def words(request, run, model, baseline, tmp_path):
    """An eye that reads words, and usual embeddings of its space."""
    if request.param == "kandinsky":
        return model[0], baseline
    from rarity.generators.eyes.openclip import load_open_clip

    encoder = load_open_clip(NAME, build_tiny_open_clip(tmp_path))
    shown = torch.rand(80, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0))
    return encoder, run(nodes.RarityEncodeImages, images=shown, eye=encoder)[0]


@pytest.mark.parametrize("same", ["A Letter R", "a  letter\tR", "a letter R "])
def test_an_alternative_that_reads_as_the_subject_does_cannot_switch_the_guardrail_off(run, words, same):
    reader, usual = words
    given = {"embeddings": usual, "subject": "a letter R", "eye": reader}
    (expected,) = run(nodes.RarityContrastGuardrail, alternatives="a letter P\na letter B", **given)[0]
    (rail,) = run(nodes.RarityContrastGuardrail, alternatives=f"a letter P\n{same}\na LETTER b\na letter B", **given)[0]
    assert rail.threshold == expected.threshold and torch.equal(rail.others, expected.others)
    density = run(nodes.RarityFitDensity, embeddings=usual, components=4)[0]
    report = run(nodes.RarityMakeRare, density=density, embeddings=usual, one_in=20, count=3, steps=4, guardrail=(rail,))[3]
    told = "The alternative 'A Letter R' reads as the subject 'a letter R' does, so it was left out."
    assert (told in report) == (same == "A Letter R")
    with pytest.raises(RarityError, match="'A LETTER r' reads as the subject 'a letter R' does: capital letters"):
        run(nodes.RarityContrastGuardrail, alternatives="A LETTER r", **given)


def test_texts_that_differ_behind_the_end_are_one_text(run, model, baseline):
    given = {"embeddings": baseline, "eye": model[0], "subject": f"{LONG} in red"}
    with pytest.raises(RarityError, match=f"in blue' reads as the subject .*in red' does: this encoder sees the same {TOKENS} tokens"):
        run(nodes.RarityContrastGuardrail, alternatives=f"{LONG} in blue", **given)
    (rail,) = run(nodes.RarityContrastGuardrail, alternatives=f"{LONG} in blue\np", **given)[0]
    assert len(rail.others) == 1 and "in blue' reads as the subject" in rail.notes[0]
    assert f"reads the first {TOKENS} of" in rail.notes[1]


def test_a_zero_shot_gate_compares_as_its_eye_reads(run, words):
    reader, _ = words
    pictures = torch.rand(5, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(1))
    gates = [
        run(nodes.RarityValidityGate, subject="a letter R", alternatives=lines, eye=reader)[0]
        for lines in ("a letter P", "A LETTER R\na letter P\na Letter p")
    ]
    assert torch.equal(*(gate.validity(pictures) for gate in gates))
    assert not gates[0].notes and "reads as the subject" in gates[1].notes[0]
    with pytest.raises(RarityError, match="reads as the subject"):
        run(nodes.RarityValidityGate, subject="a letter R", alternatives="A LETTER R", eye=reader)


def test_what_a_gate_has_to_tell_is_in_the_report(run, model, density, baseline):
    gate = run(nodes.RarityValidityGate, subject="a letter R", alternatives="A letter R\np", decoder=model[1], eye=model[0])[0]
    report = run(nodes.RarityMakeRare, density=density, embeddings=baseline, one_in=20, count=2, steps=2, gate=gate)[3]
    assert report.count("'A letter R' reads as the subject") == 1


def test_a_prompt_longer_than_the_model_reads_is_named_in_the_report(run, model, caplog):
    """Two prompts that differ behind the last token that is read give the same samples: the report says why."""
    with caplog.at_level(logging.WARNING):
        one, two = (run(nodes.RaritySamplePrior, prior=model[0], prompt=f"{LONG} in {end}", count=3, steps=2) for end in ("red", "blue"))
    assert torch.equal(one[0].vectors, two[0].vectors)
    for _, report in (one, two):
        assert f"the model reads the first {TOKENS} of " in report and "shorten it" in report
    assert "shorten it" in caplog.text
    short = run(nodes.RaritySamplePrior, prior=model[0], prompt="a letter R", count=3, steps=2)[1]
    assert short == "3 samples of 'a letter R'."
    negative = run(nodes.RaritySamplePrior, prior=model[0], prompt="a", count=2, steps=2, negative_prompt=LONG)[1]
    assert f"Of '{LONG}' the model reads" in negative


def test_nothing_prints_a_prompt_of_a_hundred_thousand_characters(run, model, baseline, caplog):
    endless = "R " * 50_000
    with caplog.at_level(logging.WARNING):
        report = run(nodes.RaritySamplePrior, prior=model[0], prompt=endless, count=2, steps=2)[1]
        (rail,) = run(nodes.RarityContrastGuardrail, embeddings=baseline, eye=model[0], subject=endless, alternatives="p")[0]
    assert len(report) < 1000 and "100,0" not in report and len(" ".join(rail.notes)) < 1000
    # transformers' own line says nothing of the text
    assert caplog.records and all(len(record.getMessage()) < 1000 for record in caplog.records)
    with pytest.raises(RarityError) as error:
        run(nodes.RarityContrastGuardrail, embeddings=baseline, eye=model[0], subject=endless, alternatives="")
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("prompt, named", [
    ("a (rare:1.3) letter R", "a weight ('(rare:1.3)')"),
    ("a ((rare)) letter R", "a weight ('((rare))')"),
    ("a {bold|light} letter R", "a choice ('{bold|light}')"),
    ("embedding:rare-r (R:0.5)", "a weight ('(R:0.5)') and an embedding file ('embedding:rare-r')"),
])
def test_what_comfyui_s_own_prompts_know_is_named_where_it_is_not_read(run, model, baseline, density, prompt, named):
    report = run(nodes.RaritySamplePrior, prior=model[0], prompt=prompt, count=2, steps=2)[1]
    assert f"holds {named}, which this model reads as ordinary words and signs" in report
    wish = run(nodes.RaritySteerTowards, eye=model[0], towards=prompt, away_from="p")[0]
    said = run(nodes.RarityMakeRare, density=density, embeddings=baseline, one_in=20, count=2, steps=2, direction=wish)[3]
    assert f"holds {named}" in said


@pytest.mark.parametrize("prompt", ["a letter R (bold), at 3:30", "a smile :) {sic}", "R (bold) | S"])
def test_ordinary_brackets_are_ordinary(run, model, prompt):
    assert "which this model reads" not in run(nodes.RaritySamplePrior, prior=model[0], prompt=prompt, count=2, steps=2)[1]


def test_a_habit_in_words_is_told_by_any_eye_that_reads_them(run, words):
    """The tiny models draw noise: their shares mean nothing, but they are shares, of every phrase and of none."""
    reader, usual = words
    text = run(nodes.RarityUsualInWords, embeddings=usual, phrases="a letter R\n\na letter P", rare=usual.select(range(9)), eye=reader)[0]
    lines = text.splitlines()
    assert [line.strip().split("  ")[0] for line in lines[1:4]] == ["a letter R", "a letter P", "none of these"]
    assert all(line.count("%") >= 2 for line in lines[1:4])
