"""A tiny random CLIP in OpenCLIP's format: its own architecture, and a checkpoint made from transformers' weights."""

import json
from pathlib import Path

import torch

SMALLEST = "ViT-S-32-alt"  # of the architectures that OpenCLIP itself names
NAME, SIZE, WIDTH = "ViT-tiny-rarity", 32, 32
VISION = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": SIZE,
          "patch_size": 8, "projection_dim": WIDTH, "hidden_act": "quick_gelu"}
TEXT = {"vocab_size": 49408, "hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 77, "projection_dim": WIDTH, "hidden_act": "quick_gelu", "eos_token_id": 49407}
CONFIG = {
    "embed_dim": WIDTH,
    "quick_gelu": True,
    "vision_cfg": {"image_size": SIZE, "layers": 2, "width": 48, "head_width": 12, "patch_size": 8, "mlp_ratio": 64 / 48},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def transformers_models(seed=0):
    """(CLIPVisionModelWithProjection, CLIPTextModelWithProjection), random, with values that half precision keeps."""
    import transformers

    made = []
    for kind, config in (("Vision", VISION), ("Text", TEXT)):
        torch.manual_seed(seed)
        model = getattr(transformers, f"CLIP{kind}ModelWithProjection")(getattr(transformers, f"CLIP{kind}Config")(**config))
        with torch.no_grad():
            for weight in model.parameters():  # transformers starts them so small that all embeddings are alike
                weight.add_(0.2 * torch.randn_like(weight))
                weight.copy_(weight.half())
        made.append(model.eval())
    return made


def build_tiny_open_clip(folder, seed=0, models=None):
    """Register the architecture NAME with OpenCLIP, and write a checkpoint; returns the checkpoint's path."""
    import open_clip
    import safetensors.torch

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / f"{NAME}.json"
    config.write_text(json.dumps(CONFIG))
    open_clip.add_model_config(config)
    vision, text = models or transformers_models(seed)
    path = folder / "tiny_clip.safetensors"
    safetensors.torch.save_file(open_clip_weights(vision.state_dict(), text.state_dict()), path)
    return path


def open_clip_weights(vision, text):
    """The tensors of both models under OpenCLIP's names."""
    found = {"logit_scale": torch.tensor(4.6)}
    for prefix, weights, tower in (("visual.", vision, "vision_model."), ("", text, "text_model.")):
        weights = {name.removeprefix(tower): value for name, value in weights.items() if "position_ids" not in name}
        for name, value in weights.items():
            if name.startswith("encoder.layers."):
                number, rest = name.removeprefix("encoder.layers.").split(".", 1)
                block = f"{prefix}transformer.resblocks.{number}."
                for theirs, ours in (("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"),
                                     ("mlp.fc2", "mlp.c_proj"), ("self_attn.out_proj", "attn.out_proj")):
                    if rest.startswith(theirs + "."):
                        found[block + rest.replace(theirs, ours)] = value
                if rest.startswith("self_attn.q_proj."):
                    kind = rest.rsplit(".", 1)[1]
                    parts = [weights[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
                    found[f"{block}attn.in_proj_{kind}"] = torch.cat(parts)
    vision = {name.removeprefix("vision_model."): value for name, value in vision.items()}
    text = {name.removeprefix("text_model."): value for name, value in text.items()}
    names = {"visual.class_embedding": vision["embeddings.class_embedding"],
             "visual.conv1.weight": vision["embeddings.patch_embedding.weight"],
             "visual.positional_embedding": vision["embeddings.position_embedding.weight"],
             "visual.proj": vision["visual_projection.weight"].T,
             "token_embedding.weight": text["embeddings.token_embedding.weight"],
             "positional_embedding": text["embeddings.position_embedding.weight"],
             "text_projection": text["text_projection.weight"].T}
    for kind in ("weight", "bias"):
        names |= {f"visual.ln_pre.{kind}": vision[f"pre_layrnorm.{kind}"],
                  f"visual.ln_post.{kind}": vision[f"post_layernorm.{kind}"],
                  f"ln_final.{kind}": text[f"final_layer_norm.{kind}"]}
    return {name: value.detach().contiguous().half() for name, value in (found | names).items()}
