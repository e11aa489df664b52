"""Between two rare embeddings and around one: as rare all along, as far as asked, exact at the ends."""

import copy

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, GaussianDensity, NormGuardrail, RarityError, optimize, variations
from rarity.density.estimators.modes import Modes
from rarity.density.steering.variation import slerp_on_shell


def parts(density, x):
    w, r = density.frame.whiten(x)
    return w, r, density.score(x)


def test_bits_stay_between_those_of_the_ends_and_ends_are_exact(density, baseline):
    a, b = baseline.select(range(30)), baseline.select(range(30, 60))
    way = slerp_on_shell(density, a, b, 9)
    x = way.vectors.view(30, 9, 16)
    assert torch.equal(x[:, 0], a.vectors) and torch.equal(x[:, -1], b.vectors)
    bits = density.bits(way.vectors).view(30, 9)
    low, high = torch.minimum(bits[:, :1], bits[:, -1:]), torch.maximum(bits[:, :1], bits[:, -1:])
    assert (bits >= low - 1e-6).all() and (bits <= high + 1e-6).all()
    assert way.source["kind"] == "variations"


def test_two_equally_rare_ends_have_equally_rare_variations(density, baseline):
    rare = optimize(density, baseline.select(range(20)), 500, steps=5).final
    way = slerp_on_shell(density, rare.select(range(10)), rare.select(range(10, 20)), 7)
    score = torch.tensor(density.score_at(density.bits(rare.vectors)[0].item())).double()
    assert torch.allclose(density.score(way.vectors), score, rtol=1e-5)
    middle = way.vectors.view(10, 7, 16)[:, 3]
    straight = (rare.vectors[:10] + rare.vectors[10:]) / 2
    assert (density.score(straight) < density.score(middle)).all()  # a straight line cuts through the shell


@pytest.mark.parametrize("components", [14, 15])
def test_opposite_residuals_do_not_leave_the_shell(baseline, components):
    """With k = d - 1 there is one residual direction, and half of all pairs lie on either side of it."""
    density = GaussianDensity.fit(baseline, components=components)
    rare = optimize(density, baseline.select(range(10)), 500, steps=5).final
    w, r = density.frame.whiten(rare.vectors)
    mirrored = Embeddings(density.frame.unwhiten(w.flip(1), -r), density.space)
    way = slerp_on_shell(density, rare, mirrored, 7)
    score = torch.tensor(density.score_at(density.bits(rare.vectors)[0].item())).double()
    assert torch.allclose(density.score(way.vectors), score.expand(70), rtol=1e-5)


def test_steps_are_equal_angles_by_the_literal_formula(density, baseline):
    a, b = baseline.select([3]), baseline.select([8])
    way = slerp_on_shell(density, a, b, 5)
    w, _, _ = parts(density, way.vectors)
    u = [row / row.norm() for row in w]
    angle = torch.arccos(u[0] @ u[4])
    for i in range(5):
        t = i / 4
        literal = (torch.sin((1 - t) * angle) * u[0] + torch.sin(t * angle) * u[4]) / torch.sin(angle)
        assert torch.allclose(u[i], literal, atol=1e-5)  # float32 storage


def test_identical_and_opposite_ends(density, baseline):
    a = baseline.select(range(6))
    assert torch.allclose(slerp_on_shell(density, a, a, 4).vectors, a.vectors.repeat_interleave(4, dim=0), atol=1e-5)
    w, r, score = parts(density, a.vectors)
    opposite = Embeddings(density.frame.unwhiten(-w, -r), a.space)
    way = slerp_on_shell(density, a, opposite, 5)
    assert torch.isfinite(way.vectors).all()
    assert torch.allclose(density.score(way.vectors).view(6, 5), score[:, None].expand(6, 5), rtol=1e-4)
    steps = (way.vectors.view(6, 5, 16)[:, 1:] - way.vectors.view(6, 5, 16)[:, :-1]).norm(dim=2)
    assert (steps > 0).all() and (steps < 2 * steps.mean()).all()


def test_nonsense_is_refused(density, baseline):
    a = baseline.select(range(3))
    mixture = copy.copy(density)
    mixture.estimator, mixture.modes = "mixture", Modes.standard(3)
    foreign = Embeddings(a.vectors, EmbeddingSpace("another", "encoder", 16))
    for make, message in [
        (lambda: slerp_on_shell(density, a, a, 1), "at least 2"),
        (lambda: slerp_on_shell(density, a, baseline.select([0]), 3), "as many ends"),
        (lambda: slerp_on_shell(density, a, foreign, 3), "different embedding spaces"),
        (lambda: slerp_on_shell(mixture, a, a, 3), "estimator ppca"),
    ]:
        with pytest.raises(RarityError, match=message):
            make()


@pytest.fixture(scope="module")
def picture(density, baseline):
    """Off the samples, as an encoded picture is: a sample and a residual far beyond the longest usual one."""
    w, r = density.frame.whiten(baseline.vectors[7:8])
    return Embeddings(density.frame.unwhiten(3 * w, 20 * r), baseline.space, ("a picture",))


@pytest.fixture(scope="module")
def any_length(density):
    """In so few dimensions the length alone would turn some variations."""
    rail = NormGuardrail(density)
    rail.low, rail.high = 0.0, 1e6
    return (rail,)


