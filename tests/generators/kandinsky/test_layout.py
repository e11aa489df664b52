"""Finding and loading the parts of a Kandinsky on disk."""

import json
import shutil
import warnings

import diffusers
import pytest
import torch
from rarity.density.base.errors import RarityError
from rarity.generators.kandinsky.layout import find_parts
from rarity.generators.kandinsky.load import BUILT_IN, embedding_width, load_kandinsky
from rarity.generators.runtime.loading import load_model
from tiny_kandinsky import build_tiny_kandinsky


@pytest.fixture
def folder(tiny_kandinsky_folder, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(tiny_kandinsky_folder, tmp_path / "model")


def same(a, b):
    return torch.equal(a[0].sample("a", 2, steps=3).vectors, b[0].sample("a", 2, steps=3).vectors) and a[0].space == b[0].space


def test_a_pair_named_as_on_the_hub(folder, tiny_kandinsky):
    prior = (folder / "prior").rename(folder / "kandinsky-2-2-prior")
    decoder = (folder / "decoder").rename(folder / "kandinsky-2-2-decoder")
    assert same(load_kandinsky(prior), tiny_kandinsky)
    assert find_parts(decoder) == find_parts(prior) == find_parts(prior, decoder)


def test_the_width_is_known_before_anything_is_loaded(folder, tiny_kandinsky, tiny_kandinsky_21, tiny_kandinsky_21_folder):
    widths = {name: embedding_width(name) for name in BUILT_IN}
    assert widths == {name: load_kandinsky(name)[0].space.width for name in BUILT_IN}
    assert embedding_width(folder) == tiny_kandinsky[0].space.width
    assert embedding_width(tiny_kandinsky_21_folder / "kandinsky-2-1-prior") == tiny_kandinsky_21[0].space.width
    (config,) = (folder / "prior" / "prior").glob("config.json")
    for damaged in ("{", "[]", '{"embedding_dim": "64"}', "{}"):
        config.write_text(damaged)
        assert embedding_width(folder) is None
    assert embedding_width(folder / "nowhere") is None


def test_a_pair_with_any_names(folder, tiny_kandinsky):
    decoder = (folder / "decoder").rename(folder / "paint")
    assert same(load_kandinsky(folder / "prior", decoder=decoder), tiny_kandinsky)


def test_one_combined_folder_as_diffusers_saves_it(folder, tmp_path, tiny_kandinsky):
    from diffusers import KandinskyV22CombinedPipeline, KandinskyV22Pipeline, KandinskyV22PriorPipeline

    prior = KandinskyV22PriorPipeline.from_pretrained(folder / "prior")
    decoder = KandinskyV22Pipeline.from_pretrained(folder / "decoder")
    parts = {f"prior_{name}": part for name, part in prior.components.items()}
    KandinskyV22CombinedPipeline(**decoder.components, **parts).save_pretrained(tmp_path / "combined")
    assert same(load_kandinsky(tmp_path / "combined"), tiny_kandinsky)


def test_one_combined_folder_without_prefixes(folder, tiny_kandinsky):
    (folder / "prior").rename(folder.parent / "whole")
    whole = folder.parent / "whole"
    (whole / "scheduler").rename(whole / "prior_scheduler")
    for part in ("unet", "movq", "scheduler"):
        (folder / "decoder" / part).rename(whole / part)
    assert same(load_kandinsky(whole), tiny_kandinsky)


def test_no_folder(tmp_path):
    with pytest.raises(RarityError, match="no model folder"):
        load_kandinsky(tmp_path / "absent")


def test_missing_parts_are_all_named(folder):
    shutil.rmtree(folder / "prior" / "text_encoder")
    (folder / "decoder" / "movq" / "config.json").unlink()
    (folder / "decoder" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(RarityError) as error:
        load_kandinsky(folder)
    for name in ("prior/text_encoder/", "decoder/movq/config.json", "decoder/unet/*.safetensors"):
        assert name in str(error.value)
    assert "image_encoder" not in str(error.value)


def test_half_a_pair_names_the_other_half(folder):
    shutil.rmtree(folder / "decoder")
    with pytest.raises(RarityError, match="unet"):
        load_kandinsky(folder / "prior")


def test_pickled_weights_are_refused(folder):
    weights = folder / "decoder" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(RarityError, match="diffusion_pytorch_model.bin, a format that can run code"):
        load_kandinsky(folder)


@pytest.mark.parametrize("part", ["prior/prior", "prior/text_encoder", "prior/image_encoder", "decoder/unet", "decoder/movq"])
def test_damaged_weights_are_one_clear_error(folder, part):
    weights = next((folder / part).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RarityError, match=f"{part}.*cannot be read"):
        load_kandinsky(folder)


@pytest.mark.parametrize("part", ["prior/prior", "prior/image_encoder", "decoder/unet"])
def test_weights_that_lack_a_tensor_are_refused(folder, part):
    from safetensors.torch import load_file, save_file

    weights = next((folder / part).glob("*.safetensors"))
    tensors = load_file(weights)
    del tensors[sorted(tensors)[-1]]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(RarityError, match=part):
        load_kandinsky(folder)


@pytest.mark.parametrize("file", [
    "prior/image_processor/preprocessor_config.json", "prior/scheduler/scheduler_config.json", "decoder/unet/config.json",
])
def test_damaged_json_is_one_clear_error(folder, file):
    (folder / file).write_text("{")
    with pytest.raises(RarityError, match=file.split("/")[1]):
        load_kandinsky(folder)


def test_a_scheduler_of_something_else_is_refused(folder):
    file = folder / "prior" / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "_class_name": "EulerDiscreteScheduler"}))
    with pytest.raises(RarityError, match="UnCLIPScheduler, got EulerDiscreteScheduler"):
        load_kandinsky(folder)


