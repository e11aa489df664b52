"""Whole Kandinskys, 2.2 and 2.1, with few random weights, in the folder layout that diffusers writes."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch

WIDTH = 32  # of the embeddings
PICTURE = 16  # pixels on each side of the pictures that the decoder makes and the image encoder reads
TOKENS = 12


def build_tiny_kandinsky(folder: Path, seed: int = 0, width: int = WIDTH) -> Path:
    """Write folder/prior and folder/decoder, each a diffusers pipeline folder; returns `folder`."""
    from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        KandinskyV22PriorPipeline(**_prior_parts(folder, width)).save_pretrained(folder / "prior")
        KandinskyV22Pipeline(**_decoder_parts(width)).save_pretrained(folder / "decoder")
    _keep_vocabulary(folder / "vocabulary", folder / "prior" / "tokenizer")
    return folder


def build_tiny_kandinsky_21(folder: Path, seed: int = 0, width: int = WIDTH) -> Path:
    """Write folder/kandinsky-2-1-prior and folder/kandinsky-2-1, named as on the Hub; returns `folder`."""
    from diffusers import KandinskyPipeline, KandinskyPriorPipeline

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        KandinskyPriorPipeline(**_prior_parts(folder, width)).save_pretrained(folder / "kandinsky-2-1-prior")
        KandinskyPipeline(**_decoder_parts_21(folder, width)).save_pretrained(folder / "kandinsky-2-1")
    _keep_vocabulary(folder / "vocabulary", folder / "kandinsky-2-1-prior" / "tokenizer")
    return folder


def _keep_vocabulary(written: Path, tokenizer: Path) -> None:
    for file in written.glob("*.*"):  # older transformers read these two files, newer ones write another
        if file.name != "tokenizer_config.json":
            file.rename(tokenizer / file.name)


def _prior_parts(folder: Path, width: int) -> dict:
    from diffusers import PriorTransformer, UnCLIPScheduler
    from transformers import (
        CLIPImageProcessor,
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    tokenizer = _tokenizer(folder / "vocabulary")
    ends = dict(bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    layers = dict(num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, projection_dim=width, max_position_embeddings=TOKENS, **layers, **ends
    )
    vision = CLIPVisionConfig(hidden_size=24, projection_dim=width, image_size=PICTURE, patch_size=4, **layers)
    prior = PriorTransformer(
        num_attention_heads=3, attention_head_dim=16, num_layers=2, embedding_dim=width, num_embeddings=TOKENS
    )
    with torch.no_grad():  # diffusers starts these at zero, and a wrong use of zeros would not be noticed
        for name in ("positional_embedding", "prd_embedding", "clip_mean"):
            getattr(prior, name).normal_()
        prior.clip_std.uniform_(0.5, 2)
        for weight in prior.parameters():  # diffusers starts these so small that all samples are nearly the same
            if weight.dim() == 2 and min(weight.shape) > 1:
                weight.mul_(3)
    return dict(
        prior=prior,
        text_encoder=CLIPTextModelWithProjection(text).eval(),
        image_encoder=CLIPVisionModelWithProjection(vision).eval(),
        tokenizer=tokenizer,
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": PICTURE}, crop_size={"height": PICTURE, "width": PICTURE}
        ),
        scheduler=UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", num_train_timesteps=1000, clip_sample_range=10.0
        ),
    )


def _decoder_parts(width: int) -> dict:
    from diffusers import DDPMScheduler

    unet = _unet(addition_embed_type="image", encoder_hid_dim=width, encoder_hid_dim_type="image_proj", cross_attention_dim=16)
    scheduler = DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="linear",
        prediction_type="epsilon",
        clip_sample=True,
        clip_sample_range=2.0,
        variance_type="learned_range",
    )
    return dict(unet=unet, movq=_movq(), scheduler=scheduler)


def _decoder_parts_21(folder: Path, width: int) -> dict:
    from diffusers import DDIMScheduler
    from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP

    tokenizer = _multilingual_tokenizer(folder / "multilingual")
    states = 24
    config = MCLIPConfig(
        numDims=width, transformerDimensions=states, hidden_size=states, vocab_size=len(tokenizer), num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=40, max_position_embeddings=90, type_vocab_size=1, pad_token_id=1,
    )
    unet = _unet(
        addition_embed_type="text_image",
        addition_embed_type_num_heads=4,
        encoder_hid_dim=states,
        encoder_hid_dim_type="text_image_proj",
        cross_attention_dim=width,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
        thresholding=False,
    )
    text_encoder = MultilingualCLIP(config).eval()
    return dict(text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, movq=_movq(), scheduler=scheduler)


def _unet(**told):
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=PICTURE // 2,
        in_channels=4,
        out_channels=8,  # noise and variance
        **told,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(16, 32),
        norm_num_groups=8,
        layers_per_block=1,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
    )
    return unet.eval()


def _movq():
    from diffusers import VQModel

    return VQModel(
        block_out_channels=(32, 32),  # the spatial norm has 32 groups
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    ).eval()


def _tokenizer(folder: Path):
    """Byte-pair encoding that knows the letters and one merge, written as CLIP's own two files."""
    from transformers import CLIPTokenizer

    letters = string.ascii_lowercase + string.digits + string.punctuation
    words = [*letters, *(f"{letter}</w>" for letter in letters), "le", "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nl e\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=TOKENS)


def _multilingual_tokenizer(folder: Path):
    """Pieces of words as XLM-RoBERTa's tokenizer.json has them: a unigram model that knows the letters and one piece."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import XLMRobertaTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = ["\u2581", *string.ascii_lowercase, *string.digits, *string.punctuation, "\u2581le", "<mask>"]
    pieces = [*((word, 0.0) for word in special), *((word, -float(rank)) for rank, word in enumerate(letters, start=2))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "XLMRobertaTokenizer", "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>",
        "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>", "model_max_length": 512,
    }))
    return XLMRobertaTokenizerFast.from_pretrained(str(folder))
