"""Learning where memory is short or weights are half as long: the same step, and models that are left as they were."""

import math

import pytest
import torch
from learning import KINDS, PROMPT, STEPS, WORD, Narrow, digest, learn, relative_error
from rarity.density import BandLoss, Direction, GaussianDensity, RarityError
from rarity.generators.concepts.gradients import Gradients
from rarity.generators.concepts.lora import adapted
from rarity.generators.concepts.sampling import Chain, sample_concept
from rarity.generators.concepts.word import find_word, meaning
from rarity.generators.kandinsky.load import load_kandinsky
from rarity.generators.kandinsky.prior import read_learning_rate


@pytest.fixture(scope="module")
def prior(tiny_kandinsky):
    return tiny_kandinsky[0]


@pytest.fixture(scope="module")
def density(prior):
    return GaussianDensity.fit(prior.sample(PROMPT, 600, seed=11, steps=STEPS))


def joined(x):
    """A loss that no sum over samples is: it knows how the samples lie to each other."""
    return (x - x.mean(dim=0)).norm() * x.square().sum().sqrt() + x[0] @ x[-1]


def test_gradients_in_pieces_are_the_whole_batch_s(prior):
    """To the rounding of float32 sums: also for a loss that is no mean over the samples."""
    found = find_word(prior, PROMPT, WORD)
    token = found.embedding(prior).requires_grad_(True)
    with adapted(prior.transformer, 4, seed=1) as matrices, meaning(prior, found, token):
        for weight in matrices.values():
            weight.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
        learnt = [token, *matrices.values()]
        chain = Chain(prior, PROMPT, "", STEPS, 4.0, reread=True)

        def pulled(size):
            gradients = Gradients(lambda rows: chain.draw(5, rows, "concept"), learnt, size, prior.placement)
            loss = gradients.pull(range(10, 17), joined)
            return loss, torch.cat([tensor.grad.flatten() for tensor in learnt])

        loss, whole = pulled(7)
        expected = torch.autograd.grad(joined(chain.draw(5, range(10, 17), "concept").double()), learnt)
        assert torch.equal(whole, torch.cat([slope.flatten() for slope in expected]))
        for size in (1, 3):
            other, got = pulled(size)
            torch.testing.assert_close(other, loss, rtol=1e-6, atol=0)
            # Each lies up to 9e-6 from the gradient in float64, by the processor's kernels; there pieces and whole agree to 2e-7.
            assert relative_error(got, whole) <= 2 * 9e-6


@pytest.mark.parametrize("kind", KINDS)
def test_out_of_memory_halves_the_batch_and_learns_the_same(prior, density, kind, caplog):
    wish = Direction("there", 1.0, density.space, density.frame.basis[:, 0])
    settings = dict(batch=6, iterations=6, directions=(wish,))
    before, expected = digest(prior), learn(prior, density, kind, **settings)
    with Narrow(prior, most=2) as memory:
        got = learn(prior, density, kind, **settings)
    assert set(memory.sizes[:2]) == {6, 3} and set(memory.sizes[2:]) == {2}, "halved once more, and kept so"
    assert "6 samples at a time does not fit in memory; going on with 3" in caplog.text
    for mine, theirs in ((got.tokens, expected.tokens), (got.loras, expected.loras)):
        if mine.numel():  # AdamW's step is as large for a gradient that is nearly zero, whose sign rounding may decide
            assert relative_error(mine[-1] - mine[0], theirs[-1] - theirs[0]) <= 1e-2
    torch.testing.assert_close(got.trajectory.readings["bits"], expected.trajectory.readings["bits"], rtol=1e-3, atol=1e-3)
    assert digest(prior) == before


def test_not_even_one_sample_fits(prior, density):
    before, seen = digest(prior), []
    with Narrow(prior, most=0), pytest.raises(RarityError, match="not enough memory for even one at a time"):
        learn(prior, density, "token + lora", watch=seen.append)
    assert digest(prior) == before and [concept.steps for concept in seen] == [(0,)]


