"""Letterforms: the capitals A-Z of a few hundred free typefaces, as pictures with captions.

The typefaces come from Debian's font packages. `typefaces.json` lists the packages with their licences and the chosen faces; `choose_typefaces.py`
made it. Each font file gives one *face*: 26 pictures of 64 x 64 pixels and the words that its own tables say about it (weight, slant, class). Faces
are split by groups of related families, so that no family, and no clone of it, stands on two sides of the split:

    train   the miniature learns from these
    judge   the independent judge learns from these
    unseen  nobody learns from these
"""
from __future__ import annotations

import json
import logging
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SIZE = 64
CAP_HEIGHT = 44
SPLITS = ("train", "judge", "unseen")
TYPEFACES = Path(__file__).with_name("typefaces.json")
log = logging.getLogger(__name__)


@dataclass
class Face:
    """One font file: where it came from and what its own tables say about it (None: they do not say)."""

    package: str
    file: str
    family: str
    weight: str | None
    italic: bool
    style: str | None
    group: int = -1
    split: str = ""


def fetch_fonts(cache: Path) -> Path:
    """Download and unpack the listed Debian packages into `cache` (nothing is installed); returns the folder of unpacked packages."""
    packages = [entry["package"] for entry in json.loads(TYPEFACES.read_text())["packages"]]
    archives, unpacked = cache / "archives", cache / "unpacked"
    for folder in (archives, unpacked):
        folder.mkdir(parents=True, exist_ok=True)
    missing = [p for p in packages if not (unpacked / p).is_dir()]
    if missing:
        subprocess.run(["apt-get", "download", *missing], cwd=archives, check=True, stdout=subprocess.DEVNULL)
    for package in missing:
        target = unpacked / f".{package}"
        subprocess.run(["dpkg", "-x", str(next(archives.glob(f"{package}_*.deb"))), str(target)], check=True)
        target.rename(unpacked / package)
    return unpacked


def draw_listed_faces(folder: Path) -> tuple[list[Face], np.ndarray]:
    """The faces of `typefaces.json` that stand under a folder of unpacked packages, with their pictures uint8 [F, 26, 64, 64]."""
    faces, pictures = [], []
    for face in (Face(**entry) for entry in json.loads(TYPEFACES.read_text())["faces"]):
        drawn = render_face(folder / face.file) if (folder / face.file).is_file() else None
        if drawn is None:
            log.warning("%s is not in this release of its package; left out", face.file)
            continue
        faces.append(face)
        pictures.append(drawn)
    return faces, np.stack(pictures)


def render_face(path: Path) -> np.ndarray | None:
    """The 26 capitals of a font file as uint8 [26, 64, 64], ink 255 on 0, at twice the size and averaged 2 x 2; None when a letter is empty.

    The height of H is 44 pixels; the ink of each letter is centred; a face with letters too wide for the picture is scaled down as a whole.
    """
    from PIL import Image, ImageDraw, ImageFont

    big, margin = 2 * SIZE, 6
    probe = ImageFont.truetype(str(path), 200)
    boxes = [probe.getbbox(letter) for letter in LETTERS]
    heights = [b[3] - b[1] for b in boxes]
    cap = heights[LETTERS.index("H")]
    if min(heights) < 20 or cap < 20:
        return None
    widest, tallest = max(b[2] - b[0] for b in boxes), max(heights)
    scale = min(2 * CAP_HEIGHT / cap, (big - 2 * margin) / widest, (big - 2 * margin) / tallest)
    font = ImageFont.truetype(str(path), max(8, round(200 * scale)))
    out = np.zeros((26, SIZE, SIZE), np.uint8)
    for i, letter in enumerate(LETTERS):
        picture = Image.new("L", (big, big))
        left, top, right, bottom = font.getbbox(letter)
        ImageDraw.Draw(picture).text(((big - left - right) / 2, (big - top - bottom) / 2), letter, fill=255, font=font)
        pixels = np.asarray(picture, np.float32).reshape(SIZE, 2, SIZE, 2).mean((1, 3))
        if pixels.sum() < 255 * 12:
            return None
        out[i] = pixels.round()
    return out


def caption(letter: str, weight: str | None = None, italic: bool = False, style: str | None = None, form: str = "a") -> str:
    """The caption of a letter: "a bold italic serif letter R"; `form` "the" or "" for "the bold letter R" and "bold letter R"."""
    words = [*(w for w in (weight, "italic" if italic else None, style) if w), "letter", letter]
    article = "an" if form == "a" and words[0] == "italic" else form
    return " ".join([article, *words] if article else words)


def save_dataset(path: Path, faces: list[Face], pictures: np.ndarray) -> None:
    """Write faces and pictures to one .npz file."""
    np.savez_compressed(path, pictures=pictures, faces=json.dumps([asdict(face) for face in faces]))


def load_dataset(path: Path) -> tuple[list[Face], np.ndarray]:
    """Read what `save_dataset` wrote: faces and uint8 pictures [F, 26, 64, 64]."""
    with np.load(path) as data:
        return [Face(**entry) for entry in json.loads(str(data["faces"]))], data["pictures"]
