"""The command that writes a folder of pictograms with their credits: what it takes, and that Load Pictures reads it."""

import json
import sys
from pathlib import Path

import pytest
from rarity.generators.eyes.picture_folder import load_pictures

ROOT = Path(__file__).parents[2]
pytest.importorskip("resvg_py")
TALL, WIDE = '<path fill="{}" d="M6 9h12v13H6zM9 9V4h6v5"/>', '<path fill="{}" d="M2 9h20v8H2zM9 9V6h6v3"/>'


@pytest.fixture
def command(monkeypatch):
    """The tool as a script; it imports its neighbours by name."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import credited_pictures

    return credited_pictures


@pytest.fixture
def sources(tmp_path):
    """Two sets of filled bags, one of them a copy in the second set, beside an outline, a coloured one and a car."""
    icons = {
        "one": {"bag": TALL.format("currentColor"), "bag-outline": '<path fill="none" stroke="currentColor" d="M6 9h12v13H6z"/>', "car": WIDE.format("currentColor")},
        "two": {"bag": TALL.format("currentColor"), "briefcase": WIDE.format("currentColor"), "handbag": WIDE.format("#f00")},
    }
    folder = tmp_path / "sources"
    (folder / "json").mkdir(parents=True)
    for prefix, bodies in icons.items():
        held = {"prefix": prefix, "width": 24, "height": 24, "icons": {name: {"body": body} for name, body in bodies.items()}}
        (folder / "json" / f"{prefix}.json").write_text(json.dumps(held))
    about = {prefix: {"name": f"Set {prefix}", "author": {"name": "Ann", "url": f"https://{prefix}.example"}, "license": {"spdx": "MIT"}} for prefix in icons}
    (folder / "collections.json").write_text(json.dumps(about))
    return folder


def test_it_writes_filled_pictures_no_two_alike_with_the_credit_of_their_set(command, sources, tmp_path, monkeypatch):
    out = tmp_path / "bags"
    out.mkdir()
    (out / "old.png").write_bytes(b"")
    given = ["--count", "2", "--sets", "one", "two", "--sources", str(sources), "--work", str(tmp_path)]
    monkeypatch.setattr(command, "OUT", out)  # the folder that ships: its old pictures are replaced
    monkeypatch.setattr(sys, "argv", ["credited_pictures.py", *given])
    command.main()
    assert sorted(path.name for path in out.iterdir()) == ["metadata.csv", "one-bag.png", "two-briefcase.png"]
    found = load_pictures(out, 0)
    assert found.credits == ("Set one · Ann · MIT · https://one.example", "Set two · Ann · MIT · https://two.example")
    assert found.images.shape == (2, 64, 64, 3) and found.images[:, 32, 32].max() == 0 and found.images[:, 0, 0].min() == 1


def test_a_set_without_an_address_is_credited_all_the_same(command, sources, tmp_path, monkeypatch):
    about = {prefix: {"name": f"Set {prefix}", "author": {"name": "Ann"}, "license": {"spdx": "MIT"}} for prefix in ("one", "two")}
    (sources / "collections.json").write_text(json.dumps(about))
    given = ["--count", "2", "--sets", "one", "two", "--sources", str(sources), "--work", str(tmp_path), "--out", str(tmp_path / "bags")]
    monkeypatch.setattr(sys, "argv", ["credited_pictures.py", *given])
    command.main()
    assert load_pictures(tmp_path / "bags", 0).credits == ("Set one · Ann · MIT", "Set two · Ann · MIT")


def test_pictures_of_somebody_else_are_left_alone(command, sources, tmp_path, monkeypatch):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "photo.png").write_bytes(b"")
    given = ["--count", "2", "--sets", "one", "two", "--sources", str(sources), "--work", str(tmp_path), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["credited_pictures.py", *given])
    with pytest.raises(SystemExit, match="mine is not empty, and its pictures would be replaced. Name a new folder"):
        command.main()
    assert [path.name for path in out.iterdir()] == ["photo.png"]


def test_too_few_pictures_leave_the_folder_as_it_was(command, sources, tmp_path, monkeypatch):
    out = tmp_path / "bags"
    monkeypatch.setattr(sys, "argv", ["credited_pictures.py", "--sources", str(sources), "--sets", "one", "two", "--work", str(tmp_path), "--out", str(out)])
    with pytest.raises(SystemExit, match="Only 2 filled drawings of a bag differ in these sets; 60 are wanted"):
        command.main()
    assert not out.exists()
