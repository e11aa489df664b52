"""Concepts in files: what comes back, and what is refused."""

import json
import math
import struct

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, RarityError, Trajectory, inspect_file
from rarity.generators.concepts.concept import Concept
from rarity.generators.concepts.concept_files import load_concept, save_concept

SPACE = EmbeddingSpace("test", "0123", 6)
LAYOUT = (("layer.lora_A.weight", 2, 4), ("layer.lora_B.weight", 3, 2))


def make(kind="token + lora", readings=("bits", "residual", "anchor_cosine")):
    draw = torch.Generator().manual_seed(0)
    s, n = 3, 5
    samples = tuple(Embeddings(torch.randn(n, 6, generator=draw), SPACE) for _ in range(s))
    read = {name: torch.rand(s, n, generator=draw, dtype=torch.float64) for name in readings}
    accepted = torch.tensor([True, False, True, True, False])
    edges = {"contrast": (0.25, math.inf), "norm": (1.0, 2.0)}
    trajectory = Trajectory((0, 5, 10), samples, read, 10.0, accepted, False, allowed=edges)
    return Concept(
        kind=kind,
        prompt="a letter r",
        word="r" if "token" in kind else "",
        tokens=torch.randn(s, 4 if "token" in kind else 0, generator=draw),
        loras=torch.randn(s, 14 if "lora" in kind else 0, generator=draw),
        layout=LAYOUT if "lora" in kind else (),
        trajectory=trajectory,
        settings={"steps": 5, "guidance": 4.0, "negative_prompt": "", "seed": 3},
        notes=("A note.",),
    )


@pytest.mark.parametrize("kind", ["token", "lora", "token + lora"])
def test_a_concept_comes_back_bit_for_bit(tmp_path, kind):
    concept, path = make(kind), tmp_path / "c.safetensors"
    save_concept(concept, path)
    loaded = load_concept(path)
    for name in ("kind", "prompt", "word", "layout", "settings", "notes", "steps", "space"):
        assert getattr(loaded, name) == getattr(concept, name), name
    assert torch.equal(loaded.tokens, concept.tokens) and torch.equal(loaded.loras, concept.loras)
    got, expected = loaded.trajectory, concept.trajectory
    assert got.steps == expected.steps and got.allowed == expected.allowed and got.report() == expected.report()
    assert list(got.readings) == list(expected.readings) and torch.equal(got.accepted, expected.accepted)
    assert all(torch.equal(got.readings[name], expected.readings[name]) for name in expected.readings)
    assert all(torch.equal(a.vectors, b.vectors) for a, b in zip(got.embeddings, expected.embeddings, strict=True))
    told = inspect_file(path)
    assert told["concept"] == kind and told["layout"] == f"{len(concept.layout)} matrices"
    assert told["report"] == concept.report().splitlines() and len(told["report"]) >= 3 + len(concept.steps)


def test_checkpoints_and_matrices():
    concept = make()
    assert torch.equal(concept.token(-1), concept.tokens[2]) and torch.equal(concept.token(0), concept.tokens[0])
    lora = concept.lora(1)
    assert torch.equal(lora["layer.lora_A.weight"], concept.loras[1, :8].view(2, 4))
    assert torch.equal(lora["layer.lora_B.weight"], concept.loras[1, 8:].view(3, 2))
    assert make("token").lora() == {} and make("lora").token() is None
    for checkpoint in (3, -4):
        with pytest.raises(RarityError, match=f"3 checkpoints: choose one of 0 to 2, or -1 for the last, got {checkpoint}"):
            concept.token(checkpoint)


@pytest.mark.parametrize("change, what", [
    ({"concept": "poem"}, "its kind"),
    ({"concept": "lora"}, "its prompt or word"),
    ({"word": 3}, "its prompt or word"),
    ({"prompt": None}, "its prompt or word"),
    ({"layout": [["a", 2, -4], ["b", 3, 2]]}, "the layout of its LoRA"),
    ({"layout": {"a": 1}}, "the layout of its LoRA"),
    ({"layout": [["a", 2, 4]]}, "its LoRA"),
    ({"layout": []}, "the layout of its LoRA"),
    ({"steps": [0, 5]}, "its checkpoints"),
    ({"steps": [5, 0, 10]}, "its checkpoints"),
    ({"steps": "0 5 10"}, "its checkpoints"),
    ({"readings": ["bits", "bits", "anchor_cosine"]}, "its readings"),
    ({"readings": ["bits", "residual"]}, "its readings"),
    ({"target_bits": "ten"}, "its target"),
    ({"target_bits": 1e308}, "its target"),
    ({"extrapolated": 1}, "its target"),
    ({"allowed": {"norm": [1.0]}}, "its guardrails' limits"),
    ({"settings": {"steps": 5}}, "its settings"),
    ({"notes": "A note."}, "its notes"),
])
def test_damaged_descriptions_are_refused(change, what):
    fields, tensors = make().state()
    with pytest.raises(RarityError, match=f"The concept in this file is damaged: {what}. Learn it again"):
        Concept.from_state({**fields, **change}, tensors)


@pytest.mark.parametrize("name, shape, what", [
    ("tokens", (2, 4), "its token"),
    ("tokens", (3, 0), "its token"),
    ("loras", (3, 13), "its LoRA"),
    ("samples", (3, 5, 7), "its samples"),
    ("samples", (2, 5, 6), "its checkpoints"),
    ("readings", (3, 3, 4), "its readings"),
    ("accepted", (4,), "its readings"),
])
def test_tensors_of_other_shapes_are_refused(name, shape, what):
    fields, tensors = make().state()
    with pytest.raises(RarityError, match=f"The concept in this file is damaged: {what}"):
        Concept.from_state(fields, {**tensors, name: torch.zeros(shape, dtype=tensors[name].dtype)})


def test_a_changed_byte_and_another_kind_are_refused(tmp_path):
    from rarity.density import load_embeddings

    path = tmp_path / "c.safetensors"
    save_concept(make(), path)
    with pytest.raises(RarityError, match="holds concept, expected embeddings"):
        load_embeddings(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RarityError, match="does not match its own digest"):
        load_concept(path)


def test_a_tensor_too_many_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    save_concept(make(), path)
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["surprise"] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    with pytest.raises(RarityError, match="it holds the tensors .*surprise"):
        load_concept(path)
