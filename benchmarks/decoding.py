"""How long does drawing pictures take beside diffusers' pipeline? Same weights, same embeddings, same noise.

    python benchmarks/decoding.py [--json FILE] [--pictures 1 16] [--steps N] [--rounds N] [--devices cpu cuda]

On the CPU the built-in miniature, in float32. With a GPU a decoder as large as Kandinsky 2.2's (U-Net of 1,253 M parameters, MoVQ of 68 M)
with random weights in float16, pictures of 512 x 512, 50 steps, guided. Both sides draw in turns; the medians are compared, and the first
call of ours, which captures, is told beside them.
"""
from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from prior_sampling import timed
from rarity.density import Embeddings
from rarity.density.base.spaces import EmbeddingSpace
from rarity.generators.kandinsky.decoder import Decoder, DecoderDefaults
from rarity.generators.kandinsky.load import load_kandinsky, miniature_folder
from rarity.generators.runtime.noise import picture_streams
from targets import add_devices, show_targets, write_json
from tqdm import tqdm

EMBEDDING = 1280  # of Kandinsky 2.2
GUIDANCE = 4.0
ASKED = {1: 2.0, 16: 1.0}  # times as fast on a graphics card, by pictures

UNET = dict(
    sample_size=64, in_channels=4, out_channels=8, block_out_channels=(384, 768, 1152, 1536), layers_per_block=3,
    down_block_types=("ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3),
    mid_block_type="UNetMidBlock2DSimpleCrossAttn",
    up_block_types=(*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"),
    attention_head_dim=64, cross_attention_dim=768, resnet_time_scale_shift="scale_shift",
    addition_embed_type="image", encoder_hid_dim=EMBEDDING, encoder_hid_dim_type="image_proj",
)
MOVQ = dict(
    block_out_channels=(128, 256, 256, 512), layers_per_block=2, latent_channels=4, norm_type="spatial",
    num_vq_embeddings=16384, vq_embed_dim=4,
    down_block_types=(*["DownEncoderBlock2D"] * 3, "AttnDownEncoderBlock2D"),
    up_block_types=("AttnUpDecoderBlock2D", *["UpDecoderBlock2D"] * 3),
)
SCHEDULER = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="linear", prediction_type="epsilon", clip_sample=True,
    clip_sample_range=2.0, variance_type="learned_range",
)


def miniature() -> tuple[Decoder, object]:
    """The built-in decoder, and diffusers' pipeline of the same files."""
    from diffusers import KandinskyV22Pipeline

    folder = miniature_folder() / "decoder"
    return load_kandinsky()[1], KandinskyV22Pipeline.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)


def full_size(device: str, dtype: torch.dtype, unet: dict = UNET, movq: dict = MOVQ) -> tuple[Decoder, object]:
    """A random decoder of Kandinsky 2.2's size, ours and diffusers' around the very same weights."""
    from diffusers import DDPMScheduler, KandinskyV22Pipeline, UNet2DConditionModel, VQModel

    torch.manual_seed(0)
    with torch.device(device):  # a billion random numbers take a graphics card no time
        parts = {"unet": UNet2DConditionModel(**unet), "movq": VQModel(**movq)}
    pipeline = KandinskyV22Pipeline(scheduler=DDPMScheduler(**SCHEDULER), **parts).to(device, dtype)
    for part in (pipeline.unet, pipeline.movq):
        part.eval().requires_grad_(False)
    width = unet["encoder_hid_dim"]
    space, zero = EmbeddingSpace("random", "0" * 12, width), torch.zeros(1, width)
    settings = {"scheduler": pipeline.scheduler, "defaults": DecoderDefaults()}
    return Decoder(space=space, zero=zero, unet=pipeline.unet, movq=pipeline.movq, **settings), pipeline


def theirs(pipeline, decoder: Decoder, rows: Embeddings, steps: int) -> torch.Tensor:
    """diffusers' pictures [N, H, W, 3] for the noise that ours draw."""
    pipeline.set_progress_bar_config(disable=True)
    device, dtype = pipeline.unet.device, pipeline.unet.dtype
    other = decoder._zero.expand(len(rows), -1).to(device, dtype)
    found = pipeline(
        rows.vectors.to(device, dtype), other, height=decoder.size, width=decoder.size, num_inference_steps=steps,
        guidance_scale=GUIDANCE, generator=picture_streams(rows.keys, 0), output_type="pt",
    ).images
    return (found.permute(0, 2, 3, 1).float() * 0.5 + 0.5).clamp(0, 1).cpu()  # as this type comes, -1 to 1


