"""The validity gate as a node: zero-shot and by a vision-language model, in Make Rare, hostile names, clear errors."""

import pytest
import torch
from rarity import nodes
from rarity.density.base.errors import RarityError


@pytest.fixture
def gate_of(run, model):
    """A Validity Gate; without an eye where that is None."""

    def make(**given):
        given = {"subject": "a letter r", "every": 5, "eye": model[0], **given}
        connected = {name: value for name, value in given.items() if value is not None}
        return run(nodes.RarityValidityGate, decoder=model[1], **connected)[0]

    return make


def test_the_gate_in_optimize(run, gate_of, baseline, density):
    gate = gate_of(alternatives="a letter p\nbold", threshold=0.3)
    assert (gate.subject, gate.every, gate.threshold, gate.on_no) == ("a letter r", 5, 0.3, "step back")
    rare, _, trajectory, report = run(
        nodes.RarityMakeRare, density=density, embeddings=baseline, one_in=50, count=3, steps=10, gate=gate
    )
    assert trajectory.steps == (0, 5, 10) and trajectory.readings["validity"].shape == (3, 3)
    assert torch.equal(gate.validity_of(rare), trajectory.readings["validity"][-1])
    assert "The gate says Yes to" in report
    assert run(nodes.RarityInterestCurve, trajectory=trajectory)[0].shape[-1] == 3


def test_the_menu_offers_whole_models_only_and_no_name_leaves_it(run, gate_of, tmp_path, monkeypatch):
    import folder_paths
    from tiny_vlm import build_qwen2_vl

    root = tmp_path / "LLM"
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "LLM", ([str(root)], set()))
    build_qwen2_vl(root / "packs" / "tiny")
    for name, files in {"pickled": ("config.json", "model.bin"), "bare": ("model.safetensors",)}.items():
        (root / name).mkdir()
        for file in files:
            (root / name / file).write_bytes(b"{}")
    (tmp_path / "outside").symlink_to(root / "packs" / "tiny", target_is_directory=True)
    assert nodes.RarityLoadJudge.define_schema().inputs[0].options == ["packs/tiny"]
    (judge,) = run(nodes.RarityLoadJudge, model="packs/tiny")
    strict, other = gate_of(judge=judge, eye=None), gate_of(judge=judge, eye=None, threshold=0.9, subject="a letter p")
    asked = strict.validity(torch.rand(3, 16, 16, 3))
    assert asked.shape == (3,) and ((asked > 0) & (asked < 1)).all()
    assert strict.judge._model is other.judge._model, "another threshold or subject loads nothing again"
    for name in ("../outside", str(tmp_path / "outside"), "pickled", "bare", "packs", "", "packs/../packs/tiny"):
        with pytest.raises(RarityError, match="There is no vision-language model .*Found: packs/tiny"):
            run(nodes.RarityLoadJudge, model=name)


def test_what_a_zero_shot_gate_needs(gate_of):
    told = "exactly one .* a prior or the encoder of Load OpenCLIP to eye, or a vision-language model of Load Judge to judge. Got"
    with pytest.raises(RarityError, match=f"{told} none"):
        gate_of(eye=None)
    with pytest.raises(RarityError, match=f"{told} both"):
        gate_of(judge=object())
    with pytest.raises(RarityError, match="needs at least one alternative"):
        gate_of(alternatives="a letter r\n")


def test_the_gate_in_learn_concept(run, model, gate_of, density):
    gate = gate_of(alternatives="a letter p", every=2, threshold=0.01, on_no="go on")
    concept, trajectory, report = run(
        nodes.RarityMakeRareConcept, prior=model[0], density=density, prompt="a letter r", word="r", one_in=50, iterations=4, batch=2,
        steps=3, keep_every=3, gate=gate,
    )
    assert concept[0].steps == (0, 2, 4) and trajectory[0].readings["validity"].shape[0] == 3
    assert "The gate says Yes to" in report[0]


def test_a_gate_whose_subject_is_not_in_the_prompt_says_so_and_an_empty_one_is_the_prompt(run, gate_of, baseline, density):
    """The baseline's prompt is the one Sample Prior shows first: a letter R."""
    given = {"alternatives": "a letter p\na letter r", "threshold": 0.01, "embeddings": baseline}
    gates = [gate_of(subject=subject, **given) for subject in ("a letter g", "the letter R", "")]
    assert gates[2].subject == baseline.source["prompt"]
    reports = [run(nodes.RarityMakeRare, density=density, embeddings=baseline, one_in=20, count=2, steps=2, gate=gate)[3] for gate in gates]
    assert "The gate's subject 'a letter g' is not in the prompt" in reports[0]
    assert not any("is not in the prompt" in report for report in reports[1:])
    with pytest.raises(RarityError, match="subject"):
        gate_of(subject="", embeddings=None)
