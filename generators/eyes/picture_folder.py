"""A folder of pictures as one batch of one size, with a line of credit for each picture."""

from __future__ import annotations

import csv
import io
import unicodedata
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from ...density.base.credits import credit
from ...density.base.errors import RarityError, quoted
from ...density.base.progress import Progress
from ...density.drawing.figure import fit_tiles
from .picture_files import picture_files, read_picture

CREDITS = "metadata.csv"  # the name, and the column "file_name", are those of Hugging Face's ImageFolder
FILE, COLUMNS = "file_name", ("title", "author", "license", "source")  # what Creative Commons advises to name
MOST_BYTES = 4 * 2**20  # of metadata.csv: some twenty thousand lines
LARGEST = 2**28  # pixels of all pictures together, 3 GB


@dataclass(frozen=True)
class PictureFolder:
    """What `load_pictures` read.

    images : [N, H, W, 3] float32, 0 to 1.   credits : N lines; a picture of no credit has the name of its file.
    credited : how many have a credit.   found : pictures in the folder, of which the first N were read.
    """

    images: Tensor
    credits: tuple[str, ...]
    credited: int
    found: int

    def lines(self) -> str:
        """The credits as one text, a line for each picture."""
        return "\n".join(self.credits)

    def report(self) -> str:
        """In words: how many pictures, how large, and how many of them have a credit."""
        count, height, width = self.images.shape[:3]
        first = f"The first {count:,} of {self.found:,} pictures" if count < self.found else f"{count:,} picture{'s' if count > 1 else ''}"
        credited = {0: "None has", count: "All have", 1: "1 has"}.get(self.credited, f"{self.credited:,} have")
        return f"{first}, {width} x {height} pixels.\n{credited} a credit in {CREDITS}."


def load_pictures(folder: Path, side: int = 64, most: int = 256, *, progress: Progress | None = None) -> PictureFolder:
    """Read the pictures of a folder and of its folders, in the order of their names; transparency becomes white paper.

    Parameters
    ----------
    folder : with pictures, and `metadata.csv` if they have credits.
    side : of the middle square of each picture, scaled to so many pixels; 0 leaves pictures as they are.
    most : so many pictures are read, the first.   progress : called with (pictures read, all).

    Raises
    ------
    RarityError : no pictures, or files that cannot be read; pictures of several sizes when side is 0; more than fits
        into memory; credits that cannot be read.
    """
    files, credits = picture_files(folder), read_credits(folder)
    names, tiles = [file.relative_to(folder).as_posix() for file in files[:most]], []
    for number, file in enumerate(files[:most]):
        tiles.append(_tile(read_picture(file, paper=True), side))
        _check_size(tiles, names)
        if progress:
            progress(number + 1, len(names))
    lines = tuple(credits.get(_same(name)) or credit(name) for name in names)
    return PictureFolder(torch.cat(tiles), lines, sum(_same(name) in credits for name in names), len(files))


def read_credits(folder: Path) -> dict[str, str]:
    """The credits that a folder's `metadata.csv` gives: name of a file inside the folder -> line.

    The table has a column file_name and some of title, author, license and source. Other columns are left alone.

    Raises
    ------
    RarityError : a file that is too large, not UTF-8, not a table, or without the column file_name; a line with more
        cells than there are columns; two credits for one picture.
    """
    path = folder / CREDITS
    if not path.is_file():
        return {}
    if path.stat().st_size > MOST_BYTES:
        raise RarityError(f"{path} has {path.stat().st_size / 2**20:.0f} MB; credits may have {MOST_BYTES >> 20}. Shorten it.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        # Spreadsheets write semicolons where the comma is in numbers.
        mark = ";" if ";" in next(io.StringIO(text, newline=""), "") else ","
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True, strict=True)
        heads = [head.strip().lower().replace("licence", "license") for head in next(rows, [])]
        lines = [(rows.line_num, row) for row in rows]
    except UnicodeDecodeError as error:
        raise RarityError(f"{path} is not text in UTF-8. Save it from the spreadsheet as CSV UTF-8.") from error
    except csv.Error as error:
        raise RarityError(f"{path} cannot be read as a table: {error}. Save it from a spreadsheet as CSV UTF-8.") from error
    if FILE not in heads:
        raise RarityError(
            f"{path} needs a first line with the names of its columns: {FILE}, and some of {', '.join(COLUMNS)}. "
            f"It has {', '.join(map(quoted, islice(filter(None, heads), 8))) or 'none'}."
        )
    credits = {}
    for number, row in lines:
        if any(map(str.strip, row[len(heads) :])):
            raise RarityError(
                f'{path} has {len(row)} cells in line {number}, for {len(heads)} columns. Put a text with "{mark}" in it into quotes, as a '
                "spreadsheet does."
            )
        line = dict(zip(heads, row, strict=False))
        name, said = _same(line.get(FILE, "")), credit(*(line.get(column) for column in COLUMNS))
        if name and said and credits.setdefault(name, said) != said:
            raise RarityError(
                f"{path} has two credits for {quoted(name)}: {quoted(credits[name])} and {quoted(said)}. Leave one line for each picture."
            )
    return credits


def _same(name: str) -> str:
    """The name of a file as it is compared: two systems write one letter with an accent in two ways, and folders with / or \\."""
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/"))


def _tile(picture: Tensor, side: int) -> Tensor:
    """The middle square of a picture [1, H, W, 3], scaled to `side`; the picture itself if side is 0."""
    height, width = picture.shape[1:3]
    if not side or height == width == side:
        return picture
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    return fit_tiles(picture[:, top : top + short, left : left + short], side, side)


def _check_size(tiles: list[Tensor], names: list[str]) -> None:
    """The last tile is as large as the first, and all of them will fit into memory."""
    (height, width), (first_height, first_width) = tiles[-1].shape[1:3], tiles[0].shape[1:3]
    if (height, width) != (first_height, first_width):
        raise RarityError(
            f"{names[0]} has {first_width} x {first_height} pixels, {names[len(tiles) - 1]} has {width} x {height}. Pictures "
            "must be of one size: set a size, to which the middle square of each is scaled."
        )
    if len(names) * height * width > LARGEST:
        raise RarityError(
            f"{len(names):,} pictures of {width} x {height} pixels do not fit into memory. Set a smaller size, or read fewer."
        )