def compare(name: str, decoder: Decoder, pipeline, pictures: int, steps: int, rounds: int) -> dict:
    """One row: the same pictures from both, in turns."""
    draw = torch.Generator().manual_seed(1)
    rows = Embeddings(torch.randn(pictures, decoder.space.width, generator=draw), decoder.space)
    both = {"ours": lambda: decoder.decode(rows, steps=steps, guidance=GUIDANCE, batch_size=pictures),
            "diffusers": lambda: theirs(pipeline, decoder, rows, steps)}
    device = decoder.unet.device
    seconds, found = {side: [] for side in both}, {}
    with torch.no_grad():
        if device.type == "cuda":  # what libraries do once, on both sides
            theirs(pipeline, decoder, rows, 2)
            torch.cuda.reset_peak_memory_stats()
        _, first = timed(both["ours"])
        peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None
        for _ in tqdm(range(rounds), desc=f"{name}, {pictures}", disable=None):
            for side, work in both.items():
                found[side], took = timed(work)
                seconds[side].append(took)
    middle = {side: statistics.median(times) for side, times in seconds.items()}
    return {
        "model": name,
        "device": device.type,
        "type": str(decoder.unet.dtype).removeprefix("torch."),
        "pictures": pictures,
        "size": decoder.size,
        "steps": steps,
        "times as fast": middle["diffusers"] / middle["ours"],
        "seconds": middle["ours"],
        "seconds, diffusers": middle["diffusers"],
        "seconds, first call": first,
        "difference": float((found["ours"] - found["diffusers"]).abs().mean()),
        "peak GB": peak,
    }


def reached(rows: list[dict]) -> list[dict]:
    """The figures that were asked for; those that need a GPU say so where there is none."""
    found = {row["pictures"]: row["times as fast"] for row in rows if row["device"] == "cuda"}
    return [
        {"name": f"times as fast, {pictures} of 512 x 512, full size, GPU, float16", "value": found.get(pictures, "not measured"),
         "reach": times, "ok": found[pictures] >= times if pictures in found else None}
        for pictures, times in ASKED.items()
    ]


def show(rows: list[dict], targets: list[dict]) -> None:
    print(f"\n{'model':12}{'device':8}{'type':>9}{'pictures':>10}{'size':>6}{'steps':>7}{'times':>8}{'seconds':>9}{'diffusers':>11}"
          f"{'first':>8}{'difference':>12}{'peak GB':>9}")
    for row in rows:
        peak = "-" if row["peak GB"] is None else f"{row['peak GB']:.1f}"
        print(f"{row['model']:12}{row['device']:8}{row['type']:>9}{row['pictures']:10}{row['size']:6}{row['steps']:7}{row['times as fast']:8.2f}"
              f"{row['seconds']:9.2f}{row['seconds, diffusers']:11.2f}{row['seconds, first call']:8.2f}{row['difference']:12.1e}{peak:>9}")
    print("times: how many times as fast as diffusers' pipeline. first: seconds of the first call, which captures. difference: mean of\n"
          "|ours - diffusers| of the pixels, 0 to 1, in one type. peak GB: allocated on a GPU in the first call.")
    show_targets(targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and targets there, too")
    parser.add_argument("--pictures", type=int, nargs="+", default=list(ASKED), metavar="N")
    parser.add_argument("--steps", type=int, metavar="N", help="denoising steps: 5 on the CPU, 50 on a GPU")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    add_devices(parser)
    options = parser.parse_args()
    rows = []
    if "cpu" in options.devices:
        rows += [compare("miniature", *miniature(), pictures, options.steps or 5, options.rounds) for pictures in options.pictures]
    if "cuda" in options.devices:
        pair = full_size("cuda", torch.float16)
        rows += [compare("full size", *pair, pictures, options.steps or 50, options.rounds) for pictures in options.pictures]
    targets = reached(rows)
    show(rows, targets)
    settings = {"threads": torch.get_num_threads(), "gpu": torch.cuda.is_available() and torch.cuda.get_device_name()}
    write_json(options.json, settings=settings, rows=rows, targets=targets)


if __name__ == "__main__":
    main()
