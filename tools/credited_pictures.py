"""Write a folder of pictograms with their credits, for Load Pictures: black filled drawings of one thing, no two alike.

    python tools/credited_pictures.py [--subject bag] [--count 60] [--sets PREFIX ...] [--out FOLDER] [--work FOLDER] [--sources FOLDER]

Without options it writes the bags that ship with the pack. They come from sets whose licence asks for nothing but its own text, which
stands in LICENSES.txt beside them; with other sets that file has to be written anew.
"""
from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from pictograms import Pictogram, draw, fetch_sources, find_pictograms, ink_box, read_left_out, read_sets
from PIL import Image
from things import ALIKE, NAMES, WORDS, distances, measure, vectors

SETS = (
    "heroicons", "ph", "bi", "pinhead", "teenyicons", "tabler", "flowbite", "eva", "ion", "bxs", "majesticons", "temaki", "fluent", "f7", "clarity",
)
OUT = Path(__file__).parents[1] / "generators" / "local_score" / "bags"
GREYS = 16  # enough for smooth edges, in half the bytes


def choose(sources: Path, subject: str, sets: tuple[str, ...], count: int) -> dict[Pictogram, np.ndarray]:
    """The first `count` filled black pictograms of a subject that are unlike those before them, set after set: with their pictures."""
    left_out, chosen, seen = read_left_out(), {}, []
    found = [p for p in find_pictograms(sources) if p.subject == subject and p.set in sets and not p.coloured and f"{p.set}:{p.name}" not in left_out]
    for pictogram in sorted(found, key=lambda p: sets.index(p.set)):
        box = ink_box(pictogram)
        picture = None if box is None else draw(pictogram, box)
        if picture is None or measure(picture)["form"] != WORDS["form"].index("filled") or between(picture) > 0.12:
            continue
        small = vectors(picture[None])
        if all(distances(small, other).item() >= ALIKE for other in seen):
            seen.append(small)
            chosen[pictogram] = picture
    if len(chosen) < count:
        raise SystemExit(f"Only {len(chosen)} filled drawings of a {subject} differ in these sets; {count} are wanted. Name more sets, or fewer pictures.")
    return dict(list(chosen.items())[:count])


def between(picture: np.ndarray) -> float:
    """The share of pixels that are neither ink nor paper: many in a drawing of two tones, few in one of edges only."""
    return float(((picture[..., 0] > 60) & (picture[..., 0] < 200)).mean())


def write(chosen: dict[Pictogram, np.ndarray], sets: dict[str, dict], out: Path) -> None:
    """The pictures as small grey PNG files, and `metadata.csv`."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.png"):
        old.unlink()
    lines = [["file_name", "title", "author", "license", "source"]]
    for pictogram, picture in sorted(chosen.items(), key=lambda item: (item[0].set, item[0].name)):
        about, name = sets[pictogram.set], f"{pictogram.set}-{pictogram.name}.png"
        level = np.round(picture[..., 0] / 255 * (GREYS - 1)).astype(np.uint8)
        grey = Image.fromarray(level, "P")
        grey.putpalette([value for step in range(GREYS) for value in [round(255 * step / (GREYS - 1))] * 3])
        grey.save(out / name, optimize=True, bits=4)
        lines.append([name, about["name"], about["author"]["name"], about["license"]["spdx"], about["author"].get("url", "")])
    with (out / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", default="bag", choices=NAMES)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--sets", nargs="+", default=SETS, metavar="PREFIX", help="of the sets, in the order they are asked")
    parser.add_argument("--out", type=Path, default=OUT, help="a new folder, or the one that ships, whose pictures are replaced")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "rarity" / "things", help="where the sources are downloaded to")
    parser.add_argument("--sources", type=Path, help="folder of unpacked sources, if they are not in the work folder")
    arguments = parser.parse_args()
    if arguments.out != OUT and arguments.out.is_dir() and any(arguments.out.iterdir()):  # its pictures may be somebody's own
        raise SystemExit(f"{arguments.out} is not empty, and its pictures would be replaced. Name a new folder with --out.")
    arguments.work.mkdir(parents=True, exist_ok=True)
    sources = arguments.sources or fetch_sources(arguments.work)
    write(choose(sources, arguments.subject, tuple(arguments.sets), arguments.count), read_sets(sources), arguments.out)
    print(f"{arguments.count} pictures of a {arguments.subject} in {arguments.out}")


if __name__ == "__main__":
    main()
