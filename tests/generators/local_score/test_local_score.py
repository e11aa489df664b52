"""Schedules, the sampler, new pictures and their origins: limits, repeats, and what goes wrong."""

import math

import pytest
import torch
from rarity.density.base.errors import RarityError
from rarity.generators.eyes.picture_folder import load_pictures
from rarity.generators.local_score.cost import seconds, spoken, work
from rarity.generators.local_score.machine import KINDS, LocalScore
from rarity.generators.local_score.new_pictures import BAGS, Recipe, as_sources, new_latents, new_pictures
from rarity.generators.local_score.noise_levels import signal_share
from rarity.generators.local_score.origins_map import origins_map
from rarity.generators.local_score.patch_origins import patch_origins
from rarity.generators.local_score.patch_schedules import PUBLISHED, check_patch, from_list, from_pictures, scaled

QUICK = Recipe(steps=3, schedule="list", sizes="3 5")


@pytest.fixture(scope="module")
def images():
    """Six blurred noises, [6, 12, 10, 3]: patches are alike, but never the same."""
    g = torch.Generator().manual_seed(0)
    white = torch.rand(6, 3, 14, 12, generator=g)
    return torch.nn.functional.avg_pool2d(white, 3, stride=1).movedim(1, -1).contiguous()


def test_published_sizes_are_themselves_at_their_own_size():
    for name, known in PUBLISHED.items():
        assert scaled(name, 32, 32, 20) == list(known[::-1])


def test_published_sizes_grow_with_the_picture_and_the_scale():
    assert scaled("photographs", 64, 128, 20)[0] == 33 and scaled("photographs", 32, 32, 20, 2.0)[0] == 31
    assert scaled("photographs", 32, 32, 7)[0] == 17 and len(scaled("photographs", 32, 32, 7)) == 7
    assert scaled("drawings", 4, 4, 20, 100.0) == [3] * 20, "a patch fits into the picture"


def test_a_list_is_taken_as_it_is_or_stretched():
    assert from_list("3, 5 7", 16, 16, 3) == [7, 5, 3]
    assert from_list("3 9", 16, 16, 5)[0] == 9 and from_list("3 9", 16, 16, 5)[-1] == 3


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_the_wiener_filter_s_reach_is_that_of_its_formula(images, share):
    """Against the filter as a matrix: (K + noise)^-1 K, K the circulant covariance with the periodogram's eigenvalues."""
    sources = as_sources(images).double()
    height, width = sources.shape[2:]
    window = torch.hann_window(height + 2)[1:-1, None] * torch.hann_window(width + 2)[1:-1]
    centred = (sources - sources.mean(dim=(0, 2, 3), keepdim=True)) * window.double()
    spectrum = torch.fft.fft2(centred).abs().square().mean(dim=(0, 1)) / float(window.square().sum())
    first = torch.fft.ifft2(spectrum).real
    cells = [(i, j) for i in range(height) for j in range(width)]
    covariance = torch.stack([torch.stack([first[(a - c) % height, (b - d) % width] for c, d in cells]) for a, b in cells])
    sizes = from_pictures(sources, 4, share=share)
    assert sizes == sorted(sizes, reverse=True)
    for size, time in zip(sizes, (1, 0.75, 0.5, 0.25), strict=True):
        noise = (1 - signal_share(time)) / signal_share(time)
        row = torch.linalg.solve(covariance + noise * torch.eye(len(cells)).double(), covariance)[0].square()
        apart = [max(min(i, height - i), min(j, width - j)) for i, j in cells]
        held = [sum(float(v) for v, d in zip(row, apart, strict=True) if d <= reach) / float(row.sum()) for reach in range(8)]
        expected = 2 * next(reach for reach, part in enumerate(held) if part >= share - 1e-9) + 1
        assert size == min(max(expected, 3), 9)


