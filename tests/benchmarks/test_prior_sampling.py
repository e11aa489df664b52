"""The benchmark of the prior: both sides compute the same, and what it cannot measure it says."""

import pytest
import torch


@pytest.fixture(scope="module")
def sampling(benchmark_module):
    return benchmark_module("prior_sampling")


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_both_sides_of_the_real_width_compute_the_same(sampling, kind):
    row = sampling.compare("wide", *sampling.real_width(1, "cpu", kind), 2, 2, 1)
    assert row["relative error"] < sampling.MOST_ERROR[kind] and row["device"] == "cpu"
    assert row["multiply-adds a sample and step"] < row["multiply-adds, diffusers"] and row["times as fast"] > 0


def test_no_gpu_is_told(sampling):
    row = {"model": "wide", "device": "cpu", "batch": 256, "type": "float32", "relative error": 1e-6, "times as fast": 30.0}
    found = {target["name"]: target for target in sampling.reached([row], None)}
    assert found["largest relative error, float32"]["ok"] and found["times as fast, real width, batch 256, CPU"]["ok"]
    for name in ("times as fast, full size, GPU, bfloat16", "seconds for 5,000 embeddings, GPU"):
        assert found[name]["value"] == "not measured" and found[name]["ok"] is None
    card = row | {"device": "cuda", "type": "bfloat16", "times as fast": 24.0}
    found = {target["name"]: target for target in sampling.reached([card], {"seconds": 9.0})}
    assert found["times as fast, full size, GPU, bfloat16"]["ok"] is False and found["seconds for 5,000 embeddings, GPU"]["ok"]
    assert found["times as fast, real width, batch 256, CPU"]["ok"] is None


def test_a_device_that_is_not_there_is_refused(sampling, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["prior_sampling.py", "--devices", "tpu"])
    with pytest.raises(SystemExit):
        sampling.main()
    assert "choose from" in capsys.readouterr().err
