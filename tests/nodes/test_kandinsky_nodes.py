"""The model's own nodes: what the menu offers, who moves the weights, baselines that are kept or end by themselves."""

import pytest
import torch
from rarity import nodes
from rarity.density.base.errors import RarityError
from rarity.density.files.store import load_embeddings
from rarity.generators.kandinsky.load import load_kandinsky
from recorder import record_everything


@pytest.fixture
def with_21(folders, tiny_root, tiny_kandinsky_21_folder, monkeypatch):
    import folder_paths

    roots = ([str(tiny_root), str(tiny_kandinsky_21_folder)], ["folder"])
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusers", roots)


@pytest.fixture
def managed(monkeypatch):
    """What ComfyUI holds on the device, latest first; empty at the start."""
    from comfy import model_management

    model_management.unload_all_models()
    yield lambda: [unwrap(entry) for entry in model_management.current_loaded_models]
    model_management.unload_all_models()


def unwrap(entry):
    """The model inside ComfyUI's wrappers and ours."""
    while type(entry).__name__ in ("LoadedModel", "ModelPatcher", "_Plain"):
        entry = entry.model
    return entry


def test_a_pair_of_kandinsky_21_is_offered_by_its_prior_and_runs(run, with_21, tiny_kandinsky_21):
    assert "kandinsky-2-1-prior" in nodes.RarityLoadKandinsky.define_schema().inputs[0].options
    prior, decoder = run(nodes.RarityLoadKandinsky, model="kandinsky-2-1-prior")
    baseline, report = run(nodes.RaritySamplePrior, prior=prior, prompt="a letter r", count=3, steps=2)
    assert report == "3 samples of 'a letter r'."
    expected = tiny_kandinsky_21[1].decode(baseline, steps=2, guidance=4.0)
    assert torch.equal(run(nodes.RarityDecodeKandinsky, decoder=decoder, embeddings=baseline, steps=2, guidance=4.0)[0], expected)
    other = run(nodes.RarityDecodeKandinsky, decoder=decoder, embeddings=baseline, steps=2, guidance=4.0, prompt="x")[0]
    assert not torch.allclose(other, expected, atol=1e-3)


def test_comfyui_moves_each_model_before_it_runs(run, managed, model, tiny_root):
    prior, decoder = model
    assert managed() == [], "loading alone takes no room on the device"
    baseline = run(nodes.RaritySamplePrior, prior=prior, count=3, steps=2)[0]
    assert managed() == [prior.transformer, prior.text_encoder], "the image encoder is not needed to sample"
    pictures = run(nodes.RarityDecodeKandinsky, decoder=decoder, embeddings=baseline, steps=2)[0]
    assert managed()[:2] == [decoder.movq, decoder.unet]
    run(nodes.RarityEncodeImages, eye=prior, images=pictures)
    assert managed()[0] is prior.image_encoder
    weights = [p for part in managed() for p in part.parameters()]
    assert not any(p.is_inference() for p in weights), "weights moved under inference mode could never be learned from"
    plain = load_kandinsky(tiny_root / "tiny")
    expected = plain[0].sample("a letter R", 3, steps=2)
    assert torch.equal(baseline.vectors, expected.vectors)
    assert torch.equal(pictures, plain[1].decode(expected, steps=2))


def test_what_another_model_pushed_out_comes_back(run, managed, model):
    from comfy import model_management

    before = run(nodes.RaritySamplePrior, prior=model[0], count=3, steps=2)[0]
    model_management.unload_all_models()
    assert managed() == []
    assert torch.equal(run(nodes.RaritySamplePrior, prior=model[0], count=3, steps=2)[0].vectors, before.vectors)


def test_what_is_pushed_out_takes_its_captured_graphs_along(run, managed, model, monkeypatch):
    from comfy import model_management
    from rarity.generators.runtime import captured

    recorder = record_everything(monkeypatch)
    prior, decoder = model
    baseline = run(nodes.RaritySamplePrior, prior=prior, count=3, steps=2)[0]
    run(nodes.RarityDecodeKandinsky, decoder=decoder, embeddings=baseline, steps=2)
    assert recorder.captures == 2 and [len(captured._kept[one]) for one in (prior.transformer, decoder.unet)] == [1, 1]
    model_management.unload_all_models()
    assert not any(captured._kept.values())
    again = run(nodes.RaritySamplePrior, prior=prior, count=3, steps=2)[0]
    assert torch.equal(again.vectors, baseline.vectors)
    assert recorder.captures == 4, "the step once more, and the prompt, which was read a second time"
    captured.forget()


