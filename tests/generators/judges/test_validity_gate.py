"""The gate while a concept is learnt: back to what was valid, exactly; stopped, told, cancelled, and the model untouched."""

import copy
import math

import pytest
import torch
from learning import KINDS, PROMPT, STEPS, WORD, digest, learn
from rarity.density import Direction, Embeddings, GaussianDensity, RarityError, choose_starts, interest_curve, optimize
from rarity.generators.concepts.concept_files import load_concept, save_concept
from rarity.generators.concepts.sampling import Chain, sample_concept
from rarity.generators.concepts.word import find_word, meaning
from rarity.generators.demo import LETTERS
from rarity.generators.judges.validity_gate import ValidityGate, choose_judge
from rarity.generators.judges.zero_shot import ContrastJudge
from rarity.generators.kandinsky.decoder import DecoderDefaults
from rarity.generators.kandinsky.load import load_kandinsky


@pytest.fixture(scope="module")
def prior(tiny_kandinsky):
    return tiny_kandinsky[0]


@pytest.fixture(scope="module")
def decoder(tiny_kandinsky):
    return quick(tiny_kandinsky[1], 2)


def quick(decoder, steps):
    """The same decoder, which draws in a few steps."""
    other = copy.copy(decoder)
    other.defaults = DecoderDefaults(steps, 1.0)
    return other


@pytest.fixture(scope="module")
def density(prior):
    return GaussianDensity.fit(prior.sample(PROMPT, 600, seed=11, steps=STEPS))


class Panel:
    """Judges that say of whatever they are shown what they are told to say, one time after the other."""

    subject = "a letter r"

    def __init__(self, *answers):
        self.answers, self.shown = list(answers), []

    def probability(self, pictures, *, progress=None):
        self.shown.append(pictures)
        if progress:
            progress(len(pictures), len(pictures))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return torch.full((len(pictures),), answer, dtype=torch.float64)


def first(x):
    """An objective of one's own: the first number of the embedding, smaller and smaller."""
    return x[:, 0]


def learnt_by_hand(prior, token, seed, rows_of, rate):
    """Plain AdamW on the word's embedding, one step for each batch of rows, through the same chain."""
    token = token.clone().requires_grad_(True)
    with meaning(prior, find_word(prior, PROMPT, WORD), token):
        chain, optimiser = Chain(prior, PROMPT, "", STEPS, 4.0, reread=True), torch.optim.AdamW([token], rate)
        for rows in rows_of:
            optimiser.zero_grad()
            first(chain.draw(seed, rows, "concept").double()).mean().backward()
            optimiser.step()
    return token.detach()


def test_a_no_goes_back_and_on_at_half_the_rate(prior, density, decoder):
    gate = ValidityGate(Panel(0.9, 0.8, 0.2, 0.7), decoder, every=2)
    concept = learn(prior, density, iterations=6, keep_every=5, objective=first, gate=gate)
    assert concept.steps == (0, 2, 6), "the gate's every takes the place of keep_every; what was refused is not kept"
    assert concept.trajectory.readings["validity"][:, 0].tolist() == [0.9, 0.8, 0.7]
    fresh = learnt_by_hand(prior, concept.token(1), 0, [range(12, 15), range(15, 18)], 1e-2 / 2)
    torch.testing.assert_close(concept.token(2), fresh, rtol=1e-5, atol=1e-7)
    whole = learnt_by_hand(prior, concept.token(0), 0, [range(0, 3), range(3, 6)], 1e-2)
    torch.testing.assert_close(concept.token(1), whole, rtol=1e-5, atol=1e-7)
    (note,) = concept.notes
    assert "said No to 'a letter r' at iteration 4 (0.2)" in note and "ends with iteration 6" in note


@pytest.mark.parametrize("kind", KINDS)
def test_the_gate_sees_the_probes_and_leaves_the_model_as_it_was(prior, density, decoder, kind):
    before, drawing = digest(prior), [weight.clone() for weight in decoder.unet.parameters()]
    gate = ValidityGate(Panel(0.9, 0.1, 0.9), decoder, every=2)
    concept = learn(prior, density, kind, iterations=4, gate=gate)
    assert digest(prior) == before and all(map(torch.equal, drawing, decoder.unet.parameters()))
    assert concept.steps == (0, 4) and len(gate.judge.shown) == 3
    for pictures, step in ((gate.judge.shown[0], 0), (gate.judge.shown[2], 1)):
        torch.testing.assert_close(pictures, decoder.decode(concept.trajectory.embeddings[step], seed=0))
    usual = prior.sample(PROMPT, 5, seed=0, steps=STEPS)
    torch.testing.assert_close(concept.trajectory.start.vectors, usual.vectors, rtol=1e-5, atol=1e-5)


def test_a_gate_that_always_says_yes_changes_nothing(prior, density, decoder):
    gated = learn(prior, density, "token + lora", gate=ValidityGate(Panel(1.0), decoder, every=2))
    plain = learn(prior, density, "token + lora")
    assert torch.equal(gated.tokens, plain.tokens) and torch.equal(gated.loras, plain.loras) and gated.notes == plain.notes
    assert set(gated.trajectory.readings) - set(plain.trajectory.readings) == {"validity"}


def test_stop_ends_with_what_was_valid_last(prior, density, decoder):
    watched = []
    gate = ValidityGate(Panel(0.9, 0.9, 0.1), decoder, every=1, on_no="stop")
    concept = learn(prior, density, iterations=9, gate=gate, watch=lambda so_far: watched.append(so_far.steps))
    assert concept.steps == (0, 1) and watched == [(0,), (0, 1)], "what is refused is not shown as a checkpoint"
    assert "at iteration 2 (0.1)" in concept.notes[-1] and "ends with iteration 1, where it was stopped" in concept.notes[-1]


