"""The benchmark of the prior: both sides compute the same, and what it cannot measure it says."""

import pytest
import torch


@pytest.fixture(scope="module")
def sampling(benchmark_module):
    return benchmark_module("prior_sampling")


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_both_sides_of_the_real_width_compute_the_same(sampling, kind, monkeypatch):
    monkeypatch.setitem(sampling.SQUARE, "cpu", 128)  # the peak is not looked at, and bfloat16 is slow on many processors
    row = sampling.compare("wide", *sampling.real_width(1, "cpu", kind), 2, 2, 1)
    assert row["device"] == "cpu"
    if kind == torch.float32:
        assert row["relative error"] < sampling.MOST_ERROR and row["relative error, diffusers"] == 0
    else:
        assert 1e-3 < row["relative error"] < sampling.MOST_TIMES * row["relative error, diffusers"]
    assert row["multiply-adds a sample and step"] < row["multiply-adds, diffusers"] and row["times as fast"] > 0


def test_no_gpu_is_told(sampling):
    row = {"model": "wide", "device": "cpu", "batch": 256, "type": "float32", "relative error": 1e-6, "times as fast": 30.0}
    found = {target["name"]: target for target in sampling.reached([row], None)}
    assert found["largest relative error from diffusers, float32"]["ok"]
    assert found["times as fast, real width, batch 256, CPU"]["ok"]
    cards = [f"times as fast, full size, GPU, bfloat16, batch {batch:,}" for batch in sampling.ASKED]
    for name in (*cards, "seconds for 5,000 embeddings, GPU", "error from float32 in half precision, of diffusers' own"):
        assert found[name]["value"] == "not measured" and found[name]["ok"] is None
    card = row | {"device": "cuda", "type": "bfloat16", "times as fast": 23.0, "relative error, diffusers": 0.95e-6}
    found = {target["name"]: target for target in sampling.reached([card, card | {"batch": 64}], {"seconds": 2.4})}
    assert [found[name]["ok"] for name in cards] == [True, False, None] and found["seconds for 5,000 embeddings, GPU"]["ok"]
    assert found["error from float32 in half precision, of diffusers' own"]["ok"]
    assert found["times as fast, real width, batch 256, CPU"]["ok"] is None
    worse = card | {"relative error": float("nan")}
    assert sampling.reached([card, worse], None)[1]["ok"] is False


def test_a_device_that_is_not_there_is_refused(sampling, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["prior_sampling.py", "--devices", "tpu"])
    with pytest.raises(SystemExit):
        sampling.main()
    assert "choose from" in capsys.readouterr().err
