"""ComfyUI's own models on a device that they go to in part only, and leave again for each other: the results are the processor's."""

import pytest


@pytest.fixture(scope="module")
def found(on_comfyui, native_models):
    return on_comfyui("native_elsewhere.py", *map(str, native_models("sd15_wide_small", "clip_vision_l_small")))


def test_models_run_there_as_comfyui_places_them(found):
    assert found["runs on"] == "lazy:0"
    assert "BaseModel" in found["in part"], "there is no room for the whole U-Net"
    assert found["unchanged"]


def test_other_networks_are_said_to_be_where_they_are(found):
    assert found["stays"] == {"NORMAL_VRAM": ["lazy:0"] * 2, "NO_VRAM": ["cpu"] * 2}


def test_what_comes_out_is_on_the_processor(found):
    assert found["devices"] == ["cpu"]


@pytest.mark.parametrize("what, tolerance", [
    ("usual", 1e-3),  # float32 sums in another order, and the eye in half precision
    ("slope", 0.05), ("slope of a word", 0.05),  # a network of random weights makes more of that in its slopes
    ("conditioning, gradient", 0.01), ("picture, gradient", 1e-3),
    ("conditioning, evolution", 1e-3), ("picture, evolution", 1e-3),
])
def test_the_results_are_those_of_the_processor(found, what, tolerance):
    assert found["apart"][what] < tolerance
