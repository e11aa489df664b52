"""Draw a baseline with ComfyUI's own models, a small Stable Diffusion 1.5 of random weights; print JSON.

    python tests/support/model_baseline.py CHECKPOINT --comfyui FOLDER
"""

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

import torch
from in_process import start_comfyui
from watching import digest

SETTINGS = {"seed": 5, "steps": 2, "cfg": 3.0, "width": 32, "height": 32}
SAMPLERS = ["euler", "euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde_gpu", "er_sde", "exp_heun_2_x0_sde"]


def main():
    parser = argparse.ArgumentParser(description="A baseline from ComfyUI's own models.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--comfyui", type=Path, required=True)
    arguments = parser.parse_args()
    start_comfyui(arguments.comfyui, small=True)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        json.dump(findings(arguments.checkpoint, Path(folder)), sys.stdout)


def keys_of(model, vae, pictures, draw, whole, resumed, texts):
    """Keys of pictures drawn in several ways; and how many share a key with those of another model, text or setting."""
    from rarity.generators.comfyui.names import conditioning_name, model_name

    def same(one, other):
        return torch.equal(one, other)

    patched, weaker = model.clone(), model.clone()
    name = "diffusion_model.input_blocks.0.0.weight"
    by = torch.ones_like(model.model.state_dict()[name])
    for one, strength in ((patched, 1.0), (weaker, 0.5)):
        assert one.add_patches({name: ("diff", (by,))}, strength) == [name]
    cat, house = texts
    others = {"prompt": pictures(house), "cfg": pictures(cfg=4.0), "lora": pictures(model=patched), "strength": pictures(model=weaker)}
    drawn = {what: draw(count=3, of=one)[0].keys for what, one in others.items()}
    named = model_name(model)
    rounded = [[tensor * (1 + 1e-6 * torch.randn_like(tensor)), more] for tensor, more in cat]
    unclip = {"unclip_conditioning": [{"noise_augmentation": 0.1, "strength": 1.0}]}
    first = [pictures([[cat[0][0], {**cat[0][1], **unclip}]], seed=seed).origin for seed in (5, 6)]
    return {
        "batches of one": same(draw(batch_size=1)[0].keys, whole.keys),
        "resumed": same(resumed.keys, whole.keys),
        "next seed": same(draw(count=6, of=pictures(seed=6))[0].keys, whole.keys[1:]),
        "apart": len(torch.cat([whole.keys, *drawn.values()]).unique()) - len(whole.keys),
        "model": named == model_name(model.clone()) and len({named, model_name(patched), model_name(weaker)}) == 3,
        "text": conditioning_name(rounded) == conditioning_name(cat) != conditioning_name(house),
        "unclip": first[0] != first[1],
    }


