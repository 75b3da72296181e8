"""docs/elasticrec.md from the same sections as the page."""

from collections.abc import Sequence

from recsplit_perf.benchmarks.elasticrec import contents
from recsplit_perf.benchmarks.elasticrec.result import Result
from recsplit_perf.report.page import Section, Table

#: Characters that Markdown would read as markup.
MARKUP = {ord(letter): f"\\{letter}" for letter in "<*_|"}


def markdown(result: Result, sections: Sequence[Section]) -> str:
    """The page: facts, then each section with its table."""
    profiles = "".join(f" --profile perf/results/{one.model}_profile.json" for one in result.measured)
    lines = [
        "# ElasticRec: whole models against shards",
        "",
        f"Written by `python -m recsplit_perf.benchmarks.elasticrec{profiles} -o docs/elasticrec.md`; do not edit.",
        "`--html FILE` makes the same with plots.",
        "",
        *(f"* **{fact.label}: {fact.value}** ({fact.note})" for fact in contents.facts(result)),
        "",
        "Everything here is arithmetic and simulation, with the rates that ElasticRec (Choi, Kim, Rhu, ISCA 2024) prints or plots and,",
        "where it says so, with rates that `recsplit profile` measured. Figures were read off by eye, to a few percent.",
    ]
    for section in sections:
        lines += ["", f"## {section.title}", "", _text(section.lead), ""]
        if section.table is not None:
            lines += _table(section.table)
        if section.note:
            lines += ["", _text(section.note)]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> list[str]:
    head = [f"| {' | '.join(map(_text, table.columns))} |", f"| --- |{' ---: |' * (len(table.columns) - 1)}"]
    return [*head, *(f"| {' | '.join(map(_text, row))} |" for row in table.rows)]


def _text(text: str) -> str:
    return " ".join(text.split()).translate(MARKUP)
