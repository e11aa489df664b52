"""The interest curve: every reading has its place, pictures stand in order, nothing is cut off, clear errors."""

import pytest
import torch
from rarity.density import Direction, RarityError, Trajectory, choose_starts, interest_curve, optimize
from rarity.density.drawing.figure import ACCENT, PAGE, rgb
from rarity.density.drawing.interest_curve import _names, _title


@pytest.fixture(scope="module")
def trajectory(density, baseline, contrast):
    wish = (Direction.component(density, 1, 1.0),)
    return optimize(density, choose_starts(baseline, density, 5), 1000, (contrast, contrast), directions=wish, steps=25)


def colour(count):
    """Pictures of one colour each, none of which the figure has otherwise."""
    shade = torch.linspace(0.1, 0.9, count)
    return torch.stack([shade, torch.zeros(count), 1 - shade], dim=1).view(count, 1, 1, 3).expand(-1, 9, 12, 3).clone()


def near(image, shade):
    return (image[0] - shade).abs().amax(-1) < 0.01


def assert_whole(image, pixels=4):
    assert image.dtype == torch.float32 and image.shape[0] == 1 and image.shape[3] == 3
    assert image.min() >= 0 and image.max() <= 1 and near(image, torch.tensor(rgb(ACCENT))).any()
    for edge in (image[0, :pixels], image[0, -pixels:], image[0, :, :pixels], image[0, :, -pixels:]):
        assert torch.allclose(edge, torch.tensor(rgb(PAGE)).expand(edge.shape), atol=1e-3)


def test_every_reading_has_a_title_and_the_rarity_is_first(trajectory):
    names = _names(trajectory)
    assert names[:2] == ["bits", "inside"] and set(names) == set(trajectory.readings) - {"t2"}
    assert _title("contrast 2", trajectory) == "Contrast: ahead of the nearest alternative (2)"
    assert _title("component 1", trajectory).startswith("Direction “component 1”")
    assert trajectory.allowed["contrast"] == trajectory.allowed["contrast 2"] and trajectory.allowed["residual"][0] == 0


@pytest.mark.parametrize("width", [600, 1200, 2000])
def test_the_curve_fits_every_width(trajectory, width):
    assert_whole(interest_curve(trajectory, width=width))
    assert_whole(interest_curve(trajectory, colour(4), width=width))


def test_pictures_stand_in_their_order_and_are_those_of_the_sample(trajectory):
    shades = colour(20)
    image = interest_curve(trajectory, shades, sample=2)
    assert torch.equal(image, interest_curve(trajectory, shades[8:12], sample=2))
    shown = [near(image, shade[0, 0]).nonzero() for shade in shades]
    assert [len(found) > 500 for found in shown] == [8 <= i < 12 for i in range(20)]
    middles = [float(found[:, 1].float().mean()) for found in shown[8:12]]
    assert middles == sorted(middles)
    assert not torch.equal(image, interest_curve(trajectory, shades[8:12], sample=1)), "the accent follows the sample"


def test_many_samples_one_sample_many_checkpoints_and_few_readings(density, baseline):
    assert_whole(interest_curve(optimize(density, choose_starts(baseline, density, 70), 100, steps=2, keep_every=1)))
    long = optimize(density, choose_starts(baseline, density, 1), 100, steps=30, keep_every=1)
    assert_whole(interest_curve(long, colour(31)))
    bare = Trajectory(long.steps, long.embeddings, {"bits": long.readings["bits"]}, 5.0, long.accepted, False)
    assert_whole(interest_curve(bare))
    assert interest_curve(bare).shape[1] < interest_curve(long).shape[1]
    still = Trajectory((0,), long.embeddings[:1], {"bits": long.readings["bits"][:1]}, 5.0, long.accepted, False)
    assert_whole(interest_curve(still, colour(1)))


def test_what_does_not_fit_is_refused(trajectory):
    for arguments, message in [
        ((trajectory, colour(5)), "the 4 checkpoints of one sample"),
        ((trajectory, colour(4).movedim(-1, 1)), "H, W, 3"),
        ((trajectory, None, 5), "sample from 0 to 4"),
        ((trajectory, None, 0, 300), "at least 600"),
    ]:
        with pytest.raises(RarityError, match=message):
            interest_curve(*arguments[:3], **({"width": arguments[3]} if len(arguments) > 3 else {}))