def test_three_no_in_a_row_end_it(prior, density, decoder):
    gate = ValidityGate(Panel(0.9, 0.3, 0.9, 0.1, 0.2, 0.3), decoder, every=1)
    concept = learn(prior, density, iterations=50, gate=gate)
    assert concept.steps == (0, 2) and len(gate.judge.shown) == 6
    assert "at iteration 1 (0.3), 3 (0.1), 4 (0.2), 5 (0.3)" in concept.notes[-1] and "it was stopped" in concept.notes[-1]
    assert torch.isfinite(sample_concept(prior, concept, 2).vectors).all()


def test_go_on_keeps_everything_and_tells(prior, density, decoder, tmp_path):
    gate = ValidityGate(Panel(0.1, 0.9, 0.2), decoder, every=2, on_no="go on")
    concept, plain = learn(prior, density, gate=gate), learn(prior, density)
    assert torch.equal(concept.tokens, plain.tokens) and not concept.trajectory.accepted.any()
    assert "at iteration 0 (0.1), 4 (0.2)" in concept.notes[-1] and "those checkpoints are not valid" in concept.notes[-1]
    assert "The gate says Yes to 0 of 5" in concept.trajectory.report()
    save_concept(concept, tmp_path / "concept.safetensors")
    loaded = load_concept(tmp_path / "concept.safetensors").trajectory
    assert torch.equal(loaded.readings["validity"], concept.trajectory.readings["validity"])
    assert loaded.allowed["validity"] == (0.5, math.inf) and loaded.report() == concept.trajectory.report()
    assert interest_curve(loaded).shape[-1] == 3


def test_a_gate_that_never_says_yes_is_an_error_before_anything_is_learnt(prior, density, decoder):
    before, done = digest(prior), []
    with pytest.raises(RarityError, match="even what the model makes by itself for 'a letter r': P.yes. of 5 pictures is 0.1 to 0.1"):
        learn(prior, density, gate=ValidityGate(Panel(0.1), decoder), progress=lambda i, n: done.append(i))
    assert digest(prior) == before and set(done) == {0}


@pytest.mark.parametrize("during", ["drawing", "asking"])
@pytest.mark.parametrize("kind", KINDS)
def test_cancel_reaches_into_the_gate(prior, density, decoder, kind, during):
    """The second time it asks: while the decoder draws, or while the judge looks."""
    before, panel = digest(prior), Panel(0.9)
    looked = []

    def cancel(done, total):
        assert total == 4
        if looked and looked[-1] == during:
            raise KeyboardInterrupt

    def draw(*arguments, **named):
        if panel.shown:
            looked.append("drawing")
        found = type(decoder).decode(decoder, *arguments, **named)
        if panel.shown:
            looked.append("asking")
        return found

    gate = ValidityGate(panel, decoder, every=2)
    gate.decoder = type("Drawing", (), {"decode": staticmethod(draw)})
    with pytest.raises(KeyboardInterrupt):
        learn(prior, density, kind, gate=gate, progress=cancel)
    assert digest(prior) == before and len(panel.shown) == (1 if during == "drawing" else 2)


def test_the_zero_shot_gate_inside_inference_mode(prior, density, decoder):
    judge = choose_judge("a letter r", prior, ["p", "bold"])
    assert isinstance(judge, ContrastJudge)
    with torch.inference_mode():
        concept = learn(prior, density, gate=ValidityGate(judge, decoder, every=2, threshold=1e-9, on_no="go on"))
    said = judge.probability(decoder.decode(concept.trajectory.final, seed=0))
    torch.testing.assert_close(concept.trajectory.readings["validity"][-1], said)


def test_pictures_pass_without_a_decoder_embeddings_do_not(prior, density):
    gate = ValidityGate(choose_judge("r", prior, ["p"]))
    assert gate.validity(torch.rand(2, 16, 16, 3)).shape == (2,)
    with pytest.raises(RarityError, match="gate of 'r' has no decoder"):
        gate.validity_of(Embeddings(density.frame.mean[None], density.space))
    with pytest.raises(RarityError, match="exactly one .* Got none"):
        choose_judge("r")
    with pytest.raises(RarityError, match="exactly one .* Got both"):
        choose_judge("r", prior, ["p"], model=object())


def test_the_miniature_s_letters_stay_letters():
    """Rare R's without any guardrail: the gate sees which pictures are none, and finds others."""
    prior, decoder = load_kandinsky()
    baseline = prior.sample("a letter R", 1000, seed=0, steps=5)
    density = GaussianDensity.fit(baseline)
    starts = choose_starts(baseline, density, 20, "usual", seed=3)
    gate = ValidityGate(ContrastJudge(prior, "a letter R", LETTERS), quick(decoder, 4))
    without, within = (optimize(density, starts, 3000, gate=g) for g in (None, gate))
    lost = gate.validity_of(without.final) < 0.5
    assert lost.any() and within.in_band.all()
    assert (within.readings["validity"][-1] >= 0.5).sum() > (~lost).sum()


def test_rounds_of_learning_lead_away_from_what_was_learnt_before(prior, density):
    """As in a graph: samples of the first concept are what the next one keeps away from."""
    first_round = learn(prior, density, "lora", iterations=30, keep_every=30)
    made = sample_concept(prior, first_round, 24, seed=5)
    away = (Direction.away_from(made, 3.0),)
    same, other = (learn(prior, density, "lora", iterations=30, keep_every=30, seed=9, directions=d) for d in ((), away))
    near, far = (torch.cdist(sample_concept(prior, c, 24, seed=6).vectors, made.vectors).amin(dim=1).mean() for c in (same, other))
    assert far > 1.1 * near
