"""Compare a tiny random CLIP in ComfyUI's own class, read by RarityEncodeImages, with transformers' and OpenCLIP's.

All three have the same weights.

    python tests/support/clip_vision.py --comfyui FOLDER
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from in_process import start_comfyui

SIZE = 32


def main():
    parser = argparse.ArgumentParser(description="ComfyUI's CLIP_VISION beside transformers.")
    parser.add_argument("--comfyui", type=Path, required=True)
    comfyui = parser.parse_args().comfyui
    start_comfyui(comfyui)
    from rarity.density.base.errors import RarityError
    from rarity.generators.eyes.openclip import load_open_clip
    from rarity.generators.kandinsky.image_encoder import encoder_fingerprint, encoder_name
    from rarity.nodes import RarityEncodeImages
    from tiny_open_clip import NAME, build_tiny_open_clip, transformers_models

    pictures = torch.randint(0, 256, (3, SIZE, SIZE, 3), generator=torch.Generator().manual_seed(0)) / 255.0
    y, x = torch.linspace(0, 20, 150)[:, None], torch.linspace(0, 20, 207)[None, :]
    large = torch.stack([0.5 + 0.5 * torch.sin(a * x + b * y) for a, b in ((1, 0.3), (0.4, 1), (1, -1))], dim=-1)[None]
    models = transformers_models(0)
    theirs, ours = models[0], _native(models[0])
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        looks = []
        ours.model.register_forward_hook(lambda *_: looks.append("one"))
        embeddings = RarityEncodeImages.execute(images=pictures, clip_vision=ours).args[0]
        RarityEncodeImages.execute(images=pictures, clip_vision=ours)
        before = len(looks)
        half = [RarityEncodeImages.execute(images=some, clip_vision=ours).args[0].vectors
                for some in (large.half(), large.half().float())]
        cured = {channels: RarityEncodeImages.execute(images=_cured(pictures, channels), clip_vision=ours).args[0].vectors
                 for channels in (1, 2, 4, 5)}
        other = RarityEncodeImages.execute(images=pictures, clip_vision=_native(transformers_models(1)[0])).args[0]
        encoder = load_open_clip(NAME, build_tiny_open_clip(folder, models=models))
        words = RarityEncodeImages.execute(images=pictures, encoder=encoder).args[0]
        sizes = [RarityEncodeImages.execute(images=large, **eye).args[0].vectors for eye in ({"clip_vision": ours}, {"encoder": encoder})]
        grey = RarityEncodeImages.execute(images=pictures[..., :1].expand(-1, -1, -1, 3), clip_vision=ours).args[0]
        refusals = {}
        for name, images, eye in (("siglip", pictures, _siglip()), ("any size", pictures, _naflex()), ("grey", pictures[..., :1], ours),
                                  ("two channels", pictures[..., :2], ours), ("five channels", pictures[..., [0, 1, 2, 0, 0]], ours),
                                  ("alpha", torch.cat([pictures, pictures[..., :1]], dim=-1), ours), ("no area", pictures[:, :0], ours)):
            try:
                RarityEncodeImages.execute(images=images, clip_vision=eye)
            except RarityError as error:
                refusals[name] = str(error)
        mean, std = (torch.tensor(value) for value in (ours.image_mean, ours.image_std))
        expected = theirs(((pictures - mean) / std).movedim(-1, 1)).image_embeds
    space = {"encoder": encoder_name(theirs.config), "fingerprint": encoder_fingerprint(theirs), "width": 32, "kind": "raw"}
    json.dump({
        "node": embeddings.space.to_dict(),
        "looks": before,
        "transformers": space,
        "OpenCLIP": words.space.to_dict(),
        "other": other.space.to_dict(),
        "refusals": refusals,
        "half precision": bool(torch.equal(*half)),
        "cured": {channels: bool(torch.equal(cured[channels], (grey if channels < 3 else embeddings).vectors)) for channels in cured},
        "OpenCLIP's difference": float((words.vectors - expected).abs().max()),
        "resized": float(((sizes[0] - sizes[1]).norm(dim=1) / sizes[0].norm(dim=1)).max()),
        "difference": float((embeddings.vectors - expected).abs().max()),
        "scale": float(expected.abs().max()),
    }, sys.stdout)


def _cured(pictures, channels):
    """Pictures with another number of channels, after the ComfyUI nodes that the error names."""
    from comfy_extras.nodes_compositing import SplitImageWithAlpha
    from comfy_extras.nodes_mask import ImageToMask, MaskToImage

    given = pictures[..., [0, 1, 2, 0, 1][:channels]]
    if channels > 3:
        return SplitImageWithAlpha.execute(given).args[0]
    mask = ImageToMask().image_to_mask(given, "red")
    made = MaskToImage().mask_to_image(getattr(mask, "args", mask)[0])
    return getattr(made, "args", made)[0]


def _native(model):
    """ComfyUI's CLIP_VISION with the weights of transformers' model."""
    native = _loaded(model.config.to_dict() | {"model_type": "clip_vision_model"})
    missing, unexpected = native.load_sd(model.state_dict())
    assert not missing and all("position_ids" in name for name in unexpected), (missing, unexpected)
    return native


def _siglip():
    """ComfyUI's CLIP_VISION of a tiny SigLIP, which does not make a single vector for a picture."""
    return _loaded({"model_type": "siglip_vision_model", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
                    "num_attention_heads": 4, "image_size": SIZE, "patch_size": 8, "num_channels": 3,
                    "hidden_act": "gelu_pytorch_tanh"})


def _naflex():
    """ComfyUI's CLIP_VISION of a tiny SigLIP 2 for pictures of any size; an older ComfyUI gets its sizes alone."""
    import comfy.clip_vision

    config = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": -1,
              "patch_size": 8, "num_patches": 16, "num_channels": 3, "hidden_act": "gelu_pytorch_tanh"}
    if "siglip2_vision_model" in comfy.clip_vision.IMAGE_ENCODERS:
        return _loaded(config | {"model_type": "siglip2_vision_model"})
    known = _siglip()
    known.image_size = -1
    return known


def _loaded(config):
    import comfy.clip_vision

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config))
        return comfy.clip_vision.ClipVisionModel(str(path))


if __name__ == "__main__":
    main()