@pytest.mark.parametrize("call, word", [
    (lambda: check_patch(4, 9, 9), "odd"),
    (lambda: check_patch(0, 9, 9), "odd"),
    (lambda: check_patch(11, 9, 20), "larger than the pictures, which are 20 x 9"),
    (lambda: from_list("", 9, 9, 3), "odd whole numbers"),
    (lambda: from_list("3 x", 9, 9, 3), "odd whole numbers"),
    (lambda: from_list("3 4", 9, 9, 3), "Take 3 or 5"),
    (lambda: scaled("cats", 9, 9, 3), "photographs, faces, drawings"),
    (lambda: scaled("faces", 9, 9, 0), "steps"),
])
def test_sizes_that_cannot_be(call, word):
    with pytest.raises(RarityError, match=word):
        call()


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_repeat_and_pictures_do_not_depend_on_their_batch(images, kind):
    recipe = Recipe(kind, "list", sizes="3 5", steps=3)
    three = new_pictures(images, 3, recipe, seed=5)
    assert three.shape == (3, *images.shape[1:]) and three.dtype == torch.float32
    assert 0 <= three.min() and three.max() <= 1
    assert torch.equal(three, new_pictures(images, 3, recipe, seed=5))
    assert not torch.equal(three, new_pictures(images, 3, recipe, seed=6))
    # One at a time the same sums run in another order.
    torch.testing.assert_close(new_pictures(images, 1, recipe, seed=5)[0], three[0], rtol=0, atol=1e-3)


def test_new_bags_are_new_and_at_the_largest_patches_they_are_copies():
    """What the help page says of the pictures that ship, at the settings of the workflow."""
    bags = load_pictures(BAGS).images

    def most_from_one(scale):
        made = new_pictures(bags, 16, Recipe("local", "drawings", scale), seed=3)
        return patch_origins(made, bags, 15, moved=False).shares().amax(dim=1)

    assert most_from_one(1.0).max() < 0.5 < most_from_one(4.0).median()


@pytest.mark.parametrize("kind", ["local", "ideal"])
def test_one_training_picture_returns_itself(images, kind):
    machine = LocalScore(as_sources(images[:1]).double(), kind)
    made = machine.sample(machine.noise(2, 0), [9, 5, 3])
    torch.testing.assert_close(made, machine.sources.expand(2, -1, -1, -1), rtol=1e-6, atol=1e-6)


def test_the_ideal_machine_repeats_a_source_and_the_local_one_mixes_them(images):
    sources = as_sources(images).double()
    whole, mixed = (LocalScore(sources, kind).sample(LocalScore(sources).noise(4, 1), [9] * 10 + [3] * 10) for kind in ("ideal", "local"))
    apart = [(made[:, None] - sources).square().mean(dim=(2, 3, 4)).amin(dim=1) for made in (whole, mixed)]
    assert apart[0].max() < 1e-3 < apart[1].min()


def test_the_score_is_the_estimate_s(images):
    machine = LocalScore(as_sources(images).double(), "local")
    x = machine.noise(2, 0)
    score = machine.score(x, 0.3, 5)
    torch.testing.assert_close(x + 0.7 * score, math.sqrt(0.3) * machine.estimate(x, 0.3, 5))


def test_latents_come_back_in_their_own_units(images):
    latents = images.movedim(-1, 1) * torch.tensor([3.0, 0.1, 20.0])[:, None, None] + 7
    made = new_latents(latents, 3, Recipe("local", "list", sizes="3 5", steps=5))
    assert made.shape == (3, *latents.shape[1:])
    low, high = latents.amin(dim=(0, 2, 3)), latents.amax(dim=(0, 2, 3))
    assert ((made.amin(dim=(0, 2, 3)) >= low - 1e-3) & (made.amax(dim=(0, 2, 3)) <= high + 1e-3)).all()


def test_more_pixels_than_are_made_together_are_made_in_turns(images, monkeypatch):
    from rarity.generators.local_score import new_pictures as module

    whole, seen = new_pictures(images, 3, QUICK), []
    monkeypatch.setattr(module, "TOGETHER", images.shape[1] * images.shape[2])
    parts = new_pictures(images, 3, QUICK, progress=lambda *at: seen.append(at), preview=lambda pictures: seen.append(pictures))
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-3)
    assert seen[-1] == (9, 9) and sum(isinstance(one, torch.Tensor) for one in seen) == 9


