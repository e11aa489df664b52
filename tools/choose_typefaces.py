"""Choose the typefaces of the miniature: from a folder of unpacked Debian font packages to `typefaces.json`.

    python tools/choose_typefaces.py FOLDER        (FOLDER/PACKAGE/usr/share/fonts/...)

Kept are font files with all of A-Z whose letters are solid (no outlines, dots or pixels), that differ from each other, and that a reader trained
on other families reads. The list carries each package's licence as its own copyright file names it.
"""
from __future__ import annotations

import argparse
import json
import logging
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
from letterforms import LETTERS, SPLITS, TYPEFACES, Face, render_face
from reader import crossfitted_readability

READABLE = 0.85  # a face stays when a reader that never saw its family reads this share of its letters
SEED = 2026
# what the copyright files of these packages say in free words
LICENCES = {
    "fonts-aenigma": "free to use, change and redistribute with attribution to Brian Kent",
    "fonts-farsiweb": "GPL-2+",
    "fonts-inconsolata": "OFL-1.0",
    "fonts-liberation": "GPL-2 with font exception",
    "fonts-lmodern": "GUST-Font-License",
    "fonts-ocr-a": "public-domain",
    "fonts-sil-ezra": "OFL-1.1",
    "fonts-sil-galatia": "OFL-1.1",
    "fonts-sjfonts": "GPL-2 with font exception",
    "fonts-tomsontalks": "OFL-1.1",
}
log = logging.getLogger(__name__)


def describe(font, name: str) -> tuple[str, str | None, bool, str | None]:
    """Family, weight, italic and class of an open fontTools font, from its name, OS/2 and post tables."""
    names, os2, post = font["name"], font.get("OS/2"), font["post"]
    family = names.getBestFamilyName() or name
    words = f"{family} {names.getBestSubFamilyName() or ''} {name}".lower()
    value = getattr(os2, "usWeightClass", 400)
    weight = "bold" if value >= 650 or re.search("bold|black|heavy", words) else "light" if value <= 350 or re.search("light|thin|hairline", words) else None
    italic = bool(getattr(os2, "fsSelection", 0) & 1) or bool(re.search("italic|oblique|slanted", words)) or abs(post.italicAngle) >= 4
    panose = getattr(os2, "panose", None)
    text_face = panose is not None and panose.bFamilyType == 2
    family_class = getattr(os2, "sFamilyClass", 0) >> 8
    if post.isFixedPitch or re.search(r"\bmono|typewriter|courier|consol|code\b", words) or (text_face and panose.bProportion == 9):
        style = "mono"
    elif re.search(r"sans|grotesk|gothic\b", words) or family_class == 8 or (text_face and 11 <= panose.bSerifStyle <= 15):
        style = "sans"
    elif re.search(r"serif|roman\b|garamond|baskerville|bodoni|didot|times|slab", words) or 1 <= family_class <= 5 or (text_face and 2 <= panose.bSerifStyle <= 10):
        style = "serif"
    else:
        style = None
    return family, weight, italic, style


def is_pixel_face(font) -> bool:
    """True when round and diagonal letters are drawn with horizontal and vertical lines only: a bitmap face in outlines."""
    from fontTools.pens.recordingPen import DecomposingRecordingPen

    glyphs, cmap = font.getGlyphSet(), font.getBestCmap()
    slanted = 0
    for letter in "OSVX":
        pen = DecomposingRecordingPen(glyphs)
        glyphs[cmap[ord(letter)]].draw(pen)
        last = None
        for operation, points in pen.value:
            if operation in ("curveTo", "qCurveTo"):
                slanted += 1
            elif operation == "lineTo" and last is not None:
                dx, dy = abs(points[0][0] - last[0]), abs(points[0][1] - last[1])
                slanted += min(dx, dy) > 0.02 * max(dx, dy)
            if points and points[-1] is not None:
                last = points[-1]
    return slanted == 0


def is_solid(pictures: np.ndarray) -> bool:
    """True when letters that are one stroke without holes are drawn as one: refuses outlined, inlined, dotted, hatched and framed faces."""
    from scipy import ndimage

    bad = 0
    plain = "CEFHIKLMNSTUVWXYZ"
    for letter in plain:
        ink = pictures[LETTERS.index(letter)] > 96
        pieces, count = ndimage.label(ink, np.ones((3, 3)))
        sizes = ndimage.sum(ink, pieces, range(1, count + 1)) if count else np.array([])
        holes, hole_count = ndimage.label(~np.pad(ink, 1))
        hole_sizes = ndimage.sum(np.ones_like(holes), holes, range(1, hole_count + 1))
        bad += (np.sort(sizes)[:-1] > 6).sum() > 0 or (np.sort(hole_sizes)[:-1] > 6).sum() > 0
    return bad <= 4


def read_faces(folder: Path) -> tuple[list[Face], np.ndarray]:
    """Every usable face under a folder of unpacked packages, with its pictures uint8 [F, 26, 64, 64]; sorted by path, near duplicates kept."""
    from fontTools.ttLib import TTFont

    faces, pictures = [], []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".ttf", ".otf") and p.is_file() and not p.is_symlink()):
        try:
            font = TTFont(path, lazy=True)
            cmap = font.getBestCmap() or {}
            if not all(ord(letter) in cmap for letter in LETTERS) or is_pixel_face(font):
                continue
            family, weight, italic, style = describe(font, path.stem)
            drawn = render_face(path)
        except Exception as error:  # a broken font file among thousands is skipped, and said
            log.info("skipped %s: %s", path.name, error)
            continue
        if drawn is not None and is_solid(drawn):
            relative = path.relative_to(folder)
            faces.append(Face(relative.parts[0], str(relative), family, weight, italic, style))
            pictures.append(drawn)
    return faces, np.stack(pictures)


