"""An archive of pictures, looked at by a cluster: each counts once, and what is known is not looked at again."""

import numpy as np
import pytest
import torch
from PIL import Image
from rarity import cli
from rarity.density.base.errors import RarityError
from rarity.density.estimators.choose import fit_density
from rarity.density.files.store import load_density
from rarity.generators.cluster import fit_pictures, shard_folder
from rarity.generators.eyes.picture_files import encode_picture_files, picture_files


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """200 pictures in two folders, ten of them copies, of other names."""
    folder = tmp_path_factory.mktemp("archive")
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir()
    for i in range(190):
        pixels = random.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "ab"[i % 2] / f"{i}.png")
        if i % 19 == 0:
            Image.fromarray(pixels).save(folder / "b" / f"copy {i}.png")
    return folder


def files(out):
    return {path: path.stat().st_mtime_ns for path in shard_folder(out).glob("*.safetensors")}


def test_it_is_the_density_of_one_process_and_a_new_picture_costs_one_shard(
    client, archive, tiny_kandinsky, tiny_kandinsky_folder, tmp_path
):
    paths, out = picture_files(archive), tmp_path / "usual.safetensors"
    assert len(paths) == 200
    fit_pictures(paths, out, client=client, encoder=tiny_kandinsky_folder, shard=16)
    density, alone = load_density(out), fit_density(encode_picture_files(tiny_kandinsky[0], paths))
    assert (density.count, density.statistics.repeats) == (alone.count, alone.statistics.repeats) == (190, 10)
    assert torch.equal(density.statistics.keys, alone.statistics.keys)
    # a picture is looked at alone in both, so its embedding is the same
    assert torch.equal(density.frame.mean, alone.frame.mean) and density.source == alone.source == {"kind": "pictures"}
    before = files(out)
    Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8)).save(archive / "a" / "new.png")
    fit_pictures(picture_files(archive), out, client=client, encoder=tiny_kandinsky_folder, shard=16)
    after = files(out)
    assert before.items() <= after.items() and len(after) <= len(before) + 2
    assert load_density(out).count == 191


def test_a_shard_of_another_eye_is_refused_and_so_is_what_is_no_picture(client, archive, tiny_kandinsky_folder, tmp_path, capsys):
    out = tmp_path / "usual.safetensors"
    fit_pictures(picture_files(archive), out, client=client, encoder=tiny_kandinsky_folder, shard=100)
    with pytest.raises(RarityError, match=r"pictures-[\w-]+.safetensors is of another job: space"):
        fit_pictures(picture_files(archive), out, client=client)
    with pytest.raises(RarityError, match="no pictures to learn from"):
        fit_pictures([], out, client=client, encoder=tiny_kandinsky_folder)
    (tmp_path / "text.png").write_text("no picture")
    given = [str(tmp_path / "text.png"), str(archive), "--encoder", str(tiny_kandinsky_folder), "--scheduler", client.scheduler.address]
    assert cli.main(["fit", *given, "--out", str(tmp_path / "other.safetensors")]) == 1
    assert "text.png cannot be read as a picture" in capsys.readouterr().err


def test_the_command_line_reads_folders(client, archive, tiny_kandinsky_folder, tmp_path, capsys):
    out = tmp_path / "usual.safetensors"
    given = [str(archive), "--encoder", str(tiny_kandinsky_folder), "--out", str(out)]
    assert cli.main(["fit", *given, "--scheduler", client.scheduler.address]) == 0
    alone = tmp_path / "alone.safetensors"
    assert cli.main(["fit", *given[:-1], str(alone)]) == 0
    assert torch.equal(load_density(out).frame.mean, load_density(alone).frame.mean)
    capsys.readouterr()
    assert cli.main(["fit", str(alone), "--out", str(tmp_path / "x.safetensors"), "--workers", "1"]) == 1
    assert "are for pictures" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert cli.main(["fit", str(tmp_path / "empty"), "--out", str(out)]) == 1
    assert "There are no pictures in the folder" in capsys.readouterr().err
