"""docs/faults.md: each line names a test that there is, and each test one line."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
NAME = re.compile(r"`(test_\w+)`")


def test_each_line_names_a_test_that_there_is() -> None:
    rows = [line for line in (REPOSITORY / "docs/faults.md").read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    names = [NAME.findall(row.rsplit("|", 2)[1]) for row in rows]
    assert [len(each) for each in names] == [1] * len(rows) and len(rows) >= 25
    defined = {
        name
        for path in (REPOSITORY / "tests/controller").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    listed = [name for (name,) in names]
    assert set(listed) <= defined and len(set(listed)) == len(listed)
