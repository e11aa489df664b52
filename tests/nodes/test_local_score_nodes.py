"""Local Score and Patch Origins as ComfyUI runs them: pictures, latents, previews, cancel, and one clear error each."""

import pytest
import torch
from PIL import Image
from rarity import nodes
from rarity.density.base.errors import RarityError

QUICK = {"count": 2, "steps": 3, "patch_sizes": "my own list", "sizes": "3 5"}


@pytest.fixture(scope="module")
def images():
    g = torch.Generator().manual_seed(0)
    return torch.nn.functional.avg_pool2d(torch.rand(5, 3, 18, 18, generator=g), 3, stride=1).movedim(1, -1).contiguous()


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """ComfyUI's input folder, with a folder of two pictures."""
    import folder_paths

    (tmp_path / "mine").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (9, 9), "white").save(tmp_path / "mine" / f"{name}.png")
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    return tmp_path


def test_a_folder_of_pictures_is_credited_by_its_sets_up_to_the_map(run):
    pictures, credits, report = run(nodes.RarityLoadPictures, folder="bags (built in)")
    assert pictures.shape == (60, 64, 64, 3) and len(credits.splitlines()) == 60 and "All have a credit" in report
    made = run(nodes.RarityLocalScore, images=pictures, count=2, patch_sizes="as for drawings")[0]
    _, said = run(nodes.RarityPatchOrigins, images=made, sources=pictures, patch=15, source_credits=credits)
    first, second, _, heading, *full = said.splitlines()
    assert heading == "Credits" and len(full) > 3 and {*full} <= {*credits.splitlines()}
    assert "source " not in first and any(line.split(" · ")[0] in second for line in full)
    assert any(" · MIT · https://" in line for line in full)


def test_the_menu_has_the_folders_of_the_input_folder_and_nothing_else_is_read(run, inputs):
    (inputs / ".hidden").mkdir()
    (inputs / "empty").mkdir()
    assert nodes.RarityLoadPictures.define_schema().inputs[0].options == ["bags (built in)", "empty", "mine"]
    assert run(nodes.RarityLoadPictures, folder="mine", size=0)[1] == "a.png\nb.png"
    for name in ("../mine", str(inputs / "mine"), ".hidden", "", "mine/."):
        with pytest.raises(RarityError, match="no folder of pictures .* Found: bags .built in., empty, mine"):
            run(nodes.RarityLoadPictures, folder=name)
    with pytest.raises(RarityError, match="no pictures in the folder"):
        run(nodes.RarityLoadPictures, folder="empty")


def test_a_changed_folder_is_read_again(inputs):
    def fingerprint_of():
        return nodes.RarityLoadPictures.fingerprint_inputs(folder="mine", size=64, at_most=256)

    seen = {fingerprint_of(), fingerprint_of()}
    (inputs / "mine" / "metadata.csv").write_text("file_name,title\na.png,Ann", encoding="utf-8")
    seen.add(fingerprint_of())
    (inputs / "mine" / "b.png").unlink()
    seen.add(fingerprint_of())
    Image.new("RGB", (99, 99)).save(inputs / "mine" / "a.png")
    seen.add(fingerprint_of())
    assert len(seen) == 4


def test_what_goes_into_every_saved_picture_tells_nothing_of_the_computer(inputs):
    """ComfyUI saves the fingerprint of a node with the prompt."""
    mark = nodes.RarityLoadPictures.fingerprint_inputs(folder="mine", size=64, at_most=256)
    assert len(mark) == 64 and not any(word in mark for word in ("/", "\\", "png", inputs.name))


def test_pictures_beyond_the_first_change_the_report(run, inputs):
    def told():
        few = {"folder": "mine", "size": 64, "at_most": 2}
        return nodes.RarityLoadPictures.fingerprint_inputs(**few), run(nodes.RarityLoadPictures, **few)[2]

    before = told()
    Image.new("RGB", (9, 9)).save(inputs / "mine" / "c.png")
    assert "The first 2 of 3" in told()[1] and before[0] != told()[0]


class Doubling:
    """The part of a VAE that is used: latents [N, 4, h, w] to pictures twice as large."""

    def decode(self, latents):
        assert latents.dtype == torch.float32 and latents.shape[1] == 4
        pictures = latents[:, :3].sigmoid().movedim(1, -1)
        return pictures.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)


