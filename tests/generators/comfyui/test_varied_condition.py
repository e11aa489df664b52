"""A CONDITIONING varied seed by seed: of every kind of tensor, in the first steps only, and nothing that was connected is changed."""

import math

import pytest
import torch
from rarity.density.base.errors import RarityError
from rarity.generators.comfyui.prompts.varied_condition import varied
from rarity.generators.runtime.noise import streams

WIDTH = 256  # wide, so that random directions are nearly orthogonal


def entry(tokens=5, seed=0, dtype=torch.float32, **more):
    g = torch.Generator().manual_seed(seed)
    sizes = torch.logspace(0, 2, tokens)[:, None]  # as in language models, where some tokens are far longer than others
    return [(torch.randn(1, tokens, WIDTH, generator=g) * sizes).to(dtype), more]


def cosines(one, other):
    return torch.nn.functional.cosine_similarity(one.float(), other.float(), dim=-1)


@pytest.mark.parametrize("strength", [0.25, 1.0, 3.0])
def test_each_token_keeps_its_length_and_turns_by_the_angle_of_the_strength(strength):
    ((tokens, _),) = given = [entry()]
    before = tokens.clone()
    moved = varied(given, range(40), strength)[0][0]
    assert moved.shape == (40, 5, WIDTH) and torch.equal(tokens, before)
    torch.testing.assert_close(moved.norm(dim=-1), tokens.norm(dim=-1).expand(40, -1))
    # The mean over 200 directions, each off by about 1 / sqrt(WIDTH).
    assert float(cosines(moved, tokens).mean()) == pytest.approx(1 / math.sqrt(1 + strength**2), abs=0.02)


def test_a_seed_is_the_same_beside_any_others_and_two_seeds_share_nothing():
    given = [entry(pooled_output=torch.ones(1, WIDTH))]
    both, alone = varied(given, [7, 2**64 - 1], 1.0), varied(given, [2**64 - 1], 1.0)
    for a, b in ((both[0][0], alone[0][0]), (both[0][1]["pooled_output"], alone[0][1]["pooled_output"])):
        assert torch.equal(a[1:], b) and not torch.equal(a[:1], b)
    turned = varied(given, [7, 8], 100.0)[0][0]  # nothing but noise
    assert float(cosines(turned[0], turned[1]).abs().max()) < 5 / math.sqrt(WIDTH)
    of_the_picture = torch.randn(1, 5 * WIDTH, generator=torch.Generator().manual_seed(7))
    assert abs(float(cosines(turned[0].reshape(1, -1), of_the_picture))) < 5 / math.sqrt(5 * WIDTH), "not the noise it is drawn from"


def test_a_growing_strength_goes_on_in_one_direction():
    """What a search compares at two strengths is the same variation, weaker and stronger."""
    tokens = entry()[0]
    weak, strong = (varied([[tokens, {}]], [3], s)[0][0] - tokens for s in (0.01, 0.02))
    torch.testing.assert_close(strong, 2 * weak, rtol=0.05, atol=0.05 * float(weak.abs().max()))


def test_padding_stays_by_the_mask_and_where_tokens_are_zero():
    tokens, _ = entry(6)
    tokens[:, 5] = 0
    mask = torch.tensor([[1, 1, 1, 0, 0, 1]])
    moved = varied([[tokens, {"attention_mask": mask}]], [0, 1], 1.0)[0]
    assert torch.equal(moved[0][:, 3:], tokens[:, 3:].expand(2, -1, -1)) and moved[1]["attention_mask"] is mask
    assert not (moved[0][:, :3] == tokens[:, :3]).all(dim=-1).any()
    of_another_length = varied([[tokens, {"attention_mask": torch.zeros(1, 9)}]], [0], 1.0)[0][0]
    assert not torch.equal(of_another_length[:, :5], tokens[:, :5])


def test_what_is_told_beside_the_tokens_moves_with_them_and_all_else_is_shared():
    kept = {"mask": torch.ones(1, 4, 4), "control": object(), "guidance": 3.5, "concat_latent_image": torch.ones(1, 4, 8, 8),
            "reference_latents": [torch.ones(1, 4, 8, 8)]}
    moves = {"pooled_output": torch.randn(1, WIDTH), "conditioning_llama3": torch.randn(1, 4, 3, WIDTH),
             "conditioning_byt5small": torch.randn(1, 9, WIDTH)}
    first, second = varied([entry(**kept, **moves)], [0, 1, 2], 1.0)
    for name, value in kept.items():
        assert first[1][name] is value and second[1][name] is value
    for name, value in moves.items():
        assert first[1][name].shape == (3, *value.shape[1:]) and second[1][name] is value
        torch.testing.assert_close(first[1][name].norm(dim=-1), value.norm(dim=-1).expand(3, *value.shape[1:-1]))
        assert float(cosines(first[1][name], value).mean()) == pytest.approx(math.sqrt(0.5), abs=0.1)
    assert varied([entry(pooled_output=None)], [0], 1.0)[0][1]["pooled_output"] is None, "as Stable Diffusion 3 may have it"


@pytest.mark.parametrize("given, expected", [
    ({}, [(0.0, 0.4, True), (0.4, 1.0, False)]),
    ({"start_percent": 0.1, "end_percent": 0.3}, [(0.1, 0.3, True)]),
    ({"start_percent": 0.2, "end_percent": 0.9}, [(0.2, 0.4, True), (0.4, 0.9, False)]),
    ({"start_percent": 0.5, "end_percent": 1.0}, [(0.5, 1.0, False)]),
])
def test_only_the_first_part_is_varied_within_an_entry_s_own_range(given, expected):
    ((tokens, options),) = conditioning = [entry(**given)]
    found = varied(conditioning, [0], 1.0, until=0.4)
    assert [(more["start_percent"], more["end_percent"], not torch.equal(x, tokens)) for x, more in found] == expected
    assert options == given, "nothing is changed"
    assert all(more["end_percent"] == given.get("end_percent", 1.0) for _, more in varied(conditioning, [0], 1.0, until=1.0))


