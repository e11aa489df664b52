"""Is the prior with a memory the same as diffusers' pipeline, and how much faster? Same weights, same prompt, same noise.

    python benchmarks/prior_sampling.py [--json FILE] [--batches 32 256] [--layers N] [--steps N] [--rounds N]
                                        [--devices cpu cuda]

Two models: the built-in miniature, and a prior of Kandinsky's real width (2048, 32 heads) with random weights and as many layers
as asked for, in float32 and bfloat16. With a GPU the real depth, 20 layers, in bfloat16, and 5,000 embeddings in one go. Both sides
sample in turns; the medians are compared. Reading the prompt is part of both, and so is drawing the noise.
"""
from __future__ import annotations

import argparse
import copy
import statistics
import time
from functools import lru_cache
from pathlib import Path

import torch
from rarity.density.base.spaces import EmbeddingSpace
from rarity.generators.kandinsky.load import load_kandinsky, miniature_folder
from rarity.generators.kandinsky.prior import Prior
from rarity.generators.runtime.loading import dtype_option
from rarity.generators.runtime.noise import streams
from targets import add_devices, show_targets, write_json
from tqdm import tqdm

PROMPT = "a letter"  # with its two ends 10 tokens of the alphabet below
WIDTH, HEADS, EMBEDDING, TOKENS = 2048, 32, 768, 77  # of the real priors; 2.1 embeds in 768 dimensions, 2.2 in 1280
GPU_STEPS = 25  # as in use; few would mostly measure what is done once
MOST_ERROR = 1e-5  # in float32, from diffusers
MOST_TIMES = 1.1  # in half precision, an error from diffusers in float32 beside diffusers' own error in half precision
EXACT = 16  # samples whose error that is
SQUARE = {"cuda": 8192}  # rows of the matrices whose product is the peak; elsewhere 1,024
ASKED = {64: 15, 256: 24, 1000: 32}  # times as fast on a graphics card, by batch


def miniature() -> tuple[Prior, object]:
    """The built-in prior, and diffusers' pipeline of the same files."""
    from diffusers import KandinskyV22PriorPipeline

    folder = miniature_folder() / "prior"
    float32 = dtype_option(KandinskyV22PriorPipeline, torch.float32)
    pipeline = KandinskyV22PriorPipeline.from_pretrained(folder, local_files_only=True, **float32)
    return load_kandinsky()[0], pipeline


def real_width(layers: int, device: str, dtype: torch.dtype, embedding: int = EMBEDDING) -> tuple[Prior, object]:
    """A random prior of the real width with small encoders, ours and diffusers' around the very same weights."""
    from diffusers import KandinskyPriorPipeline, PriorTransformer, UnCLIPScheduler
    from transformers import (
        CLIPImageProcessor,
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        CLIPTokenizer,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(miniature_folder() / "prior" / "tokenizer", model_max_length=TOKENS)
    small = {"num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    ends = {f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("bos", "eos", "pad")}
    text = CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=embedding, projection_dim=embedding, **small, **ends)
    vision = CLIPVisionConfig(hidden_size=64, projection_dim=embedding, image_size=16, patch_size=8, **small)
    with torch.device(device):  # a billion random numbers take a graphics card no time
        transformer = PriorTransformer(
            num_attention_heads=HEADS, attention_head_dim=WIDTH // HEADS, num_layers=layers, embedding_dim=embedding
        )
    with torch.no_grad():  # diffusers starts these at zero, where a wrong use of them would not show
        for name in ("positional_embedding", "prd_embedding", "clip_mean"):
            getattr(transformer, name).normal_()
        transformer.clip_std.uniform_(0.5, 2)
    parts = {
        "prior": transformer,
        "text_encoder": CLIPTextModelWithProjection(text),
        "image_encoder": CLIPVisionModelWithProjection(vision),
        "tokenizer": tokenizer,
        "image_processor": CLIPImageProcessor(),
        "scheduler": UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=10.0),
    }
    pipeline = KandinskyPriorPipeline(**parts)
    for part in (pipeline.prior, pipeline.text_encoder, pipeline.image_encoder):
        torch.nn.Module.to(part.eval().requires_grad_(False), device, dtype)  # diffusers' own warns of what it has no cause for
    space = EmbeddingSpace("random", "0" * 12, embedding)
    ours = {"transformer": pipeline.prior, **{name: parts[name] for name in ("text_encoder", "image_encoder", "tokenizer")}}
    return Prior(space=space, zero=None, image_processor={}, scheduler=pipeline.scheduler, **ours), pipeline


