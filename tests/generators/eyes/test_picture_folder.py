"""A folder of pictures is one batch with a line of credit for each picture, and a hostile or damaged metadata.csv is one clear error."""

import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from rarity.density.base.credits import LONGEST
from rarity.density.base.errors import RarityError
from rarity.generators.eyes.picture_folder import CREDITS, load_pictures, read_credits
from rarity.generators.local_score.new_pictures import BAGS


@pytest.fixture
def folder(tmp_path):
    for name, size, colour in (("b.png", (20, 20), "red"), ("a.jpg", (40, 20), "lime"), ("more/c.png", (20, 30), "blue")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", size, colour).save(path)
    return tmp_path


def written(folder, text, encoding="utf-8"):
    (folder / CREDITS).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return folder


def test_pictures_of_any_size_become_squares_in_the_order_of_their_names(folder):
    found = load_pictures(folder, 16)
    assert found.images.shape == (3, 16, 16, 3) and found.images.dtype == torch.float32
    assert found.images.mean(dim=(1, 2)).argmax(dim=1).tolist() == [1, 0, 2]
    assert found.credits == ("a.jpg", "b.png", "more/c.png") and "None has a credit" in found.report()
    few = load_pictures(folder, 16, 2)
    assert few.credits == ("a.jpg", "b.png") and "The first 2 of 3 pictures" in few.report()


def test_the_middle_of_a_picture_is_kept(tmp_path):
    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert load_pictures(tmp_path, 10).images.min() == 1


@pytest.mark.parametrize("mode, ink", [("RGBA", (0, 0, 0, 255)), ("LA", (0, 255))])
def test_a_drawing_on_nothing_is_a_drawing_on_white(tmp_path, mode, ink):
    drawing = Image.new(mode, (8, 8), (0,) * len(ink))
    drawing.paste(ink, (0, 0, 4, 8))
    drawing.save(tmp_path / "one.png")
    drawing.quantize(2, method=Image.Quantize.FASTOCTREE).save(tmp_path / "palette.png") if mode == "RGBA" else drawing.save(tmp_path / "two.png")
    images = load_pictures(tmp_path, 0).images
    assert images[:, :, :4].max() == 0 and images[:, :, 4:].min() == 1


@pytest.mark.parametrize("start, separator", [("", ","), ("\ufeff", ","), ("", ";")])
def test_a_spreadsheet_gives_title_author_licence_and_source(folder, start, separator):
    rows = [["File_name", "licence", "Title", "author", "mine", "source"], ["b.png", "MIT", '"Icons, all"', "Ann", "x", "https://a.example"],
            ["more\\c.png", "CC0-1.0", "Map"], ["gone.png", "MIT", "Gone"], ["a.jpg", " ", ""]]
    found = load_pictures(written(folder, start + "\r\n".join(separator.join(row) for row in rows)), 16)
    assert found.credits == ("a.jpg", "Icons, all · Ann · MIT · https://a.example", "Map · CC0-1.0")
    assert "2 have a credit" in found.report() and found.lines().count("\n") == 2


def test_a_credit_cannot_add_lines_or_turn_the_writing_round(folder):
    found = load_pictures(written(folder, 'file_name,title,author\nb.png,"one\ntwo\x00","\u202eeve"\na.jpg,' + "x" * 9000), 16)
    assert len(found.lines().split("\n")) == 3 and found.credits[1] == "one two · eve" and len(found.credits[0]) == LONGEST


@pytest.mark.parametrize("text, said", [
    ("title,author\nx,y\n", r"needs a first line with the names of its columns: file_name.*It has 'title', 'author'"),
    ("", "It has none"),
    ("file_name,title,author\nb.png,Icons, all,Ann\n", "has 4 cells in line 2, for 3 columns. Put a text with \",\" in it into quotes"),
    ("file_name;title\n\nb.png;A;B\n", "has 3 cells in line 3, for 2 columns. Put a text with \";\""),
    ("file_name,title\nmore/c.png,Ann\nmore\\c.png,Bob\n", "two credits for 'more/c.png': 'Ann' and 'Bob'. Leave one line"),
    ("file_name,title\nb.png,\"open\n", "cannot be read as a table"),
    ("file_name,title\nb.png," + "x" * 200_000, "cannot be read as a table: field larger"),
    ("file_name,title\nb.png,Paweł".encode("utf-16"), "not text in UTF-8.*CSV UTF-8"),
    (b"x" * (4 * 2**20 + 1), "has 4 MB; credits may have 4"),
])
def test_credits_that_cannot_be_read(folder, text, said):
    with pytest.raises(RarityError, match=re.compile(said, re.DOTALL)):
        load_pictures(written(folder, text), 16)


def test_a_table_written_by_hand_or_by_an_old_spreadsheet(folder):
    text = 'file_name, title, author,\rb.png, "Icons; all, small", Ann,, \ra.jpg,Map\ra.jpg,Map\ra.jpg,\r,One\r,Two'
    found = load_pictures(written(folder, text), 16)
    assert found.credits == ("Map", "Icons; all, small · Ann", "more/c.png")


def test_a_name_with_an_accent_is_the_same_however_a_system_writes_it(tmp_path):
    for composed in ("caf\u00e9.png", "cafe\u0301 2.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / composed)
    found = load_pictures(written(tmp_path, "file_name,title\ncafe\u0301.png,One\ncaf\u00e9 2.png,Two"), 8)
    assert found.credited == 2 and {*found.credits} == {"One", "Two"}


def test_the_address_of_a_picture_is_not_cut(folder):
    address = "https://commons.wikimedia.org/wiki/File:" + "%E5%8C%85" * 80  # the longest name there, of Chinese letters
    assert load_pictures(written(folder, f"file_name,source\nb.png,{address}"), 16).credits[1] == address


def test_the_report_of_one_picture(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert load_pictures(written(tmp_path, "file_name,title\na.png,A"), 8).report() == "1 picture, 8 x 8 pixels.\n1 has a credit in metadata.csv."


def test_hidden_files_are_no_pictures(folder):
    """An archive from a Mac has a hidden file beside each picture, and file managers keep small copies of pictures in hidden folders."""
    for name in ("__MACOSX/._b.png", ".thumbnails/b.png"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(b"no picture")
    assert load_pictures(folder, 16).credits == ("a.jpg", "b.png", "more/c.png")
    hidden = folder.rename(folder.parent / ".hidden")
    assert load_pictures(hidden, 16).found == 3


def test_pictures_that_do_not_go_together(folder):
    with pytest.raises(RarityError, match=r"a.jpg has 40 x 20 pixels, b.png has 20 x 20. .* set a size"):
        load_pictures(folder, 0)
    Image.new("RGB", (8, 8)).save(folder / "more" / "a.jpg")
    with pytest.raises(RarityError, match=r"a.jpg has 40 x 20 pixels, more/a.jpg has 8 x 8"):
        (folder / "b.png").unlink()
        load_pictures(folder, 0)
    (folder / "broken.png").write_bytes(b"\x89PNG but not really")
    with pytest.raises(RarityError, match="broken.png cannot be read as a picture"):
        load_pictures(folder, 16)


def test_a_picture_of_too_many_pixels_is_refused_by_its_first_bytes(tmp_path):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    (tmp_path / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    with pytest.raises(RarityError, match=r"large.png has too many pixels to be read: .*900000000.* exceeds limit of \d+ pixels\. Scale it down"):
        load_pictures(tmp_path, 16)


def test_more_than_fits_into_memory_is_refused_at_the_first_picture(folder, monkeypatch):
    from rarity.generators.eyes import picture_folder

    monkeypatch.setattr(picture_folder, "LARGEST", 3 * 16 * 16 - 1)
    with pytest.raises(RarityError, match="3 pictures of 16 x 16 pixels do not fit into memory"):
        load_pictures(folder, 16)


def test_the_pictures_that_ship_have_a_credit_each_and_their_licences():
    found = load_pictures(BAGS, 0)
    assert found.images.shape == (60, 64, 64, 3) and found.credited == 60 and "All have" in found.report()
    assert len(torch.unique(found.images.flatten(1), dim=0)) == 60
    texts = (BAGS / "LICENSES.txt").read_text(encoding="utf-8")
    for line in {*read_credits(BAGS).values()}:
        title, author, licence, address = line.split(" · ")
        assert title in texts and licence in ("MIT", "CC0-1.0") and address.startswith("https://")
        assert f"{title} ({author})" in texts if licence == "CC0-1.0" else re.search(rf"{re.escape(title)} +Copyright \(c\) \w", texts)
