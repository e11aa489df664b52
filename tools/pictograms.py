"""Pictograms: free drawings of things, found by name in the sets of @iconify/json and drawn with resvg.

A pictogram is taken when its name is a subject and words of style alone ("car-outline", not "car-battery"), when its set may be learnt from,
and when it is not in `left_out_things.txt`, the list of those that show something else.
"""
from __future__ import annotations

import io
import json
import math
import re
import subprocess
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

PACKAGE = "@iconify/json@2.2.535"
LICENCES = ("MIT", "Apache-2.0", "CC0-1.0", "OFL-1.1", "ISC", "Unlicense", "BSD-3-Clause", "CC-BY-4.0")
NOT_DRAWINGS = ("Logos", "Programming")  # categories of marks of makers and of file types
LEFT_OUT = Path(__file__).with_name("left_out_things.txt")
SIZE = 64
FILLS = 54  # pixels that the longer side of a drawing takes

# What a subject is called in the sets, beside its own name.
SUBJECTS: dict[str, tuple[str, ...]] = {
    "airplane": ("plane", "aeroplane", "small airplane", "aircraft"),
    "bag": (
        "handbag", "hand bag", "purse", "shopping bag", "clutch bag", "briefcase", "bag suitcase", "backpack", "school backpack", "tote", "bag handle",
        "shopping bag hand bag", "bag hand", "bag shopping",
    ),
    "bell": ("notification bell", "bell notification"),
    "bicycle": ("bike", "bicycle bike"),
    "boat": ("sailboat", "ship", "sail boat", "sail ship", "motor boat", "passenger ship", "ferry", "speedboat", "sailboat on water"),
    "building": (
        "office building", "classical building", "building office", "buildings", "office", "skyscraper", "department store", "hotel", "school", "bank",
        "apartment",
    ),
    "cake": ("birthday cake", "cake birthday", "shortcake", "cupcake"),
    "camera": ("photo camera", "camera photo", "camera with flash", "camera classic"),
    "car": (
        "automobile", "car side", "oncoming automobile", "sport utility vehicle", "oncoming taxi", "taxi", "police car", "car sport", "car profile",
        "car simple", "oncoming police car", "car front",
    ),
    "cat": ("cat face", "pet cat", "cat side", "cat head"),
    "chair": ("armchair", "office chair", "chair office", "rocking chair"),
    "clock": ("alarm clock", "mantelpiece clock", "alarm", "clock alarm"),
    "crown": ("crown simple", "crown cross"),
    "cup": (
        "mug", "coffee cup", "tea cup", "coffee", "mug hot", "cup hot", "hot beverage", "coffee mug", "teacup without handle", "teacup", "tea",
    ),
    "flower": (
        "tulip", "rose", "flower tulip", "sunflower", "hibiscus", "blossom", "cherry blossom", "flower lotus", "lotus", "flower rose",
    ),
    "ghost": ("ghost smile",),
    "gift": ("wrapped gift", "gift box", "present", "giftbox"),
    "glasses": ("eyeglasses", "sunglasses"),
    "guitar": ("guitar acoustic", "guitar electric", "guitar classical", "guitar strat", "guitar tele", "electric guitar", "guitar folk"),
    "house": ("home", "house simple", "home simple", "house with garden", "house chimney", "home modern"),
    "key": ("old key", "key skeleton", "key round", "key square"),
    "lamp": ("table lamp", "desk lamp", "floor lamp", "lamp desk", "lamp floor", "lamp table", "lamp pendant", "lamp ceiling"),
    "robot": ("robot face", "bot", "robot happy"),
    "rocket": ("rocket launch", "rocket ship"),
    "shirt": ("t shirt", "tshirt", "tshirt crew", "shirt long sleeve", "t shirt crew", "tshirt v"),
    "shoe": (
        "sneaker", "running shoe", "high heeled shoe", "mans shoe", "flat shoe", "boot", "womans boot", "hiking boot", "shoe sneaker", "shoe formal",
        "shoe heel", "sport shoe", "high heel", "womans sandal", "boots", "shoes",
    ),
    "skull": (),
    "tree": (
        "deciduous tree", "evergreen tree", "palm tree", "pine tree", "tree palm", "tree deciduous", "tree evergreen", "tree pine", "christmas tree",
        "coconut tree", "oak tree",
    ),
    "trophy": ("award trophy", "trophy cup"),
    "umbrella": ("umbrella simple", "umbrella open", "open umbrella"),
}
TITLES: dict[str, tuple[str, ...]] = {"clock": ()}  # a plain round clock is a ring with two lines: only those that stand or ring are taken
# Words beside the subject that say how something is drawn, or in which drawer it lay, and not what.
STYLE_WORDS = frozenset(
    "outline outlined outlines line linear lined stroke fill filled solid bold bolder thin light lighter regular medium duotone duo twotone two tone sharp "
    "round rounded baseline flat color colour alt variant small large one three four five six remix bulk thick mini micro sm lg md px o ios ios11 "
    "24px 16px 32px 12px 20px 28px 48px animal vehicle food thing icon emoji plain monochrome v1 v2 s m l b black white".split()
)

PALE = re.compile(r'<(?:path|circle|rect|ellipse)(?![^>]*fill="none")(?=\s)[^>]*\s(?:fill-)?opacity="0?\.[1-6]\d*"[^>]*>')  # a shape of a second tone


