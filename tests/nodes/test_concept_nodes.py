"""Concepts as a graph uses them: learnt, watched, cancelled and kept, sampled, saved and exported; and what goes wrong."""

import math

import pytest
import safetensors.torch
import torch
from learning import KINDS, Narrow, digest
from rarity import nodes
from rarity.density import BandLoss, GaussianDensity, RarityError
from rarity.generators.concepts.concept_files import load_concept
from rarity.generators.concepts.sampling import sample_concept
from rarity.generators.kandinsky.load import load_kandinsky
from rarity.nodes.parts import folders as places

PROMPT = "a letter r"
SMALL = dict(prompt=PROMPT, word="r", one_in=50, iterations=4, keep_every=2, batch=3, steps=3, rank=4, learning_rate=0.01)


@pytest.fixture
def density(run, model):
    baseline = run(nodes.RaritySamplePrior, prior=model[0], prompt=PROMPT, count=200, steps=3)[0]
    return run(nodes.RarityFitDensity, embeddings=baseline, components=4)[0]


@pytest.fixture
def learn(run, model, density):
    """Make Rare: Concept with cheap settings: concepts, trajectories, reports."""
    return lambda **options: run(nodes.RarityMakeRareConcept, **(dict(SMALL, prior=model[0], density=density) | options))


@pytest.fixture
def concepts_folder(folders):
    return folders.with_name("rarity_concepts")


@pytest.mark.parametrize("kind", KINDS)
def test_learnt_in_a_graph_and_the_shared_model_is_left_as_it_was(run, model, density, learn, kind):
    before = digest(model[0])
    (concept,), (trajectory,), (report,) = learn(kind=kind, iterations=30, keep_every=10, batch=8)
    assert digest(model[0]) == before
    assert concept.steps == trajectory.steps == (0, 10, 20, 30)
    assert concept.settings["learning_rate"] == 0.01 and "checkpoint  iteration" in report
    made = [run(nodes.RaritySampleConcept, prior=model[0], concept=concept, checkpoint=k, count=64, seed=7)[0] for k in (0, -1)]
    loss = BandLoss(density, math.log2(50))
    first, last = (loss(one.vectors.double()).mean() for one in made)
    assert last < 0.5 * first and digest(model[0]) == before
    usual = run(nodes.RaritySamplePrior, prior=model[0], prompt=PROMPT, count=64, seed=7, steps=3)[0]
    assert torch.equal(made[0].vectors, usual.vectors), "checkpoint 0 is the model before it learnt"


def test_its_trajectory_is_one_for_curves_and_checkpoints(run, model, learn):
    (concept,), (trajectory,), _ = learn()
    laid_out = run(nodes.RarityPickStep, trajectory=[trajectory], mode=["all"], number=[0], sample=[1])[0][0]
    pictures = run(nodes.RarityDecodeKandinsky, decoder=model[1], embeddings=laid_out, steps=2)[0]
    curve = run(nodes.RarityInterestCurve, trajectory=trajectory, images=pictures, sample=1)[0]
    assert len(pictures) == 3 and curve.shape[0] == 1
    picked = run(nodes.RarityPickStep, trajectory=[trajectory], mode=["by number"], number=[1], sample=[-1])[0][0]
    assert torch.equal(picked.vectors, trajectory.embeddings[1].vectors)
    again = run(nodes.RaritySampleConcept, prior=model[0], concept=concept, checkpoint=1, seed=0)[0]
    torch.testing.assert_close(again.vectors, picked.vectors, rtol=1e-4, atol=1e-5)


def test_kandinsky_21_learns_as_well(run, learn, tiny_kandinsky_21_folder, monkeypatch):
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusers", ([str(tiny_kandinsky_21_folder)], ["folder"]))
    prior, decoder = run(nodes.RarityLoadKandinsky, model="kandinsky-2-1-prior")
    baseline = run(nodes.RaritySamplePrior, prior=prior, prompt=PROMPT, count=200, steps=3)[0]
    density, before = run(nodes.RarityFitDensity, embeddings=baseline, components=4)[0], digest(prior)
    (concept,), _, _ = learn(prior=prior, density=density, decoder=decoder, kind="token + lora", iterations=20, batch=8)
    made = [run(nodes.RaritySampleConcept, prior=prior, concept=concept, checkpoint=k, count=64, seed=7)[0] for k in (0, -1)]
    loss = BandLoss(density, math.log2(50))
    assert loss(made[1].vectors.double()).mean() < 0.5 * loss(made[0].vectors.double()).mean()
    assert digest(prior) == before


