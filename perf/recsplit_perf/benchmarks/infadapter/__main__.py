"""The benchmark's command: tables on the terminal, and the same as JSON, as a page, and as docs/infadapter.md."""

import dataclasses
import json
from pathlib import Path

import click

from recsplit.commands.output import progress, refuse_output, show_table
from recsplit.disk.files import whole_file
from recsplit_perf.benchmarks.infadapter import contents
from recsplit_perf.benchmarks.infadapter.inputs import lines, slices
from recsplit_perf.benchmarks.infadapter.result import Result, play_all, players
from recsplit_perf.machine import provenance
from recsplit_perf.report.markdown import markdown
from recsplit_perf.report.page import Page, origin, render

FILE = click.Path(path_type=Path)
TITLE, COMMAND = "InfAdapter: a set of variants against one", "python -m recsplit_perf.benchmarks.infadapter DATA -o docs/infadapter.md"


@click.command()
@click.argument("data", metavar="DATA", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FILE", type=FILE, help="Write docs/infadapter.md there.")
@click.option("--html", metavar="FILE", type=FILE, help="Write a page with plots there.")
@click.option("--json", "as_json", metavar="FILE", type=FILE, help="Write the numbers there.")
def command(data: Path, output: Path | None, html: Path | None, as_json: Path | None) -> None:
    """Play InfAdapter's evaluation again: its adapter, MS+, VPA, HPA and recsplit's controller, on four slices of its trace.

    DATA: a folder with the authors' capacity.csv and trace.
    """
    for path in (output, html, as_json):
        if path is not None:
            refuse_output(path)
    fitted, parts = lines(data), slices(data)
    with progress("Playing", total=len(parts) * len(players(fitted, parts[0]))) as advance:
        result = play_all(fitted, parts, provenance(), advance)
    sections = contents.sections(result)
    for section in sections:
        if section.table is not None:
            show_table(section.table.columns, section.table.rows, title=section.title)
    texts = {
        output: markdown(TITLE, COMMAND, contents.facts(result), contents.LEAD, sections),
        html: _page(result),
        as_json: json.dumps(_plain(result), indent=1) + "\n",
    }
    for path, text in texts.items():
        if path is not None:
            with whole_file(path) as file:
                file.write(text.encode())


def _plain(result: Result) -> dict[str, object]:
    return {
        "benchmark": "infadapter",
        **result.provenance,
        "lines": [dataclasses.asdict(line) for line in result.lines],
        "example": dict(result.example),
        "slices": {name: {"mean": mean, "largest": largest, "start_s": start_s} for name, (mean, largest, start_s) in result.loads.items()},
        "runs": [dataclasses.asdict(run) for runs in result.runs.values() for run in runs],
        "behind": [dataclasses.asdict(run) for run in result.behind()],
    }


def _page(result: Result) -> str:
    return render(
        Page(
            title=TITLE,
            subtitle="InfAdapter (EuroMLSys 2023) from its authors' capacities and trace",
            facts=contents.facts(result),
            sections=tuple(contents.sections(result)),
            origin=origin(result.provenance),
        )
    )


if __name__ == "__main__":
    command()
