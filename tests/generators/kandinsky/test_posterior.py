"""Steps back in time, against diffusers' scheduler."""

import pytest
import torch
from diffusers import UnCLIPScheduler
from rarity.density.base.errors import RarityError
from rarity.generators.kandinsky.posterior import steps_back
from rarity.generators.runtime.noise import normals, normals_beside, streams


def make_scheduler(**options):
    return UnCLIPScheduler(**{"variance_type": "fixed_small_log", "prediction_type": "sample", **options})


@pytest.mark.parametrize("count", [2, 7, 25, 1000])
@pytest.mark.parametrize("options", [dict(clip_sample_range=1.5), dict(clip_sample=False)], ids=str)
def test_every_step_equals_diffusers(count, options):
    scheduler = make_scheduler(**options)
    before = dict(vars(scheduler))
    steps = steps_back(scheduler, count)
    assert {name: value for name, value in vars(scheduler).items() if value is not before[name]} == {}
    scheduler.set_timesteps(count)
    assert [step.time for step in steps] == scheduler.timesteps.tolist()
    draw = torch.Generator().manual_seed(0)
    x, x0 = torch.randn(2, 4, 32, generator=draw)
    for step, t, s in zip(steps, scheduler.timesteps, [*scheduler.timesteps[1:], None], strict=True):
        one = torch.Generator().manual_seed(int(t))
        noise = torch.randn(4, 32, generator=torch.Generator().manual_seed(int(t)))
        expected = scheduler.step(x0, t, x, prev_timestep=s, generator=one).prev_sample
        torch.testing.assert_close(step.back(x, x0, noise), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [dict(prediction_type="epsilon"), dict(variance_type="learned_range")], ids=str)
def test_other_schedulers_are_refused(options):
    (name, value), = options.items()
    with pytest.raises(RarityError, match=f"{name} = '{value}'"):
        steps_back(make_scheduler(**options), 5)


@pytest.mark.parametrize("width", [1, 8, 16, 24, 64, 100])
def test_noise_is_what_each_stream_gives_row_by_row(width):
    drawn = normals(streams(4, 0, 3, "prior"), width)
    rows = torch.stack([next(drawn) for _ in range(40)])
    one_by_one = streams(4, 0, 3, "prior")
    expected = torch.stack([
        torch.cat([torch.randn(1, width, generator=one) for one in one_by_one]) for _ in range(40)
    ])
    assert torch.equal(rows, expected)


@pytest.mark.parametrize("rows, width, count", [(1, 16, 1), (3, 24, 6), (5, 32, 26), (2, 64, 4)])
def test_noise_that_is_drawn_beside_a_card_is_the_same(rows, width, count):
    expected, got = normals(streams(4, 0, rows, "prior"), width), normals_beside(streams(4, 0, rows, "prior"), width, count)
    found = list(got)
    assert len(found) == count and all(torch.equal(one, next(expected)) for one in found)
