"""docs/contract.md has a row for each case that anything cites, and for no other."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/contract.md").read_text()
NOT_TAKEN_OVER = "What is not taken over"
FOLDERS = ("rustauth_django", "tests", "docs", "benchmarks", "example_project")
TEXT = {".css", ".html", ".lua", ".md", ".po", ".py", ".txt"}

# Families that are here from the first case to the last. The others have what is cited.
WHOLE = {
    "KEY": 11,
    "ST": 48,
    "RL": 48,
    "PATH": 5,
    "MW": 35,
    "IP": 21,
    "CFG": 12,
    "SESS": 33,
    "VER": 15,
}


def cases(text: str) -> set[str]:
    """The cases that a text cites, with each range spelled out.

    Raises ``ValueError`` for a range that leaves its family or does not go up.
    """
    found = set(re.findall(r"\b[A-Z]+-\d\d\b", text))
    # A comment or a docstring may break its line within a range.
    between = r"\b[\s#-]+to[\s#-]+"
    for whole, group, first, last in re.findall(
        rf"\b(([A-Z]+)-(\d\d){between}([A-Z]+-\d\d))\b", text
    ):
        numbers = range(int(first), int(last[-2:]) + 1)
        if last[:-3] != group or len(numbers) < 2:
            raise ValueError(f"{whole} is no range")
        found |= {f"{group}-{number:02}" for number in numbers}
    return found


def rows(page: str) -> list[tuple[str, str]]:
    """The heading and the case of each row of a page."""
    found, heading = [], ""
    for line in page.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif row := re.match(r"\| ([A-Z]+-\d\d) \|", line):
            found.append((heading, row[1]))
    return found


def problems(page: str, cited: set[str]) -> list[str]:
    """What is wrong with a page beside which these cases are cited, one line each."""
    found = rows(page)
    counts = Counter(case for _, case in found)
    taken_over = {case for heading, case in found if heading != NOT_TAKEN_OVER}
    misplaced = {
        case
        for heading, case in found
        if heading != NOT_TAKEN_OVER and not heading.startswith(f"{case[:-3]}: ")
    }
    unknown = (cited | cases(page)) - set(counts)
    return [
        *(f"{case} is cited and has no row" for case in sorted(unknown)),
        *(f"{case} has a row and is cited nowhere" for case in sorted(taken_over - cited)),
        *(f"{case} has {counts[case]} rows" for case in sorted(counts) if counts[case] > 1),
        *(f"{case} is in the section of another family" for case in sorted(misplaced)),
    ]


def cited(*folders: str) -> set[str]:
    """Every case that these folders cite, but for the page; this module's are made up."""
    found: set[str] = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*")):
        if path.suffix in TEXT and path not in (ROOT / "docs/contract.md", Path(__file__)):
            found |= cases(path.read_text())
    return found


def test_the_page_has_what_is_cited() -> None:
    """One row for each case, in the section of its family or among what is not taken over."""
    assert problems(PAGE, cited(*FOLDERS)) == []


def test_every_cell_is_filled() -> None:
    """A number, a rule that is a sentence, a source; and a reason for what is not taken over."""
    for line in PAGE.splitlines():
        if re.match(r"\| [A-Z]+-\d\d \|", line):
            _, *cells, after = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
            assert all(cells), line
            assert after == "", line
            assert all(cell.endswith(".") for cell in cells[1:-1]), line


def test_every_case_has_a_test_or_a_reason() -> None:
    """A number in a test, or a row among what is not taken over."""
    told = cited("tests") | {case for heading, case in rows(PAGE) if heading == NOT_TAKEN_OVER}
    every = {f"{group}-{n:02}" for group, count in WHOLE.items() for n in range(1, count + 1)}
    assert sorted(every - told) == []


SOUND = """
## AB: letters
| AB-01 | A rule, as in AB-02. | X |
| AB-02 | A rule. | X |
## What is not taken over
| AB-03 | A rule. | A reason. | X |
"""


def test_a_sound_page_has_no_problem() -> None:
    """So that the problems below are those of what was changed."""
    assert problems(SOUND, cases("AB-01 to AB-02")) == []


@pytest.mark.parametrize(
    ("page", "text", "problem"),
    [
        (SOUND, "AB-01 to AB-04", "AB-04 is cited and has no row"),
        (SOUND, "AB-01, AB-02, CD-01", "CD-01 is cited and has no row"),
        (SOUND.replace("in AB-02", "in AB-09"), "AB-01, AB-02", "AB-09 is cited and has no row"),
        (SOUND, "AB-01", "AB-02 has a row and is cited nowhere"),
        (SOUND.replace("| AB-03", "| AB-02"), "AB-01, AB-02", "AB-02 has 2 rows"),
        (SOUND.replace("## AB", "## CD"), "AB-01", "AB-01 is in the section of another family"),
    ],
)
def test_what_is_wrong_with_a_page_is_found(page: str, text: str, problem: str) -> None:
    """A missing row, one too many, a case told twice or in the wrong place."""
    assert problem in problems(page, cases(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(AB-01)", "AB-01"),
        ("AB-01, AB-03 and CD-02: so", "AB-01 AB-03 CD-02"),
        ("AB-09 to AB-11", "AB-09 AB-10 AB-11"),
        ("    # AB-01 to\n    # AB-03", "AB-01 AB-02 AB-03"),
        ("    AB-01\n    to AB-03", "AB-01 AB-02 AB-03"),
        ("AB-01 to the end", "AB-01"),
        ("UTF-8, SHA-256, AB-1, AB-123, ab-12, 2026-06-05", ""),
    ],
)
def test_citations_are_read(text: str, expected: str) -> None:
    """One by one, in lists, and in ranges, also over the end of a line."""
    assert cases(text) == set(expected.split())


@pytest.mark.parametrize("text", ["AB-03 to AB-01", "AB-01 to AB-01", "AB-01 to CD-03"])
def test_a_range_goes_up_in_one_family(text: str) -> None:
    """Anything else is a slip of the pen."""
    with pytest.raises(ValueError, match="is no range"):
        cases(text)
