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
from tiny_eyes import loaded, tiny_eyes

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
        embeddings = RarityEncodeImages.execute(images=pictures, eye=ours).args[0]
        RarityEncodeImages.execute(images=pictures, eye=ours)
        before = len(looks)
        half = [RarityEncodeImages.execute(images=some, eye=ours).args[0].vectors
                for some in (large.half(), large.half().float())]
        cured = {channels: RarityEncodeImages.execute(images=_cured(pictures, channels), eye=ours).args[0].vectors
                 for channels in (1, 2, 4, 5)}
        other = RarityEncodeImages.execute(images=pictures, eye=_native(transformers_models(1)[0])).args[0]
        encoder = load_open_clip(NAME, build_tiny_open_clip(folder, models=models))
        words = RarityEncodeImages.execute(images=pictures, eye=encoder).args[0]
        sizes = [RarityEncodeImages.execute(images=large, eye=eye).args[0].vectors for eye in (ours, encoder)]
        grey = RarityEncodeImages.execute(images=pictures[..., :1].expand(-1, -1, -1, 3), eye=ours).args[0]
        refusals = {}
        for name, images, eye in (("grey", pictures[..., :1], ours), ("two channels", pictures[..., :2], ours), ("five channels", pictures[..., [0, 1, 2, 0, 0]], ours),
                                  ("alpha", torch.cat([pictures, pictures[..., :1]], dim=-1), ours), ("no area", pictures[:, :0], ours)):
            try:
                RarityEncodeImages.execute(images=images, eye=eye)
            except RarityError as error:
                refusals[name] = str(error)
        eyes = _other_eyes(pictures, large)
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
        "other eyes": eyes,
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
    native = loaded(model.config.to_dict() | {"model_type": "clip_vision_model"})
    missing, unexpected = native.load_sd(model.state_dict())
    assert not missing and all("position_ids" in name for name in unexpected), (missing, unexpected)
    return native


def _other_eyes(pictures, large):
    """Encoders that are not CLIP's: how far their embeddings are from transformers', and what they see of a wide picture."""
    from rarity.generators.comfyui.clip_vision_eye import ClipVisionEncoder
    from rarity.generators.comfyui.sockets_bridge import from_clip_vision_output
    from rarity.nodes import RarityEncodeImages

    found = {}
    for name, (eye, twin) in tiny_eyes().items():
        side = max(eye.image_size, SIZE)
        shown = pictures.repeat_interleave(side // SIZE + 1, 1).repeat_interleave(side // SIZE + 1, 2)[:, :side, :side]
        embeddings = RarityEncodeImages.execute(images=shown, eye=eye).args[0]
        found[name] = {"space": embeddings.space.to_dict(), "wide": RarityEncodeImages.execute(images=large, eye=eye).args[0].source}
        if name != "DINOv3":  # which CLIP Vision Encode of ComfyUI 0.33 cannot encode with
            output = eye.encode_image(shown)
            through = from_clip_vision_output(output, ClipVisionEncoder(eye))
            found[name]["bridge"] = float((through.vectors - embeddings.vectors).abs().max())
        if twin is not None:
            mean, std = (torch.tensor(value) for value in (eye.image_mean, eye.image_std))
            made = twin(((shown - mean) / std).movedim(-1, 1))
            expected = made.last_hidden_state.mean(dim=1) if name == "SigLIP" else made.pooler_output
            found[name] |= {"apart": float((embeddings.vectors - expected).abs().max()), "scale": float(expected.abs().max())}
    return found


if __name__ == "__main__":
    main()
