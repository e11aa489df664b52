"""Vision-language models as judges: three architectures in the real format, answers that are known, and clear errors."""

import json
import logging
import shutil

import pytest
import torch
from rarity.density.base.errors import RarityError
from rarity.generators.judges.vlm import Vlm, VlmJudge, _with_article
from rarity.generators.runtime.memory import Placement
from tiny_vlm import BUILDERS, teach

BRIGHT, DARK = torch.full((1, 20, 24, 3), 0.9), torch.full((1, 20, 24, 3), 0.1)
MIXED = torch.cat([BRIGHT, DARK, DARK, BRIGHT, DARK])
PROMPTS = {
    "llava": "user : <image> Is this still a letter r? Yes or No. assistant :",
    "paligemma": "<image>Is this still a letter r? Yes or No.",
    "qwen2_vl": "user : <|vision_start|><|image_pad|><|vision_end|> Is this still a letter r? Yes or No. assistant :",
}


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def untaught(kind, tmp_path_factory):
    return BUILDERS[kind](tmp_path_factory.mktemp("vlm") / kind)


@pytest.fixture(scope="module")
def folder(kind, untaught, tmp_path_factory):
    """A model that says Yes to what is bright and No to what is dark."""
    copy = tmp_path_factory.mktemp("taught") / kind
    shutil.copytree(untaught, copy)
    return teach(copy, BRIGHT, DARK)


@pytest.fixture(scope="module")
def judge(folder):
    return VlmJudge(Vlm(folder), "letter r")


def test_it_answers_by_the_picture(judge):
    found = judge.probability(MIXED)
    assert found.dtype == torch.float64 and found.shape == (5,)
    assert (found[[0, 3]] > 0.99).all() and (found[[1, 2, 4]] < 0.01).all()


def test_the_question_is_put_as_the_model_knows_it(judge, kind):
    assert judge._prompt == PROMPTS[kind]


def test_the_probability_is_the_literal_formula(judge):
    """One picture at a time through the model's own forward: the same logits, yes over yes and no."""
    from PIL import Image

    words = judge._model._tokenizer.get_vocab()
    for picture, found in zip(MIXED[:2], judge.probability(MIXED[:2]), strict=True):
        image = Image.fromarray(picture.mul(255).round().byte().numpy())
        read = judge._model._processor(text=[judge._prompt], images=[image], return_tensors="pt")
        read.pop("labels", None)
        with torch.no_grad():
            logits = judge._model._model(**read).logits[0, -1].double()
        p = torch.softmax(logits, dim=0)
        yes, no = (sum(p[words[way]] for way in ways) for ways in (("yes", "Yes", "YES"), ("no", "No")))
        torch.testing.assert_close(found, yes / (yes + no), rtol=1e-4, atol=1e-6)


