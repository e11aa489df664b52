"""The parts of a miniature Kandinsky 2.2: untrained modules of diffusers and transformers at small settings, and its tokenizer."""
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

WIDTH = 64  # of the shared embedding space, and of the text encoder's hidden states, which the prior expects to be equal
TOKENS = 12


def make_tokenizer(folder: Path, words: Sequence[str]):
    """A CLIP byte-pair tokenizer whose whole words are `words`, those of the captions; anything else is spelled letter by letter."""
    from transformers import CLIPTokenizer

    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789.,'\"-!?()&/:;"
    pieces = list(alphabet) + [c + "</w>" for c in alphabet]
    merges: list[tuple[str, str]] = []
    for word in words:
        parts = [*word[:-1], word[-1] + "</w>"]
        for pair in merges:  # what earlier words' merges, which rank before this one's, already make of it
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == pair:
                    parts[i : i + 2] = ["".join(pair)]
                i += 1
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
            pieces.append(parts[0])
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=TOKENS, pad_token="<|endoftext|>", unk_token="<|endoftext|>")


def make_text_encoder(tokenizer):
    """Text [n, 12] tokens -> embeddings [n, 64]."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_image_encoder(patch: int):
    """Pictures [n, 3, 64, 64] in -1..1 -> embeddings [n, 64]."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=96,
            intermediate_size=384,
            projection_dim=WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=64,
            patch_size=patch,
        )
    )


def make_image_processor():
    """Resize and crop to 64 pixels, scale to -1..1."""
    from transformers import CLIPImageProcessor

    half = [0.5, 0.5, 0.5]
    return CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, image_mean=half, image_std=half)


def make_prior():
    """The diffusion prior over embeddings, predicting the clean one."""
    from diffusers import PriorTransformer

    return PriorTransformer(num_attention_heads=4, attention_head_dim=32, num_layers=4, embedding_dim=WIDTH, num_embeddings=TOKENS, additional_embeddings=4)


def make_prior_scheduler():
    """Kandinsky's prior schedule: cosine, predicts the clean embedding, clipped at 5 standard deviations."""
    from diffusers import UnCLIPScheduler

    return UnCLIPScheduler(
        variance_type="fixed_small_log", num_train_timesteps=1000, clip_sample=True, clip_sample_range=5.0, prediction_type="sample"
    )


def make_unet(latents: int, channels: tuple[int, int]):
    """The decoder's U-Net over latents [n, latents, 8, 8], conditioned on an image embedding as Kandinsky 2.2's is."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        in_channels=latents,
        out_channels=2 * latents,  # the pipeline splits off a variance half, which a fixed-variance scheduler ignores
        block_out_channels=channels,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        layers_per_block=1,
        norm_num_groups=16,
        attention_head_dim=32,
        cross_attention_dim=WIDTH,
        addition_embed_type="image",
        addition_embed_type_num_heads=4,
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="image_proj",
        resnet_time_scale_shift="scale_shift",
    )


def make_decoder_scheduler():
    """Deterministic few-step sampling: v-prediction with zero terminal signal, so that twelve steps suffice."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def make_autoencoder(latents: int, channels: tuple[int, int, int, int], groups: int):
    """Pictures [n, 3, 64, 64] in -1..1 <-> latents [n, latents, 8, 8]; `channels` at 64, 32, 16 and 8 pixels, normalised in `groups`."""
    from diffusers import VQModel

    return VQModel(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels,
        latent_channels=latents,
        num_vq_embeddings=512,
        norm_num_groups=groups,
        mid_block_add_attention=False,
    )


def tokenize(tokenizer, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [n, 12] and attention mask [n, 12] of texts."""
    out = tokenizer(texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
    return out.input_ids, out.attention_mask