@pytest.mark.parametrize("backwards", [False, True])
def test_cancel_reacts_between_two_steps_of_a_sample(prior, density, backwards):
    """A second is long for a step of a large prior on a slow machine, but not for an iteration."""
    before, calls = digest(prior), []

    def progress(done, total):
        calls.append(done)
        if len(calls) > STEPS + 1 and done == 0 and calls.count(0) == stop:
            raise KeyboardInterrupt

    # before the first gradient: the steps of the probes, one between, and the steps of the batch
    stop = STEPS + 1 + (STEPS + 2 if backwards else 2)
    with pytest.raises(KeyboardInterrupt):
        learn(prior, density, "token + lora", progress=progress)
    assert len(calls) == stop and set(calls) == {0}, "nothing comes after it"
    assert digest(prior) == before


@pytest.fixture(scope="module")
def halves(tiny_kandinsky_folder):
    """The same prior with weights of 16 bits."""
    return {dtype: load_kandinsky(tiny_kandinsky_folder, dtype=dtype)[0] for dtype in (torch.bfloat16, torch.float16)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_prior_in_half_precision_learns_in_float32(halves, prior, density, kind):
    half = halves[torch.bfloat16]
    assert {weight.dtype for weight in half.transformer.parameters()} == {torch.bfloat16}
    before = digest(half)
    concept = learn(half, density, kind, iterations=30, keep_every=10, batch=8, probes=32)
    assert digest(half) == before and concept.notes == ()
    assert concept.tokens.dtype == concept.loras.dtype == torch.float32
    for learnt in filter(torch.Tensor.numel, (concept.tokens[-1] - concept.tokens[0], concept.loras[-1] - concept.loras[0])):
        moved = learnt[learnt != 0]
        assert (moved.bfloat16().float() != moved).double().mean() > 0.9, "more digits than the model's weights have"
    loss = BandLoss(density, math.log2(100))
    for model in (half, prior):  # and what was learnt is good for the model in full precision, too
        unseen = [sample_concept(model, concept, 64, checkpoint=k, seed=77).vectors.double() for k in (0, -1)]
        assert loss(unseen[1]).mean() < 0.5 * loss(unseen[0]).mean()


@pytest.mark.parametrize("dtype, worst", [(torch.bfloat16, 0.95), (torch.float16, 0.999)])  # of 8 and 11 binary digits
def test_gradients_through_half_precision_neither_vanish_nor_overflow(halves, prior, density, dtype, worst):
    """Without a scale, float16 loses losses below 1e-7 and above 1e5."""
    loss = BandLoss(density, math.log2(100))

    def pulled(model, size):
        with adapted(model.transformer, 4, seed=1) as matrices:
            for weight in matrices.values():
                weight.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
            chain = Chain(model, PROMPT, "", STEPS, 4.0, reread=False)
            learnt = list(matrices.values())
            Gradients(lambda rows: chain.draw(5, rows), learnt, 8, model.placement).pull(range(8), lambda x: loss(x).mean() * size)
            assert {weight.grad.dtype for weight in learnt} == {torch.float32}
            return torch.cat([weight.grad.flatten() for weight in learnt]).double() / size

    expected = pulled(prior, 1.0)
    for size in (1e-7, 1.0, 1e7):
        assert torch.cosine_similarity(pulled(halves[dtype], size), expected, dim=0) > worst


def test_the_learning_rate_is_the_model_s_own(prior, density, tmp_path):
    assert load_kandinsky()[0].learning_rate == 1e-3 and prior.learning_rate == 1e-4
    assert learn(prior, density, learning_rate=None).settings["learning_rate"] == 1e-4
    assert read_learning_rate(tmp_path) == 1e-4
    for wrong in ('{"learning_rate": 0}', '{"learning_rate": "1"}', '{"learning_rate": true}', "[]", "{"):
        (tmp_path / "rarity.json").write_text(wrong)
        with pytest.raises(RarityError, match="rarity.json"):
            read_learning_rate(tmp_path)
