"""Models of many families on real servers, from their files: stock nodes draw just what our nodes look at.

The models are random and small. Of Stable Cascade, stage C with its own VAE is looked at: a latent of stage C is 32 pixels wide to it, and 96 x 96
here is 256 x 256 with a compression of 85.
"""

import time

import numpy as np
import pytest
from comfyui import messages
from environments import version_of
from graph import nodes_of

DRAWN = {"steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
ENGINES = ("gradient", "evolution")
CHECKPOINTS = {"Stable Diffusion 1.5": "sd15", "Stable Diffusion XL": "sdxl", "Stable Diffusion 3.5": "sd35"}
FLOW = {  # the network, its text encoders, what their loader calls them, the VAE
    "Flux.1": ("flux", ["clip_l", "t5xxl"], "flux", "ae"),
    "Flux.2": ("flux2", ["mistral3_24b"], "flux2", "taef2"),
    "Z-Image": ("zimage", ["qwen3_4b"], "lumina2", "ae"),
    "Qwen-Image": ("qwen_image", ["qwen25_7b"], "qwen_image", "qwen_image_vae"),
    "Chroma": ("chroma", ["t5xxl"], "chroma", "ae"),
}
FAMILIES = ("Stable Cascade", *CHECKPOINTS, *FLOW)
NEWER = ("Flux.2", "Z-Image")  # than the oldest ComfyUI


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def loaders(family, named):
    """What loads a model, and the links to its text encoders, its VAE and an eye. named : makes a file, and gives its name."""
    if family == "Stable Cascade":
        return {
            "model": node("unCLIPCheckpointLoader", ckpt_name=named("cascade_c_small")),
            "b": node("CheckpointLoaderSimple", ckpt_name=named("cascade_b_small")),
        }, {"clip": ["model", 1], "vae": ["model", 2], "eye": ["model", 3]}
    eye = {"vision": node("CLIPVisionLoader", clip_name=named("clip_vision_l_small"))}
    if family in CHECKPOINTS:
        loader = node("CheckpointLoaderSimple", ckpt_name=named(f"{CHECKPOINTS[family]}_small"))
        return eye | {"model": loader}, {"clip": ["model", 1], "vae": ["model", 2], "eye": ["vision", 0]}
    network, texts, kind, vae = FLOW[family]
    files = [named(f"{text}_small") for text in texts]
    two = {f"clip_name{i}": file for i, file in enumerate(files, 1)}
    if vae == "taef2":  # of two files, and without an ending in the menu
        named("taef2_encoder"), named("taef2_decoder")
    return eye | {
        "model": node("UNETLoader", unet_name=named(f"{network}_small"), weight_dtype="default"),
        "clip": node("CLIPLoader", clip_name=files[0], type=kind) if len(files) == 1 else node("DualCLIPLoader", type=kind, **two),
        "vae": node("VAELoader", vae_name=vae if vae == "taef2" else named(f"{vae}_small")),
    }, {"clip": ["clip", 0], "vae": ["vae", 0], "eye": ["vision", 0]}


def nothing(family):
    """The latent that KSampler begins with."""
    if family == "Stable Cascade":
        return node("StableCascade_EmptyLatentImage", width=256, height=256, compression=85, batch_size=1)
    return node("EmptySD3LatentImage" if family in FLOW else "EmptyLatentImage", width=32, height=32, batch_size=1)


@pytest.fixture(scope="module")
def graph_of(comfyui, native_server, native_models):
    """What each of our nodes that draws is told; links, as `loaders` gives them; a baseline and what is usual, in API format."""
    def graph(family):
        if family in NEWER and version_of(comfyui) == "0.3.64":
            pytest.skip(f"This ComfyUI has no {family}.")
        loaded, at = loaders(family, lambda name: native_models(name)[0].name)
        side = 96 if family == "Stable Cascade" else 32
        told = {"model": ["model", 0], "negative": ["empty", 0], "vae": at["vae"], "eye": at["eye"], "seed": 7, "width": side, "height": side, **DRAWN}
        texts = {"cat": "a photo of a cat", "empty": "", "house": "a red house by the sea", "dog": "an old dog"}
        return told, at, loaded | {name: node("CLIPTextEncode", clip=at["clip"], text=text) for name, text in texts.items()} | {
            "nothing": nothing(family),
            "others": node("ConditioningCombine", conditioning_1=["house", 0], conditioning_2=["dog", 0]),
            "usual": node("RarityBaselineFromModel", positive=["cat", 0], count=50, batch=25, keep_as="", **told),
            "density": node("RarityFitDensity", embeddings=["usual", 0], components=4),
        }

    return graph


def by_stock_nodes(told, name, positive, seed):
    """The model with this prompt and this seed, shown by its VAE."""
    settings = {"model": told["model"], "negative": told["negative"], "denoise": 1.0, "seed": seed, **DRAWN}
    return {
        f"{name} drawn": node("KSampler", positive=positive, latent_image=["nothing", 0], **settings),
        f"{name} shown": node("VAEDecode", samples=[f"{name} drawn", 0], vae=told["vae"]),
        f"{name} stock": node("SaveImage", images=[f"{name} shown", 0], filename_prefix=name),
    }


def in_full(name, positive):
    """What stage B and stage A of Stable Cascade make of it."""
    return {
        f"{name} for B": node("StableCascade_StageB_Conditioning", conditioning=positive, stage_c=[f"{name} drawn", 0]),
        f"{name} in B": node("KSampler", positive=[f"{name} for B", 0], negative=["empty", 0], latent_image=["nothing", 1],
                              model=["b", 0], denoise=1.0, seed=0, **DRAWN | {"steps": 1}),
        f"{name} in full": node("VAEDecode", samples=[f"{name} in B", 0], vae=["b", 2]),
        f"{name} full": node("SaveImage", images=[f"{name} in full", 0], filename_prefix=name),
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_rare_by_both_engines_and_varied_alike_again_after_a_cancel(native_server, graph_of, family):
    """What our nodes looked at is what KSampler draws, pixel for pixel; and no weight of any model is changed."""
    told, at, prompt = graph_of(family)
    prompt["weights"] = node("TestWeights", model=told["model"], **at, when="before")
    prompt["weighed"] = node("PreviewAny", source=["weights", 0])

    def run():
        entry = native_server.run(prompt, seconds=300)
        assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
        said = {key: entry["outputs"][key]["text"][0] for key in nodes_of(prompt, "PreviewAny")}
        return entry, said, {key: native_server.pictures(entry, key) for key in nodes_of(prompt, "SaveImage")}

    before = run()[1]["weighed"]
    searched = {"positive": ["cat", 0], "variations": ["others", 0]}
    ours = {
        engine: node("RarityMakeRareConditioning", density=["density", 0], engine=engine, one_in=10, pictures=1, dimensions=2,
                     iterations=4 if engine == "gradient" else 1, **searched, **told)
        for engine in ENGINES
    }
    # All seeds are kept, so the pictures that are looked at last are those of the seeds that go out.
    ours["varied"] = node("RaritySeedVariety", variety=1.5, count=2, keep=2, pictures=3, batch=1, **searched, **told | {"eye": ["watched", 0]})
    prompt |= ours | by_stock_nodes(told, "plain", ["cat", 0], 7)
    for engine in ENGINES:
        prompt[f"{engine} said"] = node("PreviewAny", source=[engine, 2])
        prompt[f"{engine} looked at"] = node("SaveImage", images=[engine, 3], filename_prefix=engine)
        prompt |= by_stock_nodes(told, engine, [engine, 0], 7)
    if family == "Stable Cascade":
        prompt |= in_full("gradient", ["gradient", 0])
    prompt["watched"] = node("TestWatched", eye=at["eye"])
    prompt["varied said"] = node("PreviewAny", source=["varied", 4])
    prompt["varied seen"] = node("TestShown", watched=["watched", 0], after=["varied", 4], count=2)
    prompt["varied looked at"] = node("SaveImage", images=["varied seen", 0], filename_prefix="seen")
    prompt |= by_stock_nodes(told, "varied", ["varied", 0], ["varied", 1])

    _, said, drawn = run()
    for name in ours:
        assert np.array_equal(drawn[f"{name} looked at"], drawn[f"{name} stock"]), name
        assert np.abs(drawn[f"{name} stock"][0].astype(float) - drawn["plain stock"][0]).mean() > 1, name
    assert all("of 1 are about 1 in 10" in said[f"{engine} said"] for engine in ENGINES)
    assert " times as far apart as they are drawn" in said["varied said"]
    if family == "Stable Cascade":
        assert drawn["gradient full"].shape == (1, 256, 256, 3) and drawn["gradient full"].std() > 5

    prompt |= {name: node(one["class_type"], **one["inputs"] | {"steps": 1000}) for name, one in ours.items()}
    prompt_id = native_server.submit(prompt)
    while not native_server.is_running(prompt_id):
        time.sleep(0.02)
    time.sleep(1)
    native_server.raw("/interrupt", {"prompt_id": prompt_id})
    (interrupted,) = messages(native_server.wait(prompt_id), "execution_interrupted")
    assert interrupted["node_type"] in {one["class_type"] for one in ours.values()}
    prompt |= ours
    prompt["weights"] = node("TestWeights", **prompt["weights"]["inputs"] | {"when": "after"})
    entry, said, after = run()
    assert not ours.keys() & {key for one in messages(entry, "execution_cached") for key in one["nodes"]}
    assert all(np.array_equal(drawn[key], after[key]) for key in drawn)
    assert said["weighed"] == before


def test_stage_b_alone_is_refused(native_server, graph_of):
    """ComfyUI would draw it, with zeros for what stage C lays out."""
    of_c, _, prompt = graph_of("Stable Cascade")
    told = of_c | {"model": ["b", 0], "vae": ["b", 2]}
    prompt = prompt | {"usual": node("RarityBaselineFromModel", positive=["cat", 0], count=2, batch=2, keep_as="", **told)}
    prompt["said"] = node("PreviewAny", source=["usual", 1])
    (error,) = messages(native_server.run(prompt, seconds=300), "execution_error")
    assert "stage B of Stable Cascade" in error["exception_message"] and "Connect the model of stage C" in error["exception_message"]
