"""Stable Cascade and Stable Diffusion XL on real servers, from their files: stock nodes draw just what our nodes look at.

The models are random and small. Of Stable Cascade, stage C with its own VAE is looked at: a latent of stage C is 32 pixels wide to it, and 96 x 96
here is 256 x 256 with a compression of 85.
"""

import time

import numpy as np
import pytest
from comfyui import messages
from graph import nodes_of

DRAWN = {"steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
ENGINES = ("gradient", "evolution")


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def words(text):
    return node("CLIPTextEncode", clip=["model", 1], text=text)


def cascade(named):
    """Stage C, the latents of both stages, and stage B."""
    return {"width": 96, "height": 96}, {
        "model": node("unCLIPCheckpointLoader", ckpt_name=named("cascade_c_small")), "eye": ["model", 3],
        "nothing": node("StableCascade_EmptyLatentImage", width=256, height=256, compression=85, batch_size=1),
        "b": node("CheckpointLoaderSimple", ckpt_name=named("cascade_b_small")),
    }


def xl(named):
    return {"width": 64, "height": 64}, {
        "model": node("CheckpointLoaderSimple", ckpt_name=named("sdxl_small")), "eye": ["vision", 0],
        "vision": node("CLIPVisionLoader", clip_name=named("clip_vision_l_small")),
        "nothing": node("EmptyLatentImage", width=64, height=64, batch_size=1),
    }


FAMILIES = {"Stable Cascade": cascade, "Stable Diffusion XL": xl}


@pytest.fixture(scope="module")
def graph_of(native_server, native_models):
    """A family's models, prompts, a baseline and what is usual; in API format."""
    def graph(family):
        size, models = FAMILIES[family](lambda name: native_models(name)[0].name)
        told = {"model": ["model", 0], "negative": ["empty", 0], "vae": ["model", 2], "eye": models.pop("eye"), "seed": 7, **DRAWN, **size}
        return told, models | {
            "cat": words("a photo of a cat"), "empty": words(""), "house": words("a red house by the sea"), "dog": words("an old dog"),
            "others": node("ConditioningCombine", conditioning_1=["house", 0], conditioning_2=["dog", 0]),
            "usual": node("RarityBaselineFromModel", positive=["cat", 0], count=50, batch=25, keep_as="", **told),
            "density": node("RarityFitDensity", embeddings=["usual", 0], components=4),
        }

    return graph


def by_stock_nodes(name, positive, seed):
    """The model with this prompt and this seed, shown by its VAE."""
    settings = {"model": ["model", 0], "negative": ["empty", 0], "denoise": 1.0, "seed": seed, **DRAWN}
    return {
        f"{name} drawn": node("KSampler", positive=positive, latent_image=["nothing", 0], **settings),
        f"{name} shown": node("VAEDecode", samples=[f"{name} drawn", 0], vae=["model", 2]),
        f"{name} stock": node("SaveImage", images=[f"{name} shown", 0], filename_prefix=name),
    }


def in_full(name, positive):
    """What stage B and stage A make of it."""
    return {
        f"{name} for B": node("StableCascade_StageB_Conditioning", conditioning=positive, stage_c=[f"{name} drawn", 0]),
        f"{name} in B": node("KSampler", positive=[f"{name} for B", 0], negative=["empty", 0], latent_image=["nothing", 1],
                              model=["b", 0], denoise=1.0, seed=0, **DRAWN | {"steps": 1}),
        f"{name} in full": node("VAEDecode", samples=[f"{name} in B", 0], vae=["b", 2]),
        f"{name} full": node("SaveImage", images=[f"{name} in full", 0], filename_prefix=name),
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_rare_by_both_engines_and_varied_alike_again_after_a_cancel(native_server, graph_of, family):
    told, prompt = graph_of(family)
    prompt = prompt | by_stock_nodes("plain", ["cat", 0], 7)
    for engine in ENGINES:
        prompt[engine] = node("RarityMakeRareConditioning", positive=["cat", 0], density=["density", 0], engine=engine, one_in=10, pictures=1,
                              iterations=4 if engine == "gradient" else 1, variations=["others", 0], dimensions=2, **told)
        prompt[f"{engine} said"] = node("PreviewAny", source=[engine, 2])
        prompt[f"{engine} looked at"] = node("SaveImage", images=[engine, 3], filename_prefix=engine)
        prompt |= by_stock_nodes(engine, [engine, 0], 7)
    if family == "Stable Cascade":
        prompt |= in_full("gradient", ["gradient", 0])
    prompt["varied"] = node("RaritySeedVariety", positive=["cat", 0], variety=1.5, count=2, pictures=3, variations=["others", 0], **told)
    prompt["varied said"] = node("PreviewAny", source=["varied", 4])
    prompt |= by_stock_nodes("varied", ["varied", 0], ["varied", 1])

    def run():
        entry = native_server.run(prompt, seconds=300)
        assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
        return entry, {key: native_server.pictures(entry, key) for key in nodes_of(prompt, "SaveImage")}

    entry, drawn = run()
    said = {name: entry["outputs"][name]["text"][0] for name in nodes_of(prompt, "PreviewAny")}
    for engine in ENGINES:
        assert (drawn[f"{engine} looked at"] == drawn[f"{engine} stock"]).all(), engine
        assert "of 1 are about 1 in 10" in said[f"{engine} said"]
    if family == "Stable Cascade":
        assert drawn["gradient full"].shape == (1, 256, 256, 3) and drawn["gradient full"].std() > 5
    assert " times as far apart as they are drawn" in said["varied said"]
    for name in (*ENGINES, "varied"):
        assert np.abs(drawn[f"{name} stock"][0].astype(float) - drawn["plain stock"][0]).mean() > 1, name

    before = {name: prompt[name] for name in ENGINES}
    prompt |= {name: node("RarityMakeRareConditioning", **one["inputs"] | {"steps": 1000}) for name, one in before.items()}
    prompt_id = native_server.submit(prompt)
    while not native_server.is_running(prompt_id):
        time.sleep(0.02)
    time.sleep(1)
    native_server.raw("/interrupt", {"prompt_id": prompt_id})
    entry = native_server.wait(prompt_id)
    (interrupted,) = messages(entry, "execution_interrupted")
    assert interrupted["node_type"] == "RarityMakeRareConditioning"
    prompt |= before
    entry, after = run()
    assert not {*ENGINES} & {key for told in messages(entry, "execution_cached") for key in told["nodes"]}
    assert all(np.array_equal(drawn[key], after[key]) for key in drawn)


def test_stage_b_alone_is_refused(native_server, graph_of):
    """ComfyUI would draw it, with zeros for what stage C lays out."""
    of_c, prompt = graph_of("Stable Cascade")
    told = of_c | {"model": ["b", 0], "vae": ["b", 2]}
    prompt = prompt | {"usual": node("RarityBaselineFromModel", positive=["cat", 0], count=2, batch=2, keep_as="", **told)}
    prompt["said"] = node("PreviewAny", source=["usual", 1])
    (error,) = messages(native_server.run(prompt, seconds=300), "execution_error")
    assert "stage B of Stable Cascade" in error["exception_message"] and "Connect the model of stage C" in error["exception_message"]
