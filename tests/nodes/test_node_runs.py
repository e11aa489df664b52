"""Nodes run as ComfyUI runs them, on a tiny random Kandinsky: results, determinism, cancel, and one clear error each."""

import hashlib

import pytest
import torch
from rarity import nodes
from rarity.density.base.errors import RarityError


def assert_image(image, count):
    assert image.dtype == torch.float32 and image.device.type == "cpu"
    assert image.dim() == 4 and image.shape[0] == count and image.shape[3] == 3
    assert 0 <= image.min() and image.max() <= 1


def test_the_model_menu_offers_the_built_in_models_and_kandinsky_folders_only(folders, tiny_root):
    for name in ("not-a-model", "stable-diffusion"):
        (tiny_root / name).mkdir(exist_ok=True)
    (tiny_root / "stable-diffusion" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (tiny_root / "broken").mkdir(exist_ok=True)
    (tiny_root / "broken" / "model_index.json").write_text("[")
    menu = nodes.RarityLoadKandinsky.define_schema().inputs[0]
    assert menu.options == ["miniature (built in)", "things (built in)", "tiny"] and menu.default == menu.options[0]


def test_the_whole_graph(run, model, baseline, density):
    prior, decoder = model
    rails = run(nodes.RarityAnchorGuardrail, embeddings=baseline)[0]
    rails = run(nodes.RarityResidualGuardrail, density=density, guardrail=rails)[0]
    rails = run(nodes.RarityContrastGuardrail, eye=prior, embeddings=baseline, guardrail=rails)[0]
    assert [rail.name for rail in rails] == ["anchor", "residual", "contrast"]
    assert len(rails[2].others) == 25, "the subject's own line does not count as an alternative"
    rare, usual, trajectory, report = run(
        nodes.RarityMakeRare, density=density, embeddings=baseline, one_in=50, count=3, steps=10, guardrail=rails
    )
    assert len(rare) == len(usual) == 3 and "3" in report
    assert torch.equal(trajectory.final.vectors, rare.vectors)
    drawn = run(nodes.RarityDecodeKandinsky, decoder=decoder, embeddings=rare, steps=3)[0]
    beside = run(nodes.RarityDecodeKandinsky, decoder=decoder, embeddings=usual, steps=3)[0]
    assert_image(drawn, 3)
    assert_image(beside, 3)
    for given in ({}, {"usual": beside}, {"usual": beside, "trajectory": trajectory}):
        assert_image(run(nodes.RarityContactSheet, rare=drawn, **given)[0], 1)
    sheet, titled = (run(nodes.RarityContactSheet, rare=drawn, **more)[0] for more in ({}, {"rare_title": "Round 2"}))
    assert sheet.shape == titled.shape and not torch.equal(sheet, titled)
    for given in ({}, {"embeddings": baseline}, {"embeddings": baseline, "trajectory": trajectory}):
        assert_image(run(nodes.RarityDensityMap, density=density, **given)[0], 1)
    assert str(len(baseline)) in run(nodes.RarityDescribeDensity, density=density)[0]


def test_the_dial_moves_every_result_into_its_band(run, density, baseline):
    for one_in in (4, 50):
        trajectory = run(nodes.RarityMakeRare, density=density, embeddings=baseline, one_in=one_in, count=8)[2]
        assert trajectory.in_band.all()


def test_rarer_starts_are_rarer(run, density, baseline):
    bits = {
        kind: density.bits(run(nodes.RarityMakeRare, density=density, embeddings=baseline, count=8, steps=1,
                               start_from=kind)[2].start.vectors).mean()
        for kind in ("usual", "rarer")
    }
    assert bits["rarer"] > bits["usual"] + 1


def test_same_seed_same_picture_and_another_seed_another(run, model, baseline, rare):
    prior, decoder = model
    again = run(nodes.RaritySamplePrior, prior=prior, count=len(baseline), steps=3)[0]
    assert torch.equal(again.vectors, baseline.vectors)
    other = run(nodes.RaritySamplePrior, prior=prior, count=len(baseline), steps=3, seed=2**64 - 1)[0]
    assert not torch.equal(other.vectors, baseline.vectors)
    draw = [run(nodes.RarityDecodeKandinsky, decoder=decoder, embeddings=rare[0], steps=3, seed=seed)[0] for seed in (0, 0, 2**64 - 1)]
    assert torch.equal(draw[0], draw[1]) and not torch.equal(draw[0], draw[2])


def test_decode_takes_the_model_s_own_settings_at_zero(run, model, rare):
    decoder = model[1]
    own = {"steps": decoder.defaults.steps, "guidance": decoder.defaults.guidance}
    default = run(nodes.RarityDecodeKandinsky, decoder=decoder, embeddings=rare[0])[0]
    assert torch.equal(default, run(nodes.RarityDecodeKandinsky, decoder=decoder, embeddings=rare[0], **own)[0])


def test_the_global_random_state_is_left_alone(run, model, baseline, density, rare):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run(nodes.RaritySamplePrior, prior=model[0], count=5, steps=2)
    run(nodes.RarityFitDensity, embeddings=baseline)
    run(nodes.RarityMakeRare, density=density, embeddings=baseline, one_in=50, count=3, steps=2)
    run(nodes.RarityDecodeKandinsky, decoder=model[1], embeddings=rare[0], steps=2)
    assert torch.equal(torch.get_rng_state(), before)


def _digest(*tensors):
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()


def test_inputs_are_never_changed(run, model, baseline, density, rare):
    held = (baseline.vectors, density.frame.mean, density.frame.basis, density.frame.variances, rare[0].vectors)
    before = _digest(*held)
    chain = run(nodes.RarityAnchorGuardrail, embeddings=baseline)[0]
    longer = run(nodes.RarityResidualGuardrail, density=density, guardrail=chain)[0]
    assert len(chain) == 1 and len(longer) == 2
    run(nodes.RarityMakeRare, density=density, embeddings=baseline, one_in=50, count=3, steps=5, guardrail=longer)
    pictures = run(nodes.RarityDecodeKandinsky, decoder=model[1], embeddings=rare[0], steps=2)[0]
    drawn = _digest(pictures)
    run(nodes.RarityContactSheet, rare=pictures, usual=pictures, trajectory=rare[2])
    run(nodes.RarityDensityMap, density=density, embeddings=baseline, trajectory=rare[2])
    assert _digest(*held) == before and _digest(pictures) == drawn


def test_save_and_load(run, density, baseline, folders):
    assert not folders.exists(), "nothing is made before something is saved"
    with torch.inference_mode():
        shown = nodes.RaritySaveFile.execute(what=[density], name=["letter_R"]).ui.as_dict()
    assert "letter_R.safetensors" in shown["text"][0]
    assert nodes.RarityLoadDensity.define_schema().inputs[0].options == ["letter_R.safetensors"]
    loaded = run(nodes.RarityLoadDensity, name="letter_R.safetensors")[0]
    assert torch.equal(loaded.bits(baseline.vectors), density.bits(baseline.vectors))
    first = nodes.RarityLoadDensity.fingerprint_inputs(name="letter_R.safetensors")
    assert first == nodes.RarityLoadDensity.fingerprint_inputs(name="letter_R.safetensors")
    other = run(nodes.RarityFitDensity, embeddings=baseline, components=3)[0]
    run(nodes.RaritySaveFile, what=[other], name=["letter_R"])
    assert first != nodes.RarityLoadDensity.fingerprint_inputs(name="letter_R.safetensors")


def test_directions_chain_into_optimize_from_words_pictures_and_a_density(run, model, baseline, density):
    words = run(nodes.RaritySteerTowards, eye=model[0], towards="a bold r", away_from="a light r", strength=1.0)[0]
    pictures = run(nodes.RaritySteerTowards, embeddings_away=baseline.select(range(3)), direction=words)[0]
    chain = run(nodes.RaritySteerTowards, density=density, component=1, strength=-1.0, direction=pictures)[0]
    assert [one.name for one in chain] == ["a bold r", "away from", "component 1"]
    trajectory = run(nodes.RarityMakeRare, density=density, embeddings=baseline, one_in=50, count=3, steps=5, direction=chain)[2]
    assert trajectory.in_band.all() and set(trajectory.readings) > {one.name for one in chain}


def test_contrast_takes_pictures_of_alternatives_beside_words(run, model, baseline):
    both = run(nodes.RarityContrastGuardrail, eye=model[0], embeddings=baseline, centred=True,
               alternative_pictures=baseline.select(range(4)))[0]
    assert [rail.name for rail in both] == ["contrast", "contrast"] and both[0].centre is not None
    pictures = run(nodes.RarityContrastGuardrail, embeddings=baseline, alternative_pictures=baseline.select(range(4)))[0]
    assert [len(rail.others) for rail in pictures] == [1]
    with pytest.raises(RarityError, match="connect an eye that reads the words, or embeddings of alternative pictures"):
        run(nodes.RarityContrastGuardrail, embeddings=baseline)
