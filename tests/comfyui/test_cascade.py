"""Stable Cascade on real servers, from its files: stage C with its own VAE is looked at, and stock nodes draw just that.

The models are random and small. A latent of stage C is 32 pixels wide to its VAE: 96 x 96 here is 256 x 256 with a compression of 85.
"""

import time

import numpy as np
import pytest
from comfyui import messages
from graph import nodes_of

SIZE = {"width": 96, "height": 96}
DRAWN = {"steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
ENGINES = ("gradient", "evolution")


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def words(text):
    return node("CLIPTextEncode", clip=["c", 1], text=text)


@pytest.fixture(scope="module")
def graph(native_server, native_models):
    """Stage C, stage B, prompts, a baseline and what is usual; in API format."""
    c, b = (path.name for path in native_models("cascade_c_small", "cascade_b_small"))
    of_c = {"model": ["c", 0], "negative": ["empty", 0], "vae": ["c", 2], "eye": ["c", 3], "seed": 7, **DRAWN, **SIZE}
    return of_c, {
        "c": node("unCLIPCheckpointLoader", ckpt_name=c), "b": node("CheckpointLoaderSimple", ckpt_name=b),
        "cat": words("a photo of a cat"), "empty": words(""), "house": words("a red house by the sea"), "dog": words("an old dog"),
        "others": node("ConditioningCombine", conditioning_1=["house", 0], conditioning_2=["dog", 0]),
        "nothing": node("StableCascade_EmptyLatentImage", width=256, height=256, compression=85, batch_size=1),
        "usual": node("RarityBaselineFromModel", positive=["cat", 0], count=50, batch=25, keep_as="", **of_c),
        "density": node("RarityFitDensity", embeddings=["usual", 0], components=4),
    }


def by_stock_nodes(name, positive, seed):
    """Stage C with this prompt and this seed, shown by its VAE."""
    settings = {"model": ["c", 0], "negative": ["empty", 0], "denoise": 1.0, "seed": seed, **DRAWN}
    return {
        f"{name} in C": node("KSampler", positive=positive, latent_image=["nothing", 0], **settings),
        f"{name} shown": node("VAEDecode", samples=[f"{name} in C", 0], vae=["c", 2]),
        f"{name} stock": node("SaveImage", images=[f"{name} shown", 0], filename_prefix=name),
    }


def in_full(name, positive):
    """What stage B and stage A make of it."""
    return {
        f"{name} for B": node("StableCascade_StageB_Conditioning", conditioning=positive, stage_c=[f"{name} in C", 0]),
        f"{name} in B": node("KSampler", positive=[f"{name} for B", 0], negative=["empty", 0], latent_image=["nothing", 1],
                              model=["b", 0], denoise=1.0, seed=0, **DRAWN | {"steps": 1}),
        f"{name} in full": node("VAEDecode", samples=[f"{name} in B", 0], vae=["b", 2]),
        f"{name} full": node("SaveImage", images=[f"{name} in full", 0], filename_prefix=name),
    }


def test_rare_by_both_engines_and_varied_alike_again_after_a_cancel(native_server, graph):
    of_c, prompt = graph
    prompt = prompt | by_stock_nodes("plain", ["cat", 0], 7)
    for engine in ENGINES:
        prompt[engine] = node("RarityMakeRareConditioning", positive=["cat", 0], density=["density", 0], engine=engine, one_in=10, pictures=1,
                              iterations=4 if engine == "gradient" else 1, variations=["others", 0], dimensions=2, **of_c)
        prompt[f"{engine} said"] = node("PreviewAny", source=[engine, 2])
        prompt[f"{engine} looked at"] = node("SaveImage", images=[engine, 3], filename_prefix=engine)
        prompt |= by_stock_nodes(engine, [engine, 0], 7)
    prompt |= in_full("gradient", ["gradient", 0])
    prompt["varied"] = node("RaritySeedVariety", positive=["cat", 0], variety=1.5, count=2, pictures=3, **of_c)
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


def test_stage_b_alone_is_refused(native_server, graph):
    """ComfyUI would draw it, with zeros for what stage C lays out."""
    of_c, prompt = graph
    told = of_c | {"model": ["b", 0], "vae": ["b", 2]}
    prompt = prompt | {"usual": node("RarityBaselineFromModel", positive=["cat", 0], count=2, batch=2, keep_as="", **told)}
    prompt["said"] = node("PreviewAny", source=["usual", 1])
    (error,) = messages(native_server.run(prompt, seconds=300), "execution_error")
    assert "stage B of Stable Cascade" in error["exception_message"] and "Connect the model of stage C" in error["exception_message"]
