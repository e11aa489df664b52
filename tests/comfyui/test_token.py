"""A word learnt with ComfyUI's own models: what stock nodes make of its file is what came out; nothing else changes."""

import pytest
from comfyui import messages

NEWER = {"zimage": "qwen3_4b", "krea2": "qwen3vl_4b", "flux2": "mistral3_24b"}  # than the oldest ComfyUI, and their text encoders


@pytest.fixture(scope="module")
def all_of_them(comfyui, on_comfyui, native_models, tmp_path_factory):
    z_image = ["zimage_small", "qwen3_4b_small"] if (comfyui / "comfy" / "text_encoders" / "z_image.py").is_file() else []
    models = native_models("sd15_small", "sdxl_small", "sd21_unclip_l_small", "cascade_c_small", "clip_vision_l_small", "flux_small",
                           "clip_l_small", "t5xxl_small", "ae_small", *z_image)
    return on_comfyui("learnt_token.py", str(tmp_path_factory.mktemp("token")), *map(str, models))


@pytest.fixture
def found(all_of_them):
    return all_of_them["sd15"]


@pytest.fixture
def found_xl(all_of_them):
    return all_of_them["sdxl"]


@pytest.fixture(params=["sd15", "sdxl", "sd21_unclip_l", "cascade_c", "flux", *NEWER])
def each(request, all_of_them):
    if request.param not in all_of_them:
        pytest.skip(f"This ComfyUI is older than {request.param}.")
    return all_of_them[request.param]


@pytest.fixture(params=["flux", *NEWER])
def not_clip_s(request, all_of_them):
    """Models that read with T5 beside CLIP, and with Qwen 3, Qwen 3 VL and Mistral behind a template."""
    if request.param not in all_of_them:
        pytest.skip(f"This ComfyUI is older than {request.param}.")
    return all_of_them[request.param]


def test_stock_nodes_read_from_the_file_what_came_out(each):
    """The same numbers go through the same functions in the same order."""
    assert each["from stock"] == 0
    if not {"t5xxl", *NEWER.values()} & set(each["file"]):  # these read the text behind a file's word as a text of its own
        assert each["begins as the word"] == 0
    assert each["moved"] > 0.05 and each["plain"]
    assert 'Saved as rare-chair.safetensors: write "embedding:rare-chair" where "*" stands.' in each["report"]


def test_each_text_encoder_has_its_vector(all_of_them):
    files = {name: found["file"] for name, found in all_of_them.items() if name != "refused"}
    for kind, encoder in NEWER.items():
        assert files.pop(kind, {encoder: [1, 64]}) == {encoder: [1, 64]}
    assert files == {
        "sd15": {"clip_l": [1, 768]}, "sdxl": {"clip_l": [1, 768], "clip_g": [1, 1280]}, "sd21_unclip_l": {"clip_h": [1, 1024]},
        "cascade_c": {"clip_g": [1, 1280]}, "flux": {"clip_l": [1, 768], "t5xxl": [1, 64]},
    }


def test_other_text_encoders_have_gradients_and_directions_too(not_clip_s):
    slope = not_clip_s["slope"]
    assert slope["gradient"] > 0.1 and abs(slope["difference"] / slope["gradient"] - 1) < 0.01 and slope["gap"] < 1e-4
    count, rank, encoders = not_clip_s["columns"]
    assert count == rank == 8 and encoders == [1] * 8, "text encoders of other words have directions of their own"
    assert not_clip_s["mean"] < 1e-6, "the template of the prompt is no part of the start"


@pytest.mark.parametrize("kind, encoder", [("Qwen-Image", "qwen25_7b"), ("Anima", "t5xxl")])
def test_text_encoders_that_take_no_vectors_are_refused(all_of_them, kind, encoder):
    said = all_of_them["refused"]
    if kind not in said:
        pytest.skip(f"This ComfyUI has no {kind}.")
    assert f"ComfyUI's text encoder {encoder} takes no vectors: it reads embedding:NAME as text" in said[kind]


def test_whatever_happens_nothing_that_is_connected_changes(each):
    """After success, all errors, and for the smaller model a cancel."""
    assert each["unchanged"]
    assert each["kept"], "an earlier file stays as it was"


def test_the_picture_arrives_at_the_dialled_rarity(found):
    assert found["in band"] == [True] and found["bits"][0] != found["bits"][-1]
    assert "1 of 1 are about 1 in 50" in found["report"]


def test_the_gradient_through_the_text_encoder_is_that_of_finite_differences(found):
    slope = found["slope"]
    assert slope["gradient"] > 1 and abs(slope["difference"] / slope["gradient"] - 1) < 0.01
    assert slope["gap"] < 1e-4, "the way gradients take gives the ordinary CONDITIONING, but for the order of float32 sums"


def test_evolution_searches_what_similar_words_vary_in(found):
    assert found["subspace"]["columns"] == 3 and found["subspace"]["away"] < 1e-3, "float32 beside float64"


