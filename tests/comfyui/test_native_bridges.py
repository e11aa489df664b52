"""What leaves Embeddings to CLIP Vision is what ComfyUI's own code hands to the network; what would go wrong silently is refused."""

import pytest


@pytest.fixture(scope="module")
def found(on_comfyui, native_models):
    names = ("sdxl_small", "sd21_unclip_l_small", "cascade_c_small", "sd15_small", "clip_vision_l_small")
    native_models(*names)
    return on_comfyui("native_bridges.py", "--models", str(native_models.folder))


@pytest.mark.parametrize("name, width", [("sdxl_small", 1280), ("sd21_unclip_l_small", 768), ("cascade_c_small", 768)])
def test_each_embedding_arrives_alone_and_as_it_left(found, name, width):
    arrives = found["arrives"][name]
    assert arrives["shapes"] == [[1, width]] * arrives["outputs"] and arrives["outputs"] == 3
    # At level 0 of its schedule ComfyUI adds noise of 0.64 % to embeddings of unit variance, to Stable Cascade's none.
    assert arrives["off"] < (1e-6 if name.startswith("cascade") else 0.0075)
    for i, row in enumerate(arrives["cosines"]):
        for j, cosine in enumerate(row):
            assert cosine > 0.9999 if i == j else abs(cosine) < 0.15, "one picture a row, nothing of the others in it"


def test_a_batch_in_one_object_would_have_been_summed(found):
    """Why it is a list: this is what ComfyUI makes of the same three embeddings as rows of one object."""
    for name in ("sdxl_small", "sd21_unclip_l_small"):
        assert found["arrives"][name]["batch"] > 0.99, "the sum of all three"


@pytest.mark.parametrize("case, words", [
    ("no input", ["SD15", "no input for image embeddings", "would change nothing", "SDXL"]),
    ("width", ["(SDXL)", "1,280", "clip_vision_g", "768", "CLIP tiny"]),
    ("scaled", ["unit", "raw"]),
    ("tokens", ["made from an embedding", "last_hidden_state", "unCLIP Conditioning"]),
])
def test_what_comfyui_would_ignore_or_misread_is_refused(found, case, words):
    assert found["errors"][case] and all(word in found["errors"][case] for word in words), found["errors"][case]


def test_asking_for_what_no_output_has_is_the_usual_error(found):
    assert found["errors"]["nothing"] == "AttributeError: nothing_like_that"


def test_from_clip_vision_encode_and_back(found):
    encoders = found["encoders"]
    assert encoders["same"], "as Encode Images reads them, and of the same space"
    assert encoders["round trip"] and encoders["returned"]
    assert encoders["other packs"] == [[1, 768]] * 6


@pytest.mark.parametrize("case", ["another encoder", "another, from an embedding", "no match", "tokens for an embedding", "none"])
def test_embeddings_of_another_encoder_are_refused_though_equally_wide(found, case):
    text = found["encoders"][case]
    expected = {
        "another encoder": "another encoder made it",
        "another, from an embedding": "different embedding spaces",
        "no match": "different embedding spaces",
        "tokens for an embedding": "one vector a picture, [N, 768], got shape [3, 50, 64]",
        "none": "exactly one of clip_vision_output, prior_latent and ip_adapter_embeds, got none",
    }[case]
    assert text.startswith("Rarity: ") and expected in text
    if "spaces" in expected:
        assert text.count("CLIP ViT 64x2/32") == 2, "both are named"
