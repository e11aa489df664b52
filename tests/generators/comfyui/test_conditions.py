"""A CONDITIONING as a vector: what moves, what stays, and which directions its wordings span."""

import math

import pytest
import torch
from rarity.density.base.errors import RarityError
from rarity.generators.comfyui.condition import Condition

TOKENS, WIDTH, POOLED = 5, 8, 6


def entry(seed=0, tokens=TOKENS, pooled=POOLED, **more):
    random = torch.Generator().manual_seed(seed)
    options = dict(more)
    if pooled:
        options["pooled_output"] = torch.randn(1, pooled, generator=random)
    return [torch.randn(1, tokens, WIDTH, generator=random) * 3, options]


def test_the_vector_goes_round_and_all_else_is_shared():
    mask, control = torch.ones(1, 4, 4), object()
    given = [entry(mask=mask, control=control, strength=0.7)]
    before = given[0][0].clone(), given[0][1]["pooled_output"].clone()
    change = torch.arange(TOKENS * WIDTH + POOLED).float()
    ((tokens, options),) = Condition(given).moved(change)
    torch.testing.assert_close(tokens, before[0] + change[: TOKENS * WIDTH].view(1, TOKENS, WIDTH))
    torch.testing.assert_close(options["pooled_output"], before[1] + change[TOKENS * WIDTH :][None])
    assert options["mask"] is mask and options["control"] is control and options["strength"] == 0.7
    assert torch.equal(given[0][0], before[0]) and torch.equal(given[0][1]["pooled_output"], before[1])
    still = Condition(given).moved(torch.zeros_like(change))
    assert torch.equal(still[0][0], before[0]) and torch.equal(still[0][1]["pooled_output"], before[1])


@pytest.mark.parametrize("pooled", [0, POOLED])
def test_the_spread_is_that_of_the_tokens_and_of_the_pooled_vector(pooled):
    given = [entry(pooled=pooled)]
    spread = Condition(given).spread
    tokens = given[0][0][0].double()
    expected = math.sqrt(sum(float((row - tokens.mean(0)).square().sum()) for row in tokens) / (TOKENS * WIDTH))
    torch.testing.assert_close(spread[: TOKENS * WIDTH], torch.full((TOKENS * WIDTH,), expected))
    assert len(spread) == TOKENS * WIDTH + pooled
    if pooled:
        torch.testing.assert_close(spread[-1], given[0][1]["pooled_output"].std(correction=0))


def test_wordings_span_the_subspace_and_their_number_is_its_size():
    given, others = [entry()], [entry(1), entry(2), entry(3)]
    condition = Condition(given)
    basis = condition.subspace(others, 10)
    assert basis.shape == (TOKENS * WIDTH + POOLED, 3)
    rows = torch.stack([Condition([other]).vector - condition.vector for other in others])
    solution = torch.linalg.lstsq(basis, rows.T).solution
    torch.testing.assert_close(basis @ solution, rows.T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(basis @ basis.T, rows.T @ rows / 3, rtol=1e-3, atol=1e-3)
    assert torch.equal(condition.subspace(others, 2), basis[:, :2])


def test_without_wordings_its_own_tokens_span_it():
    given = [entry()]
    basis = Condition(given).subspace(None, 3)
    tokens = given[0][0][0] - given[0][0][0].mean(0)
    assert basis.shape[1] == 3 and not basis[TOKENS * WIDTH :].any()
    each = basis[: TOKENS * WIDTH].view(TOKENS, WIDTH, 3)
    assert torch.allclose(each, each[:1].expand_as(each), atol=1e-5), "every token alike"
    one = each[0, :, 0]
    projections = (tokens @ torch.nn.functional.normalize(one, dim=0)).square().mean().sqrt()
    torch.testing.assert_close(one.norm(), projections, rtol=1e-3, atol=1e-3)


def test_a_text_of_many_wide_tokens_needs_no_square_of_its_numbers():
    """512 tokens of 4,096 numbers, as Flux has them: a row for each token with all numbers would take 4 GB."""
    given = [[torch.randn(1, 512, 4096, generator=torch.Generator().manual_seed(1)), {}]]
    basis = Condition(given).subspace(None, 2)
    centred = given[0][0][0] - given[0][0][0].mean(0)
    first, second = basis.view(512, 4096, 2).double().unbind(dim=2)
    assert torch.equal(first, first[:1].expand_as(first)) and abs(float((first * second).sum())) < 1e-3 * float((first * first).sum())
    torch.testing.assert_close(first.norm(), torch.linalg.matrix_norm(centred.double(), 2), rtol=1e-4, atol=0)


def test_inference_mode_leaves_nothing_that_gradients_cannot_pass():
    with torch.inference_mode():
        condition = Condition([entry()])
    offset = torch.zeros_like(condition.vector).requires_grad_(True)
    ((tokens, options),) = condition.moved(offset * 2)
    (slope,) = torch.autograd.grad(tokens.square().sum() + options["pooled_output"].sum(), offset)
    torch.testing.assert_close(slope[: TOKENS * WIDTH], 4 * condition.vector[: TOKENS * WIDTH])


@pytest.mark.parametrize("given, message", [
    ([], "must have one entry, got 0"),
    ([entry(), entry(1)], "must have one entry, got 2"),
    ([[None, {}]], "shape \\[1, T, D\\], got NoneType"),
    ([[torch.zeros(2, 3, 4), {}]], "got shape \\(2, 3, 4\\)"),
    ([[torch.full((1, 3, 4), math.nan), {}]], "not finite"),
])
def test_what_cannot_be_steered_is_refused(given, message):
    with pytest.raises(RarityError, match=message):
        Condition(given)


def test_wordings_of_another_length_or_none_that_differs_are_refused():
    condition = Condition([entry()])
    with pytest.raises(RarityError, match=r"\(1, 5, 8\), got \[\(1, 7, 8\)\]"):
        condition.subspace([entry(1, tokens=7)], 4)
    with pytest.raises(RarityError, match="another pooled vector"):
        condition.subspace([entry(1, pooled=0)], 4)
    with pytest.raises(RarityError, match="do not differ"):
        condition.subspace([entry()], 4)