@pytest.mark.parametrize("pieces_from", ["same place", "anywhere", "anywhere, tileable", "whole pictures"])
def test_pictures_and_their_origins(run, images, pieces_from):
    held = images.clone()
    made = run(nodes.RarityLocalScore, images=images, pieces_from=pieces_from, **QUICK)[0]
    assert made.shape == (2, 16, 16, 3) and 0 <= made.min() and made.max() <= 1
    assert torch.equal(made, run(nodes.RarityLocalScore, images=images, pieces_from=pieces_from, **QUICK)[0])
    where = "same place" if pieces_from == "same place" else "anywhere"
    drawn, credits = run(nodes.RarityPatchOrigins, images=made, sources=images, patch=3, pieces_from=where)
    assert drawn.shape[0] == 1 and drawn.shape[3] == 3 and len(credits.splitlines()) == 2 and "source" in credits
    assert torch.equal(images, held)


def test_every_choice_of_sizes_runs(run, images):
    (menu,) = [item for item in nodes.RarityLocalScore.define_schema().inputs if item.id == "patch_sizes"]
    for choice in menu.options:
        made = run(nodes.RarityLocalScore, images=images, count=1, steps=2, patch_sizes=choice, sizes="3")[0]
        assert made.shape == (1, 16, 16, 3)


def test_latents_are_decoded(run, images):
    g = torch.Generator().manual_seed(1)
    latent = {"samples": torch.randn(6, 4, 8, 8, generator=g)}
    made = run(nodes.RarityLocalScore, latent=latent, vae=Doubling(), **QUICK)[0]
    assert made.shape == (2, 16, 16, 3)


def test_previews_go_out_with_the_progress(run, images, monkeypatch):
    from comfy import utils

    sent = []
    monkeypatch.setattr(utils.ProgressBar, "update_absolute", lambda bar, value, total=None, preview=None: sent.append((value, preview)))
    run(nodes.RarityLocalScore, images=images, **QUICK)
    shown = [preview for _, preview in sent if preview]
    assert sent[-1][0] == 3 and len(shown) == 3 and shown[0][0] == "JPEG" and shown[0][1].size == (16, 16)


@pytest.mark.parametrize("node", ["RarityLocalScore", "RarityPatchOrigins"])
def test_cancel_and_run_again(run, images, node):
    from comfy import model_management

    inputs = {"images": images, **QUICK} if node == "RarityLocalScore" else {
        "images": images[:2], "sources": images, "pieces_from": "anywhere", "patch": 3}
    before = run(getattr(nodes, node), **inputs)[0]
    model_management.interrupt_current_processing()
    with pytest.raises(model_management.InterruptProcessingException):
        run(getattr(nodes, node), **inputs)
    assert torch.equal(run(getattr(nodes, node), **inputs)[0], before)


@pytest.mark.parametrize("where", ["anywhere", "same place"])
def test_origins_can_be_cancelled_long_before_they_are_found(run, images, where, monkeypatch):
    from comfy import utils
    from rarity.generators.local_score import machine

    sent, clock = [], iter(range(10**6))
    monkeypatch.setattr(machine.time, "monotonic", lambda: next(clock))  # as if every block took a second
    monkeypatch.setattr(utils.ProgressBar, "update_absolute", lambda bar, value, total=None, preview=None: sent.append(value))
    run(nodes.RarityPatchOrigins, images=images, sources=images, pieces_from=where, patch=3)
    assert sent.count(0) >= 3 and sent == sorted(sent)


@pytest.mark.parametrize("change, word", [
    ({"images": None}, "either images, or latent and vae"),
    ({"vae": Doubling()}, "either images, or latent and vae"),
    ({"images": None, "latent": {"samples": torch.zeros(2, 4, 8, 8)}}, "either images, or latent and vae"),
    ({"pieces_from": "nowhere"}, "same place, anywhere"),
    ({"patch_sizes": "huge"}, "as for photographs"),
    ({"sizes": "4"}, "odd"),
    ({"sizes": "33"}, "larger than the pictures"),
])
def test_what_users_get_wrong(run, images, change, word):
    with pytest.raises(RarityError, match=word):
        run(nodes.RarityLocalScore, **{name: value for name, value in ({"images": images} | QUICK | change).items() if value is not None})


def test_one_picture_and_bad_pixels(run, images):
    for given, word in ((images[:1], "two or more"), (images.clone().index_fill_(0, torch.tensor([1]), float("nan")), "1 of 5")):
        with pytest.raises(RarityError, match=word):
            run(nodes.RarityLocalScore, images=given, **QUICK)
    with pytest.raises(RarityError, match="odd"):
        run(nodes.RarityPatchOrigins, images=images, sources=images, patch=4)
    with pytest.raises(RarityError, match="one size"):
        run(nodes.RarityPatchOrigins, images=images[:, :8], sources=images)
