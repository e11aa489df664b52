"""Small random-weight models in the native formats, for tests on a real ComfyUI: no download, every loader, every sampler.

    python tests/comfyui/make_checkpoints.py OUT --comfyui PATH [--only sd15 clip_vision_l ...]

Written below OUT as below ComfyUI's `models`: checkpoints/NAME.safetensors, clip_vision/NAME.safetensors and so on. The same bytes each
time. ComfyUI tells models apart by a few shapes and takes the rest from its own tables. So the U-Nets shrink (only their width
of 320 and the widths of what enters them are told apart; Stable Diffusion XL also by its 24 transformer blocks), and so does
the VAE (a TAESD is accepted inside a checkpoint). Text encoders, vision encoders and Stable Cascade's stages do not: their
layers are all there, in half precision, and all but the first are zero, which a residual network passes through. Zeros are
holes in the file: they take no room on the disk, but their memory when loaded.

NAME_small is the same model with those and the U-Net's width shrunk, too, for a ComfyUI that tests/support/small_models has taught
their sizes; sd15_wide_small keeps the U-Net's width, for tests of memory and of rounding.

| name | what it is | inside |
|---|---|---|
| sd15 | Stable Diffusion 1.5 | U-Net, CLIP-L text encoder, VAE |
| sd21_unclip_l, sd21_unclip_h | Stable Diffusion 2.1 unCLIP | U-Net, OpenCLIP-H text encoder, VAE, vision encoder (ViT-L/14, ViT-H/14) |
| sdxl | Stable Diffusion XL base | U-Net, CLIP-L and OpenCLIP-bigG text encoders, VAE |
| cascade_c, cascade_b | Stable Cascade, lite | stage C, bigG text encoder, ViT-L/14 vision encoder; stage B and stage A |
| sd35 | Stable Diffusion 3.5, small only | network, CLIP-L and OpenCLIP-bigG text encoders, VAE |
| flux, flux2, chroma, zimage, qwen_image | Flux.1 dev, Flux.2 dev, Chroma, Z-Image and Qwen-Image, small only | the network |
| clip_l, t5xxl, qwen3_4b, qwen25_7b, mistral3_24b | their text encoders, small only | |
| ae, qwen_image_vae; taef2_encoder, taef2_decoder | their VAEs; Flux.2's in two files, which have one size only | |
| clip_vision_l, clip_vision_h, clip_vision_g | vision encoders | ViT-L/14 (768), ViT-H/14 (1024), ViT-bigG/14 (1280) |
"""

import argparse
import functools
import hashlib
import json
import logging
import math
import re
import struct
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from flow_files import FOLDERS, NETWORKS, flow_file  # noqa: E402
from small_models import CASCADE, UNET_WIDTH  # noqa: E402
from small_models import TEXT as SMALL_TEXT  # noqa: E402
from small_models import VISION as SMALL_VISION  # noqa: E402

UNET = {"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "use_spatial_transformer": True,
        "legacy": False, "num_res_blocks": [1], "channel_mult": [1], "transformer_depth": [1],
        "transformer_depth_output": [0, 0], "transformer_depth_middle": -1, "num_heads": -1, "num_head_channels": 64}
UNETS = {
    "sd15": {"context_dim": 768, "num_heads": 8, "num_head_channels": -1},
    "sd21_unclip_l": {"context_dim": 1024, "use_linear_in_transformer": True, "adm_in_channels": 2 * 768},
    "sd21_unclip_h": {"context_dim": 1024, "use_linear_in_transformer": True, "adm_in_channels": 2 * 1024},
    "sdxl": {"context_dim": 2048, "use_linear_in_transformer": True, "adm_in_channels": 2816, "num_res_blocks": [2, 2, 2],
             "channel_mult": [1, 1, 1], "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_output": [0] * 9},
}
OPENCLIP_H = {"clip_h": "text_encoders/sd2_clip_config.json"}
TEXT = {"sd15": {"clip_l": "sd1_clip_config.json"}, "sd21_unclip_l": OPENCLIP_H, "sd21_unclip_h": OPENCLIP_H,
        "sdxl": {"clip_l": "sd1_clip_config.json", "clip_g": "clip_config_bigg.json"}}
VISION = {"clip_vision_l": "clip_vision_config_vitl.json", "clip_vision_h": "clip_vision_config_h.json",
          "clip_vision_g": "clip_vision_config_g.json"}