def test_it_begins_as_a_mean_and_goes_on_from_a_file(found):
    assert found["mean"] < 1e-6 and found["goes on"] == 0


def test_every_name_that_is_accepted_is_found_in_a_prompt(found):
    assert found["names"]["lost"] == "" and {"-", "_", ".", "/", "'", "#"} <= set(found["names"]["accepted"])


def test_a_cancel_leaves_no_file(found):
    assert found["cancelled"]
    assert found["files"] == ["broken.safetensors", "rare-chair.safetensors", "sub", "theirs.safetensors"]


@pytest.mark.parametrize("cause, message", [
    ("no placeholder", "does not hold the placeholder"),
    ("part of a word", "must be a word of its own"),
    ("no start", "The start word is empty"),
    ("unknown start", "an embedding that is not there"),
    ("not finite", "an embedding that is not finite"),
    ("leaves", "'..' is not a plain name"),
    ("two words", "one word without brackets and commas"),
    ("brackets", "one word without brackets and commas"),
    ("square", "one word without brackets and commas"),
    ("theirs", "theirs.safetensors is there already and was not exported by Rarity"),
    ("elsewhere", "already loads another file"),
])
def test_bad_input_says_what_to_do(found, cause, message):
    assert message in found["errors"][cause]


@pytest.mark.parametrize("where", ["start", "prompt"])
def test_a_file_that_lacks_one_of_two_text_encoders_is_refused(found_xl, where):
    assert "An embedding lacks vectors for clip_g: they are 768 wide, expected 1280" in found_xl["errors"][where]


@pytest.mark.parametrize("cause, message", [
    ("no pooled", "SDXL reads a pooled vector 1,280 wide beside the tokens, got none. Encode the prompt with the CLIP of the"),
    ("another pooled", "The negative CONDITIONING is of another model than the one that draws. SDXL reads a pooled vector 1,280 wide "
     "beside the tokens, got one 768 wide"),
    ("narrow", "SDXL reads tokens 2,048 wide (Stable Diffusion XL), got tokens 768 wide (Stable Diffusion 1.5)"),
])
def test_a_conditioning_of_another_model_is_named(found_xl, cause, message):
    assert message in found_xl["errors"][cause]


def test_on_a_server_the_word_draws_what_was_found(native_models, native_server):
    """By evolution; then stock nodes alone, given the name."""
    checkpoint, vision = (path.name for path in native_models("sd15_small", "clip_vision_l_small"))
    drawn = {"seed": 0, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}
    size = {"width": 32, "height": 32}

    def node(class_type, **inputs):
        return {"class_type": class_type, "inputs": inputs}

    def show(conditioning):
        return {
            "latents": node("KSampler", model=["model", 0], positive=conditioning, negative=["empty", 0],
                            latent_image=["nothing", 0], denoise=1.0, **drawn),
            "decoded": node("VAEDecode", samples=["latents", 0], vae=["model", 2]),
            "picture": node("SaveImage", images=["decoded", 0], filename_prefix="token"),
        }

    prompt = {
        "model": node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "eye": node("CLIPVisionLoader", clip_name=vision),
        "plain": node("CLIPTextEncode", clip=["model", 1], text="a photo of a chair"),
        "empty": node("CLIPTextEncode", clip=["model", 1], text=""),
        "nothing": node("EmptyLatentImage", batch_size=1, **size),
    }
    learning = {
        "usual": node("RarityBaselineFromModel", model=["model", 0], positive=["plain", 0], negative=["empty", 0], vae=["model", 2],
                      eye=["eye", 0], count=52, batch=8, keep_as="", stop_when_enough=False, **drawn | size),
        "density": node("RarityFitDensity", embeddings=["usual", 0], components=4),
        "token": node("RarityMakeRareWord", model=["model", 0], clip=["model", 1], prompt="a photo of a *", placeholder="*",
                      start_word="chair", name="sub/rare-chair", negative=["empty", 0], vae=["model", 2], density=["density", 0],
                      one_in=20, engine="evolution", pictures=1, iterations=1, eye=["eye", 0], **drawn | size),
        "report": node("PreviewAny", source=["token", 2]),
    }
    entry = native_server.run(prompt | learning | show(["token", 0]), seconds=300)
    assert entry["status"]["status_str"] == "success", messages(entry, "execution_error")
    assert "embedding:sub/rare-chair" in entry["outputs"]["report"]["text"][0]
    ours = native_server.pictures(entry, "picture")
    named = {"named": node("CLIPTextEncode", clip=["model", 1], text="a photo of a embedding:sub/rare-chair")}
    entry = native_server.run(prompt | named | show(["named", 0]), seconds=300)
    assert (native_server.pictures(entry, "picture") == ours).all() and ours.std() > 5
    usual = native_server.pictures(native_server.run(prompt | show(["plain", 0]), seconds=300), "picture")
    assert (usual != ours).any()