def test_out_of_memory_makes_room_and_goes_on(run, managed, model):
    prior = model[0]
    expected = run(nodes.RaritySamplePrior, prior=prior, count=9, steps=2)[0]
    seen = []

    def check(_, inputs):
        seen.append((len(inputs[0]), len(managed())))
        if len(inputs[0]) > 4:
            torch.empty(2**60, dtype=torch.uint8)  # the allocator's own error

    handle = prior.transformer.proj_in.register_forward_pre_hook(check)
    try:
        got = run(nodes.RaritySamplePrior, prior=prior, count=9, steps=2)[0]
    finally:
        handle.remove()
    torch.testing.assert_close(got.vectors, expected.vectors, rtol=1e-3, atol=1e-3)
    assert [rows for rows, _ in seen] == [9, 5, 3, 3, 3, 3, 3, 3]
    assert seen[0][1] == 2 and seen[1][1] == 1, "everything else was moved out before the next try"


def test_a_baseline_is_kept_while_it_is_drawn(run, model, folders, monkeypatch):
    from comfy import model_management, utils

    move = utils.ProgressBar.update_absolute

    def cancel_later(bar, value, total=None, preview=None):
        move(bar, value, total, preview)
        if value > 600:  # the first 256 samples, 2 steps each, and some
            model_management.interrupt_current_processing()

    inputs = {"prior": model[0], "count": 300, "steps": 2, "keep_as": "mine/R"}
    with monkeypatch.context() as patch, pytest.raises(model_management.InterruptProcessingException):
        patch.setattr(utils.ProgressBar, "update_absolute", cancel_later)
        run(nodes.RaritySamplePrior, **{**inputs, "count": 600})
    kept = folders.with_name("rarity_embeddings") / "mine" / "R"
    assert [len(load_embeddings(path)) for path in kept.iterdir()] == [256]
    got, _ = run(nodes.RaritySamplePrior, **inputs)
    expected = run(nodes.RaritySamplePrior, **{**inputs, "keep_as": ""})[0]
    torch.testing.assert_close(got.vectors, expected.vectors, rtol=1e-3, atol=1e-3)
    assert sum(len(load_embeddings(path)) for path in kept.iterdir()) == 300
    assert any("R" in name for name in nodes.RarityLoadEmbeddings.define_schema().inputs[0].options)
    with pytest.raises(RarityError, match="another baseline: seed 0"):
        run(nodes.RaritySamplePrior, **{**inputs, "seed": 1})
    for name in ("../mine", "/mine", "a\\b"):
        with pytest.raises(RarityError, match="cannot be used"):
            run(nodes.RaritySamplePrior, **{**inputs, "keep_as": name})


def test_a_baseline_that_may_end_says_whether_it_did(run, model):
    got, report = run(nodes.RaritySamplePrior, prior=model[0], count=300, steps=2, stop_when_enough=True)
    assert len(got) == 300 and "300 samples are not known to be enough" in report


def test_a_repository_must_be_named_as_one(run):
    with pytest.raises(RarityError, match="The repository must be a name such as"):
        run(nodes.RarityLoadKandinsky, model="tiny", repository="kandinsky")
    assert run(nodes.RarityLoadKandinsky, model="tiny", repository="  ")[0].space.width == 32


@pytest.mark.parametrize("chosen, got", [
    (torch.float16, torch.float16), (torch.bfloat16, torch.bfloat16), (torch.float32, torch.float32),
    (torch.float8_e4m3fn, torch.float32),
])
def test_comfyui_chooses_the_type_of_the_weights(monkeypatch, chosen, got):
    """What the machine of the test would choose is not the point: what is made of the answer is."""
    from comfy import model_management
    from rarity.generators.kandinsky.load import MINIATURE
    from rarity.nodes.parts.placement import model_dtype

    monkeypatch.setattr(model_management, "unet_dtype", lambda device, supported_dtypes: chosen)
    assert model_dtype("some/folder") is got and model_dtype(MINIATURE) is torch.float32
