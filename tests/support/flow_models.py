"""Small models of the newer kinds with random weights, in this process: gradients, engines, what they say; as JSON.

    python tests/support/flow_models.py CLIP_VISION --comfyui FOLDER
"""

import argparse
import json
import sys
import traceback
from pathlib import Path

import flow_files
import torch
from conditioning import gradient_and_difference, seen_both_ways
from in_process import start_comfyui
from small_models import CASCADE
from tiny_eyes import tiny_eyes

WIDTH, WORDS, POOLED, LLAMA = 16, 5, 8, 12
FLUX = {"image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": POOLED, "context_in_dim": WIDTH, "hidden_size": 32,
        "mlp_ratio": 2.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [4, 6, 6], "theta": 10000, "patch_size": 2,
        "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": []}
FLUX2 = FLUX | flow_files.FLUX2 | {"image_model": "flux2", "mlp_ratio": 2.0, "axes_dim": [4, 4, 4, 4]}
CHROMA = FLUX | flow_files.CHROMA | {"image_model": "chroma", "out_dim": 32, "hidden_dim": 32, "n_layers": 1}
LUMINA = {"image_model": "lumina2", "in_channels": 16, "dim": 32, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2,
          "axes_dims": [4, 6, 6], "axes_lens": [64, 64, 64], "cap_feat_dim": WIDTH, "qk_norm": True, "patch_size": 2}
SD3 = {"in_channels": 16, "depth": 1, "patch_size": 2, "adm_in_channels": POOLED, "pos_embed_max_size": 24, "num_patches": 576,
       "input_size": None, "pos_embed_scaling_factor": None, "qkv_bias": True, "qk_norm": None,
       "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": WIDTH, "out_features": 64}}}
QWEN = {"image_model": "qwen_image", "in_channels": 64, "out_channels": 16, "num_layers": 1, "attention_head_dim": 16,
        "num_attention_heads": 2, "joint_attention_dim": WIDTH, "axes_dims_rope": (4, 6, 6)}
WAN = {"image_model": "wan2.1", "model_type": "t2v", "dim": 48, "ffn_dim": 32, "freq_dim": 32, "text_dim": WIDTH, "num_heads": 2,
       "num_layers": 1, "in_dim": 16, "out_dim": 16}
HIDREAM = {"image_model": "hidream", "in_channels": 16, "out_channels": 16, "patch_size": 2, "num_layers": 1, "num_single_layers": 1,
           "attention_head_dim": 16, "num_attention_heads": 2, "caption_channels": [WIDTH, LLAMA], "text_emb_dim": POOLED,
           "num_routed_experts": 2, "num_activated_experts": 1, "axes_dims_rope": (8, 4, 4), "llama_layers": [0, 1]}
PIXART = {"image_model": "pixart_sigma", "hidden_size": 32, "depth": 1, "num_heads": 2, "caption_channels": WIDTH,
          "model_max_length": 20, "micro_condition": False, "input_size": 128, "pe_interpolation": 2}
LTXV = {"image_model": "ltxv", "in_channels": 128, "cross_attention_dim": 32, "attention_head_dim": 16, "num_attention_heads": 2,
        "caption_channels": WIDTH, "num_layers": 1}
