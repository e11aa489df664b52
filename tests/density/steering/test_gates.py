"""A gate in `optimize`: valid results where there can be, nothing changed where it always says Yes, every No followed."""

import math

import pytest
import torch
from rarity.density import Direction, Gate, Pullback, RarityError, choose_starts, interest_curve, optimize, variations


@pytest.fixture(scope="module")
def starts(density, baseline):
    return choose_starts(baseline, density, 40, "usual", seed=2)


@pytest.fixture(scope="module")
def likes(density):
    """P(yes) of a judge who likes what has not gone far along the first component, in standard deviations."""

    def ask(embeddings, progress=None):
        w, _ = density.frame.whiten(embeddings.vectors)
        return torch.sigmoid(4 * (0.5 - w[:, 0]))

    return ask


def valid(gate, embeddings):
    return gate.validity_of(embeddings) >= gate.threshold


def test_a_gate_that_always_says_yes_changes_nothing(density, starts, contrast):
    gate = Gate(lambda x, progress: torch.ones(len(x)), "a thing", every=10)
    got, expected = (optimize(density, starts, 1000, (contrast,), gate=g) for g in (gate, None))
    assert torch.equal(got.final.vectors, expected.final.vectors) and got.steps == expected.steps
    assert (got.readings["validity"] == 1).all() and got.allowed["validity"] == (0.5, math.inf)
    assert torch.equal(got.accepted, expected.accepted)
    assert "The gate says Yes to 40 of 40 (P(yes) of at least 0.5)" in got.report() and not got.notes


def test_samples_that_are_refused_find_another_way(density, starts, contrast):
    def ask(embeddings, progress):
        return torch.sigmoid(4 * (0.5 - density.frame.whiten(embeddings.vectors)[0][:, 3]))

    gate = Gate(ask, "a thing", every=10)
    without, got = (optimize(density, starts, 1000, (contrast,), steps=400, gate=g) for g in (None, gate))
    before, after = (valid(gate, made.final).double().mean() for made in (without, got))
    assert before < 0.5 and after > 0.85, "every tenth step is another chance, and 40 of them are enough for nearly all"
    assert got.in_band.all() and got.readings["inside"][-1].all()
    assert torch.equal(got.accepted, valid(gate, got.final)), "what is accepted is valid, too"
    torch.testing.assert_close(got.readings["validity"][-1], gate.validity_of(got.final), rtol=0, atol=0)
    assert torch.equal(got.final.vectors, optimize(density, starts, 1000, (contrast,), steps=400, gate=gate).final.vectors)
    same = (got.readings["validity"][1:] >= gate.threshold).all(dim=0)
    assert same.any() and torch.equal(got.final.vectors[same], without.final.vectors[same]), "no No, no other way"


def test_a_wish_is_followed_only_as_far_as_it_stays_valid(density, starts, likes):
    """The wish leads to what the judge dislikes: half the step, again and again, ends nearer to the edge than the start."""
    wish = (Direction.component(density, 1, 3.0),)
    gate = Gate(likes, "a thing", every=5)
    free = optimize(density, starts, 1000, directions=wish)
    held = optimize(density, starts, 1000, directions=wish, gate=gate)
    assert valid(gate, free.final).double().mean() < 0.3
    assert valid(gate, held.final).double().mean() > 0.9 and held.in_band.all()
    asked = held.readings["validity"][:-1] >= gate.threshold
    once = asked[1:].any(dim=0)
    assert (held.readings["validity"][-1][once] >= gate.threshold).all(), "a sample that was valid ends valid"
    along = [wish[0].place(made.final.vectors)[asked[1]] for made in (held, optimize(density, starts, 1000))]
    assert (along[0] - along[1]).mean() > 0, "and got some of its wish"


def test_stop_stays_at_what_was_valid_last(density, starts, likes):
    wish = (Direction.component(density, 1, 3.0),)
    gate = Gate(likes, "a thing", every=5, on_no="stop")
    made = optimize(density, starts, 1000, directions=wish, gate=gate)
    yes = (made.readings["validity"] >= 0.5)[1:-1]
    lost = yes[0] & ~yes.all(dim=0)
    assert lost.sum() > 3
    for n in lost.nonzero().flatten().tolist():
        last = int((~yes[:, n]).int().argmax())  # of the checkpoints after the start, the first No follows it
        assert torch.equal(made.final.vectors[n], made.embeddings[last].vectors[n])
        later = torch.stack([step.vectors[n] for step in made.embeddings[last + 2 :]])
        torch.testing.assert_close(later, made.final.vectors[n].expand_as(later), rtol=0, atol=1e-6)


def test_go_on_only_tells(density, starts, likes):
    gate = Gate(likes, "a thing", every=10, on_no="go on")
    made, without = optimize(density, starts, 1000, gate=gate), optimize(density, starts, 1000)
    assert torch.equal(made.final.vectors, without.final.vectors)
    for row, step in zip(made.readings["validity"], made.embeddings, strict=True):
        assert torch.equal(row, likes(step))
    assert torch.equal(made.accepted, without.accepted & valid(gate, made.final)) and not made.accepted.all()


