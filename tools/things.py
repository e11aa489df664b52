"""Things: cleaned pictograms as pictures with captions, several renderings of each, split by families of sets.

    train   the model learns from these
    judge   the independent judge learns from these
    unseen  nobody learns from these

How a picture is drawn is measured on the picture itself, so that a caption is true of every rendering: its colour, outline or filled, and for an
outline thin or bold. A caption says only what is clearly so.
"""
from __future__ import annotations

import colorsys
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pictograms import SUBJECTS, Pictogram, draw, find_pictograms, ink_box, read_left_out
from stage import DEVICE
from torch import Tensor

SPLITS = ("train", "judge", "unseen")
SHARES = (0.66, 0.20, 0.14)
NAMES = tuple(SUBJECTS)
# These come out mushy: the model has learnt them, and nobody is told that it draws them.
MUSHY = frozenset({"cake", "camera", "ghost", "robot", "shirt", "skull"})
SHIPPED = tuple(name for name in NAMES if name not in MUSHY)
# The kinds of words a caption may say, in the order it says them. "black" is what nobody says: known, and never asked for.
WORDS = {
    "weight": ("thin", "bold"),
    "colour": ("red", "orange", "green", "blue", "purple", "pink", "colourful", "black"),
    "form": ("outline", "filled"),
}
SELDOM = {"thin", "bold", "colourful"}  # words of few pictures
HUES = {"red": 4, "orange": 32, "green": 130, "blue": 218, "purple": 272, "pink": 330}
INKS = {"red": "#d62828", "orange": "#ee7b12", "green": "#1f9d45", "blue": "#2563d8", "purple": "#7a35c9", "pink": "#e0408f"}
ALIKE = 0.05  # root mean square difference under which two pictures of a subject are the same drawing
LOOK_ALIKE = 0.09  # and under which they may not stand on two sides of the split
CLEAR = 0.1  # a caption says a word only where the measure passes its bound by such a part: a model blurs what it learns
THINNED = 0.25  # of the renderings with lines: as with a thinner pen, for hardly any set draws with one
FAINT = 0.35  # a picture is left out whose darkest 3 % of pixels are lighter than this: a hairline, or white on white
# Things that are the same turned round: the others read, point or are held one way.
MIRRORED = frozenset(NAMES) - {"key", "clock"}
# Sets of one hand under names that do not begin alike, and sets that were made from another.
KIN = (
    ("material", "ic", "mdi", "line"), ("feather", "lucide", "iconoir"), ("fa", "fa6", "fa7", "la", "fad"),
    ("bx", "bxs", "boxicons"), ("uil", "uim", "uit", "uis"), ("ion", "famicons"), ("heroicons", "sidekickicons"), ("wpf", "icons8"),
    ("eva", "akar"), ("gis", "maki", "temaki", "osmic", "map"),
)
# The families that hold nearly all coloured drawings, given out by hand so that every side has some.
COLOURED = {"fluent": "train", "streamline": "train", "noto": "train", "fxemoji": "train", "emojione": "judge", "twemoji": "unseen"}
log = logging.getLogger("training")


def family_of(prefix: str) -> str:
    """The family of a set: the first word of its prefix, or that of its kin."""
    word = prefix.split("-")[0]
    return next((kin[0] for kin in KIN if word in kin), word)


def vectors(pictures: np.ndarray) -> np.ndarray:
    """Pictures uint8 [n, 64, 64, 3] at half the size, as [n, 32 * 32 * 3] sums of four pixels: whole numbers, so that distances are exact everywhere."""
    return pictures.reshape(len(pictures), 32, 2, 32, 2, 3).sum((2, 4), dtype=np.int32).reshape(len(pictures), -1).astype(np.float64)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Root mean square difference of each row of a to each of b, 1 from black to white."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.sqrt(squares / a.shape[1]) / (4 * 255)


