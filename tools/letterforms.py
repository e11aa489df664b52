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
import torch
from stage import DEVICE
from torch import Tensor

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


class Letterforms:
    """The training faces: pictures, captions and batches."""

    plain = [f"a letter {letter}" for letter in LETTERS]

    def __init__(self, path: Path):
        faces, pictures = load_dataset(path)
        train = [i for i, face in enumerate(faces) if face.split == "train"]
        self.faces = [faces[i] for i in train]
        self.ink = torch.from_numpy(pictures[train]).flatten(0, 1)
        self.subject = torch.arange(26).repeat(len(train))
        self.face = torch.arange(len(train)).repeat_interleave(26)
        # attributes as integers: weight 0 regular 1 light 2 bold; style -1 unknown 0 serif 1 sans 2 mono
        self.weight = torch.tensor([{None: 0, "light": 1, "bold": 2}[f.weight] for f in self.faces])[self.face]
        self.italic = torch.tensor([int(f.italic) for f in self.faces])[self.face]
        self.style = torch.tensor([{None: -1, "serif": 0, "sans": 1, "mono": 2}[f.style] for f in self.faces])[self.face]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Rows to learn from next."""
        return torch.randint(len(self), (count,), generator=generator)

    def __len__(self) -> int:
        return len(self.ink)

    def pictures(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pictures [n, 3, 64, 64] in -1..1, black on white; shifted by up to one pixel when a generator is given."""
        x = 1 - self.ink[rows].float() / 127.5
        if generator is not None:
            dy, dx = (int(v) for v in torch.randint(-1, 2, (2,), generator=generator))
            x = x.roll((dy, dx), (1, 2))
        return x[:, None].expand(-1, 3, -1, -1).to(DEVICE)

    def captions(self, rows: Tensor, generator: torch.Generator, keep: float = 0.5) -> tuple[list[str], dict[str, Tensor]]:
        """True captions that name each known attribute with probability `keep`, and what they ask for (-1: nothing)."""
        said = torch.rand(3, len(rows), generator=generator) < keep
        asked = {
            "letter": self.subject[rows],
            "weight": torch.where(said[0] & (self.weight[rows] > 0), self.weight[rows], -1),
            "italic": torch.where(said[1] & (self.italic[rows] > 0), 1, -1),
            "style": torch.where(said[2], self.style[rows], -1),
        }
        form = torch.rand(len(rows), generator=generator)
        columns = [*(asked[k].tolist() for k in ("letter", "weight", "italic", "style")), form.tolist()]
        texts = [
            caption(LETTERS[i], {1: "light", 2: "bold"}.get(w), s == 1, {0: "serif", 1: "sans", 2: "mono"}.get(c), "a" if f < 0.8 else "the" if f < 0.9 else "")
            for i, w, s, c, f in zip(*columns, strict=True)
        ]
        return texts, asked

    def agreement(self, rows: Tensor, asked: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Whether each picture [n] satisfies each caption [m], and whether that is known, as booleans [n, m]."""
        true = self.subject[rows][:, None] == asked["letter"][None]
        known = torch.ones_like(true)
        for name in ("weight", "italic", "style"):
            has, wants = getattr(self, name)[rows][:, None], asked[name][None]
            true &= (wants < 0) | (has == wants)
            known &= (wants < 0) | (has >= 0)
        return true, known | (self.subject[rows][:, None] != asked["letter"][None])
