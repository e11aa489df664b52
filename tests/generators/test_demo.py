"""The whole path, and the command line around it, on a model with random weights."""

import json
from functools import partial

import matplotlib.image
import pytest
import torch
from rarity import cli
from rarity.density.base.errors import RarityError
from rarity.density.files.store import save_density
from rarity.generators import demo as demo_module
from rarity.generators.demo import DRAWINGS, EXAMPLES, LETTERS, demo, subject_of
from rarity.generators.kandinsky.load import MINIATURE, THINGS
from rarity.generators.runtime.terminal import write_whole


@pytest.fixture(scope="module")
def small_demo(tiny_kandinsky_folder):
    """The demo with a model and numbers that take a second."""
    return partial(demo, folder=tiny_kandinsky_folder, baseline=200, count=3)


@pytest.fixture
def small_command(small_demo, monkeypatch):
    """The command's demo is the small one, whatever model it names."""
    monkeypatch.setattr(demo_module, "demo", lambda prompt, folder, **options: small_demo(prompt, **options))


@pytest.fixture(scope="module")
def result(small_demo):
    return small_demo("a bold letter k", seed=1, one_in=50)


def test_everything_on_the_way_is_returned(result):
    assert len(result.baseline) == 200 and result.baseline.source["prompt"] == "a bold letter k"
    assert result.density.count <= 200 and len(result.starts) == 3
    assert result.usual.shape == result.rare.shape == (3, 16, 16, 3)
    for sheet in (result.contact_sheet, result.density_map):
        assert sheet.dim() == 4 and len(sheet) == 1 and sheet.shape[-1] == 3
    assert set(result.report) == {"prompt", "seed", "baseline", "target_one_in", "results", "seconds"}
    assert len(result.report["results"]) == 3
    assert set(result.report["results"][0]) == {"bits", "one_in", "in_band", "residual", "anchor_cosine"}
    assert all(row["in_band"] for row in result.report["results"])


def test_the_same_seed_gives_the_same_pictures(small_demo, result):
    again = small_demo("a bold letter k", seed=1, one_in=50)
    assert torch.equal(again.rare, result.rare) and torch.equal(again.contact_sheet, result.contact_sheet)
    assert not torch.equal(small_demo("a bold letter k", seed=2, one_in=50).rare, result.rare)


def test_the_subject_of_a_prompt():
    assert subject_of("a bold italic serif letter r", MINIATURE) == "a letter R" == LETTERS[17]
    for wrong in ("", "a cat", "a letter", "a letter RS", "lettering"):
        with pytest.raises(RarityError, match="a letter R"):
            subject_of(wrong, MINIATURE)
    assert subject_of("a thin outline drawing of an airplane", THINGS) == "a drawing of an airplane" == DRAWINGS[0]
    assert subject_of(EXAMPLES[THINGS], THINGS) in DRAWINGS
    for wrong in ("", "a letter R", "a carpet", "a cat in a car"):
        with pytest.raises(RarityError, match="a drawing of a car"):
            subject_of(wrong, THINGS)


def test_the_command_writes_three_files(small_command, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert cli.main(["demo", "--out", str(out), "--seed", "1", "--prompt", "a letter A", "--one-in", "50"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["contact_sheet.png", "density_map.png", "report.json"]
    report = json.loads((out / "report.json").read_text())
    assert (report["prompt"], report["seed"], report["baseline"], report["target_one_in"]) == ("a letter A", 1, 200, 50)
    assert matplotlib.image.imread(out / "contact_sheet.png").ndim == 3
    assert "contact_sheet.png" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--prompt", "a cat"], ["--one-in", "1"], ["--one-in", "20000000"]])
def test_a_wrong_request_is_one_line_and_no_files(small_command, tmp_path, capsys, wrong):
    assert cli.main(["demo", "--out", str(tmp_path / "out"), *wrong]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("rarity: ")
    assert not (tmp_path / "out").exists()


def test_stopping_the_command_writes_nothing(small_demo, monkeypatch, tmp_path, capsys):
    def stopped(*arguments, stage, folder, **options):
        def stop_while_drawing(name):
            report = stage(name)

            def progress(done, total):
                report(done, total)
                if name.startswith("drawing"):
                    raise KeyboardInterrupt

            return progress

        return small_demo(*arguments, stage=stop_while_drawing, **options)

    monkeypatch.setattr(demo_module, "demo", stopped)
    out = tmp_path / "out"
    assert cli.main(["demo", "--out", str(out), "--prompt", "a letter A", "--one-in", "50"]) == 130
    assert "nothing was written" in capsys.readouterr().err and not out.exists()
    monkeypatch.setattr(demo_module, "demo", lambda prompt, folder, **options: small_demo(prompt, **options))
    assert cli.main(["demo", "--out", str(out), "--prompt", "a letter A", "--one-in", "50"]) == 0


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    def write(path):
        path.write_text("half")
        raise OSError("disk full")

    (tmp_path / "report.json").write_text("whole")
    with pytest.raises(OSError):
        write_whole(tmp_path / "report.json", write)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json").read_text() == "whole"


def test_inspect(result, tmp_path, capsys):
    save_density(result.density, tmp_path / "k.safetensors")
    assert cli.main(["inspect", str(tmp_path / "k.safetensors")]) == 0
    assert result.density.space.fingerprint in capsys.readouterr().out
    (tmp_path / "k.safetensors").write_bytes(b"nothing")
    assert cli.main(["inspect", str(tmp_path / "k.safetensors")]) == 1
    assert cli.main(["inspect", str(tmp_path / "absent.safetensors")]) == 1


@pytest.mark.parametrize("command", [[], ["demo"], ["inspect"]])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--help"])
    assert stopped.value.code == 0 and "usage" in capsys.readouterr().out