def findings(checkpoint, folder):
    import comfy.latent_formats
    import comfy.samplers
    import comfy.sd
    from rarity.density.base.errors import RarityError
    from rarity.density.files.store import load_embeddings
    from rarity.generators.comfyui.model_baseline import ModelPictures, draw_model_baseline
    from rarity.generators.eyes.openclip import load_open_clip
    from rarity.nodes import RarityBaselineFromModel
    from tiny_open_clip import NAME, build_tiny_open_clip

    import nodes as core

    found = {}
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(checkpoint))
    cat, house, empty = (core.CLIPTextEncode().encode(clip, text)[0] for text in ("a photo of a cat", "a red house", ""))
    eye = load_open_clip(NAME, build_tiny_open_clip(folder / "clip"))
    latent = core.EmptyLatentImage().generate(32, 32, 1)[0]

    def pictures(positive=cat, **changed):
        return ModelPictures(changed.pop("model", model), positive, empty, changed.pop("vae", vae), **SETTINGS | changed)

    def by_ksampler(i, positive, sampler):
        done = core.common_ksampler(model, 5 + i, 2, 3.0, sampler, "normal", positive, empty, latent)[0]["samples"]
        return vae.decode(done)

    def draw(count=7, batch_size=3, of=None, **more):
        return draw_model_baseline(of or pictures(), eye, count, batch_size=batch_size, **more)

    def complaint(work):
        try:
            work()
        except RarityError as error:
            return str(error)

    def apart(one, other):
        return float((one - other).abs().max())

    held = digest(model, vae, cat, empty)
    found["KSampler"] = {
        sampler: apart(pictures(sampler_name=sampler).draw(rows)[-1:], by_ksampler(2, cat, sampler))
        for sampler, rows in [*((name, range(3)) for name in SAMPLERS), ("dpm_adaptive", range(2, 3))]
        if sampler in comfy.samplers.SAMPLER_NAMES
    }
    found["SamplerCustomAdvanced"] = custom_sampling(model, vae, pictures, draw, complaint, (cat, house, empty))
    torch.manual_seed(3)
    state, ticks, shown = torch.get_rng_state(), [], []
    whole, report, last = draw(progress=lambda *tick: ticks.append(tick), preview=lambda batch: shown.append(len(batch)))
    found["random state kept"] = torch.equal(torch.get_rng_state(), state)
    found |= {"report": report, "ticks": ticks, "previews": shown, "pictures": list(last.shape), "source": whole.source}
    norm = float(whole.vectors.norm(dim=1).mean())
    found["batches of one"] = apart(draw(batch_size=1)[0].vectors, whole.vectors) / norm
    found["spread"] = float((whole.vectors - whole.vectors.mean(dim=0)).norm(dim=1).median()) / norm

    def stop(done, total):
        if done >= 5 * 2:
            raise InterruptedError

    try:
        draw(folder=folder / "kept", batch_size=2, progress=stop)
    except InterruptedError:
        found["kept after the stop"] = sum(len(load_embeddings(path)) for path in (folder / "kept").iterdir())
    def stop_at_once(done, total):
        raise InterruptedError(f"{done} of {total}")

    try:
        draw(folder=folder / "kept", progress=stop_at_once)
    except InterruptedError as stopped:
        found["stopped while comparing"] = str(stopped)
    ticks = []
    resumed, again, _ = draw(folder=folder / "kept", batch_size=2, progress=lambda *tick: ticks.append(tick))
    found["resumed"] = apart(resumed.vectors, whole.vectors) / norm
    found["resumed ticks"], found["resumed report"], found["resumed source"] = ticks[-1], again == report, resumed.source == whole.source
    found["nothing more to draw"] = list(draw(folder=folder / "kept")[2].shape)
    found["more"] = len(draw(count=9, folder=folder / "kept")[0])
    tail, said, _ = draw(count=3, first=4, folder=folder / "tail")
    found["first"] = {
        "apart": apart(tail.vectors, whole.vectors[4:]) / norm, "keys": torch.equal(tail.keys, whole.keys[4:]), "report": said,
        "kept": torch.equal(draw(count=3, first=4, folder=folder / "tail")[0].vectors, tail.vectors),
        "another first": complaint(lambda: draw(count=3, first=5, folder=folder / "tail")),
    }
    found["keys"] = keys_of(model, vae, pictures, draw, whole, resumed, (cat, house))
    found["errors"] = {
        "another prompt": complaint(lambda: draw(of=pictures(house), folder=folder / "kept")),
        "another cfg": complaint(lambda: draw(of=pictures(cfg=4.0), folder=folder / "kept")),
        "count": complaint(lambda: draw(count=0)),
        "batch": complaint(lambda: draw(batch_size=0)),
        "steps": complaint(lambda: pictures(steps=0)),
        "cfg": complaint(lambda: pictures(cfg=math.nan)),
        "sampler": complaint(lambda: pictures(sampler_name="res_99s")),
        "scheduler": complaint(lambda: pictures(scheduler="bong")),
        "size": complaint(lambda: pictures(width=4)),
        "vae": complaint(lambda: pictures(vae=other_vae())),
        "another model": complaint(lambda: draw(of=pictures([[torch.ones(1, 77, 1024), {}]]))),
        "one row": complaint(lambda: draw(of=pictures([[torch.ones(77, 768), {}]]))),
        "sound": complaint(lambda: pictures(model=with_latents(model, comfy.latent_formats.StableAudio1()))),
    }
    wan = with_latents(model, comfy.latent_formats.Wan21())
    found["one frame of a video"] = list(pictures(model=wan, vae=other_vae()).latent_shape)

    mask = torch.zeros(1, 32, 32)
    mask[:, :, :16] = 1
    masked = core.ConditioningCombine().combine(core.ConditioningSetMask().append(cat, mask, "default", 1.0)[0], house)[0]
    hinted = core.ControlNetApplyAdvanced().apply_controlnet(cat, empty, control_net(model), hint(), 1.0, 0.0, 1.0)[0]
    plain = pictures().draw(range(1))
    for name, positive in (("mask", masked), ("hint", hinted)):
        before = digest(positive)
        drawn = pictures(positive).draw(range(2))
        found[name] = {"as KSampler": apart(drawn[1:], by_ksampler(1, positive, "euler")), "moves": apart(drawn[:1], plain),
                       "kept": digest(positive) == before}

    given = {"model": model, "positive": cat, "negative": empty, "vae": vae, "count": 7, "sampler_name": "euler",
             "scheduler": "normal", **SETTINGS}
    embeddings, report, last = RarityBaselineFromModel.execute(**given, batch=3, eye=eye).args
    found["node"] = [apart(embeddings.vectors, whole.vectors) / norm, report == found["report"], list(last.shape)]
    found["node with no eye"] = complaint(lambda: RarityBaselineFromModel.execute(**given, batch=3, eye=vae))
    decode, sizes = vae.decode, []

    def little_memory(latents):
        sizes.append(len(latents))
        if len(latents) > 2:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return decode(latents)

    vae.decode = little_memory
    tight = RarityBaselineFromModel.execute(**given, batch=7, eye=eye).args[0]
    found["out of memory"] = [apart(tight.vectors, whole.vectors) / norm, sizes]
    vae.decode = decode
    found["digest kept"] = digest(model, vae, cat, empty) == held
    return found


