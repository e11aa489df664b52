"""Baselines from ComfyUI's own models: picture by picture what KSampler makes, cancelled, resumed, and as a node of a server."""

import json
import time

import pytest
import torch
from comfyui import messages
from rarity.density.files.store import load_embeddings
from tiny_open_clip import SMALLEST

pytest.importorskip("open_clip")
ROUNDING = 1e-4  # of pixels, and of an embedding's length: float32 sums in another order, through a U-Net and a VAE


@pytest.fixture(scope="module")
def found(on_comfyui, native_models):
    (path,) = native_models("sd15_small")
    return on_comfyui("model_baseline.py", str(path))


def test_every_picture_is_ksampler_s_of_its_own_seed_whatever_the_batch(found):
    assert set(found["KSampler"]) >= {"euler", "euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde_gpu", "dpm_adaptive"}
    assert max(found["KSampler"].values()) < ROUNDING, found["KSampler"]
    assert found["batches of one"] < ROUNDING < 0.05 < found["spread"]
    assert found["source"] == {"kind": "model", "model": "BaseModel", "seed": 5, "steps": 2, "cfg": 3.0, "sampler": "euler",
                               "scheduler": "normal", "width": 32, "height": 32}
    assert found["report"] == "7 pictures of BaseModel, 32 x 32, 2 steps of euler (normal), cfg 3, seeds from 5 on."


@pytest.mark.parametrize("kind", ["basic", "cfg", "dual", "another pack's"])
def test_with_a_guider_a_sampler_and_sigmas_it_is_the_picture_of_sampler_custom_advanced(found, kind):
    """With this node's prompt in place of the guider's; each picture by itself where nobody knows whence a sampler has its noise."""
    assert found["SamplerCustomAdvanced"][kind]["apart"] < ROUNDING


def test_what_is_connected_is_named_and_not_changed(found):
    one = found["SamplerCustomAdvanced"]
    assert one["differ"] > 0.02 and one["same picture"] < ROUNDING and one["foreign twice"] < ROUNDING and one["unchanged"]
    assert one["same keys"], "euler of a node is the euler of the menu"
    assert one["report"].startswith(
        "2 pictures of BaseModel, 32 x 32, 3 steps of euler (sigmas from 9 to 0), CFGGuider (cfg 3), seeds from 5 on.")
    source = one["basic"]["source"]
    assert source["sampler"] == "dpmpp_2m_sde (eta 0.7, s_noise 1, solver_type heun)" and source["scheduler"] == "sigmas 9 2.5 0.7 0"
    assert source["steps"] == 3 and source["cfg"] == "Guider_Basic (cfg 1)"
    assert one["dual"]["source"]["cfg"].startswith("Guider_DualCFG (cfg 1, cfg1 2, cfg2 3")
    assert "at least two finite levels of noise" in one["no steps"] and "has no positive prompt" in one["no prompt"]
    assert "a node such as KSamplerSelect, got str" in one["no sampler"]


def test_progress_goes_step_by_step_and_shows_every_batch(found):
    ticks = found["ticks"]
    assert [done for done, _ in ticks] == sorted(done for done, _ in ticks) and ticks[-1] == [14, 14]
    assert len(ticks) == 3 * 2 + 3 and found["previews"] == [3, 3, 1] and found["pictures"] == [7, 32, 32, 3]


def test_what_was_stopped_goes_on(found):
    assert found["kept after the stop"] == 4, "every batch that was whole"
    assert found["resumed"] < ROUNDING and found["resumed ticks"] == [6, 6], "of the three that were missing"
    assert found["resumed report"] and found["resumed source"]
    assert found["nothing more to draw"] == [1, 32, 32, 3], "picture 0, drawn again to compare"
    assert found["more"] == 9 and found["stopped while comparing"] == "0 of 14"


def test_a_part_that_begins_further_on_is_the_same_pictures(found):
    part = found["first"]
    assert part["apart"] < ROUNDING and part["keys"] and part["kept"]
    assert part["report"].endswith("seeds from 9 on.")
    assert "begins with sample 4; asked for were samples from 5 on" in part["another first"]


def test_a_picture_is_the_same_one_in_every_batch_and_under_every_seed_that_counts_to_it(found):
    keys = found["keys"]
    assert keys["batches of one"] and keys["resumed"]
    assert keys["next seed"], "picture i has the seed plus i: seed 6 begins with picture 1 of seed 5"
    assert keys["apart"] == 4 * 3, "another prompt, setting or LoRA, or its strength, makes other pictures"
    assert keys["model"] and keys["text"], "rounding changes no name"
    assert keys["unclip"], "its noise is that of the first seed"


