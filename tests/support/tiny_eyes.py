"""Tiny encoders of random weights that make tokens, or no words: SigLIP, SigLIP 2 for any size, DINOv2 and DINOv3, in ComfyUI's classes."""

import torch

SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "num_channels": 3}
GREY = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
NAFLEX = SIZES | GREY | {"model_type": "siglip2_vision_model", "image_size": -1, "patch_size": 8, "num_patches": 16,
                         "hidden_act": "gelu_pytorch_tanh"}


def tiny_eyes():
    """By name: a CLIP_VISION, and transformers' model with the same weights where there is one. Only those this ComfyUI knows."""
    import comfy.clip_vision

    twins = {"SigLIP": _siglip, "DINOv2": _dinov2, "DINOv3": _dinov3}
    kinds = {"SigLIP": "siglip_vision_model", "DINOv2": "dinov2", "DINOv3": "dinov3"}
    found = {}
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, kind in kinds.items():
            if kind in comfy.clip_vision.IMAGE_ENCODERS:
                config, twin = twins[name]()
                for weight in twin.parameters():
                    weight.data.add_(0.05 * torch.randn(weight.shape))  # some begin as zeros
                eye = loaded(config | {"model_type": kind})
                _load(eye, twin.state_dict())
                found[name] = eye, twin.eval()
        if NAFLEX["model_type"] in comfy.clip_vision.IMAGE_ENCODERS:
            eye = loaded(NAFLEX)
            for weight in eye.model.parameters():
                weight.data.copy_(torch.randn(weight.shape) / max(1, weight[0].numel()) ** 0.5 if weight.dim() > 1 else torch.ones(weight.shape))
            found["SigLIP 2"] = eye, None
    return found


OLD_NAMES = {"attention.q_proj": "attention.attention.query", "attention.k_proj": "attention.attention.key",
             "attention.v_proj": "attention.attention.value", "attention.o_proj": "attention.output.dense"}  # of DINOv2 in its files


def _load(eye, tensors):
    """Give an encoder the tensors of transformers' model, which has newer names."""
    ours, named = set(eye.get_sd()), {}
    for name, x in tensors.items():
        old = name
        for new, before in OLD_NAMES.items():
            old = old.replace(new, before)
        named[next(one for one in (name, old, f"vision_model.{name}", name.removeprefix("model.")) if one in ours)] = x
    missing, unexpected = eye.load_sd(named)
    assert not missing and not unexpected, (missing, unexpected)


def loaded(config):
    """ComfyUI's CLIP_VISION of these sizes; its weights are not set."""
    import json
    import tempfile
    from pathlib import Path

    import comfy.clip_vision

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config))
        return comfy.clip_vision.ClipVisionModel(str(path))


def _siglip():
    import transformers

    config = SIZES | GREY | {"image_size": 32, "patch_size": 8, "hidden_act": "gelu_pytorch_tanh"}
    return config, transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**config, vision_use_head=False))


def _dinov2():
    import transformers

    config = SIZES | {"image_size": 518, "patch_size": 14, "mlp_ratio": 4, "use_swiglu_ffn": False, "layer_norm_eps": 1e-6, "qkv_bias": True}
    return config, transformers.Dinov2Model(transformers.Dinov2Config(**config))


def _dinov3():
    import transformers

    config = SIZES | {"image_size": 32, "patch_size": 16, "num_register_tokens": 4, "layer_norm_eps": 1e-5, "rope_theta": 100.0}
    return config, transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**config))
