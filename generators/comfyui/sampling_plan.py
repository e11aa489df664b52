"""How latents are sampled: by KSampler's settings, or by what SamplerCustomAdvanced takes, a GUIDER, a SAMPLER and SIGMAS."""

from __future__ import annotations

import copy
import inspect

import comfy.samplers
import torch
from torch import Tensor

from ...density.base.errors import RarityError

ONE_BY_ONE = ("dpm_adaptive",)  # samplers that choose their steps for a whole batch
BROWNIAN = "dpmpp_"  # of the samplers with _sde in their names, these ask for overlapping times of one Brownian motion


def sampler_label(sampler) -> str:
    """The name of a SAMPLER, as in KSampler's menu if it is there, and its options."""
    function = getattr(sampler, "sampler_function", None)
    name = getattr(function, "__name__", type(sampler).__name__).removeprefix("sample_").removesuffix("_function")
    return name + _in_brackets(getattr(sampler, "extra_options", {}))


def guider_label(guider) -> str:
    """The kind of a GUIDER and its numbers, such as cfg."""
    return type(guider).__name__ + _in_brackets(vars(guider))


def sigmas_label(sigmas: Tensor) -> str:
    return "sigmas " + " ".join(f"{sigma:.4g}" for sigma in sigmas.tolist())


def _in_brackets(told: dict) -> str:
    plain = [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in sorted(told.items())
             if isinstance(value, (bool, int, float, str))]
    return f" ({', '.join(plain)})" if plain else ""


def one_by_one(label: str, sampler) -> bool:
    """Whether pictures are drawn one by one: the sampler looks at a whole batch, or is of another pack.

    Nobody knows where the samplers of other packs take their noise from; one picture at a time, it is that of
    SamplerCustomAdvanced.
    """
    function = getattr(sampler, "sampler_function", None)
    foreign = sampler is not None and not getattr(function, "__module__", "").startswith("comfy.")
    return foreign or label.partition(" ")[0] in ONE_BY_ONE


def check_sampling(guider, sampler, sigmas) -> None:
    """Raise a RarityError unless pictures can be drawn with these. None stands for what is not connected."""
    if guider is not None and "positive" not in getattr(guider, "original_conds", {}):
        raise RarityError(
            f"The GUIDER ({type(guider).__name__}) has no positive prompt, for which this node's positive could stand. Connect one "
            "such as BasicGuider or CFGGuider."
        )
    if sampler is not None and not callable(getattr(sampler, "sample", None)):
        raise RarityError(f"The SAMPLER must be of a node such as KSamplerSelect, got {type(sampler).__name__}.")
    if sigmas is not None and (sigmas.dim() != 1 or len(sigmas) < 2 or not torch.isfinite(sigmas).all()):
        raise RarityError(
            f"SIGMAS must be at least two finite levels of noise, which are one step, got shape {tuple(sigmas.shape)}. A scheduler gives "
            "fewer if its denoise is 0."
        )


def guider_of(drawing, model, positive: list):
    """A guider for one sampling, which draws with `model` and `positive`. The connected one is not changed."""
    if drawing.guider is None:
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, drawing.negative)
        guider.set_cfg(drawing.cfg)
        return guider
    guider = copy.copy(drawing.guider)
    guider.model_patcher, guider.model_options = model, model.model_options
    guider.original_conds = dict(guider.original_conds)
    guider.inner_set_conds({"positive": positive})
    return guider


def sigmas_of(drawing, model) -> Tensor:
    """The levels of noise, as KSampler makes them unless SIGMAS are connected."""
    if drawing.sigmas is not None:
        return drawing.sigmas
    name = drawing.sampler_name if drawing.sampler is None else sampler_label(drawing.sampler)
    # KSampler leaves out a level for some samplers.
    return comfy.samplers.KSampler(model, drawing.steps, model.load_device, name, drawing.scheduler, 1.0, model.model_options).sigmas


def sampler_of(drawing, noise: Tensor, sigmas: Tensor, seeds: list[int]):
    """A sampler for one sampling, in whose steps each row of noise [n, ...] gets the noise of a batch of its own."""
    sampler = copy.copy(drawing.sampler) if drawing.sampler is not None else comfy.samplers.sampler_object(drawing.sampler_name)
    if not drawing.one_by_one and "noise_sampler" in inspect.signature(sampler.sampler_function).parameters:
        device = drawing.model.load_device
        name = drawing.sampler_name if drawing.sampler is None else sampler_label(sampler).partition(" ")[0]
        own = _noise_of_each(name, noise.to(device), sigmas.to(device), seeds)
        sampler.extra_options = {**sampler.extra_options, "noise_sampler": own}
    return sampler


def _noise_of_each(sampler_name: str, x: Tensor, sigmas: Tensor, seeds: list[int]):
    """A noise function for samplers that add noise in their steps: each row gets the noise of a batch of its own."""
    samplers = comfy.samplers.k_diffusion_sampling
    if sampler_name.startswith(BROWNIAN) and "_sde" in sampler_name:
        low, high = sigmas[sigmas > 0].min(), sigmas.max()
        on_cpu = not sampler_name.endswith("_gpu")
        rows = [samplers.BrownianTreeNoiseSampler(row[None], low, high, seed=s, cpu=on_cpu) for row, s in zip(x, seeds, strict=True)]
    else:
        rows = [samplers.default_noise_sampler(row[None], seed=s) for row, s in zip(x, seeds, strict=True)]
    return lambda sigma, sigma_next: torch.cat([row(sigma, sigma_next) for row in rows])