INSIDE = {"sd21_unclip_l": "clip_vision_l", "sd21_unclip_h": "clip_vision_h", "cascade_c": "clip_vision_l"}
CHECKPOINTS = [*UNETS, "cascade_c", "cascade_b"]
NAMES = [*CHECKPOINTS, *VISION]
SMALL, WIDE = "_small", "sd15_wide"
DTYPES = {torch.float16: "F16", torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8"}
DEEPER = re.compile(
    r"(encoder\.layers|transformer_blocks)\.[1-9]\d*\.|(down|up)_blocks\.\d+\.([3-9]|\d\d)\."
    r"|stage_c_coder\.encoder|self_attn\.[qk]_proj|encoder\.layers\.0\.mlp"
)
PEAKED = re.compile(r"^flux2\..*query_norm")  # looks at few tokens, for few of those of Flux.2 are the prompt's
NORM = re.compile(r"norm\d?\.(weight|bias)$")
GAINS = [  # so that pictures and words change what comes out, and a deep stack does not explode
    (r"zimage.final_layer", 8.0),
    (r"^sd35\.final_layer", 8.0),
    (r"^sd35\.(context_embedder|y_embedder)", 0.5),  # so that seeds change it, too
    (r"^flux\.(txt_in|vector_in)", 1.0),
    (r"^(flux|chroma|sd35)\.(img_in|x_embedder)", 4.0),
    (rf"^({'|'.join(NETWORKS)})\.", 2.0),
    (r"clip_vision.*\.0\.self_attn", 4.0),
    (r"position_embedding", 0.3),
    (r"taesd.*conv\.4\.weight", 0.3),
    (r"taesd_decoder\.19\.", 0.15),
    (r"taesd", math.sqrt(2)),
    (r"label_emb\.0\.2|attn2\.to_out", 4.0),
    (r"cascade.*\.attn\.out_proj", 16.0),
    (r"cascade_b.*effnet_mapper", 8.0),
    (r"stage_a\.out_block", 0.0015),
    (r"stage_c_coder\.previewer\.blocks\.0\.", 0.01),
    (r"stage_c_coder", 1.6),
]


def main():
    parser = argparse.ArgumentParser(description="Small random-weight models in the native formats.")
    parser.add_argument("out", type=Path, help="written here as below ComfyUI's models folder")
    parser.add_argument("--comfyui", type=Path, required=True, help="a checkout; nothing is written into it")
    choices = [*NAMES, *FOLDERS, *(name + SMALL for name in [*NAMES, WIDE, *FOLDERS])]
    parser.add_argument("--only", nargs="*", choices=choices, default=NAMES, metavar="NAME", help=", ".join(choices))
    arguments = parser.parse_args()
    _find_comfyui(arguments.comfyui)
    for name in arguments.only:
        folder = "clip_vision" if name.startswith("clip_vision") else FOLDERS.get(name.removesuffix(SMALL), "checkpoints")
        path = arguments.out / folder / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, state_dict(name.removesuffix(SMALL), small=name.endswith(SMALL)))
        taken = path.stat()
        sys.stdout.write(
            f"{path}: {taken.st_size / 2**20:,.0f} MiB, of which {taken.st_blocks * 512 / 2**20:,.0f} on the disk\n"
        )


def _find_comfyui(place):
    sys.path.insert(0, str(place.resolve()))
    logging.disable(logging.INFO)
    from comfy.cli_args import args

    args.cpu = True


def state_dict(name, small=False):
    """The tensors of one model, named as the published files name them."""
    if name in VISION:
        return _vision(name, small)
    if name in UNETS:
        return _stable_diffusion(name, small, UNET_WIDTH if small else UNET["model_channels"])
    if name == "clip_l":
        return {key.removeprefix("clip_l.transformer."): x for key, x in _text(name, TEXT["sd15"][name], small).items()}
    if name == "sd35":
        return _stable_diffusion_3(name, small)
    if name in FOLDERS:
        return flow_file(name, _half, _on_meta, _filled)
    if name == WIDE:
        return _stable_diffusion("sd15", small, UNET["model_channels"])
    return _cascade(name, small)


def _stable_diffusion(name, small, width):
    import comfy.supported_models as supported
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.taesd.taesd import TAESD

    kind = {"sd15": supported.SD15, "sd21_unclip_l": supported.SD21UnclipL, "sd21_unclip_h": supported.SD21UnclipH,
            "sdxl": supported.SDXL}[name]
    config = UNET | UNETS[name] | ({"num_classes": "sequential"} if "adm_in_channels" in UNETS[name] else {})
    config |= {"model_channels": width}
    model = kind({})
    tensors = model.process_unet_state_dict_for_saving(_filled(_half(UNetModel, **config), name))
    for prefix, described in TEXT[name].items():
        tensors |= model.process_clip_state_dict_for_saving(_text(prefix, described, small))
    vae = _filled(_on_meta(TAESD), "taesd")
    # A random network keeps the noise it starts from, some ten times what a picture's latents measure.
    vae["taesd_decoder.19.bias"] = torch.full((3,), 0.5)
    vae["vae_scale"] = torch.tensor(0.1 * model.latent_format.scale_factor)
    tensors |= model.process_vae_state_dict_for_saving(vae)
    if name in INSIDE:
        tensors |= model.process_clip_vision_state_dict_for_saving(_vision(INSIDE[name], small))
    return tensors


def _stable_diffusion_3(name, small):
    import comfy.supported_models as supported

    model = supported.SD3({})
    tensors = model.process_unet_state_dict_for_saving(flow_file(name, _half, _on_meta, _filled))
    for prefix, described in TEXT["sdxl"].items():
        tensors |= model.process_clip_state_dict_for_saving(_text(prefix, described, small))
    return tensors | model.process_vae_state_dict_for_saving(flow_file("ae", _half, _on_meta, _filled))