KREA2 = {"image_model": "krea2", "features": 32, "channels": 16, "patch": 2, "layers": 1, "heads": 2, "kvheads": 1, "txtlayers": 2,
         "txtdim": WIDTH // 2, "txtheads": 2, "txtkvheads": 2}
STAGE_C = CASCADE["c"] | {"stable_cascade_stage": "c", "c_clip_text": WIDTH, "c_clip_text_pooled": POOLED}
GAINS = {"SD3": 1.0, "HiDream": 1.0, "PixArtSigma": 1.0}  # smaller where the values would grow from layer to layer
APART = {"PixArt": 0.03, "Krea 2": 0.001}  # of differences: Krea 2's norms of small vectors bend more
SETTINGS = {"steps": 2, "cfg": 1.0, "width": 64, "height": 64}
SIZES = {"PixArt": {"width": 320, "height": 320}, "Stable Cascade": {"width": 96, "height": 96}}  # a latent of stage C is 32 pixels wide


def main():
    parser = argparse.ArgumentParser(description="What flow models of random weights do.")
    parser.add_argument("clip_vision", type=Path)
    parser.add_argument("--comfyui", type=Path, required=True)
    arguments = parser.parse_args()
    start_comfyui(arguments.comfyui, small=True)
    import comfy.clip_vision
    import comfy.model_management

    found = {}
    with torch.inference_mode():
        vision = comfy.clip_vision.load(str(arguments.clip_vision))
        for name, (kind, config) in known_kinds().items():
            try:
                found[name] = findings(name, kind, config, vision)
            except Exception:
                found[name] = {"error": traceback.format_exc()}
            found[name]["in training afterwards"] = getattr(comfy.model_management, "in_training", False)
    json.dump(found, sys.stdout)


def known_kinds():
    """By their names: the class that ComfyUI knows a model by, and the sizes of a small one, as far as this ComfyUI has them."""
    import comfy.supported_models as supported
    from comfy.ldm.chroma.model import ChromaParams
    from comfy.ldm.flux.model import FluxParams

    def of(params, config):
        return {"image_model": config["image_model"], **flow_files.known_to(params, config)}

    newer = {"Flux.2": (supported.Flux2, of(FluxParams, FLUX2))} if hasattr(supported, "Flux2") else {}
    newer |= {"Krea 2": (supported.Krea2, KREA2)} if hasattr(supported, "Krea2") else {}
    return newer | {
            "Flux": (supported.Flux, of(FluxParams, FLUX)), "Lumina 2": (supported.Lumina2, LUMINA),
            "Stable Diffusion 3": (supported.SD3, SD3), "HiDream": (supported.HiDream, HIDREAM),
            "Chroma": (supported.Chroma, of(ChromaParams, CHROMA)), "Qwen-Image": (supported.QwenImage, QWEN),
            "Wan": (supported.WAN21_T2V, WAN), "PixArt": (supported.PixArtSigma, PIXART), "LTXV": (supported.LTXV, LTXV),
            "Stable Cascade": (supported.Stable_Cascade_C, STAGE_C)}


def small_model(kind, config):
    """A MODEL of random weights, and a VAE that fits; LTXV has frames of other latents, and none that fits."""
    from comfy.model_patcher import ModelPatcher

    described = kind(config | {"dtype": torch.float32})
    described.set_inference_dtype(torch.float32, None)
    model = filled(described.get_model({}, "", device="cpu"), GAINS.get(kind.__name__, 2.0))
    patcher = ModelPatcher(model.eval(), load_device=torch.device("cpu"), offload_device=torch.device("cpu"))
    return patcher, small_vae(model.latent_format)


def small_vae(latents):
    """A VAE of random weights without kinks: of videos where latents have frames, else of pictures."""
    import comfy.ldm.wan.vae
    import comfy.sd
    from comfy.latent_formats import SC_Prior
    from comfy.ldm.cascade.stage_c_coder import Previewer
    from comfy.ldm.models.autoencoder import AutoencoderKL

    if latents.latent_dimensions == 3:
        return comfy.sd.VAE(sd=dict(filled(comfy.ldm.wan.vae.WanVAE(**flow_files.WAN_VAE)).state_dict()))
    if isinstance(latents, SC_Prior):  # Stable Cascade's stage C
        network = filled(Previewer())
        for norm in network.blocks[2::3]:
            norm.weight.fill_(1.0)
        network.blocks[-1].weight.mul_(0.03)  # no pixel is cut off at black or white
        network.blocks[-1].bias.fill_(0.5)
        vae = comfy.sd.VAE(sd=dict(network.state_dict()))
        filled(vae.first_stage_model.encoder.mapper)  # which is not in this file: ComfyUI leaves there what was in the memory
        return vae
    folded = latents.latent_channels == 128  # Flux.2 folds two by two latents of its VAE into one
    channels = latents.latent_channels // 4 if folded else latents.latent_channels
    sizes = {"double_z": True, "z_channels": channels, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32,
             "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0, "batch_norm_latent": folded}
    config = {"params": {"ddconfig": sizes, "embed_dim": channels}}
    network = filled(AutoencoderKL(**config["params"]))
    network.decoder.conv_out.weight.mul_(0.1)  # no pixel is cut off at black or white
    vae = comfy.sd.VAE(sd=dict(network.state_dict()), config=config)
    vae.latent_channels = latents.latent_channels
    if folded:
        vae.upscale_ratio = vae.downscale_ratio = 16
    return vae


def words_of(name, count=WORDS, seed=3, width=WIDTH):
    """A CONDITIONING as the text encoders of this kind make it: with a mask and padding, a pooled vector, layers of Llama."""
    g = torch.Generator().manual_seed(seed)
    count *= 40 if name == "Flux.2" else 1  # which pads its tokens to 512: a few would hardly be read
    tokens, options = torch.randn(1, count, width, generator=g), {}
    if name in ("Flux", "Stable Diffusion 3", "HiDream", "Chroma", "Stable Cascade"):
        options["pooled_output"] = torch.randn(1, POOLED, generator=g)
    if name in ("Flux", "Flux.2"):
        options["guidance"] = 2.5
    if name == "HiDream":
        options["conditioning_llama3"] = torch.randn(1, 2, count, LLAMA, generator=g)
    if name in ("Lumina 2", "LTXV"):
        options["attention_mask"] = torch.ones(1, count, dtype=torch.long)
    return [[tokens, options]]


def findings(name, kind, config, vision):
    from rarity.generators.comfyui.clip_vision_eye import ClipVisionEncoder
    from rarity.generators.comfyui.model_baseline import ModelPictures
    from rarity.generators.comfyui.model_drawing import NativePictures
    from rarity.generators.comfyui.prompts.condition import Condition

    patcher, vae = small_model(kind, config)
    words, eye = words_of(name), ClipVisionEncoder(vision)

    def weights():
        return [x.clone() for part in (patcher.model, vae.first_stage_model, vision.model) for x in part.state_dict().values()]

    held = weights()
    found = {"errors": errors(name, patcher, words)}
    if name != "LTXV":
        drawing = ModelPictures(patcher, words, words, vae, 0, **SETTINGS | SIZES.get(name, {}))
        pictures = NativePictures(drawing, eye, Condition(words), Condition(words).spread)
        pictures.require_gradients()
        found |= gradient_and_difference(pictures, APART.get(name, 0.01))
    if name == "Qwen-Image":
        found["eyes"] = through_eyes(drawing, words)
    if name not in ("PixArt", "LTXV"):  # PixArt knows no small pictures
        found["steered"] = steered(name, drawing, vision)
    return found | {"unchanged": all(map(torch.equal, held, weights()))}


def through_eyes(drawing, words):
    """Gradients through encoders that are not CLIP's, and whether a wide picture is seen as Encode Images sees it."""
    from rarity.generators.comfyui.clip_vision_eye import ClipVisionEncoder
    from rarity.generators.comfyui.model_drawing import NativePictures
    from rarity.generators.comfyui.prompts.condition import Condition

    found = {}
    for name, (clip_vision, _) in tiny_eyes().items():
        pictures = NativePictures(drawing, ClipVisionEncoder(clip_vision), Condition(words), Condition(words).spread)
        found[name] = gradient_and_difference(pictures, 0.03) | seen_both_ways(pictures)
    return found


def steered(name, drawing, vision):
    """The nodes that draw pictures, with a guider, a sampler and sigmas, and with wordings of other lengths."""
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Guider_Basic
    from rarity.density import Embeddings, GaussianDensity
    from rarity.nodes import RarityBaselineFromModel, RarityMakeRareConditioning, RaritySeedVariety

    words, patcher, vae = drawing.positive, drawing.model, drawing.vae
    others = [*words_of(name, count=9, seed=4), *words_of(name, count=3, seed=5)]
    guider = Guider_Basic(patcher)
    guider.set_conds(others[:1])  # the nodes' own prompt stands for it
    sampler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor([1.0, 0.6, 0.0])
    by_widgets = {"model": patcher, "positive": words, "negative": others[1:], "vae": vae, "seed": 5, "eye": vision, "steps": 2,
                  "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "width": drawing.width, "height": drawing.height}
    given = by_widgets | {"sampler_name": "dpmpp_2m", "guider": guider, "sampler": sampler, "sigmas": sigmas}
    embeddings, report, _ = RarityBaselineFromModel.execute(count=4, batch=4, **given).args
    g = torch.Generator().manual_seed(0)  # more of them, in place of fifty drawn ones
    like_them = embeddings.vectors.mean(dim=0) + embeddings.vectors.std() * torch.randn(52, embeddings.space.width, generator=g)
    density = GaussianDensity.fit(Embeddings(like_them, embeddings.space), components=3)
    _, seeds, strength, *_ = RaritySeedVariety.execute(variety=2.0, count=2, pictures=3, until=1.0, **given).args
    found = {"baseline": report, "seeds": seeds, "strength": strength,
             "unsuited": RarityBaselineFromModel.execute(count=2, batch=2, **by_widgets).args[1]}

    def rare(engine):
        told = {"density": density, "one_in": 4, "engine": engine, "pictures": 1, "iterations": 1, "variations": others, **given}
        return RarityMakeRareConditioning.execute(**told).args

    for engine in ("gradient", "evolution"):
        conditioning, _, said, pictures = rare(engine)
        cancelled = _cancelled(patcher, lambda: rare(engine))
        ((after, _),) = rare(engine)[0]
        ((tokens, options),) = conditioning
        there = Guider_Basic(patcher)
        there.set_conds(conditioning)
        noise = torch.randn(1, *drawing.latent_shape, generator=torch.Generator().manual_seed(5))
        drawn = vae.decode(there.sample(noise, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True, seed=5))
        found[engine] = {
            "moved": float((tokens - words[0][0]).abs().max()), "twice": float((tokens - after).abs().max()), "cancelled": cancelled,
            "kept": {key: x for key, x in options.items() if not isinstance(x, torch.Tensor)}, "report": said,
            "as SamplerCustomAdvanced": float((drawn.reshape(pictures.shape).float() - pictures).abs().max()),
        }
    return found


def _cancelled(patcher, work):
    """Whether a cancel during the third call of the model ends the work, with no further call."""
    import comfy.model_management

    calls = []

    def cancel_at_the_third(*_):
        calls.append(None)
        if len(calls) == 3:
            comfy.model_management.interrupt_current_processing()

    listening = patcher.model.diffusion_model.register_forward_pre_hook(cancel_at_the_third)
    try:
        work()
    except comfy.model_management.InterruptProcessingException:
        return len(calls) == 3
    finally:
        listening.remove()
        comfy.model_management.interrupt_current_processing(False)
    return False


def errors(name, patcher, words):
    """What is said when a CONDITIONING of another model is drawn, or one that lacks what this model reads."""
    from comfy.samplers import KSampler
    from rarity.density.base.errors import RarityError
    from rarity.generators.comfyui.misfit import explained

    latents = patcher.get_model_object("latent_format")
    noise = torch.zeros(1, latents.latent_channels, *(1,) * (latents.latent_dimensions - 2), 40, 40)
    plan = KSampler(patcher, 1, patcher.load_device, "euler", "simple", 1.0, patcher.model_options)

    def said(positive):
        try:
            with explained(patcher, positive=positive, negative=words):
                plan.sample(noise, positive, words, 1.0, latent_image=noise, disable_pbar=True, seed=0)
        except RarityError as error:
            return str(error)

    ((tokens, options),) = words
    without = {key: said([[tokens, {name: x for name, x in options.items() if name != key}]]) for key in options if key != "guidance"}
    return without | {"width": said(words_of(name, width=24)), "none": said(words)}


def filled(network, gain=1.0):
    """The network with random weights that keep the size of the values that pass through it."""
    g = torch.Generator().manual_seed(0)
    for name, weight in network.named_parameters():
        if weight.dim() < 2:
            weight.fill_(1.0 if "norm" in name and name.endswith(("weight", "scale")) else 0.02)
        else:
            weight.copy_(torch.randn(weight.shape, generator=g) * gain / weight[0].numel() ** 0.5)
    for name, table in network.named_buffers():
        if name.endswith("pos_embed"):  # of Stable Diffusion 3, which a checkpoint brings
            table.copy_(torch.randn(table.shape, generator=g) * 0.1)
    return network


if __name__ == "__main__":
    main()
