"""`recsplit zoo`: the published models that recsplit brings along, with their numbers."""

from typing import Any

import click

from recsplit.commands.output import example, json_option, show_json, show_table
from recsplit.disk.files import size_text


@click.command(epilog=example("recsplit zoo --rows-scale 0.001", "recsplit build recsplit.zoo.deeprecsys:ncf -o /tmp/models"))
@click.option(
    "--rows-scale", type=float, metavar="X", help="Share of the published rows, above 0 to 1; each model's own default without it."
)
@json_option
def command(rows_scale: float | None, as_json: bool) -> None:
    """List the published models: tables, bytes, lookups and MFLOP an item, latency bound, and what `recsplit build` takes.

    Models of DeepRecSys, ElasticRec and facebookresearch/dlrm with their layer sizes. Only rows are scaled, to fit a
    machine; lookups and widths stay. `recsplit build` makes a model at the scale in RECSPLIT_ZOO_ROWS_SCALE, which sets
    --rows-scale here too.
    """
    from recsplit.zoo.catalogue.catalogue import CATALOGUE
    from recsplit.zoo.catalogue.shapes import Published, checked

    if rows_scale is not None:
        checked(rows_scale, "--rows-scale")

    def described(model: Published) -> dict[str, Any]:
        scale = model.rows_scale if rows_scale is None else rows_scale
        return {
            "name": model.name,
            "paper": model.paper,
            "tables": model.table_count,
            "dim": model.dim,
            "lookups_per_item": model.lookups,
            "dense_features": model.dense,
            "mflop_per_item": model.mflop,
            "mlp_parameters": model.parameters,
            "p95_bound_ms": model.p95_bound_ms,
            "hot_share": model.hot_share,
            "rows_scale": scale,
            "rows": model.rows(scale),
            "size_bytes": model.size_bytes(scale),
            "published_rows": model.rows(1),
            "published_size_bytes": model.size_bytes(1),
            "factory": model.factory,
            "note": model.note,
        }

    models = [described(model) for model in CATALOGUE.values()]
    if as_json:
        show_json(models)
        return
    columns = ("tables", "dim", "lookups_per_item", "mflop_per_item", "p95_bound_ms", "rows_scale", "rows")
    show_table(
        ("tables", "dim", "lookups/item", "MFLOP/item", "p95 bound, ms", "scale", "rows", "size", "published size", "factory"),
        [
            (
                *(item[column] for column in columns),
                size_text(item["size_bytes"]),
                size_text(item["published_size_bytes"]),
                item["factory"],
            )
            for item in models
        ],
    )
    click.echo(f"\nNext: recsplit build {models[0]['factory']}")