def test_a_gate_that_never_says_yes_is_told_with_what_it_saw(density, starts, caplog):
    gate = Gate(lambda x, progress: torch.linspace(0.02, 0.1, len(x)), "a letter R", threshold=0.4)
    made = optimize(density, starts, 1000, gate=gate)
    assert not made.accepted.any() and made.in_band.all(), "kept all the same"
    (note,) = made.notes
    assert note in made.report() and note in caplog.text
    assert "does not take any of these on their way for 'a letter R'" in note and "0.02 to 0.1, 0.06 on average" in note
    assert "0.4 is asked for" in note and "lower the threshold" in note
    assert "The gate says Yes to 0 of 40" in made.report()


def test_who_is_never_valid_ends_with_the_highest_probability(density, starts, likes):
    gate = Gate(likes, "a thing", every=10, threshold=0.999)
    made = optimize(density, starts, 1000, gate=gate)
    lost = ~valid(gate, made.final)
    assert lost.any()
    assert torch.equal(made.readings["validity"][-1][lost], made.readings["validity"][1:].max(dim=0).values[lost])


def test_variations_pass_the_gate_too(density, baseline, likes):
    gate = Gate(likes, "a thing", every=10)
    made = variations(density, baseline.select(range(3)), 12, 0.5, 100, gate=gate)
    assert {"validity", "how far"} <= set(made.readings) and made.steps == tuple(range(0, 101, 10))


def test_cancelling_while_it_is_asked(density, starts):
    calls = []

    def ask(x, progress):
        progress(3, 7)  # of the pictures; what the caller hears is where the optimisation stands
        return torch.ones(len(x))

    def cancel(done, total):
        calls.append((done, total))
        if len(calls) == 8:
            raise InterruptedError

    before = starts.vectors.clone()
    with pytest.raises(InterruptedError):
        optimize(density, starts, 100, steps=6, gate=Gate(ask, "a thing", every=3), progress=cancel)
    assert calls == [(0, 6), (0, 6), (1, 6), (2, 6), (3, 6), (3, 6), (4, 6), (5, 6)]
    assert torch.equal(before, starts.vectors) and torch.is_grad_enabled()
    assert optimize(density, starts, 100, steps=6, gate=Gate(lambda x, _: torch.ones(len(x)), "a thing")).in_band.all()


def test_the_curve_shows_the_gate_and_its_threshold(density, starts, likes):
    from rarity.density.drawing.interest_curve import _names, _title

    made = optimize(density, starts, 1000, gate=Gate(likes, "a thing", every=20, threshold=0.6))
    assert "validity" in _names(made) and _title("validity", made) == "Still the subject: P(yes) of the gate"
    assert interest_curve(made).shape[1] > interest_curve(optimize(density, starts, 1000)).shape[1]


@pytest.mark.parametrize("answers", [torch.tensor([0.5]), torch.tensor([0.5, math.nan]), torch.tensor([0.5, 1.5]), torch.ones(2, 1)])
def test_answers_that_are_no_probabilities(baseline, answers):
    with pytest.raises(RarityError, match="one probability for each of 2 pictures"):
        Gate(lambda x, _: answers, "a thing").validity_of(baseline.select([0, 1]))


@pytest.mark.parametrize("settings, message", [
    ({"every": 0}, "every 1 step or more"),
    ({"threshold": 1.0}, "above 0 and below 1; got 25 and 1.0"),
    ({"threshold": math.nan}, "above 0 and below 1"),
    ({"on_no": "panic"}, "one of step back, stop, go on; got 'panic'"),
    ({"subject": " "}, "needs a subject"),
])
def test_settings_out_of_range(settings, message):
    with pytest.raises(RarityError, match=message):
        Gate(**{"ask": lambda x, _: torch.ones(len(x)), "subject": "a thing"} | settings)


def follow(answers, **settings):
    """What follows from mean answers at iterations 0, 10, 20 ..., and the note."""
    pullback = Pullback(Gate(lambda x, _: x, "a thing", **settings))
    said, last = [], 0
    for number, answer in enumerate(answers):
        said.append(pullback.follow(10 * number, torch.tensor([answer - 0.1, answer + 0.1])))
        last = 10 * number if said[-1] == "keep" else last
    return said, pullback.note(last)


def test_pulling_back():
    assert follow([0.9, 0.5, 0.8]) == (["keep"] * 3, "")
    said, note = follow([0.9, 0.3, 0.7, 0.2, 0.2, 0.9])
    assert said == ["keep", "step back", "keep", "step back", "step back", "keep"]
    assert "'a thing' at iteration 10 (0.3), 30 (0.2), 40 (0.2), below P(yes) of 0.5, each time back" in note
    assert note.endswith("What is kept ends with iteration 50.")
    said, note = follow([0.9, 0.3, 0.2, 0.1])
    assert said == ["keep", "step back", "step back", "stop"] and "ends with iteration 0, where it was stopped" in note
    said, note = follow([0.9, 0.8, 0.1], on_no="stop")
    assert said == ["keep", "keep", "stop"] and "ends with iteration 10, where it was stopped" in note
    said, note = follow([0.1, 0.8, 0.2], on_no="go on")
    assert said == ["keep"] * 3 and "at iteration 0 (0.1), 20 (0.2)" in note and "those checkpoints are not valid" in note
    for on_no in ("step back", "stop"):
        with pytest.raises(RarityError, match="even what the model makes by itself for 'a thing': .*0.1 to 0.3, 0.2 on average"):
            follow([0.2], on_no=on_no)