class Foreign:
    """The sampler of another pack: Euler with noise of torch's global generator."""

    def __init__(self):
        import comfy.samplers

        self.euler = comfy.samplers.sampler_object("euler")

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, *given, **told):
        return self.euler.sample(model_wrap, sigmas, extra_args, callback, noise + 0.1 * torch.randn_like(noise), *given, **told)


def custom_sampling(model, vae, pictures, draw, complaint, texts):
    """Pictures by a GUIDER, a SAMPLER and SIGMAS, beside those of SamplerCustomAdvanced; and how much of a batch is the same."""
    import comfy.sample
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Guider_Basic, Guider_DualCFG

    cat, house, empty = texts
    sigmas = torch.tensor([9.0, 2.5, 0.7, 0.0])
    basic, both, dual = Guider_Basic(model), comfy.samplers.CFGGuider(model), Guider_DualCFG(model)
    basic.set_conds(house)
    both.set_conds(house, empty)
    both.set_cfg(3.0)
    dual.set_conds(house, house, empty)
    dual.set_cfg(2.0, 3.0)
    noisy = comfy.samplers.ksampler("dpmpp_2m_sde", {"eta": 0.7, "s_noise": 1.0, "solver_type": "heun"})
    wanted = {"basic": (basic, noisy, sigmas), "cfg": (both, comfy.samplers.ksampler("euler_ancestral", {"eta": 0.5}), sigmas),
              "dual": (dual, comfy.samplers.sampler_object("lcm"), sigmas), "another pack's": (basic, Foreign(), sigmas)}
    held = digest(house, empty, *([more["cross_attn"] for more in basic.original_conds["positive"]]))
    found, drawn = {}, {}
    for name, (guider, sampler, levels) in wanted.items():
        drawing = pictures(cat, guider=guider, sampler=sampler, sigmas=levels)
        drawn[name] = drawing.draw(range(2, 3) if drawing.one_by_one else range(3))[-1:]
        theirs = type(guider).__new__(type(guider))
        theirs.__dict__.update(guider.__dict__, original_conds=dict(guider.original_conds))
        theirs.inner_set_conds({"positive": cat})  # the node's prompt in place of the guider's
        empty_latent = torch.zeros(1, *drawing.latent_shape)
        noise = comfy.sample.prepare_noise(empty_latent, 5 + 2)
        expected = vae.decode(theirs.sample(noise, empty_latent, sampler, levels, disable_pbar=True, seed=5 + 2)).float()
        found[name] = {"apart": float((drawn[name] - expected).abs().max()), "source": drawing.source}
    alone = pictures(sampler=comfy.samplers.sampler_object("euler"))
    levels = comfy.samplers.KSampler(model, 2, model.load_device, "euler", "normal", 1.0, model.model_options).sigmas
    foreign = pictures(guider=basic, sampler=Foreign(), sigmas=sigmas)
    embeddings, report, _ = draw(count=2, of=pictures(guider=both, sigmas=sigmas))
    return found | {
        "differ": float((drawn["basic"] - drawn["cfg"]).abs().max()),
        "same keys": torch.equal(draw(count=2, of=alone)[0].keys, draw(count=2)[0].keys),
        "same picture": float((pictures(sigmas=levels).draw(range(1)) - pictures().draw(range(1))).abs().max()),
        "foreign twice": float((draw(count=3, of=foreign)[0].vectors - draw(count=3, batch_size=1, of=foreign)[0].vectors).abs().max()),
        "report": report,
        "unchanged": digest(house, empty, *([more["cross_attn"] for more in basic.original_conds["positive"]])) == held,
        "no steps": complaint(lambda: pictures(sigmas=torch.zeros(0))),
        "no prompt": complaint(lambda: pictures(guider=comfy.samplers.CFGGuider(model))),
        "no sampler": complaint(lambda: pictures(sampler="euler")),
    }


def with_latents(model, latent_format):
    """The model, declared to make latents of another format."""
    model = model.clone()
    model.add_object_patch("latent_format", latent_format)
    return model


def other_vae():
    """A real VAE for latents of 16 channels."""
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    return comfy.sd.VAE(sd=TAESD(latent_channels=16).state_dict())


def control_net(model):
    """A ControlNet of random weights that fits the model."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    config = dict(model.model.model_config.unet_config, hint_channels=3, operations=comfy.ops.manual_cast, dtype=torch.float32)
    config.pop("out_channels", None)
    config.pop("disable_unet_model_creation", None)
    network = comfy.cldm.cldm.ControlNet(**config)
    g = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        weight.copy_(torch.randn(weight.shape, generator=g) * 0.5 / max(1, weight[0].numel()) ** 0.5 if weight.dim() > 1 else torch.ones(weight.shape))
    return comfy.controlnet.ControlNet(network, load_device=model.load_device, manual_cast_dtype=torch.float32)


def hint():
    return torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))


if __name__ == "__main__":
    main()