def theirs(pipeline, count: int, steps: int):
    """diffusers' samples for the noise that ours draw."""
    noise = streams(0, 0, count, "prior")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(PROMPT, num_images_per_prompt=count, num_inference_steps=steps, generator=noise).image_embeds.float().cpu()


@lru_cache
def exact(pipeline, count: int, steps: int) -> torch.Tensor:
    """diffusers' samples in float32, with the very weights of a pipeline in half precision."""
    parts = {name: copy.deepcopy(getattr(pipeline, name)).float() for name in ("prior", "text_encoder", "image_encoder")}
    return theirs(type(pipeline)(**pipeline.components | parts), count, steps)


def error(found: torch.Tensor, reference: torch.Tensor) -> float:
    """|found - reference| / |reference| of the first samples of each."""
    found = found[: len(reference)]
    return float((found - reference).norm() / reference.norm())


def timed(work) -> tuple[torch.Tensor, float]:
    """What work() returns, and its seconds."""
    _wait()
    start = time.perf_counter()
    found = work()
    _wait()
    return found, time.perf_counter() - start


def compare(name: str, prior: Prior, pipeline, batch: int, steps: int, rounds: int) -> dict:
    """One row: the same samples from both, in turns."""
    model = prior.transformer
    both = {"ours": lambda: prior.sample(PROMPT, batch, steps=steps, batch_size=batch).vectors,
            "diffusers": lambda: theirs(pipeline, batch, steps)}
    seconds = {side: [] for side in both}
    with torch.no_grad():
        if model.device.type == "cuda":  # what is slow once
            theirs(pipeline, batch, 2)
            for _ in range(2):  # steps are captured at the first sampling, the reading of a prompt at the second
                prior.sample(PROMPT, batch, steps=steps, batch_size=batch)
        for _ in tqdm(range(rounds), desc=f"{name}, batch {batch}", disable=None):
            found = {}
            for side, work in both.items():
                found[side], took = timed(work)
                seconds[side].append(took)
        reference = found["diffusers"] if model.dtype == torch.float32 else exact(pipeline, min(batch, EXACT), steps)
    middle = {side: statistics.median(times) for side, times in seconds.items()}
    work = multiply_adds(model, len(prior.tokenizer(PROMPT).input_ids))
    peak = gemm_peak(model)
    return {
        "model": name,
        "device": model.device.type,
        "batch": batch,
        "steps": steps,
        "type": str(model.dtype).removeprefix("torch."),
        "times as fast": middle["diffusers"] / middle["ours"],
        "relative error": error(found["ours"], reference),
        "relative error, diffusers": error(found["diffusers"], reference),
        "ms a sample": 1000 * middle["ours"] / batch,
        "ms a sample, diffusers": 1000 * middle["diffusers"] / batch,
        "multiply-adds a sample and step": work["ours"],
        "multiply-adds, diffusers": work["diffusers"],
        "share of GEMM peak": work["ours"] * batch * steps / middle["ours"] / peak,
        "share of GEMM peak, diffusers": work["diffusers"] * batch * steps / middle["diffusers"] / peak,
    }


def multiply_adds(model, used: int) -> dict[str, float]:
    """Of one guided sample and step: both texts, matrix products and attention; ours without what is computed once a prompt.

    A token costs 12 w^2 a layer (four projections of the attention, twice 4 w^2 of the rest), and 2 w for each key it sees.
    """
    width = model.config.num_attention_heads * model.config.attention_head_dim
    layers, tokens = model.config.num_layers, model.config.num_embeddings + model.config.additional_embeddings
    ends = 2 * width * model.config.embedding_dim  # in and out
    ours = 2 * (layers * (2 * 12 * width**2 + 2 * 2 * width * (used + 4)) + ends)
    full = 2 * (layers * tokens * (12 * width**2 + 2 * width * tokens) + (tokens - 2) * width * model.config.embedding_dim + ends)
    return {"ours": ours, "diffusers": full}


def gemm_peak(model) -> float:
    """Multiply-adds a second of one large square matrix product, on the model's device and in its type."""
    n = SQUARE.get(model.device.type, 1024)
    a, b = (torch.randn(n, n, device=model.device, dtype=model.dtype) for _ in range(2))
    torch.mm(a, b)
    return n**3 / statistics.median(timed(lambda: torch.mm(a, b))[1] for _ in range(5))


def in_one_go(prior: Prior) -> dict:
    """5,000 embeddings with 25 steps and guidance."""
    prior.sample(PROMPT, 5000, steps=2)  # what is slow once
    seconds = statistics.median(timed(lambda: prior.sample(PROMPT, 5000))[1] for _ in range(3))
    return {"model": "5,000 embeddings, 25 steps, guided", "seconds": seconds}