def test_cancel_ends_the_run_and_leaves_nothing_behind(images):
    class Cancelled(Exception):
        pass

    def cancel(done, total):
        raise Cancelled

    before = new_pictures(images, 2, QUICK)
    with pytest.raises(Cancelled):
        new_pictures(images, 2, QUICK, progress=cancel)
    assert torch.equal(new_pictures(images, 2, QUICK), before)


@pytest.mark.parametrize("change, recipe, count, word", [
    (lambda x: x[:1], QUICK, 1, "two or more"),
    (lambda x: [x[:2], x[:2, :8]], QUICK, 1, "one size, got 10 x 8, 10 x 12"),
    (lambda x: x.index_fill(0, torch.tensor([2]), math.nan), QUICK, 1, "1 of 6 pictures"),
    (lambda x: x * 255, QUICK, 1, "Divide"),
    (lambda x: x[0], QUICK, 1, "shape"),
    (lambda x: x, QUICK, 0, "At least one picture"),
    (lambda x: x, Recipe(schedule="list", sizes="3 4"), 1, "odd"),
    (lambda x: x, Recipe(schedule="list", sizes="3 13"), 1, "larger than the pictures"),
    (lambda x: x, Recipe(schedule="mine"), 1, "pictures, list, photographs"),
    (lambda x: x, Recipe("global"), 1, "boundary-broken, equivariant, local, ideal"),
    (lambda x: x, Recipe(scale=0.0), 1, "above 0"),
    (lambda x: x, Recipe(limit=0), 1, "At least one patch"),
])
def test_what_users_get_wrong(images, change, recipe, count, word):
    with pytest.raises(RarityError, match=word):
        new_pictures(change(images), count, recipe)


def test_what_would_take_hours_is_refused_at_once_with_something_faster():
    many = torch.rand(1, 128, 128, 3).expand(300, -1, -1, -1)
    with pytest.raises(RarityError, match=r"300 pictures of 128 x 128 .*(minutes|hours).*allowed are 1 minutes.*patches at 20,000.*half"):
        new_pictures(many, 4, Recipe(limit=None, minutes=1))


def test_the_work_is_counted_as_the_machine_does_it(images):
    machine = LocalScore(as_sources(images), "equivariant", tolerance=0.0)
    counted = work(machine, 2, [5])
    done = []
    machine.estimate(machine.noise(2, 0), 0.5, 5, done.append)
    assert sum(done) == counted["literal"] == counted["pairs"] * 3 * 25
    assert counted["pairs"] == 2 * 12 * 10 * 6 * 8 * 6
    assert seconds(machine, 4, [5]) > 0


def test_origins_that_would_take_hours_are_refused_at_once_with_something_faster(images):
    many = torch.rand(1, 128, 128, 3).expand(300, -1, -1, -1)
    with pytest.raises(RarityError, match=r"4 pictures among 300 sources of 128 x 128 pixels anywhere .*(minutes|hours|days)"
                                          r".*allowed are 1 minutes.*same place.*one picture at a time \(about .*half their width"):
        patch_origins(many[:4], many, minutes=1)
    patch_origins(images[:1], images, 3, moved=False, minutes=1e-9)  # quick, and not held up
    with pytest.raises(RarityError, match="Try pieces from the same place, which takes seconds, or pictures"):
        patch_origins(images[:1], images, 3, minutes=1e-9)


@pytest.mark.parametrize("duration, said", [(0.2, "1 seconds"), (80, "80 seconds"), (700, "12 minutes"), (9000, "2 hours"), (3e5, "3 days")])
def test_durations_as_one_says_them(duration, said):
    assert spoken(duration) == said


@pytest.mark.parametrize("moved", [False, True])
def test_sources_are_their_own_origins(images, moved):
    found = patch_origins(images, images, 3, moved=moved)
    assert torch.equal(found.source, torch.arange(6)[:, None, None].expand(-1, 12, 10))
    assert torch.equal(found.row, torch.arange(12)[:, None].expand(6, -1, 10)) and found.distance.max() < 1e-5
    torch.testing.assert_close(found.shares(), torch.eye(6, dtype=torch.float64))


