"""The benchmark of decoding: both sides draw the same pictures, and what it cannot measure it says."""

import pytest
import torch


@pytest.fixture(scope="module")
def decoding(benchmark_module):
    return benchmark_module("decoding")


def test_both_sides_of_the_full_size_draw_the_same(decoding):
    """Narrower, with the same blocks."""
    unet = decoding.UNET | {"block_out_channels": (32, 32, 64, 64), "attention_head_dim": 8, "layers_per_block": 1,
                            "cross_attention_dim": 16, "encoder_hid_dim": 24, "sample_size": 8}
    movq = decoding.MOVQ | {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1, "num_vq_embeddings": 12}
    row = decoding.compare("narrow", *decoding.full_size("cpu", torch.float32, unet, movq), 2, 3, 1)
    assert row["difference"] < 1e-4 and row["size"] == 64 and row["times as fast"] > 0 and row["peak GB"] is None


def test_no_gpu_is_told(decoding):
    row = {"device": "cpu", "pictures": 1, "times as fast": 3.0}
    assert [(target["value"], target["ok"]) for target in decoding.reached([row])] == [("not measured", None)] * 2
    found = decoding.reached([row | {"device": "cuda"}, row | {"device": "cuda", "pictures": 16, "times as fast": 0.9}])
    assert [target["ok"] for target in found] == [True, False]
