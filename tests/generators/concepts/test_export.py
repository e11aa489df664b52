"""What is exported does in diffusers what the concept does here: by the very lines that the help page gives."""

import json
import shutil
from pathlib import Path

import pytest
from learning import KINDS, PROMPT, STEPS, learn, relative_error
from rarity.density import RarityError, fit_density
from rarity.generators.concepts.export import export_concepts, export_lora, export_token
from rarity.generators.concepts.learn import learn_concept
from rarity.generators.concepts.sampling import sample_concept
from rarity.generators.kandinsky.load import load_kandinsky, miniature_folder
from rarity.generators.runtime.noise import streams
from safetensors import safe_open

HELP = Path(__file__).parents[3] / "web" / "docs" / "RarityExportConcept.md"


@pytest.fixture(scope="module")
def prior(tiny_kandinsky):
    return tiny_kandinsky[0]


@pytest.fixture(scope="module")
def density(prior):
    return fit_density(prior.sample(PROMPT, 200, seed=11, steps=STEPS))


def drawn(pipeline, prompt, steps):
    noise = streams(2, 0, 3, "prior")
    return pipeline(prompt, num_images_per_prompt=3, num_inference_steps=steps, generator=noise).image_embeds


@pytest.fixture
def the_help_s_lines(tmp_path, monkeypatch):
    """Run the lines of Export Concept's help page, in a folder with what was exported; returns the pipeline they make."""
    lines = [line[4:] for line in HELP.read_text(encoding="utf-8").splitlines() if line.startswith("    ")]

    def run(model, token=None, lora=None):
        monkeypatch.chdir(tmp_path)
        wanted = [line for line in lines if lora or "load_lora_adapter" not in line]
        wanted = [line for line in wanted if token or line.startswith(("import", "from diffusers", "pipeline = ", "pipeline.prior"))]
        names = {}
        exec("\n".join(wanted).replace("kandinsky-community/kandinsky-2-2-prior", str(model)), names)  # noqa: S102
        names["pipeline"].set_progress_bar_config(disable=True)
        return names["pipeline"]

    return run


def exported(concept, folder):
    return export_concepts([concept], *(folder / "models" / kind / "rare-r.safetensors" for kind in ("embeddings", "loras")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("older", [False, True])
def test_diffusers_draws_the_same_with_the_lines_of_the_help(
    prior, density, tiny_kandinsky_folder, the_help_s_lines, tmp_path, kind, older
):
    """The real pipeline; once with the configuration of older encoders, whose end of a prompt is its highest token."""
    folder = tmp_path / "prior"
    shutil.copytree(tiny_kandinsky_folder / "prior", folder)
    if older:
        config = folder / "text_encoder" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": 2}))
    concept = learn(prior, density, kind, iterations=8, learning_rate=1e-2)
    report = exported(concept, tmp_path)
    pipeline = the_help_s_lines(folder, token=concept.word, lora=concept.layout)
    expected = sample_concept(prior, concept, 3, seed=2).vectors
    prompt = "a letter <rare-r>" if concept.word else PROMPT
    assert relative_error(drawn(pipeline, prompt, STEPS), expected) <= 1e-4  # guidance amplifies rounding
    assert relative_error(prior.sample(PROMPT, 3, seed=2, steps=STEPS).vectors, expected) > 1e-3
    assert ("ComfyUI's LoRA loaders cannot use it" in report) == bool(concept.layout)


def test_the_lines_of_the_help_work_with_the_miniature(the_help_s_lines, tmp_path):
    prior, _ = load_kandinsky()
    density = fit_density(prior.sample("a letter R", 200, steps=4))
    concept = learn_concept(prior, density, "a letter R", "R", 100, kind="token + lora", iterations=2, steps=4)
    exported(concept, tmp_path)
    pipeline = the_help_s_lines(miniature_folder() / "prior", token=True, lora=True)
    expected = sample_concept(prior, concept, 3, seed=2).vectors
    assert relative_error(drawn(pipeline, "a letter <rare-r>", 4), expected) <= 1e-4  # guidance amplifies rounding


def test_an_exported_file_says_of_which_model_it_is_and_what_loads_it(prior, density, tmp_path):
    exported(learn(prior, density, "token + lora"), tmp_path)
    for folder, kind, words in (
        ("embeddings", "textual inversion", ["the text encoder of a Kandinsky's prior", "in place of 'r'"]),
        ("loras", "lora", ["A LoRA of a Kandinsky's prior", "load_lora_adapter", "ComfyUI's LoRA loaders cannot use it"]),
    ):
        with safe_open(tmp_path / "models" / folder / "rare-r.safetensors", "pt") as file:
            told = file.metadata()
        assert told["format"] == "pt" and told["modelspec.architecture"] == f"kandinsky-prior/{kind}"
        assert json.loads(told["rarity.space"]) == prior.space.to_dict()
        assert all(word in told["modelspec.description"] for word in [*words, repr(PROMPT), str(prior.space)])


def test_what_is_not_there_cannot_be_exported(prior, density, tmp_path):
    token, lora = learn(prior, density), learn(prior, density, "lora")
    with pytest.raises(RarityError, match="LoRA alone and has no token"):
        export_token(lora, tmp_path / "x.safetensors", "<r>")
    with pytest.raises(RarityError, match="token alone and has no LoRA"):
        export_lora(token, tmp_path / "x.safetensors")
    with pytest.raises(RarityError, match="must be one word, .* got 'rare r'"):
        export_token(token, tmp_path / "x.safetensors", "rare r")
    assert not list(tmp_path.iterdir())
