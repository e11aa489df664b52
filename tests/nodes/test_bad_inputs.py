"""What users get wrong, and what goes wrong around them: one clear error, nothing half-written, and the next run works."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import safetensors.torch
import torch
from rarity import nodes
from rarity.density.base.embeddings import Embeddings
from rarity.density.base.errors import RarityError
from rarity.density.files import container


def test_cancel_in_the_middle_and_run_again(run, model, baseline, density, rare, monkeypatch):
    from comfy import model_management, utils

    jobs = [
        (nodes.RaritySamplePrior, {"prior": model[0], "count": len(baseline), "steps": 3}),
        (nodes.RarityFitDensity, {"embeddings": baseline}),
        (nodes.RarityMakeRare, {"density": density, "embeddings": baseline, "one_in": 50, "count": 3, "steps": 10}),
        (nodes.RarityDecodeKandinsky, {"decoder": model[1], "embeddings": rare[0], "steps": 3}),
    ]
    undisturbed = [run(node, **inputs)[0] for node, inputs in jobs]
    move = utils.ProgressBar.update_absolute
    for (node, inputs), expected in zip(jobs, undisturbed, strict=True):
        seen = []

        def cancel_soon(bar, value, total=None, preview=None, seen=seen):
            seen.append((value, total))
            move(bar, value, total, preview)
            model_management.interrupt_current_processing()  # the user presses cancel during the first step

        with monkeypatch.context() as patch:
            patch.setattr(utils.ProgressBar, "update_absolute", cancel_soon)
            with pytest.raises(model_management.InterruptProcessingException):
                run(node, **inputs)
        assert len(seen) == 1 and seen[0][0] < seen[0][1], f"{node.__name__} stops at its next step"
        again = run(node, **inputs)[0]
        for one, other in ((getattr(again, name, again), getattr(expected, name, expected)) for name in ("vectors", "mean")):
            assert not isinstance(one, torch.Tensor) or torch.equal(one, other)


@pytest.mark.parametrize("node", [nodes.RarityLoadDensity, nodes.RarityLoadEmbeddings, nodes.RarityLoadConcept])
def test_an_empty_menu_is_an_error_that_asks_for_a_name(run, node):
    for step in (node.fingerprint_inputs, lambda name: run(node, name=name)):
        with pytest.raises(RarityError, match="file name is missing"):
            step(name=None)


@pytest.mark.parametrize("name", ["../up", "/etc/up", "a/../../up", "", " ", "..", "C:\\up"])
def test_names_stay_in_their_folder(run, density, folders, name):
    files = sorted(folders.parent.rglob("*"))
    with pytest.raises(RarityError):
        run(nodes.RaritySaveFile, what=[density], name=[name])
    with pytest.raises(RarityError):
        run(nodes.RarityLoadDensity, name=name)
    assert sorted(folders.parent.rglob("*")) == files


def test_one_clear_error_for_what_a_user_can_cause(run, model, baseline, density, folders):
    prior, decoder = model
    causes = {
        "no-such-model": (nodes.RarityLoadKandinsky, {"model": "no-such-model"}),
        "prompt": (nodes.RaritySamplePrior, {"prior": prior, "prompt": "  "}),
        "half a character": (nodes.RaritySamplePrior, {"prior": prior, "prompt": "a \ud83e"}),
        "at least 50": (nodes.RarityFitDensity, {"embeddings": baseline.select(range(20)), "components": 25}),
        "1 to 31 components": (nodes.RarityFitDensity, {"embeddings": baseline, "components": 4096}),
        "alternative": (nodes.RarityContrastGuardrail,
                        {"eye": prior, "embeddings": baseline, "alternatives": "\n a letter R \n"}),
        "80": (nodes.RarityMakeRare, {"density": density, "embeddings": baseline, "count": len(baseline) + 1}),
        "opened": (nodes.RarityLoadDensity, {"name": "never_saved"}),
    }
    for word, (node, inputs) in causes.items():
        with pytest.raises(RarityError, match=word):
            run(node, **inputs)


class NoWeights:
    """The VAE that ComfyUI makes of a checkpoint without one."""

    first_stage_model = None


@pytest.mark.parametrize("node", nodes.NODES)
def test_a_connected_socket_that_brings_nothing_is_named_with_what_to_do(node):
    """Loaders give None for what a file does not hold; ComfyUI hands it on, and leaves out what is not connected."""
    cures = {"CLIP_VISION": "Load CLIP Vision", "CLIP": "Load CLIP", "VAE": "Load VAE"}
    schema = node.define_schema()
    for socket in schema.inputs:
        kind = socket.get_io_type().split(",")[0]
        if kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO") and not getattr(socket, "force_input", None):
            continue
        for nothing in [None, [object(), None]] + [NoWeights()] * (kind == "VAE"):
            with pytest.raises(RarityError) as refused:
                node.execute(**{socket.id: nothing})
            said = str(refused.value)
            assert said.startswith(f"{schema.display_name} got nothing from the node that is connected to {socket.id}. ")
            assert said.endswith(f"{cures.get(kind, 'connect another one')}.")


def test_another_model_s_embeddings_are_refused(run, model, density, rare, tmp_path):
    from rarity.generators.kandinsky.load import load_kandinsky
    from tiny_kandinsky import build_tiny_kandinsky

    stranger, _ = load_kandinsky(build_tiny_kandinsky(tmp_path / "other", seed=1))
    foreign = run(nodes.RaritySamplePrior, prior=stranger, count=20, steps=2)[0]
    for node, inputs in (
        (nodes.RarityDecodeKandinsky, {"decoder": model[1], "embeddings": foreign}),
        (nodes.RarityMakeRare, {"density": density, "embeddings": foreign}),
        (nodes.RarityContrastGuardrail, {"eye": model[0], "embeddings": foreign}),
        (nodes.RarityDensityMap, {"density": density, "embeddings": foreign}),
    ):
        with pytest.raises(RarityError, match="fingerprint|space"):
            run(node, **inputs)


def test_a_model_folder_with_parts_missing_is_an_error_that_names_them(run, tiny_root):
    half = tiny_root / "half" / "prior"
    half.mkdir(parents=True, exist_ok=True)
    (half / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyV22PriorPipeline"}))
    try:
        with pytest.raises(RarityError, match="unet"):
            run(nodes.RarityLoadKandinsky, model="half")
    finally:
        (half / "model_index.json").unlink()


def test_repeated_embeddings_are_dropped_and_the_description_says_so(run, baseline):
    twice = Embeddings.cat([baseline, baseline.select(range(30))])
    density = run(nodes.RarityFitDensity, embeddings=twice, components=4)[0]
    assert density.count == len(baseline)
    assert "30" in run(nodes.RarityDescribeDensity, density=density)[0]
    same = baseline.select([0] * 50)
    with pytest.raises(RarityError, match="same|differ|vary"):
        run(nodes.RarityFitDensity, embeddings=same)


@contextlib.contextmanager
def broken(weight):
    """A model whose numbers overflow, as in half precision: one weight is not finite for a while."""
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.view(-1)[0] = float("nan")
        try:
            yield
        finally:
            weight.copy_(kept)


def test_embeddings_and_pictures_that_are_not_finite_are_an_error_not_a_black_picture(run, model, rare):
    prior, decoder = model
    for weight, node, inputs in (
        (next(prior.transformer.parameters()), nodes.RaritySamplePrior, {"prior": prior, "count": 3, "steps": 2}),
        (next(decoder.unet.parameters()), nodes.RarityDecodeKandinsky, {"decoder": decoder, "embeddings": rare[0], "steps": 2}),
    ):
        with broken(weight), pytest.raises(RarityError, match="finite"):
            run(node, **inputs)
        run(node, **inputs)


def test_a_rarity_past_the_samples_is_flagged_and_one_past_all_is_refused(run, density, baseline):
    dial = {"density": density, "embeddings": baseline, "count": 2, "steps": 2}
    assert "extrapolated" in run(nodes.RarityMakeRare, one_in=1_000_000, **dial)[3]
    assert "extrapolated" in run(nodes.RarityDescribeDensity, density=density, one_in=1_000_000)[0]
    assert "extrapolated" not in run(nodes.RarityMakeRare, one_in=10, **dial)[3]
    for one_in in (1, 10_000_001):
        with pytest.raises(RarityError, match="10,000,000"):
            run(nodes.RarityMakeRare, one_in=one_in, **dial)
        with pytest.raises(RarityError, match="10,000,000"):
            run(nodes.RarityDescribeDensity, density=density, one_in=one_in)


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-100] ^= 4
    path.write_bytes(data)


def of_another_program(path):
    path.write_bytes(safetensors.torch.save({"weight": torch.zeros(3)}))


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "empty": lambda path: path.write_bytes(b""),
    "bit-flipped": flip_a_bit,
    "oversized": lambda path: os.truncate(path, 8 * 2**30),  # a hole: no room is taken on the disk
    "foreign": of_another_program,
}


def of_the_future(path):
    data = path.read_bytes()
    now = rb'\"version\": [%d, %d]' % container.VERSION
    assert data.count(now) == 1
    path.write_bytes(data.replace(now, rb'\"version\": [9, 0]'))


DAMAGE["newer"] = of_the_future


@pytest.fixture
def learnt(run, model, density):
    """A concept, in a list as Make Rare: Concept gives it."""
    return run(nodes.RarityMakeRareConcept, prior=model[0], density=density, prompt="a letter R", word="R", iterations=1, steps=3)[0]


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("what", ["density", "concept"])
def test_a_damaged_file_is_one_clear_error_and_saving_again_puts_it_right(run, density, folders, kind, what, request):
    if what == "density":
        folder, load, save = folders, nodes.RarityLoadDensity, lambda: run(nodes.RaritySaveFile, what=[density], name=["letter_R"])
    else:
        learnt, folder, load = request.getfixturevalue("learnt"), folders.with_name("rarity_concepts"), nodes.RarityLoadConcept
        save = lambda: run(nodes.RaritySaveFile, what=learnt, name=["letter_R"])  # noqa: E731
    save()
    path = folder / "letter_R.safetensors"
    whole = path.read_bytes()
    DAMAGE[kind](path)
    with pytest.raises(RarityError, match=f"format 9.0; this Rarity reads up to {container.VERSION[0]}.x. Update Rarity" if kind == "newer" else "letter_R"):
        run(load, name=path.name)
    if kind != "oversized":  # ComfyUI asks for the digest first; of eight gigabytes it takes a while
        assert load.fingerprint_inputs(name=path.name) != hashlib.sha256(whole).hexdigest()
    save()
    assert path.read_bytes() == whole and [file.name for file in folder.iterdir()] == [path.name]
    run(load, name=path.name)


def test_a_digest_reads_a_file_in_pieces(folders):
    folders.mkdir()
    path = folders / "large.safetensors"
    path.touch()
    os.truncate(path, 64 * 2**20)
    tracemalloc.start()
    try:
        digest = nodes.RarityLoadDensity.fingerprint_inputs(name=path.name)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
    assert digest == hashlib.sha256(bytes(64 * 2**20)).hexdigest()


def test_a_save_that_fails_leaves_the_file_that_was_there(run, density, baseline, folders, monkeypatch):
    run(nodes.RaritySaveFile, what=[density], name=["letter_R"])
    path = folders / "letter_R.safetensors"
    whole = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    other = run(nodes.RarityFitDensity, embeddings=baseline, components=3)[0]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(RarityError, match="No space left"):
            run(nodes.RaritySaveFile, what=[other], name=["letter_R"])
    assert path.read_bytes() == whole and [file.name for file in folders.iterdir()] == [path.name]


def test_a_file_where_a_folder_is_needed_is_one_clear_error(run, model, folders):
    folder = folders.with_name("rarity_embeddings")
    folder.mkdir()
    (folder / "taken").write_text("mine")
    with pytest.raises(RarityError, match="taken.* could not be written"):
        run(nodes.RaritySamplePrior, prior=model[0], count=2, steps=2, keep_as="taken")
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("taken", "mine")]


def test_names_that_the_file_system_has_no_letters_for(tiny_root, tmp_path):
    """A container without a locale: Python keeps file names in ASCII there."""
    script = Path(__file__).parents[1] / "support" / "ascii_names.py"
    few = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, str(script), str(tiny_root / "tiny"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **few})
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    if said.pop("encoding") != "ascii":
        pytest.skip("This system's file names are never in ASCII.")
    assert said.pop("files") == [] and len(said) == 12
    for what, error in said.items():
        assert error.startswith(("Rarity: ", "RarityError: ")) and "größe" in error, (what, error)
        assert "Python keeps file names in ascii here" in error and "plain letters, or set PYTHONUTF8=1" in error, (what, error)
