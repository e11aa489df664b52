"""ComfyUI's own models to be steered: ordinary pictures, and gradients through sampling, VAE and vision encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import comfy.model_management
import comfy.samplers
import torch
from torch import Tensor

from ...density.base.errors import RarityError
from ...density.base.tensors import ordinary
from ..eyes.preprocessing import preprocess
from ..runtime.memory import Placement, in_pieces
from .clip_vision_eye import ClipVisionEncoder, one_vector_each
from .gradients.gradients_pass import gradients_pass
from .gradients.recomputed import frozen, own, own_tensors, recomputed
from .misfit import explained
from .model_baseline import ModelPictures
from .sampling_plan import guider_of, sigmas_of


class NativePictures:
    """The embeddings of what a MODEL draws for a condition plus an offset.

    Picture i is what KSampler draws in a batch of one with the seed `drawing.seed` + i. Without gradients a picture is drawn,
    decoded and encoded as usual. With gradients each step, the decoding and the encoding are computed again in the backward
    pass, one at a time, so that memory holds the inner tensors of only one of them. The models are not changed.

    Parameters
    ----------
    drawing : how pictures are drawn, with the unchanged CONDITIONING.
    eye : encodes pictures, such as `clip_vision_eye.eye_of` gives.
    condition : what is moved, a `Condition` or a `Word`. Its `moved(change [k])` gives the CONDITIONING, differentiable.
    basis : [k, m], the direction of each of an offset's m numbers; or [k], their units.
    placement : is asked to make room when memory is short.
    """

    def __init__(self, drawing: ModelPictures, eye, condition, basis: Tensor, placement: Placement | None = None):
        self.drawing, self.eye, self.condition = drawing, eye, condition
        self.basis, self.placement = ordinary(basis, torch.float32), placement or Placement()
        self.space, self.size = eye.space, basis.shape[-1]

    def require_gradients(self) -> None:
        """Raise a RarityError unless gradients can pass this sampler, model and encoder."""
        if self.drawing.sampler_label != "euler":
            raise RarityError(
                f"Gradients pass the sampler euler, got {self.drawing.sampler_label}. Choose it, or the engine evolution."
            )
        if not isinstance(self.eye, ClipVisionEncoder):
            raise RarityError("Gradients pass an eye of Load CLIP Vision only. Connect one to eye, or choose the engine evolution.")
        told = {key for _, options in (*self.drawing.positive, *self.drawing.negative) for key in options}
        if "control" in told:
            raise RarityError("Gradients cannot pass a ControlNet. Choose the engine evolution, or add the hints behind this node.")
        if "hooks" in told:  # the backward pass would not find their weights any more
            raise RarityError(
                "Gradients cannot pass hooks, such as a LoRA for some of the steps. Choose the engine evolution, or set the hooks "
                "behind this node."
            )

    def load(self) -> None:
        """Bring every model that gradients pass to its device, as far as there is room."""
        patchers = [self.drawing.model, self.drawing.vae.patcher, self.eye.clip_vision.patcher]
        with torch.inference_mode():
            comfy.model_management.load_models_gpu(patchers)

    def change(self, offset: Tensor) -> Tensor:
        """The change [k] of the condition by an offset."""
        return self.basis * offset if self.basis.dim() == 1 else self.basis @ offset

    def moved(self, offset: Tensor) -> list:
        """The CONDITIONING under an offset."""
        return self.condition.moved(self.change(offset))

    def embed(self, offset: Tensor, rows: range) -> Tensor:
        """The embeddings [n, d] of the pictures `rows`; differentiable in the offset while gradients are on."""
        if torch.is_grad_enabled():
            seen = self._see(self._decode(self._sample(offset, rows)))
            if offset.requires_grad and not seen.requires_grad:
                raise RarityError(
                    "What is steered has no part in these pictures: no gradient of theirs reaches it. A range of timesteps or "
                    "an area may leave it out of every step: widen it, or take more steps."
                )
            return seen
        shown = self.pictures(offset, rows)
        nobody = torch.zeros(len(shown), dtype=torch.int64)  # these embeddings are never identified by their keys
        return self.eye.encode_images(shown, batch_size=len(shown), keys=nobody).vectors

    def pictures(self, offset: Tensor, rows: range) -> Tensor:
        """The pictures `rows`, [n, H, W, 3], 0 to 1, on the CPU."""
        with torch.inference_mode():
            drawing = replace(self.drawing, positive=self.moved(offset))
            size = 1 if drawing.one_by_one else len(rows)
            pieces = in_pieces(rows, size, lambda piece: drawing.draw(piece, _cancel), self.placement)
            return torch.cat([shown for _, shown in pieces])

    def _sample(self, offset: Tensor, rows: range) -> Tensor:
        """Latents of the pictures by ComfyUI's own guider, so that masks, areas and hints work as usual."""
        drawing, model = self.drawing, self.drawing.model.clone()
        shape, seeds = drawing.latent_shape, [(drawing.seed + row) % 2**64 for row in rows]
        noise = torch.cat([torch.randn(1, *shape, generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds])
        load = loading(model, model.memory_required([2 * len(noise), *shape]))
        with torch.inference_mode():
            load()
        apply = frozen(model.model, model.model.apply_model, load)
        model.set_model_unet_function_wrapper(_instead_of(apply, model.model_options.get("model_function_wrapper")))
        guider = guider_of(drawing, model, self.moved(offset))
        guider.original_conds = own(guider.original_conds)
        told = explained(drawing.model, positive=drawing.positive, negative=drawing.negative)
        with told, own_tensors(model.get_model_object("latent_format")):
            return guider.sample(
                noise, torch.zeros_like(noise), Euler(), sigmas_of(drawing, model).clone(), disable_pbar=True, seed=drawing.seed
            )

    def _decode(self, latents: Tensor) -> Tensor:
        """Pictures [n, H, W, 3] as `VAE.decode` makes them, differentiable."""
        vae = self.drawing.vae
        load = loading(vae.patcher, vae.memory_used_decode(latents.shape, vae.vae_dtype))
        decode = frozen(vae.first_stage_model, vae.first_stage_model.decode, load)
        latents = latents.to(vae.device, vae.vae_dtype)
        shown = recomputed(lambda z: vae.process_output(decode(z).float()), latents, within=gradients_pass).movedim(1, -1)
        return shown.reshape(-1, *shown.shape[-3:])  # the one frame of a video is a picture

    def _see(self, shown: Tensor) -> Tensor:
        """Embeddings as `ClipVisionModel.encode_image` makes them, without its rounding of pixels; differentiable."""
        eye = self.eye.clip_vision
        encode = frozen(eye.model, eye.model.forward, loading(eye.patcher))
        framed = self.eye.frame(shown)
        pixels = preprocess(framed.to(eye.load_device), self.eye.preparation(*framed.shape[1:3]))

        def see(x: Tensor) -> Tensor:
            return one_vector_each(encode(pixel_values=x, intermediate_output=-2)[2])

        return recomputed(see, pixels, within=gradients_pass)


def loading(patcher, memory: float = 0) -> Callable[[], None]:
    """A function that loads a model as ComfyUI does, with `memory` bytes of room beside its weights."""
    return lambda: comfy.model_management.load_models_gpu([patcher], memory_required=memory)


def _instead_of(apply: Callable, other: Callable | None) -> Callable:
    """A wrapper that ComfyUI calls in place of the model's `apply`, with the same results.

    other : a wrapper that was in this place before; it is called in turn.
    """

    def call(_, given: dict) -> Tensor:
        told = own(given["c"])
        names = [name for name, value in told.items() if isinstance(value, Tensor) and value.requires_grad]

        def step(x: Tensor, time: Tensor, *moving: Tensor) -> Tensor:
            _cancel()  # the way back calls the model as often again
            now = told | dict(zip(names, moving, strict=True))
            return other(apply, given | {"input": x, "timestep": time, "c": now}) if other else apply(x, time, **now)

        return recomputed(step, given["input"], given["timestep"], *(told[name] for name in names), within=gradients_pass)

    return call


class Euler(comfy.samplers.Sampler):
    """ComfyUI's euler as differentiable arithmetic:  x <- x + (x - denoised) / sigma (next sigma - sigma)."""

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False):
        scaling = model_wrap.inner_model.model_sampling
        x = scaling.noise_scaling(sigmas[0], noise, latent_image, self.max_denoise(model_wrap, sigmas))
        for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
            denoised = model_wrap(x, sigma * x.new_ones(len(x)), **extra_args)
            x = x + (x - denoised) / sigma * (following - sigma)
        return scaling.inverse_noise_scaling(sigmas[-1], x)


def _cancel(*_) -> None:
    comfy.model_management.throw_exception_if_processing_interrupted()