def test_prior_and_decoder_of_different_widths_are_refused(folder, tmp_path):
    other = build_tiny_kandinsky(tmp_path / "other", width=16)
    with pytest.raises(RarityError, match="width 16.*width 32"):
        load_kandinsky(folder / "prior", decoder=other / "decoder")


def test_half_precision_files_are_loaded_in_float32(folder, tiny_kandinsky):
    from safetensors.torch import load_file, save_file

    for weights in folder.glob("*/*/*.safetensors"):
        save_file({name: value.half() for name, value in load_file(weights).items()}, weights, metadata={"format": "pt"})
        config = weights.parent / "config.json"
        if "dtype" in (fields := json.loads(config.read_text())):
            config.write_text(json.dumps({**fields, "dtype": "float16"}))
    prior, decoder = load_kandinsky(folder)
    modules = [prior.transformer, prior.text_encoder, prior.image_encoder, decoder.unet, decoder.movq]
    assert {p.dtype for module in modules for p in module.parameters()} == {torch.float32}
    assert prior.space == tiny_kandinsky[0].space


def test_a_tokenizer_of_another_length_is_refused(folder):
    file = folder / "prior" / "tokenizer" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": 77}))
    with pytest.raises(RarityError, match="reads 12 text tokens, but its tokenizer makes 77"):
        load_kandinsky(folder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_loading_is_quiet_and_in_the_type_that_was_asked_for(folder, dtype, caplog, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prior, decoder = load_kandinsky(folder, dtype=dtype)
    assert {p.dtype for module in (prior.transformer, decoder.unet, decoder.movq) for p in module.parameters()} == {dtype}
    assert not caplog.records and "dtype" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("release, name", [("0.30.0", "torch_dtype"), ("0.39.1", "torch_dtype"), ("0.40.0", "dtype"), ("1.0.0.dev0", "dtype")])
def test_each_release_of_diffusers_is_told_the_type_in_its_own_word(folder, monkeypatch, release, name):
    told = []
    load = diffusers.PriorTransformer.from_pretrained.__func__

    def watched(cls, *given, **options):
        told.append({key: value for key, value in options.items() if "dtype" in key})
        return load(cls, *given, **options)

    monkeypatch.setattr(diffusers, "__version__", release)
    monkeypatch.setattr(diffusers.PriorTransformer, "from_pretrained", classmethod(watched))
    assert load_model(diffusers.PriorTransformer, folder / "prior" / "prior", dtype=torch.bfloat16).dtype == torch.bfloat16
    assert told == [{name: torch.bfloat16}]
