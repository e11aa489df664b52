"""The bridges between embeddings and other sockets, run as ComfyUI runs them; tests/comfyui has them on the real thing."""

import pytest
import torch
from rarity import nodes
from rarity.density.base.errors import RarityError


def test_one_output_an_embedding_and_no_shared_memory(run, rare):
    embeddings = rare[0]
    outputs, _, _ = run(nodes.RarityToClipVisionOutput, embeddings=embeddings)
    assert [tuple(item.image_embeds.shape) for item in outputs] == [(1, embeddings.space.width)] * len(embeddings)
    assert torch.equal(torch.cat([item.image_embeds for item in outputs]), embeddings.vectors)
    before = embeddings.vectors.clone()
    with torch.inference_mode():
        outputs[0]["image_embeds"].zero_()
    assert torch.equal(embeddings.vectors, before)
    assert nodes.RarityToClipVisionOutput.define_schema().outputs[0].is_output_list


def test_what_was_not_checked_is_said(rare):
    shown = nodes.RarityToClipVisionOutput.execute(embeddings=rare[0]).ui.as_dict()["text"][0]
    assert "connect eye" in shown and "connect model" in shown and "3 embeddings" in shown


def test_a_kandinsky_s_embeddings_to_and_from_the_older_pack(run, model, baseline):
    _, latents, embeds = run(nodes.RarityToClipVisionOutput, embeddings=baseline, eye=model[0])
    assert len(latents) == len(embeds) == len(baseline)
    (back,) = run(nodes.RarityFromClipVisionOutput, prior_latent=latents[2].half(), eye=model[0])
    assert back.space == baseline.space and torch.allclose(back.vectors[0], baseline.vectors[2], rtol=1e-3, atol=1e-3)


def test_rows_of_another_width_are_refused(run, model):
    with pytest.raises(RarityError, match="768 numbers wide, but .* makes"):
        run(nodes.RarityFromClipVisionOutput, ip_adapter_embeds=torch.zeros(1, 768), eye=model[0])
    with pytest.raises(RarityError, match=r"one vector a picture, .* got shape \[1, 257, 1280\]"):
        run(nodes.RarityFromClipVisionOutput, ip_adapter_embeds=torch.zeros(1, 257, 1280), eye=model[0])


def test_two_sockets_or_none_is_an_error(run, model):
    rows = torch.zeros(1, model[0].space.width)
    with pytest.raises(RarityError, match="exactly one of clip_vision_output, prior_latent and ip_adapter_embeds, got prior_latent and ip_adapter_embeds. Connect only one of these here. For a second one"):
        run(nodes.RarityFromClipVisionOutput, prior_latent=rows, ip_adapter_embeds=rows, eye=model[0])
    with pytest.raises(RarityError, match="ip_adapter_embeds, got none"):
        run(nodes.RarityFromClipVisionOutput, eye=model[0])


def test_a_kandinsky_of_another_space_is_refused(run, model, baseline):
    from dataclasses import replace

    from rarity.density.base.embeddings import Embeddings

    foreign = Embeddings(baseline.vectors, replace(baseline.space, fingerprint="0" * 12))
    with pytest.raises(RarityError, match="different embedding spaces"):
        run(nodes.RarityToClipVisionOutput, embeddings=foreign, eye=model[0])


def test_a_list_of_pictures_of_different_sizes_becomes_one_set(run, model):
    """As ComfyUI runs a list: Encode Images once for each picture, Join Embeddings once for all."""
    sizes = [(40, 64), (64, 40), (33, 33)]
    pictures = [torch.rand(1, *size, 3, generator=torch.Generator().manual_seed(i)) for i, size in enumerate(sizes)]
    parts = [run(nodes.RarityEncodeImages, images=picture, eye=model[0])[0] for picture in pictures]
    (joined,) = run(nodes.RarityJoinEmbeddings, embeddings=parts)
    assert len(joined) == 3 and torch.equal(joined.vectors, torch.cat([part.vectors for part in parts]))
    assert nodes.RarityJoinEmbeddings.define_schema().is_input_list
    with pytest.raises(RarityError, match="at least"):  # what forgetting it leads to
        run(nodes.RarityFitDensity, embeddings=parts[0])


@pytest.mark.parametrize("shape, words", [
    ((1, 32, 32, 1), r"One channel is greyscale: make it RGB, with Convert Image to Mask \(channel red\) and then Convert Mask to Image"),
    ((1, 32, 32, 2), r"Two channels are greyscale and alpha: make it RGB, with Convert Image to Mask \(channel red\) and then"),
    ((1, 32, 32, 5), "Split Image with Alpha takes the first three"),
    ((1, 32, 32, 4), "alpha channel: drop it, with Split Image with Alpha"),
    ((1, 0, 32, 3), r"got shape \(1, 0, 32, 3\)"),
    ((0, 32, 32, 3), r"got shape \(0, 32, 32, 3\)"),
])
def test_pictures_that_are_none_are_refused_with_what_to_do(run, model, shape, words):
    with pytest.raises(RarityError, match=words):
        run(nodes.RarityEncodeImages, images=torch.zeros(shape), eye=model[0])


@pytest.mark.parametrize("name", ["last_hidden_state", "penultimate_hidden_states", "all_hidden_states", "mm_projected", "image_sizes"])
def test_what_reads_a_picture_s_tokens_is_told_that_there_are_none(run, rare, name):
    """image_sizes is what Lumina 2 and Z-Image ask for first, on newer ComfyUIs."""
    outputs, _, _ = run(nodes.RarityToClipVisionOutput, embeddings=rare[0])
    with pytest.raises(RarityError, match=f"has no {name}: .*Lumina 2 and Z-Image read the picture's tokens"):
        getattr(outputs[0], name)
    assert not hasattr(outputs[0], name)
