"""The tour shows, for each equation, a line of the code: it must stand there, exactly once."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
ROW = re.compile(r"^\| .+ \| \[(?P<name>[^\]]+)\]\((?P<path>[^)]+)\) \| `(?P<code>.+)` \|$", re.M)
ROWS = [m.groupdict() for m in ROW.finditer((DOCS / "tour.md").read_text("utf-8"))]


def test_every_row_of_the_tables_is_read():
    lines = (DOCS / "tour.md").read_text("utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|") and "](" in line]
    assert len(rows) == len(ROWS) > 25


@pytest.mark.parametrize("row", ROWS, ids=[r["code"][:40] for r in ROWS])
def test_line_stands_in_the_code(row):
    source = (DOCS / row["path"]).resolve()
    assert source.as_posix().endswith(row["name"])
    code = row["code"].replace("\\|", "|")
    assert sum(code in line for line in source.read_text("utf-8").splitlines()) == 1, code
