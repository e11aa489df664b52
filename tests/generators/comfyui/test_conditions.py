"""A CONDITIONING as a vector: what moves, what stays, and which directions its wordings span."""

import math

import pytest
import torch
from rarity.density.base.errors import RarityError
from rarity.generators.comfyui.prompts.condition import Condition

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


def unit_of(tokens):
    """The unit of each token of [T, D], literally."""
    tokens = tokens.double()
    directions = tokens / tokens.norm(dim=1, keepdim=True)
    spread = math.sqrt(sum(float((one - directions.mean(0)).square().sum()) for one in directions) / len(tokens))
    return (tokens.norm(dim=1) * spread / tokens.shape[1] ** 0.5)[:, None].expand(tokens.shape).float()


@pytest.mark.parametrize("pooled", [0, POOLED])
def test_the_spread_is_that_of_the_tokens_and_of_the_pooled_vector(pooled):
    given = [entry(pooled=pooled)]
    spread = Condition(given).spread
    torch.testing.assert_close(spread[: TOKENS * WIDTH].view(TOKENS, WIDTH), unit_of(given[0][0][0]))
    assert len(spread) == TOKENS * WIDTH + pooled
    if pooled:
        torch.testing.assert_close(spread[-1], given[0][1]["pooled_output"].std(correction=0))


def test_tokens_of_one_length_have_their_standard_deviation_as_their_unit():
    """As those of CLIP, which its last layer brings to one length."""
    tokens = torch.nn.functional.normalize(entry()[0], dim=2) * 27
    spread = Condition([[tokens, {}]]).spread
    expected = float((tokens[0] - tokens[0].mean(0)).square().mean().sqrt())
    torch.testing.assert_close(spread, torch.full_like(spread, expected))


def test_a_token_that_is_far_longer_changes_no_other_s_unit():
    """The first token of a language model; without it in proportion, its unit would be that of all."""
    tokens = torch.nn.functional.normalize(entry(tokens=40)[0], dim=2)
    usual = Condition([[tokens, {}]]).spread.view(40, WIDTH)
    tokens[:, 0] *= 300
    spread = Condition([[tokens, {}]]).spread.view(40, WIDTH)
    torch.testing.assert_close(spread[1:], usual[1:])
    torch.testing.assert_close(spread[0], 300 * usual[0])


def test_padding_has_no_unit_no_direction_and_no_part_in_those_of_the_words():
    tokens, _ = entry(tokens=8)
    tokens[:, 7] = 0
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0, 1]])
    padded, bare = Condition([[tokens, {"attention_mask": mask}]]), Condition([[tokens[:, :5], {}]])
    spread, basis = padded.spread.view(8, WIDTH), padded.subspace(None, 3).view(8, WIDTH, 3)
    torch.testing.assert_close(spread[:5].flatten(), bare.spread)
    assert not spread[5:].any() and not basis[5:].any()
    torch.testing.assert_close(basis[:5].reshape(-1, 3).abs(), bare.subspace(None, 3).abs())


def further(seed=0, tokens=3):
    random = torch.Generator().manual_seed(100 + seed)
    return {"conditioning_llama3": torch.randn(1, 4, tokens, 6, generator=random), "conditioning_byt5small": torch.randn(1, tokens, 7, generator=random),
            "conditioning_mt5xl": torch.randn(1, tokens, 5, generator=random), "attention_mask_mt5xl": torch.tensor([[1] * (tokens - 1) + [0]])}


