"""Write `things_credits.md`: the sets of pictograms that the model of things, its judge and its test use, with their licences and makers.

    python tools/credit_sets.py [--work FOLDER] [--sources FOLDER]       after train_things.py has made its pictures
"""
from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from pictograms import NOT_DRAWINGS, PACKAGE, read_left_out, read_sets
from things import NAMES, SPLITS, read_things

CREDITS = Path(__file__).with_name("things_credits.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "rarity" / "things", help="the folder of train_things.py")
    parser.add_argument("--sources", type=Path, help="folder of unpacked sources, if they are not in the work folder")
    arguments = parser.parse_args()
    sets = read_sets(arguments.sources or arguments.work / "package")
    sides = [read_things(arguments.work / "things.npz", split) for split in SPLITS]
    used = [sides[0][2][i] for i in sorted({int(i) for _, rows, _ in sides for i in rows[:, 1]})]
    counts, family, split = Counter(p["set"] for p in used), {p["set"]: p["family"] for p in used}, {p["set"]: p["split"] for p in used}
    lines = [
        "# The pictograms behind the model of things", "",
        f"All come from the npm package {PACKAGE}, which names maker and licence of each set; sets of marks of makers and of file types",
        f"({' and '.join(NOT_DRAWINGS)} there) are not used. `left_out_things.txt` names what was left out by looking. The pictograms themselves are",
        "not part of this repository. They were changed before the model saw them: size, place, a small turn, mirror image, width of lines, and the",
        "colour of those that have one only.", "",
        "| set | by | licence | family | side | drawings |", "|---|---|---|---|---|---:|",
    ]
    for prefix in sorted(counts):
        about = sets[prefix]
        author, licence = about["author"], about["license"]
        by = f"[{author['name']}]({author['url']})" if author.get("url") else author["name"]
        name = f"[{licence['spdx']}]({licence['url']})" if licence.get("url") else licence["spdx"]
        lines.append(f"| {about['name']} (`{prefix}`) | {by} | {name} | {family[prefix]} | {split[prefix]} | {counts[prefix]} |")
    lines += ["", "## Drawings of each subject", "", f"| subject | {' | '.join(SPLITS)} |", "|---|---:|---:|---:|"]
    for subject in NAMES:
        numbers = [sum(p["subject"] == subject and p["split"] == side for p in used) for side in SPLITS]
        lines.append(f"| {subject} | {' | '.join(map(str, numbers))} |")
    lines += ["", f"Sets left out whole: {', '.join(sorted(name[:-2] for name in read_left_out() if name.endswith(':*')))}.", ""]
    CREDITS.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
