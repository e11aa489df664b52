"""The steps from noise to a picture are those of diffusers' DDPMScheduler."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from rarity.generators.kandinsky.picture_steps import picture_steps, step_back

KANDINSKY = dict(beta_start=0.00085, beta_end=0.012, clip_sample_range=2.0, variance_type="learned_range")


def made(count, kind=DDPMScheduler, **options):
    scheduler = kind.from_config({**KANDINSKY, **options})
    scheduler.set_timesteps(count)
    return scheduler


OPTIONS = [{}, dict(clip_sample=False), dict(timestep_spacing="trailing"), dict(steps_offset=1)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("count", [1, 7, 50, 999])
def test_every_step_equals_diffusers(count, options):
    scheduler = made(count, **options)
    steps = picture_steps(scheduler)
    draw = torch.Generator().manual_seed(3)
    for i in {0, 1, count // 2, count - 2, count - 1} & set(range(count)):
        x, predicted, share = torch.randn(3, 2, 4, 6, 6, generator=draw)
        streams = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
        expected = scheduler.step(torch.cat([predicted, share], dim=1), steps.times[i], x, generator=streams).prev_sample
        streams = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
        noise = torch.cat([torch.randn(1, 4, 6, 6, generator=one) for one in streams]) * (steps.times[i] > 0)
        got = step_back(x, predicted, share, noise, steps.factors[i], steps.limit)
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [
    dict(kind=DDIMScheduler), dict(variance_type="fixed_small"), dict(prediction_type="v_prediction"), dict(thresholding=True),
], ids=str)
def test_other_schedulers_step_themselves(options):
    assert picture_steps(made(3, **options)) is None