def small(pictures: np.ndarray) -> np.ndarray:
    """Pictures as float32 vectors [F, 26 * 16 * 16] in 0..1, for comparing faces."""
    return (pictures.reshape(len(pictures), 26, 16, 4, 16, 4).mean((3, 5)) / 255).reshape(len(pictures), -1).astype(np.float32)


def pairwise_rms(vectors: np.ndarray) -> np.ndarray:
    """Root mean square difference of each pair of rows [F, F]."""
    squares = (vectors**2).sum(1)
    return np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * vectors @ vectors.T, 0) / vectors.shape[1])


def drop_duplicates(faces: list[Face], pictures: np.ndarray, rms: float = 0.025) -> tuple[list[Face], np.ndarray]:
    """Keep the first of faces whose letters differ by less than `rms` on average."""
    distance = pairwise_rms(small(pictures))
    keep: list[int] = []
    for i in range(len(faces)):
        if not keep or distance[i, keep].min() >= rms:
            keep.append(i)
    return [faces[i] for i in keep], pictures[keep]


def group_families(faces: list[Face], pictures: np.ndarray, rms: float = 0.045) -> None:
    """Number the groups of related families: the same first word of the name (a superfamily), or faces that look alike (a clone)."""
    parent = list(range(len(faces)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for i, face in enumerate(faces):
        word = re.split(r"[\s_-]|(?<=[a-z])(?=[A-Z])", face.family.strip())[0].lower()
        j = first.setdefault(word if len(word) >= 3 else face.family.lower(), i)
        parent[root(i)] = root(j)
    distance = pairwise_rms(small(pictures))
    for i, j in zip(*np.nonzero(np.triu(distance < rms, 1)), strict=True):
        parent[root(int(i))] = root(int(j))
    numbers: dict[int, int] = {}
    for i, face in enumerate(faces):
        face.group = numbers.setdefault(root(i), len(numbers))


def split_groups(faces: list[Face], seed: int, shares=(0.66, 0.22, 0.12)) -> None:
    """Give each group to train, judge or unseen, in a seeded order; a group with more than 40 faces always goes to train."""
    rng = np.random.default_rng(seed)
    groups = np.array([face.group for face in faces])
    sizes = np.bincount(groups)
    filled = np.zeros(3)
    split = {}
    for group in rng.permutation(len(sizes)):
        choice = 0 if sizes[group] > 40 else int(np.argmin(filled / np.array(shares)))
        split[int(group)] = SPLITS[choice]
        filled[choice] += sizes[group]
    for face in faces:
        face.split = split[face.group]


def licence(folder: Path, package: str) -> str:
    """The licence names in a package's copyright file, without the packaging's own."""
    if package in LICENCES:
        return LICENCES[package]
    text = (folder / package / "usr/share/doc" / package / "copyright").read_text(errors="replace")
    names = []
    for stanza in re.split(r"\n\s*\n", text):
        files, name = re.search(r"^Files:\s*(\S.*)", stanza, re.M), re.search(r"^License:\s*(\S.*)$", stanza, re.M)
        if files and name and not files[1].startswith("debian/"):
            names.append(name[1].strip())
    if not names:
        patterns = {"OFL-1.1": "SIL O|Open Font Licen|OFL", "GPL": "GNU General Public|GPL", "public-domain": "[Pp]ublic [Dd]omain", "MIT": "MIT"}
        names = [name for name, pattern in patterns.items() if re.search(pattern, text)][:1]
    if not names:
        raise SystemExit(f"{package}: no licence found in its copyright file; read it and add it to LICENCES")
    return "; ".join(sorted(set(names)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    faces, pictures = drop_duplicates(*read_faces(folder))
    group_families(faces, pictures)
    share = crossfitted_readability(pictures, np.array([face.group for face in faces]), epochs=4, seed=SEED)
    keep = np.nonzero(share >= READABLE)[0]
    faces, pictures = [faces[i] for i in keep], pictures[keep]
    group_families(faces, pictures)
    split_groups(faces, SEED)
    write_list(faces, folder)


def write_list(faces: list[Face], folder: Path) -> None:
    """Write `typefaces.json`: packages with licences, faces with what is known of them."""
    packages = [{"package": p, "licence": licence(folder, p)} for p in sorted({face.package for face in faces})]
    rows = ",\n  ".join(json.dumps(asdict(face), ensure_ascii=False) for face in faces)
    listed = ",\n  ".join(json.dumps(p) for p in packages)
    TYPEFACES.write_text(f'{{"packages": [\n  {listed}\n],\n"faces": [\n  {rows}\n]}}\n')
    for split in SPLITS:
        log.info("%s: %d faces in %d groups", split, sum(f.split == split for f in faces), len({f.group for f in faces if f.split == split}))


if __name__ == "__main__":
    main()
