"""`rarity score`, `fit` and `merge` on real files; `demo` and `inspect` are tested beside the demo."""

import io
import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from rarity import cli
from rarity.density import (
    Embeddings,
    EmbeddingSpace,
    ExposureMemory,
    fit_density,
    load_density,
    save_density,
    save_embeddings,
    save_exposure,
    score_novelty,
)
from rarity.density.base.log import get_logger
from rarity.density.statistics.sufficient_statistics import Statistics
from rarity.generators.concepts.concept_files import save_concept
from rarity.generators.eyes.picture_files import read_picture
from rarity.generators.kandinsky.load import load_kandinsky

SPACE = EmbeddingSpace("test encoder", "0123456789abcdef", 16, "raw")


def embeddings(count, seed, space=SPACE):
    g = torch.Generator().manual_seed(seed)
    return Embeddings(torch.randn(count, space.width, generator=g) * torch.logspace(0, -1, space.width), space,
                      source={"prompt": "a test", "seed": seed})


@pytest.fixture
def files(tmp_path):
    """Two files of embeddings, of 300 and 500 samples."""
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for seed, path in enumerate(paths):
        save_embeddings(embeddings(300 + 200 * seed, seed), path)
    return paths


@pytest.fixture
def pictures(tmp_path):
    """Three pictures of different sizes and formats."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / name for name in ("one.png", "two.jpg", "three.webp")]
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (24 + 8 * i, 32, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def density(tmp_path, tiny_kandinsky):
    """A saved density of what the tiny prior makes."""
    path = tmp_path / "usual.safetensors"
    save_density(fit_density(tiny_kandinsky[0].sample("a letter A", 100, seed=0, steps=2)), path)
    return path


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def test_scores_are_those_of_the_library(pictures, density, tiny_kandinsky, tiny_kandinsky_folder, capsys):
    assert run("score", *pictures, "--density", density, "--encoder", tiny_kandinsky_folder, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row.pop("label") for row in rows] == [str(path) for path in pictures]
    for path, row in zip(pictures, rows, strict=True):
        item = tiny_kandinsky[0].encode_images(read_picture(path))
        alone = score_novelty(item, load_density(density), ExposureMemory(item.space)).rows()[0]
        assert alone.pop("label") == "" and set(row) == set(alone)
        for name, value in alone.items():
            assert row[name] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), name


def test_the_table_names_every_picture(pictures, density, tiny_kandinsky_folder, capsys):
    assert run("score", *pictures, "--density", density, "--encoder", tiny_kandinsky_folder) == 0
    out = capsys.readouterr().out
    assert all(path.name in out for path in pictures) and len(out.splitlines()) >= 4


def test_a_picture_seen_before_is_not_new(pictures, density, tiny_kandinsky, tiny_kandinsky_folder, tmp_path, capsys):
    seen = tiny_kandinsky[0].encode_images(read_picture(pictures[1]))
    save_exposure(ExposureMemory(seen.space).update(seen), tmp_path / "seen.safetensors")
    command = ["score", *pictures, "--density", density, "--encoder", tiny_kandinsky_folder, "--json"]
    assert run(*command, "--exposure", tmp_path / "seen.safetensors") == 0
    one, two, _ = json.loads(capsys.readouterr().out)
    assert two["novelty"] < 0.1 and two["nearest"] == 0 and two["distance"] < 1e-3 < one["distance"]


def test_the_built_in_miniature_is_the_encoder_unless_another_is_named(pictures, tmp_path, capsys):
    prior, _ = load_kandinsky()
    save_density(fit_density(prior.sample("a letter A", 60, seed=0, steps=2)), tmp_path / "mini.safetensors")
    assert run("score", pictures[0], "--density", tmp_path / "mini.safetensors", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["bits"] > 0


def test_another_encoder_is_refused_and_both_are_named(pictures, density, tiny_kandinsky, capsys):
    assert run("score", *pictures, "--density", density) == 1
    error = capsys.readouterr().err
    assert str(tiny_kandinsky[0].space) in error and str(load_kandinsky()[0].space) in error
    assert "--encoder FOLDER" in error


def test_pictures_that_cannot_be_read_are_all_named(pictures, density, tiny_kandinsky_folder, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no picture")
    pictures[1].write_bytes(pictures[1].read_bytes()[:-200])
    bad = [tmp_path / "text.png", tmp_path / "absent.png", tmp_path, pictures[1]]
    assert run("score", pictures[0], *bad, "--density", density, "--encoder", tiny_kandinsky_folder) == 1
    out, error = capsys.readouterr()
    assert out == "" and "4 of 5 files cannot be used" in error
    lines = error.splitlines()
    for path, reason in zip(bad, ("cannot identify", "No such file", "Is a directory", "truncated"), strict=True):
        assert any(line.startswith(f"{path} cannot be read as a picture: ") and reason in line for line in lines), path


def test_a_picture_is_read_as_it_is_meant(tmp_path):
    upright = np.zeros((2, 3, 3), dtype=np.uint8)
    upright[0, 0] = 255, 51, 0
    turned = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me by 90 degrees clockwise"
    turned.save(tmp_path / "turned.png", exif=exif)
    expected = torch.from_numpy(upright)[None] / 255
    assert torch.equal(read_picture(tmp_path / "turned.png"), expected)
    Image.fromarray(upright).convert("RGBA").save(tmp_path / "alpha.png")
    assert torch.equal(read_picture(tmp_path / "alpha.png"), expected)
    Image.fromarray(np.array([[0, 65535], [13107, 300]], dtype=np.uint16)).save(tmp_path / "grey16.png")
    grey = read_picture(tmp_path / "grey16.png")
    assert grey.shape == (1, 2, 2, 3) and grey[0, ..., 1].flatten().tolist() == pytest.approx([0, 1, 0.2, 300 / 65535])


def test_a_fit_of_files_is_the_fit_of_their_rows(files, tmp_path, capsys):
    out = tmp_path / "new" / "density.safetensors"
    assert run("fit", *files, "--out", out, "--estimator", "ppca", "--components", 5) == 0
    printed, ours = capsys.readouterr().out, load_density(out)
    assert "800 samples" in printed and str(out) in printed
    whole = fit_density(Embeddings.cat([embeddings(300, 0), embeddings(500, 1)]), "ppca", components=5)
    assert ours.frame.components == 5 and ours.source["prompt"] == "a test" and "seed" not in ours.source
    assert torch.equal(ours.frame.spectrum, whole.frame.spectrum) and torch.equal(ours.frame.mean, whole.frame.mean)
    assert torch.equal(ours.calibration.scores, whole.calibration.scores)
    assert run("inspect", out) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 800


def test_inspect_tells_what_a_concept_has_learnt(tmp_path, tiny_kandinsky, capsys):
    from learning import PROMPT, STEPS, learn

    prior = tiny_kandinsky[0]
    concept = learn(prior, fit_density(prior.sample(PROMPT, 100, steps=STEPS)), "token + lora")
    save_concept(concept, tmp_path / "c.safetensors")
    assert run("inspect", tmp_path / "c.safetensors") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "concept" and told["word"] == "r" and told["settings"]["steps"] == STEPS
    assert told["report"][0].startswith("Learnt the token 'r' and a LoRA of the prior for 'a letter r' in 4 iterations")
    (tmp_path / "c.safetensors").write_bytes((tmp_path / "c.safetensors").read_bytes()[:-7])
    assert run("inspect", tmp_path / "c.safetensors") == 1
    assert "c.safetensors" in capsys.readouterr().err


def test_two_fits_merge_to_the_fit_of_both(files, tmp_path, capsys):
    parts = [tmp_path / f"part{i}.safetensors" for i in (0, 1)]
    for file, part in zip(files, parts, strict=True):
        assert run("fit", file, "--out", part, "--estimator", "oas") == 0
    assert run("fit", *files, "--out", tmp_path / "whole.safetensors", "--estimator", "oas") == 0
    assert run("merge", *reversed(parts), "--out", tmp_path / "merged.safetensors") == 0
    whole, merged = (load_density(tmp_path / f"{name}.safetensors") for name in ("whole", "merged"))
    x = embeddings(50, 7).vectors
    assert torch.equal(whole.bits(x), merged.bits(x)) and torch.equal(whole.log_prob(x), merged.log_prob(x))
    assert merged.count == 800 and merged.estimator == "oas" and "800 samples" in capsys.readouterr().out


def test_a_fit_of_pictures_is_the_fit_of_what_the_encoder_sees(tmp_path, tiny_kandinsky, tiny_kandinsky_folder, capsys):
    rng = np.random.default_rng(1)
    paths = [tmp_path / f"{i}.png" for i in range(60)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    assert run("fit", *paths, "--encoder", tiny_kandinsky_folder, "--out", tmp_path / "mine.safetensors") == 0
    ours = fit_density(tiny_kandinsky[0].encode_images(torch.cat([read_picture(path) for path in paths])))
    mine = load_density(tmp_path / "mine.safetensors")
    assert mine.space == ours.space and mine.count == 60 and mine.source == {"kind": "pictures"}
    torch.testing.assert_close(mine.frame.mean, ours.frame.mean, rtol=0, atol=1e-6)  # one picture or a batch: float32 rounding
    capsys.readouterr()
    assert run("score", paths[0], "--density", tmp_path / "mine.safetensors", "--encoder", tiny_kandinsky_folder) == 0
    assert paths[0].name in capsys.readouterr().out


def wrong_requests(files, tmp_path):
    """name -> (arguments, what the error says)"""
    other = tmp_path / "other.safetensors"
    save_embeddings(embeddings(100, 5, EmbeddingSpace("another encoder", "f" * 16, 16, "raw")), other)
    half = tmp_path / "half.safetensors"
    half.write_bytes(files[0].read_bytes()[:-100])
    few = tmp_path / "few.safetensors"
    save_embeddings(embeddings(20, 6), few)
    density = tmp_path / "density.safetensors"
    save_density(fit_density(embeddings(300, 8)), density)
    neighbours = tmp_path / "neighbours.safetensors"
    save_density(fit_density(embeddings(300, 7), "neighbours"), neighbours)
    oas = tmp_path / "oas.safetensors"
    save_density(fit_density(embeddings(300, 9), "oas"), oas)
    out = ["--out", tmp_path / "out.safetensors"]
    return {
        "mixed spaces": (["fit", files[0], other, *out], "another encoder"),
        "truncated": (["fit", files[1], half, *out], "half.safetensors is damaged"),
        "absent": (["fit", tmp_path / "absent.safetensors", *out], "could not be opened"),
        "no picture": (["fit", files[0], tmp_path / "absent.png", *out], "cannot be read as a picture"),
        "a density": (["fit", density, *out], "holds density, expected embeddings"),
        "few": (["fit", few, *out], "Too few samples"),
        "estimator": (["fit", files[0], *out, "--estimator", "magic"], "magic"),
        "components": (["fit", files[0], *out, "--components", "16"], "components"),
        "its own input": (["fit", *files, "--out", files[1]], "is one of the files to read"),
        "merged into its input": (["merge", density, oas, "--out", oas], "is one of the files to read"),
        "merging embeddings": (["merge", files[0], density, *out], "holds embeddings, expected density"),
        "the same samples": (["merge", density, density, *out], "same seed"),
        "neighbours and another": (["merge", neighbours, oas, *out], "of the estimators neighbours, oas"),
        "no density": (["score", files[0], "--density", files[0]], "holds embeddings, expected density"),
    }


def test_wrong_requests_are_one_error_and_no_file(files, tmp_path, capsys):
    for name, (arguments, message) in wrong_requests(files, tmp_path).items():
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert run(*arguments) == 1, name
        out, error = capsys.readouterr()
        assert out == "" and message in error and "rarity: " in error, (name, error)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before, name


@pytest.mark.parametrize("where, name", [(os, "fsync"), (Statistics, "update")])
def test_stopping_leaves_what_was_there(files, tmp_path, monkeypatch, capsys, where, name):
    """Ctrl-C while the file is being written, and while embeddings are being read."""
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"whole")

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, name, stop)
    assert run("fit", *files, "--out", out) == 130
    assert "nothing was written" in capsys.readouterr().err and out.read_bytes() == b"whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors", "out.safetensors"]


@pytest.mark.parametrize("command", ["score", "fit", "baseline", "merge"])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0 and "FILE" in capsys.readouterr().out


def test_a_missing_argument_says_which(capsys):
    requests = ((["fit", "a"], "--out"), (["score", "a"], "--density"), (["merge", "--out", "a"], "FILE"))
    for arguments, missing in requests:
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        assert stopped.value.code == 2 and missing in capsys.readouterr().err


def redirected(*arguments):
    """`rarity` with its output in cp1252, as Windows writes it to a file: its code, and what it printed on both streams."""
    with pytest.MonkeyPatch.context() as patch:
        both = [io.TextIOWrapper(io.BytesIO(), encoding="cp1252", newline="\n") for _ in range(2)]
        for name, stream in zip(("stdout", "stderr"), both, strict=True):
            patch.setattr(sys, name, stream)
        code = run(*arguments)
        for stream in both:
            stream.flush()
        return code, *(stream.buffer.getvalue().decode("cp1252") for stream in both)


def test_letters_that_the_output_has_not_are_shown_by_their_numbers(pictures, density, tiny_kandinsky_folder, tmp_path):
    """Names that cp1252 has, Japanese ones, and one that is not text at all, in every command."""
    names = [pictures[0].with_name(name) for name in ("größe.png", "\u5b57\U0001f600.png", os.fsdecode(b"\xff\xfe.png"))]
    for name in names:
        name.write_bytes(pictures[0].read_bytes())
    table = "score", *names, "--density", density, "--encoder", tiny_kandinsky_folder
    files = [tmp_path / f"\u5b57{i}.safetensors" for i in range(2)]
    fitted = [tmp_path / f"\U0001f600{i}.safetensors" for i in range(2)]
    for i, file in enumerate(files):
        save_embeddings(Embeddings(embeddings(300, i).vectors, SPACE, source={"prompt": "\u5b57", "seed": i}), file)
    scored, as_json = redirected(*table), redirected(*table, "--json")
    fits = [redirected("fit", file, "--out", out) for file, out in zip(files, fitted, strict=True)]
    inspected = redirected("inspect", fitted[1])
    merged = redirected("merge", *fitted, "--out", tmp_path / "\u5b57.safetensors")
    missing = redirected("inspect", tmp_path / "\u5b57" / "none.safetensors")
    assert scored[0] == 0 and all(name in scored[1] for name in ("größe", r"\u5b57\U0001f600", r"\udcff\udcfe"))
    assert as_json[0] == 0 and [row["label"] for row in json.loads(as_json[1])] == list(map(str, names))
    for i, (done, printed, error) in enumerate(fits):
        assert done == 0 and f"Written to {tmp_path}" in printed and rf"\U0001f600{i}.safetensors" in printed, error
    assert inspected[0] == 0 and json.loads(inspected[1])["source"]["prompt"] == "\u5b57"
    assert merged[0] == 0 and r"\u5b57.safetensors" in merged[1], merged[2]
    done, printed, error = missing
    assert (done, printed) == (1, "") and error.startswith("rarity: ") and r"\u5b57" in error and "Traceback" not in error


def test_json_is_printed_in_letters_where_the_output_has_them(tmp_path, capsys):
    save_embeddings(Embeddings(embeddings(3, 0).vectors, SPACE, source={"prompt": "\u5b57"}), tmp_path / "x.safetensors")
    assert run("inspect", tmp_path / "x.safetensors") == 0
    assert "\u5b57" in capsys.readouterr().out


def test_errors_about_words_that_the_output_has_not(tmp_path):
    """The program itself, with an output in cp1252 and names in Unicode."""
    few = {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "LC_ALL": "C.UTF-8"}
    program = [sys.executable, "-c", "import sys; from rarity.cli import main; sys.exit(main())"]
    command = ["demo", "--prompt", "a letter \u5b57", "--out", tmp_path / "out"]
    done = subprocess.run([*program, *map(str, command)], capture_output=True, env={**os.environ, **few}, timeout=300)
    error = done.stderr.decode("cp1252")
    assert (done.returncode, done.stdout) == (1, b"") and r"\u5b57" in error
    assert error.startswith("rarity: ") and "Traceback" not in error


def test_what_is_logged_needs_no_letters_that_the_console_has_not(monkeypatch, capsys):
    """ComfyUI's own console handler knows no way out; Python would print a traceback of it."""
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(console)])
    monkeypatch.setattr(sys, "stderr", console)  # whose letters the log goes by
    for _ in range(2):
        get_logger("rarity.a").warning("The prompt %r and %d", "gr\xf6\xdfe \u5b57", 3)
    console.flush()
    assert console.buffer.getvalue().decode("cp1252").splitlines() == [r"The prompt 'größe \u5b57' and 3"] * 2
