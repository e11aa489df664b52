"""Models of the newer kinds: exact gradients, what they are drawn with, and what is said when a prompt is of another model.

Their fused operations know no way back: those are left aside, and only then.
"""

import pytest
from environments import version_of

PICTURES = ["Flux", "Flux.2", "Krea 2", "Lumina 2", "Stable Diffusion 3", "HiDream", "Chroma", "Qwen-Image", "Wan", "PixArt", "Stable Cascade"]
NEWER = ("Flux.2", "Krea 2")  # than the oldest ComfyUI
ROUNDING = 1e-4  # of pixels: float32 sums in another order


@pytest.fixture(scope="module")
def found(comfyui, on_comfyui, native_models):
    class Found(dict):
        def __missing__(self, kind):
            if kind not in NEWER or version_of(comfyui) != "0.3.64":
                raise KeyError(kind)
            pytest.skip(f"This ComfyUI has no {kind}.")

    return Found(on_comfyui("flow_models.py", *map(str, native_models("clip_vision_l_small"))))


@pytest.mark.parametrize("kind", PICTURES)
def test_gradients_are_the_differences(found, kind):
    """Qwen-Image and Wan draw one frame of a video; HiDream reads layers of a second text encoder."""
    one = found[kind]
    assert "error" not in one, one["error"]
    assert one["slope"] > 0.01
    assert abs(one["difference"] / one["slope"] - 1) < 0.01, "central differences; float32 rounds 0.3 % of the flattest"
    assert one["value"] == pytest.approx(one["ordinary"], abs=0.01 * one["scale"])


@pytest.mark.parametrize("kind", [*PICTURES, "LTXV"])
def test_everything_is_as_it_was(found, kind):
    assert "error" not in found[kind], found[kind]["error"]
    assert found[kind]["unchanged"] and not found[kind]["in training afterwards"]


def test_gradients_pass_eyes_that_are_not_clip_s(found):
    """SigLIP, its second version for pictures of any size, DINOv2 and DINOv3, as far as this ComfyUI has them."""
    eyes = found["Qwen-Image"]["eyes"]
    assert set(eyes) >= {"SigLIP", "DINOv2"}
    for name, one in eyes.items():
        assert one["slope"] > 0.01 and abs(one["difference"] / one["slope"] - 1) < 0.01, name
        assert one["apart"] < 0.02, f"{name}: an 8-bit step of a pixel may flip"
        assert one["value"] == pytest.approx(one["ordinary"], abs=0.01 * one["scale"])


@pytest.mark.parametrize("kind", [kind for kind in PICTURES if kind != "PixArt"])
def test_a_guider_a_sampler_and_sigmas_draw_what_the_nodes_look_at(found, kind):
    steered = found[kind]["steered"]
    assert "2 steps of euler (sigmas from 1 to 0), Guider_Basic (cfg 1), seeds from 5 on." in steered["baseline"]
    assert steered["seeds"] == [5, 6] and 0 < steered["strength"] < 10
    for engine in ("gradient", "evolution"):
        one = steered[engine]
        assert one["moved"] > 0.01, "evolution goes along wordings of three and of nine tokens"
        assert one["cancelled"] and one["twice"] == 0, "alike before a cancel and after it"
        assert one["as SamplerCustomAdvanced"] < ROUNDING
        assert one["kept"] == ({"guidance": 2.5} if kind in ("Flux", "Flux.2") else {})
        assert "built in" not in one["report"], "a guider without a negative prompt has no cfg"


@pytest.mark.parametrize("kind, sentence", [
    ("Flux", "Flux has its guidance built in and was trained to be drawn with cfg 1: with cfg 7 pictures take twice as long"),
    ("Qwen-Image", "cfg 7 and the scheduler normal are settings of Stable Diffusion 1.5 and XL, and QwenImage is a flow model"),
])
def test_settings_that_cannot_suit_the_family_are_named(found, kind, sentence):
    assert sentence in found[kind]["steered"]["unsuited"] and sentence not in found[kind]["steered"]["baseline"]


@pytest.mark.parametrize("kind, model", [
    ("Flux", "Flux"), ("Flux.2", "Flux2"), ("Krea 2", "Krea2"), ("Lumina 2", "Lumina2"), ("Stable Diffusion 3", "SD3"), ("HiDream", "HiDream"), ("Chroma", "Chroma"),
    ("Qwen-Image", "QwenImage"), ("Wan", "WAN21_T2V"), ("PixArt", "PixArtSigma"), ("LTXV", "LTXV"),
    ("Stable Cascade", "Stable_Cascade_C"),
])
def test_tokens_of_another_model_name_both_sides(found, kind, model):
    said = found[kind]["errors"]
    assert f"{model} reads tokens 16 wide, got tokens 24 wide. Encode the prompt with the CLIP of the checkpoint" in said["width"]
    assert said["none"] is None, "its own are drawn"


@pytest.mark.parametrize("kind, key, sentence", [
    ("Stable Diffusion 3", "pooled_output", "SD3 reads a pooled vector 8 wide beside the tokens, got none"),
    ("HiDream", "pooled_output", "HiDream reads a pooled vector 8 wide beside the tokens, got none"),
    ("HiDream", "conditioning_llama3", "HiDream reads conditioning_llama3 beside the tokens, got none"),
    ("Stable Cascade", "pooled_output", "Stable_Cascade_C reads a pooled vector 8 wide beside the tokens, got none"),
    ("LTXV", "attention_mask", "LTXV reads attention_mask beside the tokens, got none"),
])
def test_what_a_prompt_lacks_is_named(found, kind, key, sentence):
    assert sentence in found[kind]["errors"][key]