def clean(pictograms: list[Pictogram]) -> tuple[list[Pictogram], list[tuple], np.ndarray]:
    """Pictograms without copies and without those left out by name: with their ink boxes, and drawn plainly uint8 [n, 64, 64, 3].

    The first of several copies stays, and speaks for all: a copy of one that is left out by name is gone as well.
    """
    boxes = [ink_box(p) for p in pictograms]
    some = [i for i, box in enumerate(boxes) if box is not None]
    plain = {i: draw(pictograms[i], boxes[i]) for i in some}
    keep: list[int] = []
    for subject in NAMES:
        rows = [i for i in some if pictograms[i].subject == subject]
        if not rows:
            continue
        small = vectors(np.stack([plain[i] for i in rows]))
        distance, first = distances(small, small), []
        for j in range(len(rows)):
            if not first or distance[j, first].min() >= ALIKE:
                first.append(j)
        keep += [rows[j] for j in first]
    left_out = read_left_out()
    keep = sorted(i for i in keep if f"{pictograms[i].set}:{pictograms[i].name}" not in left_out)
    return [pictograms[i] for i in keep], [boxes[i] for i in keep], np.stack([plain[i] for i in keep])


def split_families(pictograms: list[Pictogram], plain: np.ndarray, seed: int) -> list[str]:
    """The side of each pictogram: train, judge, unseen, or "" where a look-alike of it stands on a side before its own.

    Whole families go to a side, in a seeded order, after those of `COLOURED`.
    """
    families = [family_of(p.set) for p in pictograms]
    names, sizes = np.unique(families, return_counts=True)
    side = {name: COLOURED[name] for name in names if name in COLOURED}
    filled = np.array([sum(size for name, size in zip(names, sizes, strict=True) if side.get(name) == split) for split in SPLITS], float)
    for i in np.random.default_rng(seed).permutation(len(names)):
        if names[i] not in side:
            choice = int(np.argmin(filled / np.array(SHARES)))
            side[names[i]] = SPLITS[choice]
            filled[choice] += sizes[i]
    sides = [side[family] for family in families]
    small, subjects = vectors(plain), np.array([p.subject for p in pictograms])
    for later in (1, 2):
        for subject in NAMES:
            mine = [i for i in range(len(sides)) if sides[i] == SPLITS[later] and subjects[i] == subject]
            before = [i for i in range(len(sides)) if sides[i] in SPLITS[:later] and subjects[i] == subject]
            if mine and before:
                nearest = distances(small[mine], small[before]).min(1)
                for i, distance in zip(mine, nearest, strict=True):
                    if distance < LOOK_ALIKE:
                        sides[i] = ""
    return sides


def line_width(cover: np.ndarray) -> float:
    """The width in pixels of the lines that cover [64, 64] in 0..1 draws: their area over half their outline."""
    edge = float(np.abs(np.diff(cover, axis=0)).sum() + np.abs(np.diff(cover, axis=1)).sum()) * np.pi / 4
    return 2 * float(cover.sum()) / max(edge, 1e-6)


def measure(picture: np.ndarray, margin: float = 0.0) -> dict[str, int]:
    """How a picture uint8 [64, 64, 3] is drawn, by the numbers of `WORDS`; -1 where it is between.

    With a margin a word is said only of what passes each of its bounds by such a part.
    """
    from scipy import ndimage

    less, more = 1 - margin, 1 + margin

    rgb = picture.astype(np.float32) / 255
    cover, chroma = 1 - rgb.min(2), rgb.max(2) - rgb.min(2)
    ink = max(float(cover.sum()), 1e-6)
    vivid = chroma > 0.25
    share = float(cover[vivid].sum()) / ink
    colour = "black" if share < 0.05 else None
    if share > 0.2:
        hues = np.array([360 * colorsys.rgb_to_hsv(*pixel)[0] for pixel in rgb[vivid][::7]])
        apart = np.stack([np.abs((hues - hue + 180) % 360 - 180) for hue in HUES.values()])
        counts = np.bincount(apart.argmin(0), minlength=len(HUES)) / len(hues)
        top = int(counts.argmax())
        inside = apart[top] < 25
        if inside.mean() < 0.85 * less:
            colour = "colourful"
        elif inside.mean() > 0.92 and share > 0.6 * more and np.median(rgb[vivid].max(1)) > 0.55 * more and np.median(chroma[vivid]) > 0.4 * more:
            colour = list(HUES)[top]
    drawn = cover > 0.3
    silhouette = ndimage.binary_fill_holes(drawn)
    solid = float(cover[silhouette].mean()) if silhouette.any() else 0.0
    width = line_width(cover)
    # Lines that enclose nothing fill their own silhouette: they are told by what lies deeper in the ink than half a line's width.
    deep = float((ndimage.distance_transform_edt(drawn)[drawn] > 4.5).mean()) if drawn.any() else 0.0
    form = weight = None
    if width < 7.5 * less and (solid < 0.62 * less or deep < 0.01) and colour != "colourful":
        form = "outline"
        # Two hairlines with grey between them, or a pale picture, cover as little as a thin line: there all that is not white is wide.
        thin = width < 2.9 * less and line_width((cover > 0.15).astype(np.float32)) < 4.0
        weight = "thin" if thin else "bold" if width > 4.6 * more else None
    elif solid > 0.72 * more and width > 6 * more:
        form = "filled"
    found = {"weight": weight, "colour": colour, "form": form}
    return {kind: WORDS[kind].index(word) if word else -1 for kind, word in found.items()}


