"""`recsplit inspect`: which tables, which lookups, and why a candidate is not one."""

from pathlib import Path

import click

from recsplit.commands.output import example, json_option, progress, show_json, show_table


@click.command(epilog=example("recsplit inspect recsplit.zoo.tiny:dlrm"))
@click.argument("source")
@click.option("--weights", type=click.Path(path_type=Path), help="Trained weights, x.safetensors, for a factory source.")
@json_option
def command(source: str, weights: Path | None, as_json: bool) -> None:
    """Show the tables and lookups of a model, and why a candidate is not cut out.

    SOURCE is x.onnx, x.pt2 (torch.export.save) or package.module:factory.
    """
    from recsplit.building.api import inspect
    from recsplit.building.inspection import COLUMNS

    with progress(f"loading {source}"):
        inspection = inspect(source, weights=weights)
    if as_json:
        show_json([dict(zip(COLUMNS, row, strict=True)) for row in inspection.rows()])
        return
    show_table((*COLUMNS[:-1], "why not"), inspection.rows())
    click.echo(f"\n{inspection}")