def test_other_prompts_seeds_and_settings(run, model, learn):
    (concept,), _, _ = learn(kind="token + lora")

    def sample(**options):
        return run(nodes.RaritySampleConcept, prior=model[0], concept=concept, **({"count": 3} | options))[0]

    usual = sample()
    assert torch.equal(sample(prompt=f" {PROMPT} ", steps=3, guidance=4.0).vectors, usual.vectors), "what it was learnt with"
    for other in ({"prompt": "bold r"}, {"seed": 2**64 - 1}, {"steps": 4}, {"guidance": 2.0}, {"negative_prompt": "x"}):
        assert not torch.allclose(sample(**other).vectors, usual.vectors, atol=1e-3), other
    assert sample(checkpoint=1).source["iteration"] == 2


def test_several_seeds_are_lists_that_are_saved_and_exported_one_by_one(run, learn, concepts_folder):
    concepts, trajectories, reports = learn(seed=2**64 - 1, seeds=2)
    assert [concept.settings["seed"] for concept in concepts] == [2**64 - 1, 0] and len(trajectories) == len(reports) == 2
    (alone,), _, _ = learn(seed=0)
    assert torch.equal(concepts[1].tokens, alone.tokens) and not torch.equal(concepts[0].tokens, alone.tokens)
    schema = nodes.RarityMakeRareConcept.define_schema()
    assert all(output.is_output_list for output in schema.outputs)
    with torch.inference_mode():
        shown = nodes.RaritySaveFile.execute(what=concepts, name=["two"]).ui.as_dict()["text"][0]
        assert shown == "Saved as two_1.safetensors in models/rarity_concepts\nSaved as two_2.safetensors in models/rarity_concepts"
        assert run(nodes.RaritySaveFile, what=[alone], name=["one"]) == (["one.safetensors"], [alone])
        with pytest.raises(RarityError, match="no concept to .*: an empty list came in"):
            nodes.RarityExportConcept.execute(concept=[], name=["none"], checkpoint=[-1])
        told = nodes.RarityExportConcept.execute(concept=concepts, name=["two"], checkpoint=[-1]).ui.as_dict()["text"][0]
    assert nodes.RarityLoadConcept.define_schema().inputs[0].options == ["one.safetensors", "two_1.safetensors", "two_2.safetensors"]
    concept, trajectory, report = run(nodes.RarityLoadConcept, name="two_2.safetensors")
    assert torch.equal(concept.tokens, alone.tokens) and trajectory is concept.trajectory and report == reports[1]
    assert told == ("Saved the token <two_1> as embeddings/two_1.safetensors\n"
                    "Saved the token <two_2> as embeddings/two_2.safetensors")
    kept = safetensors.torch.load_file(concepts_folder.with_name("embeddings") / "two_2.safetensors")
    assert torch.equal(kept["<two_2>"], alone.token())


def test_export_writes_token_and_lora_and_replaces_only_its_own(run, learn, concepts_folder):
    (both,), _, _ = learn(kind="token + lora")
    (lora,), _, _ = learn(kind="lora", word="")
    token_file, lora_file = (concepts_folder.with_name(kind) / "rare-r.safetensors" for kind in ("embeddings", "loras"))

    def export(concept, name="rare-r", checkpoint=-1):
        return run(nodes.RarityExportConcept, concept=[concept], name=[name], checkpoint=[checkpoint])

    with pytest.raises(RarityError, match="choose one of 0 to 2"):
        export(both, checkpoint=3)
    with pytest.raises(RarityError, match="must be one word, .* got '<rare r>'"):
        export(both, "rare r")
    for name in ("../up", "/etc/up", "a/../../up", "", "..", "C:\\up"):
        with pytest.raises(RarityError):
            export(both, name)
    assert not token_file.parent.exists() and not lora_file.parent.exists()
    export(both)
    assert torch.equal(safetensors.torch.load_file(token_file)["<rare-r>"], both.token())
    assert safetensors.torch.load_file(lora_file).keys() == both.lora().keys()
    export(both, checkpoint=0)
    assert torch.equal(safetensors.torch.load_file(token_file)["<rare-r>"], both.token(0)), "its own are replaced"
    export(lora, "only rare", -1)
    assert sorted(path.name for path in lora_file.parent.iterdir()) == ["only rare.safetensors", "rare-r.safetensors"]
    lora_file.write_bytes(safetensors.torch.save({"weight": torch.zeros(3)}))
    before = token_file.read_bytes(), lora_file.read_bytes()
    with pytest.raises(RarityError, match="rare-r.safetensors is there already and was not exported by Rarity"):
        export(both)
    assert (token_file.read_bytes(), lora_file.read_bytes()) == before, "not half of it is written"