def test_what_further_text_encoders_add_moves_with_the_tokens():
    """Of four layers, as HiDream reads Llama; each by its own unit, and what its own mask leaves out stays."""
    given = [entry(guidance=3.5, **further())]
    condition = Condition(given)
    sizes = [TOKENS * WIDTH, POOLED, 4 * 3 * 6, 3 * 7, 3 * 5]
    assert len(condition.vector) == sum(sizes)
    ((tokens, options),) = condition.moved(condition.spread)
    parts = condition.spread.split(sizes)
    for name, part in zip(("conditioning_llama3", "conditioning_byt5small", "conditioning_mt5xl"), parts[2:], strict=True):
        torch.testing.assert_close(options[name] - given[0][1][name], part.view_as(options[name]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(parts[3].view(3, 7), unit_of(given[0][1]["conditioning_byt5small"][0]))
    assert (parts[2] > 0).all() and torch.equal(options["conditioning_mt5xl"][:, 2], given[0][1]["conditioning_mt5xl"][:, 2])
    assert options["guidance"] == 3.5 and options["attention_mask_mt5xl"] is given[0][1]["attention_mask_mt5xl"]
    basis = condition.subspace(None, 5)
    columns = [[bool(piece.any()) for piece in basis[:, j].split(sizes)] for j in range(5)]
    assert columns == [[i == j for i in range(5)] for j in (0, 2, 3, 4, 0)], "each part in turn; a pooled vector has no directions"


@pytest.mark.parametrize("pooled", [{}, {"pooled_output": None}])
def test_a_condition_without_a_pooled_vector_is_its_tokens(pooled):
    """As Stable Diffusion 3 has it with T5 alone."""
    given = [[entry()[0], pooled]]
    condition = Condition(given)
    ((_, options),) = condition.moved(torch.ones_like(condition.vector))
    assert len(condition.vector) == TOKENS * WIDTH and options == pooled


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


def test_wordings_of_any_length_stand_opposite_from_both_ends():
    """What an encoder puts before and after the prompt stands opposite itself; the middle of the longer text is not asked."""
    given, shorter, longer = [entry()], [entry(1, tokens=3)], [entry(2, tokens=8, attention_mask=torch.tensor([[1] * 7 + [0]]))]
    condition = Condition(given)
    tokens = given[0][0][0]

    def change_of(other):
        change = condition.subspace(other, 4)
        assert change.shape[1] == 1
        # The sign of a direction is not told; the pooled vector, which is compared number by number, tells it.
        pooled = other[0][1]["pooled_output"][0] - given[0][1]["pooled_output"][0]
        torch.testing.assert_close(change[TOKENS * WIDTH :, 0].abs(), pooled.abs(), rtol=1e-4, atol=1e-4)
        return change[: TOKENS * WIDTH, 0].view(TOKENS, WIDTH) * torch.sign(change[TOKENS * WIDTH, 0] * pooled[0])

    theirs = shorter[0][0][0]
    expected = torch.stack([theirs[0] - tokens[0], theirs[1] - tokens[1], torch.zeros(WIDTH), torch.zeros(WIDTH), theirs[2] - tokens[4]])
    torch.testing.assert_close(change_of(shorter), expected, rtol=1e-4, atol=1e-4)
    theirs = longer[0][0][0]
    torch.testing.assert_close(change_of(longer), theirs[[0, 1, 2, 5, 6]] - tokens, rtol=1e-4, atol=1e-4)


def test_a_wording_without_quoted_words_leaves_those_as_they_are():
    """Hunyuan Image encodes them apart, and only when there are some."""
    given = [entry(**further())]
    change = Condition(given).subspace([entry(1)], 2)
    assert change[: TOKENS * WIDTH].any() and not change[TOKENS * WIDTH + POOLED :].any()


def test_without_wordings_its_own_tokens_span_it():
    given = [entry()]
    basis = Condition(given).subspace(None, 3)
    lengths = given[0][0][0].norm(dim=1)
    directions = given[0][0][0] / lengths[:, None]
    centred = directions - directions.mean(0)
    assert basis.shape[1] == 3 and not basis[TOKENS * WIDTH :].any()
    each = basis[: TOKENS * WIDTH].view(TOKENS, WIDTH, 3) / lengths[:, None, None]
    assert torch.allclose(each, each[:1].expand_as(each), atol=1e-5), "every token alike, in proportion to its length"
    one = each[0, :, 0]
    projections = (centred @ torch.nn.functional.normalize(one, dim=0)).square().mean().sqrt()
    torch.testing.assert_close(one.norm(), projections, rtol=1e-3, atol=1e-3)


def test_a_text_of_many_wide_tokens_needs_no_square_of_its_numbers():
    """512 tokens of 4,096 numbers, as Flux has them: a row for each token with all numbers would take 4 GB."""
    given = [[torch.nn.functional.normalize(torch.randn(1, 512, 4096, generator=torch.Generator().manual_seed(1)), dim=2), {}]]
    basis = Condition(given).subspace(None, 2)
    centred = given[0][0][0] - given[0][0][0].mean(0)
    first, second = basis.view(512, 4096, 2).double().unbind(dim=2)
    torch.testing.assert_close(first, first[:1].expand_as(first), rtol=1e-5, atol=0)
    assert abs(float((first * second).sum())) < 1e-3 * float((first * first).sum())
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


def test_wordings_of_another_encoder_or_none_that_differs_are_refused():
    condition = Condition([entry()])
    with pytest.raises(RarityError, match=r"same CLIP as the positive CONDITIONING, which holds tokens \(1, 5, 8\); got tokens \(1, 5, 9\)"):
        condition.subspace([[torch.ones(1, 5, 9), {}]], 4)
    with pytest.raises(RarityError, match=r"holds pooled_output \(1, 6\); got no pooled_output"):
        condition.subspace([entry(1, pooled=0)], 4)
    with pytest.raises(RarityError, match="do not differ"):
        condition.subspace([entry()], 4)
    with pytest.raises(RarityError, match="of one token only"):
        Condition([entry(tokens=1)]).subspace(None, 4)
