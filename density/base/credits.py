"""Credits: whose a picture is, as one line of text that can travel through a graph."""

from __future__ import annotations

from collections import Counter

BETWEEN = " · "  # between the parts of a line: the name, the author, the licence, the address
LONGEST = 1000  # characters of a part: the address of a file in Wikimedia Commons has up to 800


def credit(*parts: str | None) -> str:
    """One line of the parts that are not empty: "Tabler Icons · Paweł Kuna · MIT".

    The parts come from files that somebody else wrote. What is not printable, such as a line break or a mark that turns
    the direction of writing, becomes a space, and a long part is cut.
    """
    plain = (" ".join("".join(c if c.isprintable() else " " for c in part or "").split()) for part in parts)
    return BETWEEN.join(part if len(part) <= LONGEST else f"{part[: LONGEST - 1]}…" for part in plain if part)


def parts_of(line: str) -> list[str]:
    """The parts of a line; the first is its name."""
    return line.split(BETWEEN)


def names_of(lines: list[str]) -> list[str]:
    """The first part of each line. A line whose first part another line has as well is named by all of itself."""
    names = [parts_of(line)[0] for line in lines]
    count = Counter(names)
    return [name if count[name] == 1 else line for name, line in zip(names, lines, strict=True)]