def cancelled(monkeypatch, at):
    """The user presses cancel during the progress `at` calls from the start; returns the list of what was shown."""
    from comfy import model_management, utils

    move, seen = utils.ProgressBar.update_absolute, []

    def update(bar, value, total=None, preview=None):
        seen.append((value, total, preview))
        move(bar, value, total, preview)
        if len(seen) == at:
            model_management.interrupt_current_processing()

    monkeypatch.setattr(utils.ProgressBar, "update_absolute", update)
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_cancel_keeps_the_checkpoints_so_far(run, model, learn, concepts_folder, monkeypatch, kind):
    from comfy import model_management

    undisturbed, before = learn(kind=kind, seeds=2)[0], digest(model[0])
    with monkeypatch.context() as patch:
        calls = cancelled(patch, at=10**9)
        learn(kind=kind, seeds=2)
    in_second_seed = next(i for i, (done, total, _) in enumerate(calls, 1) if (done, total) == (7, 8))
    # at every kind of place: while the first samples are looked at, on the way back, in the middle
    for at, finished, reached in ((2, 0, None), (12, 0, None), (in_second_seed, 1, (0, 2))):
        with monkeypatch.context() as patch:
            calls = cancelled(patch, at)
            with pytest.raises(model_management.InterruptProcessingException):
                learn(kind=kind, seeds=2, keep_as="kept")
        assert len(calls) == at, "it stops at its next step"
        assert digest(model[0]) == before
        names = sorted(path.name for path in concepts_folder.iterdir()) if concepts_folder.exists() else []
        assert names == [f"kept_{number}.safetensors" for number in range(1, finished + bool(reached) + 1)]
    whole, part = (run(nodes.RarityLoadConcept, name=name)[0] for name in names)
    assert whole.steps == (0, 2, 4) and part.steps == reached
    assert torch.equal(part.tokens, undisturbed[1].tokens[:2]) and torch.equal(part.loras, undisturbed[1].loras[:2])
    assert len(run(nodes.RaritySampleConcept, prior=model[0], concept=part, count=2)[0]) == 2
    again = learn(kind=kind, seeds=2, keep_as="kept")[0]
    for one, other in zip(again, undisturbed, strict=True):
        assert torch.equal(one.tokens, other.tokens) and torch.equal(one.loras, other.loras)
    assert load_concept(concepts_folder / names[1]).steps == (0, 2, 4)


def test_a_preview_of_every_checkpoint(model, learn, monkeypatch):
    seen = cancelled(monkeypatch, at=10**9)
    learn(decoder=model[1])
    shown = [preview for _, _, preview in seen if preview]
    assert len(shown) == 3
    kind, picture, size = shown[0]
    assert (kind, picture.size) == ("JPEG", (4 * model[1].size, model[1].size)) and size == 512
    assert all(done <= total == 4 for done, total, _ in seen)


def test_cancel_while_the_preview_is_drawn(model, learn, concepts_folder, monkeypatch):
    from comfy import model_management

    drawing, before = [], digest(model[0])
    forward = model[1].unet.forward

    def watched(*args, **kwargs):
        drawing.append(1)
        if len(drawing) == 25:  # during the preview of the second checkpoint: the first took 20 steps
            model_management.interrupt_current_processing()
        return forward(*args, **kwargs)

    monkeypatch.setattr(model[1].unet, "forward", watched)
    with pytest.raises(model_management.InterruptProcessingException):
        learn(decoder=model[1], keep_as="kept")
    assert len(drawing) == 25 and digest(model[0]) == before
    assert load_concept(concepts_folder / "kept.safetensors").steps == (0, 2)


def test_a_learning_rate_that_diverges_ends_with_what_was_finite(model, learn, concepts_folder):
    before = digest(model[0])
    (concept,), _, (report,) = learn(kind="token + lora", learning_rate=1e30, keep_as="kept")
    assert concept.steps == (0,) and digest(model[0]) == before
    assert "Learning stopped at iteration 1: its values were no longer finite. What is kept ends with iteration 0." in report
    assert "Choose a learning rate below 1e+30." in report
    assert not concepts_folder.exists(), "there is nothing learnt to keep"


def test_out_of_memory_goes_on_with_half_and_says_when_nothing_fits(model, learn):
    (expected,), _, _ = learn()
    before = digest(model[0])
    with Narrow(model[0], most=2) as memory:
        (got,), _, _ = learn()
    assert memory.sizes[:4] == [3, 2, 2, 2] and got.steps == expected.steps
    torch.testing.assert_close(got.trajectory.readings["bits"], expected.trajectory.readings["bits"], rtol=1e-3, atol=1e-3)
    with Narrow(model[0], most=0), pytest.raises(RarityError, match="not enough memory for even one at a time: .*Close other programs"):
        learn()
    assert digest(model[0]) == before