def test_a_moved_piece_is_found_where_it_came_from(images):
    made = images[:1].clone()
    made[0, 3:8, 2:7] = images[4, 5:10, 3:8]
    found = patch_origins(made, images, 3)
    inside = (0, slice(4, 7), slice(3, 6))
    assert (found.source[inside] == 4).all() and (found.row[inside] == torch.arange(6, 9)[:, None]).all()
    assert found.table().startswith("picture 0: source 0 ") and "source 4" in found.table()
    assert [line.split()[:2] for line in found.brief().split("\n")[:2]] == [["source", "0"], ["source", "4"]]
    assert (patch_origins(made, images, 3, moved=False).source[:, :2] == 0).all()


def test_plain_patches_are_nobody_s(images):
    made = images[:2].clone()
    made[0] = 1.0
    found = patch_origins(made, images, 3)
    assert (found.source[0] == -1).all() and float(found.shares()[0].sum()) == 0 and float(found.shares()[1].sum()) == 1
    assert found.table().startswith("picture 0: nothing but plain parts\npicture 1: source 1 ")
    assert patch_origins(made[:1], images, 3).brief() == "nothing but plain parts"
    assert found.brief() == "source 1 100%"


def test_sources_of_one_credit_are_one_and_are_named_in_full_below(images):
    made = torch.cat([images[:1], images[1:2]])
    lines = ["A set · Ann · MIT · https://a.example", "B · Bob · CC0-1.0", "A set · Ann · MIT · https://a.example", "B · Bob · CC0-1.0", "", "photo.png"]
    made[0, :6] = images[2, :6]
    found = patch_origins(made, images, 3, moved=False, credits="\n".join(lines))
    assert found.table().splitlines() == ["picture 0: A set 100%", "picture 1: B 100%", "", "Credits", lines[0], lines[1]]
    assert found.brief() == "A set 50%\nB 50%"
    of_all, of, shares = found.credited()
    assert of_all == [*lines[:2], "source 4", "photo.png"] and of.tolist() == [0, 1, 0, 1, 2, 3]
    torch.testing.assert_close(shares, torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.float64))
    with pytest.raises(RarityError, match=r"6 sources and 2 lines of credits.*same Load Pictures"):
        patch_origins(made, images, 3, moved=False, credits="one\ntwo\n")


def test_one_credit_has_one_colour_on_the_map(images):
    made = images[:1].clone()
    made[0, :6] = images[2, :6]
    apart = patch_origins(made, images, 3, moved=False)
    one = patch_origins(made, images, 3, moved=False, credits="\n".join(["A · Ann · MIT"] * 6))
    colours = [{tuple((pixel * 255).round().int().tolist()) for pixel in _frames(origins_map(made, images, found))} for found in (apart, one)]
    orange, blue = (0xE6, 0x9F, 0), (0x56, 0xB4, 0xE9)
    assert {orange, blue} <= colours[0] and orange in colours[1] and blue not in colours[1]


@pytest.mark.parametrize("credits", ["", "A · Ann\nB\nB"])
def test_the_map_of_one_picture_has_room_for_its_sentence(images, credits):
    drawn = origins_map(images[:1], images[:3], patch_origins(images[:1], images[:3], 3, moved=False, credits=credits))
    paper = drawn[0, 0, 0]
    assert (drawn[0, :88, -20:] == paper).all() and (drawn[0, :88, -200:-20] != paper).any()


def _frames(drawn):
    """The distinct colours right of the map of one picture, where the legend is."""
    return torch.unique(drawn[0, :, 290:].reshape(-1, 3), dim=0)


def test_the_map_is_a_picture_with_a_legend(images):
    found = patch_origins(images[:3], images, 3)
    drawn = origins_map(images[:3], images, found)
    assert drawn.dim() == 4 and drawn.shape[0] == 1 and drawn.shape[3] == 3 and 0 <= drawn.min() and drawn.max() <= 1
    with pytest.raises(RarityError, match="3 pictures and 6 sources"):
        origins_map(images[:2], images, found)
    with pytest.raises(RarityError, match="one size"):
        patch_origins(images[:2], images[:, :8], 3)
