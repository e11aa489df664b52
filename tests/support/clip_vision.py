"""A tiny random CLIP encoder in ComfyUI's own class, through RarityEncodeImages, beside transformers' with the same weights.

    python tests/support/clip_vision.py --comfyui FOLDER
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch

SIZE = 32


def main():
    parser = argparse.ArgumentParser(description="ComfyUI's CLIP_VISION beside transformers.")
    parser.add_argument("--comfyui", type=Path, required=True)
    comfyui = parser.parse_args().comfyui
    sys.path.insert(0, str(comfyui))
    sys.argv[1:] = ["--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    from rarity.generators.kandinsky_prior import encoder_fingerprint, encoder_name
    from rarity.nodes import RarityEncodeImages
    from transformers import CLIPVisionModelWithProjection

    pictures = torch.randint(0, 256, (3, SIZE, SIZE, 3), generator=torch.Generator().manual_seed(0)) / 255.0
    theirs, ours = _both(CLIPVisionModelWithProjection, seed=0)
    with torch.inference_mode():
        embeddings = RarityEncodeImages.execute(images=pictures, clip_vision=ours).args[0]
        other = RarityEncodeImages.execute(images=pictures, clip_vision=_both(CLIPVisionModelWithProjection, 1)[1]).args[0]
        mean, std = (torch.tensor(value) for value in (ours.image_mean, ours.image_std))
        expected = theirs(((pictures - mean) / std).movedim(-1, 1)).image_embeds
    space = {"encoder": encoder_name(theirs.config), "fingerprint": encoder_fingerprint(theirs), "width": 32, "kind": "raw"}
    json.dump({
        "node": embeddings.space.to_dict(),
        "transformers": space,
        "other": other.space.to_dict(),
        "difference": float((embeddings.vectors - expected).abs().max()),
        "scale": float(expected.abs().max()),
    }, sys.stdout)


def _both(model_class, seed):
    """(transformers' model, ComfyUI's CLIP_VISION) of the same random weights."""
    import comfy.clip_vision
    from transformers import CLIPVisionConfig

    config = CLIPVisionConfig(hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                              image_size=SIZE, patch_size=8, projection_dim=32, hidden_act="quick_gelu")
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for weight in model.parameters():  # transformers starts them so small that every picture looks alike
            weight.add_(0.2 * torch.randn_like(weight))
            weight.copy_(weight.half())  # the type ComfyUI keeps text and image encoders in
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config.to_dict() | {"model_type": "clip_vision_model"}))
        native = comfy.clip_vision.ClipVisionModel(str(path))
    missing, unexpected = native.load_sd(model.state_dict())
    assert not missing and all("position_ids" in name for name in unexpected), (missing, unexpected)
    return model, native


if __name__ == "__main__":
    main()
