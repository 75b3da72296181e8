"""`recsplit inspect`: which tables, which lookups, and why a candidate is not one."""

from pathlib import Path

import click

from recsplit.commands.output import example, json_option, progress, show_json, show_table
from recsplit.disk.files import size_text


@click.command(epilog=example("recsplit inspect recsplit.zoo.tiny:dlrm"))
@click.argument("source")
@click.option("--weights", type=click.Path(path_type=Path), help="Trained weights, x.safetensors, for a factory source.")
@json_option
def command(source: str, weights: Path | None, as_json: bool) -> None:
    """Show the tables and lookups of a model, and why a candidate is not cut out.

    Candidates are the lookups, and whatever else of 1 kB or more is read by ids that come from a client's data.

    SOURCE is x.onnx, x.pt2 (torch.export.save) or package.module:factory.
    """
    from recsplit.building.api import inspect
    from recsplit.building.inspection import COLUMNS

    with progress(f"loading {source}"):
        inspection = inspect(source, weights=weights)
    if as_json:
        by_onnxruntime = {"by_onnxruntime": inspection.by_onnxruntime}  # of the lookups together
        show_json([dict(zip(COLUMNS, row, strict=True)) | by_onnxruntime for row in inspection.rows()])
        return
    size = COLUMNS.index("bytes")
    rows = [(*row[:size], size_text(int(row[size])), *row[size + 1 :]) for row in inspection.rows()]
    show_table((*COLUMNS[:size], "size", *COLUMNS[size + 1 : -1], "why not"), rows)
    click.echo(f"\n{inspection}")