def test_little_memory_changes_nothing_and_cancel_comes_through(judge, folder):
    class Narrow(Placement):
        rooms = 0

        def make_room(self):
            self.rooms += 1

    narrow = VlmJudge(Vlm(folder, batch_size=4, placement=Narrow()), "a letter r")
    sizes, calls = [], []

    def check(_, inputs):
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 2:
            torch.empty(2**60, dtype=torch.uint8)  # more than any machine has: the allocator's own error

    narrow._model._model.get_input_embeddings().register_forward_pre_hook(check)
    got = narrow.probability(MIXED, progress=lambda *call: calls.append(call))
    torch.testing.assert_close(got, judge.probability(MIXED), rtol=1e-4, atol=1e-6)
    assert narrow._model._placement.rooms == 1 and sizes[0] == 4 and max(sizes[1:]) == 2 and calls == [(2, 5), (4, 5), (5, 5)]

    def cancel(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        narrow.probability(MIXED, progress=cancel)


def test_it_runs_in_inference_mode_and_half_precision(folder):
    with torch.inference_mode():
        half = VlmJudge(Vlm(folder, dtype=torch.bfloat16), "a letter r")
        found = half.probability(MIXED[:2])
    assert next(half._model._model.parameters()).dtype == torch.bfloat16
    assert found[0] > 0.9 and found[1] < 0.1
    assert not any(weight.requires_grad or weight.is_inference() for weight in half._model._model.parameters())


def test_it_says_nothing_on_the_way(folder, capfd, caplog):
    with caplog.at_level(logging.WARNING):
        VlmJudge(Vlm(folder), "a letter r").probability(MIXED[:1])
    out, err = capfd.readouterr()
    assert not out and "rarity" not in caplog.text


def test_a_model_that_answers_something_else(untaught, kind, tmp_path):
    judge = VlmJudge(Vlm(untaught), "a letter r")
    last = judge._model._model.get_output_embeddings()
    with torch.no_grad():  # "the" beats everything, whatever it sees
        last.weight.zero_()
        judge._model._model.get_output_embeddings().register_forward_hook(
            lambda _, __, logits: logits + 9 * (torch.arange(logits.shape[-1]) == judge._model._tokenizer.get_vocab()["the"])
        )
    with pytest.raises(RarityError, match=f"{kind} answers neither yes nor no: .* would rather say 'the' \\(\\d.*follows instructions"):
        judge.probability(MIXED)


def test_pictures_that_are_none(judge):
    with pytest.raises(RarityError, match="shape .N, H, W, 3."):
        judge.probability(torch.rand(2, 3, 8, 8))
    with pytest.raises(RarityError, match="values from 0 to 1"):
        judge.probability(255 * MIXED)


@pytest.mark.parametrize("damage, message", [
    (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), r"Missing: .*safetensors \(only pytorch_model.bin, a format that can run code"),
    (lambda f: (f / "config.json").unlink(), "Missing: .*config.json"),
    (lambda f: shutil.rmtree(f), "is not a whole vision-language model. Missing: "),
    (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "a model of the type 'bert', which transformers .* does not know as one that reads pictures"),
    (lambda f: (f / "config.json").write_text('{"auto_map": {"AutoModel": "own.Model"}, "model_type": "own"}'), "code that comes with a model is never run"),
    (lambda f: (f / "config.json").write_text('{"model_type": "llava", "quantization_config": {"quant_method": "awq"}}'), "weights of fewer bits"),
    (lambda f: (f / "config.json").write_text("[]"), "must hold a JSON object"),
    (lambda f: (f / "tokenizer.json").write_text("{}"), "The processor in .* cannot be read: .*Download this model again"),
    (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 64), "cannot be read as AutoModelForImageTextToText"),
])
def test_folders_that_are_no_model(damage, message, untaught, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(untaught, copy)
    damage(copy)
    with pytest.raises(RarityError, match=message):
        VlmJudge(Vlm(copy), "a letter r")


def test_code_in_the_folder_is_not_run(folder, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = {"AutoModelForImageTextToText": "own.Model", "AutoConfig": "own.Config"}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert VlmJudge(Vlm(copy), "a letter r").probability(MIXED).shape == (5,)
    assert not (tmp_path / "ran").exists()


def test_subjects_get_an_article_where_they_have_none(untaught):
    assert [_with_article(s) for s in ("vehicle", "apple", "a letter R", "The Hague", "some fruit")] == [
        "a vehicle", "an apple", "a letter R", "The Hague", "some fruit"
    ]
    with pytest.raises(RarityError, match="needs a subject"):
        VlmJudge(Vlm(untaught), " ")


def test_a_tokenizer_without_a_yes(untaught, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(untaught, copy)
    text = (copy / "tokenizer.json").read_text()
    for way in ("yes", "Yes", "YES"):
        text = text.replace(f'"{way}"', f'"{way[::-1]}"')
    (copy / "tokenizer.json").write_text(text)
    with pytest.raises(RarityError, match="no single token for 'yes'"):
        VlmJudge(Vlm(copy), "a letter r")