def _cascade(name, small):
    import comfy.supported_models as supported
    from comfy.ldm.cascade.stage_a import StageA
    from comfy.ldm.cascade.stage_b import StageB
    from comfy.ldm.cascade.stage_c import StageC
    from comfy.ldm.cascade.stage_c_coder import StageC_coder

    if name == "cascade_b":
        config = {"c_hidden": [320, 576, 1152, 1152], "nhead": [-1, 9, 18, 18],
                  "blocks": [[2, 4, 14, 4], [4, 14, 4, 2]], "block_repeat": [[1, 1, 1, 1], [2, 2, 2, 2]]}
        stage = _filled(_half(StageB, **CASCADE["b"] if small else config), name)
        vae = {f"vae.{key}": x for key, x in _filled(_on_meta(StageA, **CASCADE["a"] if small else {}), "stage_a").items()}
        vae["vae.out_block.0.bias"] = torch.full((12,), 0.5)
        return supported.Stable_Cascade_B({}).process_unet_state_dict_for_saving(stage) | vae
    config = {"c_cond": 1536, "c_hidden": [1536, 1536], "nhead": [24, 24], "blocks": [[4, 12], [12, 4]]}
    model = supported.Stable_Cascade_C({})
    tensors = model.process_unet_state_dict_for_saving(_filled(_half(StageC, **CASCADE["c"] if small else config), name))
    coder = _filled(_on_meta(StageC_coder), "stage_c_coder") | {"previewer.blocks.24.bias": torch.full((3,), 0.5)}
    tensors |= {f"vae.{key}": x for key, x in coder.items()}
    text = _text("clip_g", "clip_config_bigg.json", small)
    text["clip_g.text_projection"] = text.pop("clip_g.transformer.text_projection.weight").T.contiguous()
    tensors |= {f"text_encoder.{key}": x for key, x in text.items()}
    return tensors | model.process_clip_vision_state_dict_for_saving(_vision(INSIDE[name], small))


def _text(prefix, config, small):
    from comfy.clip_model import CLIPTextModel

    sizes = _config(config) | (SMALL_TEXT if small else {})
    tensors = _filled(_half(CLIPTextModel, sizes), prefix)
    return {f"{prefix}.transformer.{key}": x for key, x in tensors.items()}


def _vision(name, small):
    from comfy.clip_model import CLIPVisionModelProjection

    sizes = _config(VISION[name]) | (SMALL_VISION if small else {})
    return _filled(_half(CLIPVisionModelProjection, sizes), name)


def _config(name):
    import comfy

    return json.loads((Path(comfy.__path__[0]) / name).read_text())


def _half(kind, *arguments, **named):
    """A network of ComfyUI's own layers in half precision, of shapes only."""
    import comfy.ops

    return _on_meta(kind, *arguments, dtype=torch.float16, device="meta", operations=comfy.ops.disable_weight_init, **named)


def _on_meta(kind, *arguments, **named):
    """A network of shapes only."""
    with torch.device("meta"):
        return kind(*arguments, **named)


def _filled(network, name):
    """Values for the tensors of a network or a dict; what is far down a stack of layers is zero and shares one number's memory."""
    tensors = network if isinstance(network, dict) else network.state_dict()
    return {key: _values(f"{name}.{key}", x.shape) for key, x in tensors.items()}


@functools.cache  # several models have the same token embedding, which is the largest of all tensors
def _values(name, shape):
    """Half-precision random numbers that keep the size of what passes through; ones for norms, zeros for biases."""
    if DEEPER.search(name) and not NORM.search(name):
        return torch.zeros((), dtype=torch.float16).expand(shape)
    gain_of_norm = name.startswith("qwen_image_vae") and name.endswith("gamma")
    if len(shape) < 2 or gain_of_norm:
        fill = torch.ones if gain_of_norm or name.endswith(("weight", "scale", "running_var")) else torch.zeros
        return fill(shape, dtype=torch.float16) * (4 if PEAKED.search(name) else 1)
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big"))
    inputs = 1 if "embedding" in name and "patch" not in name else math.prod(shape[1:])
    gain = next((value for pattern, value in GAINS if re.search(pattern, name)), 1.0)
    return torch.randn(shape, generator=generator).mul_(gain).div_(math.sqrt(inputs)).half()


def write(path, tensors):
    """A .safetensors file in which tensors of zeros are holes: they read as zeros and take no room on the disk.

    The layout is the format's own: eight bytes with the header's length, a JSON header, the tensors one after another.
    """
    header, end = {}, 0
    for name, tensor in sorted(tensors.items()):
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        start = file.tell()
        for name, place in header.items():
            if not _is_zero(tensors[name]):
                file.seek(start + place["data_offsets"][0])
                file.write(tensors[name].contiguous().numpy())
        file.truncate(start + end)


def _is_zero(tensor):
    """Whether all of it is zero. One number that is spread over a shape, and bytes, are looked at sooner than half-precision numbers."""
    if not any(tensor.stride()):
        return not tensor.flatten()[:1].any()
    return not tensor.contiguous().view(torch.uint8).any()


if __name__ == "__main__":
    main()