def angles(density, a, b):
    """In right angles, by the literal formula."""
    (w_a, _), (w_b, _) = density.frame.whiten(a.vectors), density.frame.whiten(b.vectors)
    cosines = torch.stack([(p @ q) / (p.norm() * q.norm()) for p, q in zip(w_a.expand_as(w_b), w_b, strict=True)])
    return cosines.clamp(-1, 1).arccos() / (torch.pi / 2)


def test_how_far_and_how_rare_are_two_dials(density, picture, any_length):
    assert density.bits(picture.vectors)[0] > 10 and density.frame.residual(picture.vectors)[0] > density.frame.residual_limit(99.9)
    for one_in in (10, 1000):
        for how_far in (0.0, 0.25, 0.5, 1.0, 1.5, 2.0):
            made = variations(density, picture, 12, how_far, one_in, any_length, steps=3, keep_every=1)
            assert made.in_band.all() and made.accepted.all()
            assert density.frame.residual(made.final.vectors).max() <= density.frame.residual_limit(99) * (1 + 1e-4)
            # float32 storage; arccos near its ends turns 1e-7 into 3e-4
            assert torch.allclose(angles(density, picture, made.final), torch.tensor(how_far).double(), atol=2e-3)
            assert torch.allclose(made.readings["how far"][-1], angles(density, picture, made.final), atol=1e-4)


def test_zero_is_the_picture_itself_along_its_own_direction(density, picture):
    made = variations(density, picture, 2, 0.0, 100, steps=2)
    assert torch.allclose(made.start.vectors, picture.vectors.expand(2, -1), atol=1e-4)
    (w, r), (w_0, r_0) = density.frame.whiten(made.final.vectors), density.frame.whiten(picture.vectors)
    for now, then in ((w, w_0), (r, r_0)):
        assert torch.allclose(now / now.norm(dim=1, keepdim=True), then / then.norm(), atol=1e-4)


def test_variations_differ_and_the_dial_moves_each_on(density, picture, any_length):
    near, far = (variations(density, picture, 6, how_far, 100, any_length, steps=2).final for how_far in (0.3, 0.6))
    apart = torch.cdist(near.vectors, near.vectors) + torch.eye(6)
    assert apart.min() > 0.05
    # On one great circle: the near one lies halfway from the picture to the far one.
    halfway = angles(density, near, far)
    assert torch.allclose(halfway, torch.full_like(halfway, 0.3), atol=2e-3)
    again = variations(density, picture, 6, 0.3, 100, any_length, steps=2).final
    assert torch.equal(again.vectors, near.vectors)
    assert not torch.allclose(variations(density, picture, 6, 0.3, 100, any_length, steps=2, seed=1).final.vectors, near.vectors)


def test_more_variations_are_added_behind(density, picture, any_length):
    few, many = (variations(density, picture, count, 0.5, 100, any_length, steps=2).final for count in (3, 7))
    assert torch.equal(few.vectors, many.vectors[:3])


def test_one_is_as_far_apart_as_unrelated_samples(density, baseline):
    u = density.frame.whiten(baseline.vectors)[0]
    u = u / u.norm(dim=1, keepdim=True)
    between = (u[:1000] * u[1000:]).sum(dim=1).arccos() / (torch.pi / 2)
    assert abs(float(between.mean()) - 1) < 4 * float(between.std()) / 1000**0.5


def test_several_pictures_are_taken_in_turn(density, baseline, any_length):
    pictures = baseline.select([4, 9])
    made = variations(density, pictures, 5, 0.2, 50, any_length, steps=2)
    own = density.frame.whiten(pictures.vectors[[0, 1, 0, 1, 0]])[0]
    turned = density.frame.whiten(made.final.vectors)[0]
    cosines = torch.nn.functional.cosine_similarity(own, turned)
    assert torch.allclose(cosines.arccos() / (torch.pi / 2), torch.full_like(cosines, 0.2), atol=2e-3)


def test_guardrails_go_before_the_distance(density, baseline, contrast):
    made = variations(density, baseline.select([5]), 24, 0.7, 100, (contrast,), seed=1)
    free = variations(density, baseline.select([5]), 24, 0.7, 100, seed=1)
    assert made.in_band.all() and made.accepted.all()
    lost = ~contrast.accepts(free.final.vectors)
    assert lost.any(), "without it some are outside"
    assert (made.readings["how far"][-1, lost] - 0.7).abs().min() > 1e-3, "these had to turn further"


def test_variations_refuse_nonsense(density, picture):
    mixture = copy.copy(density)
    mixture.estimator, mixture.modes = "mixture", Modes.standard(3)
    foreign = Embeddings(picture.vectors, EmbeddingSpace("another", "encoder", 16))
    for make, message in [
        (lambda: variations(density, picture, 0, 0.5, 10), "at least 1 variation"),
        (lambda: variations(density, picture, 1, 2.1, 10), "how far from 0"),
        (lambda: variations(density, picture, 1, float("nan"), 10), "how far from 0"),
        (lambda: variations(density, foreign, 1, 0.5, 10), "different embedding spaces"),
        (lambda: variations(mixture, picture, 1, 0.5, 10), "estimator ppca"),
        (lambda: variations(density, picture, 1, 0.5, 1), "1 in"),
    ]:
        with pytest.raises(RarityError, match=message):
            make()
