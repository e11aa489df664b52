"""ComfyUI's own models as something to steer: few steps of Euler, the VAE and the vision encoder, with gradients or without."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management
import comfy.sample
import comfy.samplers
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..density.errors import RarityError
from ..density.tensors import ordinary, plain
from .conditions import Condition
from .memory import Placement, in_pieces
from .native import clip_vision_space


class NativePictures:
    """What a MODEL draws for a CONDITIONING that an offset is added to, as a CLIP_VISION sees it.

    Picture i is what a KSampler of batch size 1 with the seed `seed + i` and the sampler euler draws. Without gradients it is
    ComfyUI's own sampling, decoding and encoding. With gradients each step, the decoding and the encoding are run once more
    on the way back, one at a time, so that memory holds the inside of one of them only; the models' weights are copied once,
    because ComfyUI loads them in a mode that gradients may not pass. Nothing of the models is changed.

    Parameters
    ----------
    model, vae, clip_vision : as ComfyUI loads them.   condition : what is steered.   negative : CONDITIONING.
    basis : [k, m], what an offset's numbers mean, or [k], their units.   seed : of picture 0.
    steps, cfg, scheduler : of the sampling.   width, height : of the pictures.
    placement : is asked to make room when memory is short. Cancelled within a step.
    """

    def __init__(self, model, condition: Condition, negative, vae, clip_vision, basis: Tensor, *, seed: int = 0, steps: int = 4,
                 cfg: float = 4.0, scheduler: str = "normal", width: int = 256, height: int = 256,
                 placement: Placement | None = None):
        self.model, self.condition, self.negative, self.vae, self.clip_vision = model, condition, negative, vae, clip_vision
        self.basis = ordinary(basis, torch.float32)
        self.seed, self.steps, self.cfg, self.scheduler = seed, steps, cfg, scheduler
        self.shape = _latent_shape(model, vae, width, height)
        self.placement = placement or Placement()
        self.space, self.size = clip_vision_space(clip_vision), basis.shape[-1]
        self._copies = {}

    def moved(self, offset: Tensor) -> list:
        """The CONDITIONING under an offset."""
        return self.condition.moved(self.basis * offset if self.basis.dim() == 1 else self.basis @ offset)

    def result(self, offset: Tensor) -> list:
        """The CONDITIONING under an offset, to hand on."""
        with plain():
            ((tokens, options),) = self.moved(offset)
            return [[tokens.clone(), options]]

    def embed(self, offset: Tensor, rows: range) -> Tensor:
        """The embeddings [n, d] of the pictures `rows`; differentiable in the offset while gradients are on."""
        if torch.is_grad_enabled():
            return self._see(self._decode(self._sample(offset, rows, Differentiable(self._frozen))))
        with torch.inference_mode():
            seen = [self.clip_vision.encode_image(shown).image_embeds for shown in self._draw(offset, rows)]
            return torch.cat(seen).float().cpu()

    def pictures(self, offset: Tensor, rows: range) -> Tensor:
        """The pictures themselves, [n, H, W, 3], 0 to 1, on the CPU."""
        with torch.inference_mode():
            return torch.cat(list(self._draw(offset, rows)))

    def _draw(self, offset: Tensor, rows: range):
        def draw(piece: range) -> Tensor:
            return self.vae.decode(self._sample(offset, piece, None))[..., :3].cpu()

        for _, shown in in_pieces(rows, len(rows), draw, self.placement):
            yield shown

    def _sample(self, offset: Tensor, rows: range, through: Differentiable | None) -> Tensor:
        """Latents of the pictures, by ComfyUI's guider, so that masks, areas and hints mean what they always do."""
        model = self.model.clone()
        if through:
            model.set_model_unet_function_wrapper(through.around(model.model, model.model_options.get("model_function_wrapper")))
        latent = comfy.sample.fix_empty_latent_channels(model, torch.zeros(len(rows), *self.shape))
        noise = torch.cat([_noise(latent[:1], self.seed + row) for row in rows])
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(_own(self.moved(offset)), _own(self.negative))
        guider.set_cfg(self.cfg)
        ready = comfy.samplers.KSampler(model, steps=self.steps, device=model.load_device, sampler="euler",
                                        scheduler=self.scheduler, denoise=1.0, model_options=model.model_options)
        return guider.sample(noise, latent, Euler(), ready.sigmas.clone(), disable_pbar=True, seed=self.seed + rows.start)

    def _decode(self, latents: Tensor) -> Tensor:
        """Pictures [n, H, W, 3] as `VAE.decode` makes them, differentiable."""
        vae = self.vae
        comfy.model_management.load_models_gpu([vae.patcher])
        decode = self._frozen(vae.first_stage_model, vae.first_stage_model.decode)
        shown = Recomputed.apply(lambda z: vae.process_output(decode(z).float()), latents.to(vae.device, vae.vae_dtype))
        return shown.movedim(1, -1)[..., :3]

    def _see(self, shown: Tensor) -> Tensor:
        """Embeddings as `ClipVisionModel.encode_image` makes them, but for its rounding of pixels; differentiable."""
        eye = self.clip_vision
        comfy.model_management.load_models_gpu([eye.patcher])
        encode = self._frozen(eye.model, eye.model.forward)
        pixels = smooth_preprocess(shown.to(eye.load_device), eye.image_size, eye.image_mean, eye.image_std)
        return Recomputed.apply(lambda x: encode(pixel_values=x, intermediate_output=-2)[2].float(), pixels)

    def _frozen(self, module: torch.nn.Module, function: Callable) -> Callable:
        """A function of a module as it is, on copies of its weights that gradients may pass; the copies are made once."""
        if module not in self._copies:
            tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            self._copies[module] = {f"module.{name}": _passable(tensor) for name, tensor in tensors.items()}
        copies, call = self._copies[module], _Call(module, function)
        return lambda *given, **named: torch.func.functional_call(call, copies, given, named)


