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
    from recsplit.building.load_and_cut import candidates

    with progress(f"loading {source}"):
        found = candidates(source, weights=weights)
    rows = [
        (item.table, item.rows, item.dim, item.kind, item.node.name or "", "yes" if item.is_lookup else "no", item.reason) for item in found
    ]
    if as_json:
        keys = ("table", "rows", "dim", "operator", "node", "cut", "reason")
        show_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    show_table(("table", "rows", "dim", "operator", "node", "cut", "why not"), rows)
    cut = [item for item in found if item.is_lookup]
    click.echo(f"\n{len(cut)} of {len(found)} candidates are lookups, on {len({item.table for item in cut})} tables")