def test_the_density_s_own_steps_and_guidance_are_asked_for(learn):
    assert "The density was" not in learn()[2][0]
    report = learn(steps=4, guidance=2.0)[2][0]
    assert "The density was learnt from samples with steps 3, guidance 4.0, the concept with steps 4, guidance 2.0" in report


def test_one_clear_error_for_what_a_user_can_cause(run, model, density, learn, tiny_kandinsky_21, tiny_kandinsky_folder, tmp_path):
    from tiny_kandinsky import build_tiny_kandinsky

    prior, before = model[0], digest(model[0])
    other, decoder_21 = tiny_kandinsky_21
    foreign = GaussianDensity.fit(other.sample(PROMPT, 60, steps=2))
    narrow, _ = load_kandinsky(build_tiny_kandinsky(tmp_path / "narrow", width=24))
    for message, options in {
        "The prompt has 16 tokens, this model reads at most 12: 'abc defgh ijklm r'. Shorten it": {"prompt": "abc defgh ijklm r"},
        r"'letter' is 'le' \+ 't' \+ 't' \+ 'e' \+ 'r'. Choose a word that is one token": {"word": "letter"},
        "The word 'b' is not in the prompt 'a letter r'. The prompt must hold the word that is learnt": {"word": "b"},
        "The word to learn must be one token of this model; '' is nothing": {"word": " "},
        "rank of a LoRA for this prior must be from 1 to 48, got 49": {"kind": "lora", "rank": 49},
        "The density and this belong to different embedding spaces": {"density": foreign},
        "The prior and this belong to different embedding spaces": {"decoder": decoder_21},
        r"The prior and this belong to different embedding spaces.* 32 wide.* 24 wide": {
            "decoder": model[1], "prior": narrow, "density": GaussianDensity.fit(narrow.sample(PROMPT, 60, steps=2))},
        "leaves its folder|not a plain name": {"keep_as": "../up"},
    }.items():
        with pytest.raises(RarityError, match=message):
            learn(**options)
    assert digest(prior) == before
    (concept,), _, _ = learn(kind="token + lora")
    for message, options in {
        "The concept and this belong to different embedding spaces": {"prior": other},
        "The word 'r' is not in the prompt 'bold'": {"prompt": "bold"},
        "choose one of 0 to 2, or -1 for the last, got 3": {"checkpoint": 3},
        "The steps must be at least 2, got 1": {"steps": 1},
    }.items():
        with pytest.raises(RarityError, match=message):
            run(nodes.RaritySampleConcept, **({"prior": prior, "concept": concept} | options))
    assert digest(prior) == before
    assert torch.isfinite(sample_concept(prior, concept, 2).vectors).all()


def test_an_export_is_written_again_where_its_file_is_gone(run, learn, concepts_folder):
    """ComfyUI runs a node again when its fingerprint is another one; NaN always is."""
    (concept,), _, _ = learn()
    given = {"name": ["again"], "checkpoint": [-1]}
    before = nodes.RarityExportConcept.fingerprint_inputs(**given)
    run(nodes.RarityExportConcept, concept=[concept], **given)
    there = nodes.RarityExportConcept.fingerprint_inputs(**given)
    assert before != before and there == nodes.RarityExportConcept.fingerprint_inputs(**given)
    (concepts_folder.with_name("embeddings") / "again.safetensors").unlink()
    gone = nodes.RarityExportConcept.fingerprint_inputs(**given)
    assert gone != gone


def test_a_slow_node_runs_again_only_where_what_it_wrote_is_gone(concepts_folder):
    """Make Rare: Word takes minutes: that its file is there after the first run must not make a second one."""
    def now(start_word="chair"):
        return nodes.RarityMakeRareWord.fingerprint_inputs(name="slow", start_word=start_word)

    path = places.file_to_write(places.TOKENS, "slow")
    path.parent.mkdir(parents=True, exist_ok=True)
    first = now()
    path.write_bytes(b"a word")
    places.written(path)
    assert now() == first == now()
    begun_there = now("embedding:slow")
    path.unlink()
    lost = now()
    assert lost != first and lost == now()
    path.write_bytes(b"another word")
    places.written(path)
    assert now() == lost and now("embedding:slow") not in (begun_there, lost), "a start word is read anew when its file changes"
    assert places.embeddings_in("embedding:../../etc/passwd embedding:none") == ["", ""]