class Differentiable:
    """Takes the place of a model's call inside ComfyUI's sampling: the same numbers, with gradients."""

    def __init__(self, frozen):
        self.frozen = frozen

    def around(self, base: torch.nn.Module, other: Callable | None) -> Callable:
        """What ComfyUI calls instead of the model, on top of what somebody else has put there already."""

        def call(_, given: dict) -> Tensor:
            told = _own(given["c"])
            names = [name for name, value in told.items() if isinstance(value, Tensor) and value.requires_grad]
            apply = self.frozen(base, base.apply_model)

            def step(x: Tensor, time: Tensor, *moving: Tensor) -> Tensor:
                now = told | dict(zip(names, moving, strict=True))
                return other(apply, given | {"input": x, "timestep": time, "c": now}) if other else apply(x, time, **now)

            moving = [told[name] for name in names]
            return Recomputed.apply(step, given["input"], given["timestep"], *moving)

        return call


class Recomputed(torch.autograd.Function):
    """Calls a function of tensors without keeping anything of its inside; on the way back it is called once more.

    Chen et al. (2016), arXiv 1604.06174. Inside, tensors may be changed in place, as ComfyUI's layers do.
    """

    @staticmethod
    def forward(ctx, function, *tensors):
        ctx.function = function
        ctx.save_for_backward(*tensors)
        return function(*tensors)

    @staticmethod
    def backward(ctx, slope):
        with torch.enable_grad(), torch.autograd.graph.allow_mutation_on_saved_tensors():
            wanted = [need for need in ctx.needs_input_grad[1:]]
            leaves = [x.detach().clone().requires_grad_(need) for x, need in zip(ctx.saved_tensors, wanted, strict=True)]
            # A leaf may not be changed in place: the function gets copies.
            made = ctx.function(*(leaf.clone() for leaf in leaves))
            moving = [leaf for leaf in leaves if leaf.requires_grad]
            slopes = iter(torch.autograd.grad(made, moving, slope, allow_unused=True))
        return None, *(next(slopes) if need else None for need in wanted)


class Euler(comfy.samplers.Sampler):
    """ComfyUI's euler, as plain arithmetic that gradients pass:  x <- x + (x - denoised) / sigma (next sigma - sigma)."""

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False):
        scaling = model_wrap.inner_model.model_sampling
        x = scaling.noise_scaling(sigmas[0], noise, latent_image, self.max_denoise(model_wrap, sigmas))
        for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
            comfy.model_management.throw_exception_if_processing_interrupted()
            denoised = model_wrap(x, sigma * x.new_ones(len(x)), **extra_args)
            x = x + (x - denoised) / sigma * (following - sigma)
        return scaling.inverse_noise_scaling(sigmas[-1], x)


def smooth_preprocess(shown: Tensor, size: int, mean, std) -> Tensor:
    """Pictures [n, H, W, 3] as ComfyUI's clip_preprocess makes them ready, [n, 3, size, size], but for rounding to 8 bits."""
    x = shown.movedim(-1, 1).float()
    if tuple(x.shape[2:]) != (size, size):
        scale = size / min(x.shape[2:])
        x = interpolate(x, size=[round(scale * side) for side in x.shape[2:]], mode="bicubic", antialias=True)
        top, left = ((side - size) // 2 for side in x.shape[2:])
        x = x[:, :, top:top + size, left:left + size]
    mean, std = (torch.tensor(values, device=x.device)[:, None, None] for values in (mean, std))
    return (x.clamp(0, 1) - mean) / std


class _Call(torch.nn.Module):
    """A function of a module as a forward, as `functional_call` wants it."""

    def __init__(self, module: torch.nn.Module, function: Callable):
        super().__init__()
        self.module, self._function = module, function

    def forward(self, *given, **named):
        return self._function(*given, **named)


def _passable(tensor: Tensor) -> Tensor:
    """The tensor as gradients may pass it: itself, or a copy where it was made under inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def _own(told):
    """What a condition says, with every tensor made under inference mode copied; lists and dictionaries are new ones."""
    if isinstance(told, Tensor):
        return told.clone() if told.is_inference() else told
    if isinstance(told, dict):
        return {key: _own(value) for key, value in told.items()}
    return [_own(value) for value in told] if isinstance(told, list) else told


def _noise(latent: Tensor, seed: int) -> Tensor:
    """The noise of ComfyUI's KSampler for a seed, without touching the global random state."""
    return torch.randn(latent.shape, generator=torch.Generator("cpu").manual_seed(seed % 2**64))


def _latent_shape(model, vae, width: int, height: int) -> tuple[int, int, int]:
    kind = model.get_model_object("latent_format")
    factor = vae.spacial_compression_decode()
    if kind.latent_dimensions != 2 or not isinstance(factor, int):
        raise RarityError("This model makes no still pictures in latents of two dimensions. Steer an image model, such as SD 1.5 or SDXL.")
    if min(width, height) < 8 * factor or width % factor or height % factor:
        raise RarityError(f"Width and height must be multiples of {factor} and at least {8 * factor}, got {width} x {height}.")
    return kind.latent_channels, height // factor, width // factor
