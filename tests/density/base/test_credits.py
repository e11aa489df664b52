"""A line of credit is one line, whoever wrote its parts, and its name says which it is."""

from rarity.density.base.credits import BETWEEN, LONGEST, credit, names_of, parts_of


def test_a_line_holds_the_parts_that_are_there():
    line = credit("Tabler Icons", None, "", "MIT")
    assert line == "Tabler Icons · MIT" and parts_of(line) == ["Tabler Icons", "MIT"]
    assert credit("", None) == ""


def test_what_others_wrote_stays_on_one_line_of_readable_text():
    assert credit("a\r\nb\x00\x1b[31m", "\u202egnp.exe\u2029", "Paweł  Kuna") == "a b [31m · gnp.exe · Paweł Kuna"
    assert len(credit("x" * 10_000)) == LONGEST


def test_two_works_of_one_title_are_told_apart():
    lines = [f"Untitled{BETWEEN}Ann", f"Untitled{BETWEEN}Bob", f"House{BETWEEN}Ann"]
    assert names_of(lines) == [*lines[:2], "House"]


def test_as_many_as_a_folder_can_have_are_told_apart():
    """Compared one by one with one another, so many would take half an hour."""
    lines = [f"{number}.png" for number in range(100_000)]
    assert names_of(lines) == lines