def augment(pictogram: Pictogram, box: tuple, rng: np.random.Generator, second_ink: bool = False) -> np.ndarray:
    """One rendering: scaled, shifted, turned a little, mirrored where the subject allows, lines thinner or thicker, one-colour sets in a colour.

    With `second_ink` a drawing in two tones is in two colours in seven of ten renderings that are not black.
    """
    colour = "#000" if rng.random() < 0.5 else list(INKS.values())[rng.integers(len(INKS))]
    pen = rng.uniform(-0.9, -0.35) if pictogram.stroked and rng.random() < THINNED else rng.uniform(-0.35, 0.3)
    shown = pictogram
    if second_ink and pictogram.duotone and colour != "#000" and rng.random() < 0.7:
        shown = pictogram.with_second_ink(str(rng.choice([ink for ink in INKS.values() if ink != colour])))
    return draw(
        shown, box, scale=rng.uniform(0.86, 1.04), shift=tuple(rng.uniform(-1.5, 1.5, 2)), angle=rng.normal(0, 3.0),
        mirror=pictogram.subject in MIRRORED and rng.random() < 0.5, colour=colour, thicker=float(np.exp(pen)),
    )


def make_things(sources: Path, path: Path, *, renderings: int, seed: int) -> None:
    """Write the pictures of all three sides to `path`: `renderings` of each subject in train, at most 40 of a pictogram, ten of each pictogram in judge and
    four in unseen.

    Pictograms with colours, and those in two tones, are few and are drawn twice as often. The first rendering of each is the plain one.
    """
    pictograms, boxes, plain = clean(find_pictograms(sources))
    sides = split_families(pictograms, plain, seed)
    weight = [1 + (p.coloured or p.duotone) for p in pictograms]
    whole = {s: sum(w for p, w, side in zip(pictograms, weight, sides, strict=True) if side == "train" and p.subject == s) for s in NAMES}
    pictures, rows = [], []
    for i, (pictogram, box, side) in enumerate(zip(pictograms, boxes, sides, strict=True)):
        if not side:
            continue
        count = max(1, min(40, round(renderings * weight[i] / whole[pictogram.subject]))) if side == "train" else {"judge": 10, "unseen": 4}[side]
        rng = np.random.default_rng([seed, i])
        for k in range(count):
            picture = plain[i] if k == 0 else augment(pictogram, box, rng, side == "train")
            if np.quantile(255 - picture.min(2), 0.97) < 255 * FAINT:
                continue
            measured = measure(picture, CLEAR)
            pictures.append(picture)
            rows.append([NAMES.index(pictogram.subject), SPLITS.index(side), i, *(measured[kind] for kind in WORDS)])
    listed = [{"set": p.set, "name": p.name, "subject": p.subject, "family": family_of(p.set), "split": side}
              for p, side in zip(pictograms, sides, strict=True)]
    temporary = path.with_name(f".{path.name}")
    np.savez_compressed(temporary, pictures=np.stack(pictures), rows=np.array(rows, np.int16), pictograms=json.dumps(listed))
    temporary.replace(path)
    log.info("%s: %d pictures of %d pictograms, %.0f MB", path, len(pictures), len(pictograms), path.stat().st_size / 1e6)