@dataclass(frozen=True)
class Pictogram:
    """One drawing of a set: what it shows, and the SVG that draws it in a box (left, top, width, height)."""

    set: str
    name: str
    subject: str
    body: str
    box: tuple[float, float, float, float]

    @property
    def coloured(self) -> bool:
        """Whether the drawing has colours of its own; one in a single colour takes any."""
        return "currentColor" not in self.body

    @property
    def duotone(self) -> bool:
        """Whether a drawing in one colour has shapes in a paler tone of it."""
        return not self.coloured and PALE.search(self.body) is not None

    def with_second_ink(self, ink: str) -> Pictogram:
        """The drawing with its shapes of the paler tone in a colour of their own."""

        def inked(shape: re.Match) -> str:
            return re.sub(r"^<\w+", rf'\g<0> fill="{ink}"', re.sub(r'\s(?:(?:fill-)?opacity|fill)="[^"]*"', "", shape[0]))

        return replace(self, body=PALE.sub(inked, self.body))

    @property
    def stroked(self) -> bool:
        """Whether lines are drawn as lines, so that their width can be changed."""
        return "stroke-width" in self.body


def fetch_sources(work: Path) -> Path:
    """The folder of @iconify/json, downloaded from npm to `work` unless it is there."""
    folder = work / "package"
    if not (folder / "collections.json").exists():
        packed = subprocess.run(["npm", "pack", PACKAGE, "--silent"], cwd=work, check=True, capture_output=True, text=True).stdout.split()[-1]
        with tarfile.open(work / packed) as archive:
            archive.extractall(work, filter="data")
    return folder


def subject_of(name: str) -> str | None:
    """The subject that a name names beside words of style, None where it says something else as well."""
    words = " ".join(word for word in re.split(r"[-_]", name) if word not in STYLE_WORDS and not word.isdigit())
    return _NAMES.get(words)


_NAMES = {name: subject for subject, names in SUBJECTS.items() for name in (*TITLES.get(subject, (subject,)), *names)}


def read_sets(sources: Path) -> dict[str, dict]:
    """The sets that may be learnt from: prefix -> what `collections.json` says of the set."""
    sets = json.loads((sources / "collections.json").read_text(encoding="utf-8"))
    return {
        prefix: about for prefix, about in sorted(sets.items())
        if about["license"].get("spdx") in LICENCES and about.get("category") not in NOT_DRAWINGS
    }


def read_left_out() -> set[str]:
    """What looking has left out: pictograms "set:name" and whole sets "set:*"."""
    return {line for line in LEFT_OUT.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")}


def find_pictograms(sources: Path) -> list[Pictogram]:
    """Every pictogram of a subject in the sets that may be learnt from, sorted by set and name; those left out by name among them."""
    left_out = read_left_out()
    found = []
    for prefix in read_sets(sources):
        if f"{prefix}:*" in left_out:
            continue
        data = json.loads((sources / "json" / f"{prefix}.json").read_text(encoding="utf-8"))
        for name, icon in sorted(data["icons"].items()):
            subject = subject_of(name)
            if subject and not icon.get("hidden") and not re.search("<image|<animate", icon["body"]):
                box = tuple(float(icon.get(key, data.get(key, default))) for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16)))
                found.append(Pictogram(prefix, name, subject, icon["body"], box))
    return found


def render(pictogram: Pictogram, size: int, view: tuple[float, float, float, float], turn: str = "", colour: str = "#000", thicker: float = 1.0) -> np.ndarray:
    """The part `view` of a pictogram as uint8 [size, size, 3] on white; `turn` an SVG transform, `thicker` a factor on the width of lines."""
    import resvg_py
    from PIL import Image

    body = pictogram.body.replace("currentColor", colour)
    if thicker != 1 and pictogram.stroked:
        body = re.sub(r'stroke-width="([\d.]+)"', lambda found: f'stroke-width="{float(found[1]) * thicker:.4g}"', body)
    elif thicker > 1 and not pictogram.coloured:  # shapes grow by a line around them
        body = f'<g stroke="{colour}" stroke-width="{(thicker - 1) * 0.04 * max(pictogram.box[2:]):.4g}" stroke-linejoin="round">{body}</g>'
    box = " ".join(f"{v:.6g}" for v in view)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}" width="{size}" height="{size}">'
    png = resvg_py.svg_to_bytes(svg_string=f'{svg}<g transform="{turn}">{body}</g></svg>', background="#fff", skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def ink_box(pictogram: Pictogram) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of what is drawn, in the units of the drawing; None where nothing is."""
    left, top, width, height = pictogram.box
    side = 1.2 * max(width, height)
    x, y = left + (width - side) / 2, top + (height - side) / 2
    ink = render(pictogram, 96, (x, y, side, side)).min(2) < 235
    if not ink.any():
        return None
    rows, columns = np.nonzero(ink.any(1))[0], np.nonzero(ink.any(0))[0]
    unit = side / 96
    return x + columns[0] * unit, y + rows[0] * unit, x + (columns[-1] + 1) * unit, y + (rows[-1] + 1) * unit


def draw(
    pictogram: Pictogram, box: tuple[float, float, float, float], *, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0), angle: float = 0.0,
    mirror: bool = False, colour: str = "#000", thicker: float = 1.0,
) -> np.ndarray:
    """A pictogram with ink box `box` as uint8 [64, 64, 3]: centred, its longer side 54 pixels, then scaled, shifted (pixels), turned (degrees), mirrored."""
    cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    c, s = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    w, h = box[2] - box[0], box[3] - box[1]
    longest = max(w * c + h * s, w * s + h * c)
    side = longest * SIZE / FILLS / scale
    x, y = cx - side / 2 - shift[0] * side / SIZE, cy - side / 2 - shift[1] * side / SIZE
    turn = f"translate({cx:.5g} {cy:.5g}) rotate({angle:.4g}) scale({-1 if mirror else 1} 1) translate({-cx:.5g} {-cy:.5g})"
    return render(pictogram, SIZE, (x, y, side, side), turn, colour, thicker)