def reached(rows: list[dict], big: dict | None) -> list[dict]:
    """The figures that were asked for; those that need a GPU say so where there is none."""
    errors = [row["relative error"] for row in rows if row["type"] == "float32"]
    halves = [row["relative error"] / row["relative error, diffusers"] for row in rows if row["type"] != "float32"]
    # The largest of a NaN is NaN, which reaches nothing.
    largest = [float(torch.tensor(found).max()) if found else None for found in (errors, halves)]
    targets = [
        _target("largest relative error from diffusers, float32", largest[0], MOST_ERROR, False),
        _target("error from float32 in half precision, of diffusers' own", largest[1], MOST_TIMES, False),
    ]
    wide = {(row["device"], row["type"], row["batch"]): row["times as fast"] for row in rows if row["model"] != "miniature"}
    targets.append(_target("times as fast, real width, batch 256, CPU", wide.get(("cpu", "float32", 256)), 22, True))
    for batch, times in ASKED.items():
        fast = wide.get(("cuda", "bfloat16", batch))
        targets.append(_target(f"times as fast, full size, GPU, bfloat16, batch {batch:,}", fast, times, True))
    targets.append(_target("seconds for 5,000 embeddings, GPU", big and big["seconds"], 2.5, False))
    return targets


def _target(name: str, value: float | None, reach: float, more: bool) -> dict:
    if value is None:
        return {"name": name, "value": "not measured", "reach": reach, "ok": None}
    return {"name": name, "value": value, "reach": reach, "ok": value >= reach if more else value <= reach}


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def show(rows: list[dict], targets: list[dict]) -> None:
    print(f"\n{'model':24}{'device':8}{'batch':>6}{'type':>10}{'times':>8}{'error':>10}{'diffusers':>11}{'ms/sample':>11}{'diffusers':>11}"
          f"{'of peak':>9}{'diffusers':>11}")
    for row in rows:
        print(f"{row['model']:24}{row['device']:8}{row['batch']:6}{row['type']:>10}{row['times as fast']:8.1f}{row['relative error']:10.1e}"
              f"{row['relative error, diffusers']:11.1e}{row['ms a sample']:11.2f}{row['ms a sample, diffusers']:11.2f}"
              f"{row['share of GEMM peak']:9.2f}{row['share of GEMM peak, diffusers']:11.2f}")
    print("times: how many times as fast as diffusers' pipeline. error: |found - diffusers in float32| / |diffusers in float32| of the\n"
          f"embeddings, in half precision of the first {EXACT}; ours, then diffusers'. of peak: multiply-adds a second over those of one\n"
          "large matrix product on the same device; ours, then diffusers'.")
    for row in {row["model"]: row for row in rows}.values():
        print(f"{row['model']}: {row['multiply-adds a sample and step']:.3g} multiply-adds a sample and step, "
              f"diffusers {row['multiply-adds, diffusers']:.3g}.")
    show_targets(targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and targets there, too")
    parser.add_argument("--batches", type=int, nargs="+", metavar="N", help="32 64 128 256 512 on the CPU, 64 256 1000 on a GPU")
    parser.add_argument("--layers", type=int, default=2, metavar="N", help="of the real width, on the CPU (20 on a GPU)")
    parser.add_argument("--steps", type=int, default=2, metavar="N", help=f"denoising steps of the comparison, on the CPU ({GPU_STEPS} on a GPU)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    add_devices(parser)
    options = parser.parse_args()
    rows, big = [], None
    settings = {"threads": torch.get_num_threads(), "gpu": torch.cuda.is_available() and torch.cuda.get_device_name()}

    def add(batches: list[int], *given) -> None:
        """A row for each batch, kept as soon as it is there."""
        name, prior, pipeline, steps = given
        for batch in batches:
            rows.append(compare(name, prior, pipeline, batch, steps, options.rounds))
            write_json(options.json, settings=settings, rows=rows)

    if "cpu" in options.devices:
        batches = options.batches or [32, 64, 128, 256, 512]
        add(batches, "miniature", *miniature(), options.steps)
        for kind in (torch.float32, torch.bfloat16):
            add(batches, f"width {WIDTH}, {options.layers} layers", *real_width(options.layers, "cpu", kind), options.steps)
    if "cuda" in options.devices:
        pair = real_width(20, "cuda", torch.bfloat16)
        big = in_one_go(pair[0])
        add(options.batches or list(ASKED), f"width {WIDTH}, 20 layers", *pair, GPU_STEPS)
    targets = reached(rows, big)
    show(rows, targets)
    write_json(options.json, settings=settings, rows=rows + [big] * bool(big), targets=targets)


if __name__ == "__main__":
    main()