def test_entries_of_unequal_lengths_and_precisions_are_varied_each():
    conditioning = [entry(5), entry(83, seed=1, dtype=torch.bfloat16)]
    found = varied(conditioning, [0, 1], 0.5)
    assert [(tuple(x.shape), x.dtype) for x, _ in found] == [
        ((2, 5, WIDTH), torch.float32), ((1, 5, WIDTH), torch.float32), ((2, 83, WIDTH), torch.bfloat16), ((1, 83, WIDTH), torch.bfloat16)]


def test_at_strength_0_the_entries_come_back():
    conditioning = [entry()]
    (found,) = varied(conditioning, [0, 1], 0.0)
    assert found is conditioning[0]


def wordings(tokens=5, count=3):
    return [entry(tokens, seed=10 + i, pooled_output=torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(20 + i))) for i in range(count)]


def test_along_other_wordings_each_seed_moves_within_what_they_change():
    """The slow formula: u = t + s / sqrt(n) sum_j e_j d_j, and each token keeps its length."""
    ((tokens, options),) = given = [entry(pooled_output=torch.ones(1, WIDTH))]
    others = wordings()
    moved = varied(given, [3, 4], 0.5, 1.0, others)[0]
    for now, before, theirs in ((moved[0], tokens, [x for x, _ in others]),
                                (moved[1]["pooled_output"], options["pooled_output"], [more["pooled_output"] for _, more in others])):
        for row, seed in zip(now, [3, 4], strict=True):
            e = torch.randn(3, generator=streams(seed, 0, 1, "variation")[0])
            u = before[0] + 0.5 / math.sqrt(3) * sum(float(share) * (x[0] - before[0]) for share, x in zip(e, theirs, strict=True))
            expected = u / u.norm(dim=-1, keepdim=True) * before[0].norm(dim=-1, keepdim=True)
            torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-4)
    alone = varied(given, [4], 0.5, 1.0, others)[0]
    assert torch.equal(moved[0][1:], alone[0]), "a seed is the same beside any others"


def test_at_strength_1_a_prompt_moves_as_far_as_the_wordings_lie():
    """Wordings that are near, so that lengths hardly change and what is told holds before they are restored."""
    ((tokens, _),) = given = [entry()]
    g = torch.Generator().manual_seed(1)
    others = [[tokens + 0.05 * tokens.norm(dim=-1, keepdim=True) / WIDTH**0.5 * torch.randn(tokens.shape, generator=g), {}] for _ in range(6)]
    far = torch.stack([(x - tokens).flatten() for x, _ in others]).square().sum(dim=1).mean().sqrt()
    moved = (varied(given, range(300), 1.0, 1.0, others)[0][0] - tokens).flatten(1).square().sum(dim=1).mean().sqrt()
    assert float(moved / far) == pytest.approx(1, abs=0.1), "300 seeds of six numbers each know it to some points"


def test_wordings_of_other_lengths_move_what_stands_opposite_them_and_padding_stays():
    ((tokens, _),) = given = [entry(6)]
    tokens[:, 5] = 0
    moved = varied(given, [0], 1.0, 1.0, wordings(3, 2) + wordings(9, 1))[0][0]
    assert torch.equal(moved[:, 5], tokens[:, 5]) and not torch.equal(moved[:, 0], tokens[:, 0])


def test_other_wordings_are_of_one_prompt_and_differ_from_it():
    given = [entry()]
    with pytest.raises(RarityError, match="must have one entry, got 2"):
        varied(given * 2, [0], 1.0, 1.0, wordings())
    with pytest.raises(RarityError, match="do not differ from the positive CONDITIONING"):
        varied(given, [0], 1.0, 1.0, given)
    with pytest.raises(RarityError, match=r"same CLIP as the positive CONDITIONING, which holds tokens \(1, 5, 256\); got tokens \(1, 5, 8\)"):
        varied(given, [0], 1.0, 1.0, [[torch.ones(1, 5, 8), {}]])


def test_what_comes_out_is_an_ordinary_tensor_under_inference_mode():
    with torch.inference_mode():
        ((tokens, _), _) = varied([entry()], [0], 1.0)
    assert not tokens.is_inference() and not tokens.requires_grad


@pytest.mark.parametrize("changed, message", [
    ({"seeds": []}, "at least 1 seed"),
    ({"strength": -0.1}, "finite strength"), ({"strength": math.nan}, "finite strength"), ({"strength": math.inf}, "finite strength"),
    ({"until": 0.0}, "until above 0"), ({"until": 1.1}, "until above 0"),
    ({"conditioning": []}, "has no entry"),
    ({"conditioning": [[torch.ones(2, 5, 8), {}]]}, r"tokens of one text, shape \[1, T, D\], got shape \(2, 5, 8\)"),
    ({"conditioning": [[torch.ones(8), {}]]}, r"got shape \(8,\)"),
    ({"conditioning": [[None, {}]]}, "got NoneType"),
])
def test_what_cannot_be_varied_is_an_error(changed, message):
    given = {"conditioning": [entry()], "seeds": [0], "strength": 1.0, "until": 0.5} | changed
    with pytest.raises(RarityError, match=message):
        varied(**given)