def read_things(path: Path, split: str) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """One side of what `make_things` wrote: pictures uint8 [n, 64, 64, 3]; subject, pictogram and words of each [n, 5]; all pictograms."""
    with np.load(path) as data:
        rows = data["rows"]
        mine = rows[:, 1] == SPLITS.index(split)
        return data["pictures"][mine], rows[mine][:, [0, 2, 3, 4, 5]], json.loads(str(data["pictograms"]))


def caption(subject: str, words: Sequence[str] = (), article: str = "a") -> str:
    """ "a thin red outline drawing of a house"; without words "a drawing of a house"; `article` "the" or "" for the beginning."""
    text = " ".join([*words, "drawing of", "an" if subject[0] in "aeiou" else "a", subject])
    if subject == "glasses":
        text = text.replace("of a glasses", "of glasses")
    return f"{'an' if article == 'a' and text[0] in 'aeiou' else article} {text}".strip()


class Things:
    """The training pictures: captions and batches."""

    def __init__(self, path: Path, split: str = "train"):
        pictures, rows, _ = read_things(path, split)
        self.colours = torch.from_numpy(pictures)
        columns = torch.from_numpy(rows.astype(np.int64)).unbind(1)
        self.subject, self.pictogram = columns[:2]
        self.words = dict(zip(WORDS, columns[2:], strict=True))
        self.plain = [caption(subject) for subject in NAMES]

        # What few captions say is drawn more often: up to six times.
        self.often = torch.ones(len(self), dtype=torch.float64)
        for kind, words in WORDS.items():
            counts = torch.bincount(self.words[kind][self.words[kind] >= 0], minlength=len(words))
            more = (counts.max() / counts.clamp(min=1)).double().sqrt().clamp(max=6)
            for word in SELDOM & {*words}:
                self.often[self.words[kind] == words.index(word)] *= more[words.index(word)]
        self.often = self.often.cumsum(0)

    def __len__(self) -> int:
        return len(self.colours)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Rows to learn from next, those with a word that few captions say more often."""
        places = torch.rand(count, generator=generator, dtype=torch.float64) * self.often[-1]
        return torch.searchsorted(self.often, places).clamp(max=len(self) - 1)

    def pictures(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pictures [n, 3, 64, 64] in -1..1; shifted by up to one pixel when a generator is given."""
        x = self.colours[rows]
        if generator is not None:
            dy, dx = (int(v) for v in torch.randint(-1, 2, (2,), generator=generator))
            x = x.roll((dy, dx), (1, 2))
        return (x.to(DEVICE).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous()

    def captions(self, rows: Tensor, generator: torch.Generator, keep: float = 0.5) -> tuple[list[str], dict[str, Tensor]]:
        """True captions that say each known word with probability `keep`, and what they ask for (-1: nothing)."""
        said = torch.rand(len(WORDS), len(rows), generator=generator) < keep
        asked = {kind: torch.where(said[i], self.words[kind][rows], -1) for i, kind in enumerate(WORDS)}
        asked["colour"] = torch.where(asked["colour"] == WORDS["colour"].index("black"), -1, asked["colour"])
        form = torch.rand(len(rows), generator=generator).tolist()
        columns = zip(self.subject[rows].tolist(), *(asked[kind].tolist() for kind in WORDS), form, strict=True)
        texts = [
            caption(NAMES[s], [WORDS[kind][w] for kind, w in zip(WORDS, words, strict=True) if w >= 0], "a" if f < 0.8 else "the" if f < 0.9 else "")
            for s, *words, f in columns
        ]
        return texts, {"subject": self.subject[rows], **asked}

    def agreement(self, rows: Tensor, asked: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Whether each picture [n] satisfies each caption [m], and whether that is known, as booleans [n, m]."""
        true = self.subject[rows][:, None] == asked["subject"][None]
        known = torch.ones_like(true)
        for kind in WORDS:
            has, wants = self.words[kind][rows][:, None], asked[kind][None]
            true &= (wants < 0) | (has == wants)
            known &= (wants < 0) | (has >= 0)
        return true, known | (self.subject[rows][:, None] != asked["subject"][None])
