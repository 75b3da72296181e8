"""The benchmark's command: tables on the terminal, and the same as JSON, as a page, and as docs/elasticrec.md."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click

from recsplit.capacity.profile import read
from recsplit.commands.output import progress, refuse_output, show_table
from recsplit.disk.files import whole_file
from recsplit_perf.benchmarks.elasticrec import contents
from recsplit_perf.benchmarks.elasticrec.markdown import markdown
from recsplit_perf.benchmarks.elasticrec.result import Result, plain, reckon
from recsplit_perf.machine import provenance
from recsplit_perf.report.page import Page, Section, origin, render

FILE = click.Path(path_type=Path)


@click.command()
@click.option("--profile", "profiles", metavar="FILE", type=FILE, multiple=True, help="What `recsplit profile` wrote of rm1, rm2 or rm3.")
@click.option("-o", "--output", metavar="FILE", type=FILE, help="Write docs/elasticrec.md there.")
@click.option("--html", metavar="FILE", type=FILE, help="Write a page with plots there.")
@click.option("--json", "as_json", metavar="FILE", type=FILE, help="Write the numbers there.")
def command(profiles: tuple[Path, ...], output: Path | None, html: Path | None, as_json: Path | None) -> None:
    """Reckon ElasticRec's evaluation again: whole models against shards, from its own profile and from measured ones."""
    for path in (output, html, as_json):
        if path is not None:
            refuse_output(path)
    result = reckon([read(path) for path in profiles], provenance(), _stage)
    sections = contents.sections(result)
    for section in sections:
        if section.table is not None:
            show_table(section.table.columns, section.table.rows, title=section.title)
            click.echo()
    texts = {output: markdown(result, sections), html: _page(result, sections), as_json: json.dumps(plain(result), indent=1) + "\n"}
    for path, text in texts.items():
        if path is not None:
            with whole_file(path) as file:
                file.write(text.encode())


def _stage(text: str, total: int) -> AbstractContextManager[Any]:
    return progress(text, total=total or None)


def _page(result: Result, sections: Sequence[Section]) -> str:
    return render(
        Page(
            title="Whole models against shards",
            subtitle="ElasticRec (ISCA 2024) from its own profile, and from recsplit's",
            facts=contents.facts(result),
            sections=tuple(sections),
            origin=origin(result.provenance),
        )
    )


if __name__ == "__main__":
    command()