@pytest.mark.parametrize("cause, message", [
    ("another prompt", "of another model, conditioning or VAE: picture 0, drawn again"),
    ("another cfg", "another baseline: cfg 3.0 (asked for: 4.0)"),
    ("count", "The count must be at least 1, got 0"),
    ("batch", "The batch must be at least 1, got 0"),
    ("steps", "at least 1 step"),
    ("cfg", "finite cfg, got 2 and nan"),
    ("sampler", "There is no sampler 'res_99s' here"),
    ("scheduler", "There is no scheduler 'bong' here"),
    ("size", "A picture of 4 x 32 is too small: one latent of this VAE is 8 pixels wide"),
    ("vae", "it reads latents of 16 channels, BaseModel makes 4"),
    ("another model", "SD15 reads tokens 768 wide (Stable Diffusion 1.5), got tokens 1,024 wide (Stable Diffusion 2). Encode"),
    ("one row", "SD15 reads the tokens of texts, shape [N, T, D], got shape (77, 768)"),
    ("sound", "makes no pictures but latents of 1 dimensions"),
])
def test_what_cannot_be_drawn_is_an_error_that_says_so(found, cause, message):
    assert message in found["errors"][cause]


@pytest.mark.parametrize("kind", ["mask", "hint"])
def test_masks_and_controlnet_hints_take_effect_and_are_kept(found, kind):
    assert found[kind]["as KSampler"] < ROUNDING < 0.01 < found[kind]["moves"] and found[kind]["kept"]


def test_the_node_does_the_same_and_nothing_is_changed(found):
    difference, same_report, shape = found["node"]
    assert difference < ROUNDING and same_report and shape == [7, 32, 32, 3]
    assert "An eye must be" in found["node with no eye"] and "got VAE. Connect one of these to eye." in found["node with no eye"]
    assert found["out of memory"][0] < ROUNDING and found["out of memory"][1] == [7, 4, 2, 2, 2, 1]
    assert found["digest kept"] and found["random state kept"] and found["one frame of a video"] == [16, 1, 4, 4]


def graph(checkpoint, clip, keep_as, count=12):
    def node(class_type, **inputs):
        return {"class_type": class_type, "inputs": inputs}

    return {
        "model": node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "yes": node("CLIPTextEncode", clip=["model", 1], text="a photo of a cat"),
        "no": node("CLIPTextEncode", clip=["model", 1], text=""),
        "eye": node("RarityLoadOpenCLIP", architecture=SMALLEST, checkpoint=clip),
        "baseline": node("RarityBaselineFromModel", model=["model", 0], positive=["yes", 0], negative=["no", 0], vae=["model", 2],
                         count=count, seed=7, steps=3, cfg=3.0, sampler_name="euler_ancestral", scheduler="normal", width=32,
                         height=32, batch=2, eye=["eye", 0], keep_as=keep_as),
        "contrast": node("RarityContrastGuardrail", embeddings=["baseline", 0], subject="a cat", alternatives="a dog",
                         quantile=0.5, eye=["eye", 0]),
        "direction": node("RaritySteerTowards", strength=1.0, eye=["eye", 0], towards="a large cat", away_from="a small cat"),
        "report": node("PreviewAny", source=["baseline", 1]),
        "rails": node("PreviewAny", source=["contrast", 0]),
        "ways": node("PreviewAny", source=["direction", 0]),
        "save": node("SaveImage", images=["baseline", 2], filename_prefix="baseline"),
    }


def test_a_server_runs_it_twice_alike_and_once_more_after_a_cancel(native_server, native_models, clip_checkpoint):
    (path,) = native_models("sd15_small")
    folder = native_server.base / "models" / "rarity_embeddings"

    def kept(name):
        return torch.cat([load_embeddings(file).vectors for file in sorted((folder / name).glob("*.safetensors"))])

    def run(name):
        entry = native_server.run(graph(path.name, clip_checkpoint, name), seconds=900)
        assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
        return entry

    entry = run("first")
    assert entry["outputs"]["report"]["text"][0].startswith("12 pictures of BaseModel, 32 x 32, 3 steps of euler_ancestral")
    pictures = native_server.pictures(entry, "save")
    assert pictures.shape == (8, 32, 32, 3) and pictures.std() > 10
    run("second")
    assert torch.equal(kept("first"), kept("second")) and len(kept("first")) == 12

    long = graph(path.name, clip_checkpoint, "third", count=2000)
    prompt_id = native_server.submit(long)
    deadline = time.monotonic() + 300
    while not native_server.is_running(prompt_id) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)
    native_server.raw("/interrupt", {})
    entry = native_server.wait(prompt_id)
    assert messages(entry, "execution_interrupted"), json.dumps(entry["status"])[:2000]
    run("third")
    torch.testing.assert_close(kept("third")[:12], kept("first"), rtol=0, atol=ROUNDING * float(kept("first")[0].norm()))
