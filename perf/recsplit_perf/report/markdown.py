"""Sections of a page as Markdown: what docs/ has of a benchmark whose page has the plots."""

from collections.abc import Sequence

from recsplit_perf.report.page import Fact, Section, Table

#: Characters that Markdown would read as markup.
MARKUP = {ord(letter): f"\\{letter}" for letter in "<*_|"}


def markdown(title: str, written_by: str, facts: Sequence[Fact], lead: str, sections: Sequence[Section]) -> str:
    """A page: its title, the command that writes it, facts, what it is about, and each section with its table. `lead` is Markdown."""
    lines = [
        f"# {title}",
        "",
        f"Written by `{written_by}`; do not edit.",
        "`--html FILE` makes the same with plots.",
        "",
        *(f"* **{fact.label}: {fact.value}** ({fact.note})" for fact in facts),
        "",
        *lead.splitlines(),
    ]
    for section in sections:
        lines += ["", f"## {section.title}", "", plain(section.lead), ""]
        if section.table is not None:
            lines += _table(section.table)
        if section.note:
            lines += ["", plain(section.note)]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> list[str]:
    head = [f"| {' | '.join(map(plain, table.columns))} |", f"| --- |{' ---: |' * (len(table.columns) - 1)}"]
    return [*head, *(f"| {' | '.join(map(plain, row))} |" for row in table.rows)]


def plain(text: str) -> str:
    """A message as Markdown text: on one line, with nothing taken for markup."""
    return " ".join(text.split()).translate(MARKUP)
