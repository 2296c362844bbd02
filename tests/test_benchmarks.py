"""The bench runs, whatever it would find: nothing here is timed."""

import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import limiters
from benchmarks.__main__ import PARTS
from benchmarks.aims import AIMS, summary
from benchmarks.measuring import Spread
from benchmarks.report import Bar, Chart

ROOT = Path(__file__).parent.parent
PLACEHOLDER = "`make bench` writes here."

absent = [*limiters.missing(), *(name for name in ("hiredis", "matplotlib") if not find_spec(name))]
needs_the_bench = pytest.mark.skipif(
    bool(absent), reason=f"without {', '.join(absent)}: pip install --group bench"
)


@pytest.mark.slow
@needs_the_bench
def test_every_part_runs_and_is_written_into_the_page(tmp_path: Path) -> None:
    """One tiny round of all, with every peer; the page has a table for each part."""
    page = tmp_path / "performance.md"
    shutil.copy(ROOT / "docs" / page.name, page)
    sizes = ["--rounds", "1", "--calls", "4", "--keys", "100"]
    command = [sys.executable, "-m", "benchmarks", *sizes, "--write", "--docs", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "skipped" not in done.stdout
    assert "not measured" not in done.stdout
    text = page.read_text()
    for name in ("machine", "summary", *PARTS):
        block = text.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- end of {name} -->")[0]
        assert block.startswith("| "), name
        for picture in block.split("](")[1:]:
            assert (tmp_path / picture.partition(")")[0]).stat().st_size > 1000
    assert len(list((tmp_path / "performance").glob("*.svg"))) >= 5


def test_the_page_has_a_place_for_every_part() -> None:
    """The markers between which ``make bench`` writes, once each, and no others."""
    text = (ROOT / "docs/performance.md").read_text()
    for name in ("machine", "summary", *PARTS):
        assert text.count(f"<!-- {name} -->\n") == text.count(f"<!-- end of {name} -->\n") == 1
    assert text.count("<!-- ") == 2 * (2 + len(PARTS))


def test_an_aim_that_is_missed_says_so() -> None:
    """Whether the bound is the least or the most; what was not measured is neither."""
    good = {aim.fact: aim.bound for aim in AIMS}
    assert {row[3] for row in summary(good).rows} == {"yes"}
    bad = {aim.fact: aim.bound + (-0.1 if aim.is_least else 0.1) for aim in AIMS}
    assert {row[3] for row in summary(bad).rows} == {"no"}
    assert {row[2] for row in summary({}).rows} == {"not measured"}


@needs_the_bench
def test_the_same_numbers_draw_the_same_chart(tmp_path: Path) -> None:
    """To the byte, so that only what was measured changes in a diff."""
    draw = import_module("benchmarks.plots").draw
    bars = [Bar("ours", Spread(0.7, 0.6, 0.8), "ours"), Bar("peer", Spread(1.3, 1.2, 1.5), "peer")]
    chart = Chart("decisions", "Decisions", "times INCR", bars, "INCR")
    first = draw(chart, tmp_path).read_bytes()
    assert draw(chart, tmp_path).read_bytes() == first
    assert b"times INCR" in first
    assert str(tmp_path).encode() not in first
