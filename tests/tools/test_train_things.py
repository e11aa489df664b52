"""The training of the model that draws things: what is taken, how it is split, and that one command leads to weights that load."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rarity.generators.demo import DRAWINGS

ROOT = Path(__file__).parents[2]
pytest.importorskip("resvg_py")


@pytest.fixture(scope="module")
def tools():
    """The tools import each other by name, as scripts do."""
    sys.path.insert(0, str(ROOT / "tools"))
    import command
    import pictograms
    import things
    import train_things

    yield {"pictograms": pictograms, "things": things, "train_things": train_things, "command": command}
    sys.path.remove(str(ROOT / "tools"))


SHAPES = {
    "bag": '<path d="M4 9h16v12H4zM8 9V5h8v4" {}/>',
    "car": '<path d="M2 12h20v5H2zM5 17v3M19 17v3" {}/>',
    "cat": '<path d="M4 4l5 4h6l5-4v14l-8 4-8-4z" {}/>',
}
LINES = 'fill="none" stroke="currentColor" stroke-width="{}"'


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Sets as @iconify/json packs them: seven that may be learnt from, with a copy among them, and two that may not."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "json").mkdir()
    about, styles = {}, ["0.7", "1.1", "1.5", "1.9", "2.8", "2.3", "0.7"]
    for number, prefix in enumerate(["alpha", "beta", "gamma", "delta", "noto", "emojione", "copies", "shared", "closed"]):
        licence = {"shared": "CC-BY-SA-4.0", "closed": "CC-BY-NC-4.0"}.get(prefix, "MIT")
        about[prefix] = {"name": prefix, "author": {"name": "A"}, "license": {"spdx": licence}, "category": "UI 24px"}
        width = LINES.format(styles[number % len(styles)]) if prefix != "copies" else LINES.format(styles[0])
        icons = {f"{name}-outline": {"body": shape.format(width)} for name, shape in SHAPES.items()}
        icons |= {name: {"body": shape.format('fill="currentColor"')} for name, shape in SHAPES.items() if prefix == "alpha"}
        icons["car-battery"] = icons["car-outline"]
        (folder / "json" / f"{prefix}.json").write_text(json.dumps({"prefix": prefix, "icons": icons, "width": 24, "height": 24}))
    (folder / "collections.json").write_text(json.dumps(about))
    return folder


def test_a_name_is_a_subject_and_words_of_style_alone(tools):
    subject_of = tools["pictograms"].subject_of
    assert subject_of("car-outline") == subject_of("twotone-car") == subject_of("car-filled-24") == "car"
    assert subject_of("shopping-bag-2-line") == "bag" and subject_of("home-alt") == "house"
    assert not any(map(subject_of, ["car-battery", "house-off", "bag-plus", "cat-5e", "clock", "tree-view"]))


def test_only_sets_that_may_be_learnt_from_are_read(tools, sources):
    found = tools["pictograms"].find_pictograms(sources)
    assert {p.set for p in found} == {"alpha", "beta", "gamma", "delta", "noto", "emojione", "copies"}
    assert {p.subject for p in found} == set(SHAPES) and "car-battery" not in {p.name for p in found}


def test_copies_go_and_no_family_and_no_look_alike_stands_on_two_sides(tools, sources):
    things = tools["things"]
    pictograms, _, plain = things.clean(tools["pictograms"].find_pictograms(sources))
    assert "copies" not in {p.set for p in pictograms}
    sides = things.split_families(pictograms, plain, seed=1)
    for family in {things.family_of(p.set) for p in pictograms}:
        assert len({side for p, side in zip(pictograms, sides, strict=True) if things.family_of(p.set) == family and side}) <= 1
    small = things.vectors(plain)
    for i, j in np.argwhere(things.distances(small, small) < things.LOOK_ALIKE):
        assert sides[i] == sides[j] or not sides[i] or not sides[j] or pictograms[i].subject != pictograms[j].subject


def test_how_a_picture_is_drawn_is_measured(tools, sources):
    things = tools["things"]
    found = {(p.set, p.name): p for p in tools["pictograms"].find_pictograms(sources)}

    def words(key, **how):
        picture = things.draw(found[key], things.ink_box(found[key]), **how)
        return {kind: options[w] for (kind, options), w in zip(things.WORDS.items(), things.measure(picture).values(), strict=True) if w >= 0}

    assert words(("alpha", "cat")) == {"form": "filled", "colour": "black"}
    assert words(("alpha", "cat"), colour=things.INKS["green"])["colour"] == "green"
    assert words(("alpha", "cat-outline")) == {"form": "outline", "colour": "black", "weight": "thin"}
    assert words(("emojione", "cat-outline"))["weight"] == "bold"
    assert words(("emojione", "cat-outline"), thicker=0.2)["weight"] == "thin"


@pytest.mark.parametrize("tone", ['opacity=".3"', 'fill="currentColor" fill-opacity=".15"', 'fill="currentColor" opacity="0.5"'])
def test_the_paler_tone_of_a_drawing_takes_an_ink_of_its_own(tools, tone):
    things, pictograms = tools["things"], tools["pictograms"]
    body = f'<path fill="currentColor" d="M2 2h20v8H2z"/><path {tone} d="M2 12h20v8H2z"/>'
    drawing = pictograms.Pictogram("alpha", "car", "car", body, (0, 0, 24, 24))
    assert drawing.duotone
    box = things.ink_box(drawing)
    colour = things.WORDS["colour"].index
    assert things.measure(things.draw(drawing, box, colour=things.INKS["red"]))["colour"] != colour("colourful")
    two = things.draw(drawing.with_second_ink(things.INKS["blue"]), box, colour=things.INKS["red"])
    assert things.measure(two)["colour"] == colour("colourful") and (two[44, 32] == (0x25, 0x63, 0xD8)).all()
    # Renderings for the judge stay in one ink; those that the model learns from are in two now and then.
    inks = [{things.measure(things.augment(drawing, box, np.random.default_rng(i), second))["colour"] for i in range(40)} for second in (False, True)]
    assert colour("colourful") not in inks[0] and colour("colourful") in inks[1]


@pytest.mark.parametrize("body", [
    '<path fill="currentColor" d="M2 2h20v8H2z"/>',
    '<path fill="#d62828" d="M2 2h20v8H2z"/><path opacity=".3" d="M2 12h20v8H2z"/>',
    '<path fill="none" stroke="currentColor" stroke-opacity=".5" d="M2 2h20v8H2z"/>',
    '<path fill="currentColor" opacity=".9" d="M2 12h20v8H2z"/>',
])
def test_a_drawing_without_a_paler_tone_stays_as_it_is(tools, body):
    drawing = tools["pictograms"].Pictogram("alpha", "car", "car", body, (0, 0, 24, 24))
    assert not drawing.duotone


def lines(*rows, width=2, ink=0):
    """A white picture with horizontal lines of this width."""
    picture = np.full((64, 64, 3), 255, np.uint8)
    for row in rows:
        picture[row : row + width, 8:56] = ink
    return picture


def test_a_word_is_said_of_what_anyone_would_call_so(tools):
    things = tools["things"]

    def words(picture, margin=0.0):
        return {kind: options[w] for (kind, options), w in zip(things.WORDS.items(), things.measure(picture, margin).values(), strict=True) if w >= 0}

    # Lines that enclose nothing are lines: they would fill a silhouette of their own.
    assert words(lines(10, 30, 50)) == {"weight": "thin", "colour": "black", "form": "outline"}
    assert words(lines(10, 30, 50, width=6)) == {"weight": "bold", "colour": "black", "form": "outline"}
    assert words(lines(10, width=40)) == {"colour": "black", "form": "filled"}
    # A broad grey stroke between two hairlines covers as little as a thin line, and so does a pale picture. Neither is one.
    grey = lines(20, width=9, ink=190)
    grey[[20, 28], 8:56] = 0
    assert "weight" not in words(grey) and "weight" not in words(lines(10, 30, 50, width=12, ink=185))
    # A caption says less than is true, never more.
    between = lines(10, 30, 50, width=4)
    assert words(between)["weight"] == "bold" and "weight" not in words(between, margin=0.1)


def test_every_word_of_a_caption_is_a_token(tools, tmp_path):
    things = tools["things"]
    tokenizer = tools["train_things"].THINGS.tokenizer(tmp_path)
    for subject in things.NAMES:
        text = things.caption(subject, ["thin", "purple", "outline"])
        assert len(tokenizer(text).input_ids) == len(text.split()) + 2 <= 12, text
    assert things.caption("bag") == "a drawing of a bag" and things.caption("house", ["thin", "outline"]) == "a thin outline drawing of a house"
    assert tuple(map(things.caption, things.SHIPPED)) == DRAWINGS
    assert things.caption("airplane", ["outline"]) == "an outline drawing of an airplane"
    assert things.caption("boat", ["colourful"], "the") == "the colourful drawing of a boat"


def test_a_stage_that_ran_out_of_time_goes_on_with_the_same_draws(tools, tmp_path):
    from stage import OutOfTime, Stage

    def stage(folder):
        torch.manual_seed(0)
        (tmp_path / folder).mkdir(exist_ok=True)
        return Stage("linear", torch.nn.Linear(3, 2), tmp_path / folder, steps=9, rate=0.1, seed=5)

    def loss(model, generator):
        return {"square": model(torch.randn(4, 3, generator=generator)).square().mean()}

    def loss_until_the_fourth(model, generator):
        interrupted.until = 0.0 if interrupted.step == 3 else interrupted.until
        return loss(model, generator)

    interrupted = stage("in_parts")
    with pytest.raises(OutOfTime, match="linear stopped at step 4 of 9"):
        interrupted.run(loss_until_the_fourth)
    again = stage("in_parts")
    assert again.step == 4
    in_parts, at_once = again.run(loss), stage("at_once").run(loss)
    assert torch.equal(in_parts.weight, at_once.weight) and torch.equal(in_parts.bias, at_once.bias)


def test_one_command_leads_from_nothing_to_weights_that_load_and_goes_on_where_it_was_stopped(tools, sources, tmp_path, monkeypatch, capsys):
    from rarity.generators.kandinsky.load import load_kandinsky

    train_things = tools["train_things"]

    def command(*options):
        monkeypatch.setattr(sys, "argv", ["train_things.py", "--quick", "--work", str(tmp_path), "--sources", str(sources), "--cores", "1", *options])
        train_things.main(train_things.THINGS, "", "sources", train_things.make_data, train_things.QUICK, train_things.judge)

    model = tmp_path / "quick" / "model"
    command("--minutes", "0")
    assert (tmp_path / "quick" / "encoders.pt").exists() and not model.exists()
    command()
    assert (tmp_path / "quick" / "judge.safetensors").exists()
    prior, decoder = load_kandinsky(model)
    pictures = decoder.decode(prior.sample("a colourful drawing of a boat", 2, seed=0), seed=0)
    assert pictures.shape == (2, 64, 64, 3) and bool(pictures.isfinite().all())
    assert sum(path.stat().st_size for path in model.rglob("*") if path.is_file()) <= 16e6

    import look_at_things

    look_at_things.look(model, tmp_path / "sheets", count=1, subjects=("house", "chair"))
    printed = capsys.readouterr().out
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {"usual.png", "styles.png"}
    assert all(f"{word} " in printed for word in ["house", "chair", "thin", "purple", "colourful", "filled"]) and "black" not in printed


def test_the_budget_names_every_stage_and_leaves_the_work_as_it_is(tools, sources, tmp_path, capsys):
    command, world = tools["command"], tools["train_things"].QUICK
    tools["things"].make_things(sources, tmp_path / "things.npz", renderings=4, seed=3)
    command.print_budget(world, tmp_path, steps=2, pictures=3)  # fewer than there are
    printed = capsys.readouterr().out
    assert all(f"{stage} " in printed for stage in world.steps) and printed.count("100% of them left") == 5
    assert not list(tmp_path.glob("*.pt"))
