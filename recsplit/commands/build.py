"""`recsplit build`: cut, render, prove, publish."""

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from recsplit.commands.output import Cell, example, json_option, on_interrupt, show_json, show_table, steps
from recsplit.commands.size import SIZE
from recsplit.disk.files import size_text
from recsplit.plan import triton_releases
from recsplit.plan.plan import EmbeddingRuntime, Form, Kind, Plan, Runtime, Shard

if TYPE_CHECKING:
    from recsplit.building.settings import BuildSettings

#: Segments of a shard that are told one by one.
_MOST_SEGMENTS = 4


@click.command(epilog=example("recsplit build recsplit.zoo.tiny:dlrm -o /tmp/models --name tiny"))
@click.argument("source")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=Path("model_repository"), show_default=True, help="The model repository."
)
@click.option("--name", help="Name of the ensemble; the source's own by default.")
@click.option("--weights", type=click.Path(path_type=Path), help="Trained weights, x.safetensors, for a factory source.")
@click.option("--example", type=click.Path(path_type=Path), help="Example inputs of an .onnx file, arrays by input name: x.npz.")
@click.option("--max-batch-size", type=int, default=2048, show_default=True, help="Largest batch, in rows.")
@click.option("--unknown-ids", default="error", show_default=True, help="What an id outside its table does: error, zero or row=N.")
@click.option("--ids", type=click.Choice(("same", "int32")), default="same", show_default=True, help="Ask clients for narrower ids.")
@click.option(
    "--bags", type=click.Choice(("auto", "padded", "chunked")), default="auto", show_default=True, help="How ragged bags are pooled."
)
@click.option("--embedding-instances", type=int, default=1, show_default=True, help="Triton instances of the embedding or fused model.")
@click.option("--dense-instances", type=int, default=1, show_default=True, help="Triton instances of the dense model.")
@click.option("--threads", type=int, help="Threads of an instance; this machine's cores divided by all instances by default.")
@click.option("--dense-kind", type=click.Choice(get_args(Kind)), default="cpu", show_default=True, help="Where the dense model runs.")
@click.option(
    "--embedding-runtime",
    type=click.Choice(get_args(EmbeddingRuntime)),
    help="What runs the embedding model; native: recsplit's engine.  [default: native where it can be had; onnxruntime beside a GPU]",
)
@click.option(
    "--dense-runtime",
    type=click.Choice(get_args(Runtime)),
    help="What runs the dense model.  [default: as the embedding model; onnxruntime on a GPU]",
)
@click.option(
    "--form",
    type=click.Choice(get_args(Form)),
    help="Parts as models, or one model of the engine.  [default: ensemble; with --variant fused]",
)
@click.option("--queue-delay-us", type=int, default=0, show_default=True, help="How long Triton may wait to fill a batch.")
@click.option(
    "--queue-timeout-ms", type=int, default=0, show_default=True, help="How long a request may queue before it is refused; 0: no limit."
)
@click.option(
    "--triton", default=triton_releases.DEFAULT, show_default=True, help="The release of Triton whose onnxruntime must read the sub-models."
)
@click.option("--templates", type=click.Path(path_type=Path), help="A folder of templates that replace ours of the same name.")
@click.option("--partition", type=click.Path(path_type=Path), help="Cut the tables into shards: the file that recsplit partition wrote.")
@click.option("--access", type=click.Path(path_type=Path), help="The access profile that the partition was made with.")
@click.option(
    "--tolerance", type=float, help="Largest relative error between source and parts.  [default: 1e-5, or 1e-2 with half precision]"
)
@click.option(
    "--search-s", type=float, default=2.0, show_default=True, help="Seconds of searching for an input on which the parts answer otherwise."
)
@click.option(
    "--keep", type=int, default=2, show_default=True, help="Builds that stay in DIR for `recsplit rollback`, this one among them."
)
@click.option(
    "--table-dtype",
    multiple=True,
    metavar="[NAME=]DTYPE",
    help="How tables' rows are stored: fp32, fp16, bf16, int8 or int4; of all, or of those called NAME, with * and ?. Repeatable.",
)
@click.option("--table-budget", type=SIZE, help="Bytes that all rows may take, as 2GB: recsplit chooses what loses least.")
@click.option(
    "--eval",
    "evaluation",
    type=click.Path(path_type=Path),
    help="Labelled rows to choose by, and to tell AUC, log loss and NDCG on: x.npz of the source's inputs by name, `label`, `query`.",
)
@click.option(
    "--order-by",
    type=click.Path(path_type=Path),
    help="Let rows lie by heat, for tables larger than memory: an access profile, as recsplit access writes it.",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME[=SPEC]",
    help="Build several, NAME_of each, and a router before them: NAME=int8, NAME=user=int8,item=fp16, NAME=source=SOURCE. Repeatable.",
)
@click.option("--build-id", help="Fix the id of the build, for reproducible repositories.")
@json_option
def command(
    source: str, name: str | None, ids: str, bags: str, form: Form | None, variants: tuple[str, ...], as_json: bool, **settings: Any
) -> None:
    """Cut a model into embedding and dense sub-models and write a Triton model repository that is proved equal.

    SOURCE is x.onnx, x.pt2 (torch.export.save) or package.module:factory, a callable that returns (module, example inputs).
    """
    from recsplit.building.build import build
    from recsplit.building.settings import BuildSettings, default_name

    build_settings = BuildSettings(
        source=source,
        name=name or default_name(source),
        int32_ids=ids == "int32",
        bag_form=None if bags == "auto" else bags,  # type: ignore[arg-type]
        form=form or ("fused" if variants else "ensemble"),
        **settings,
    )
    if variants:
        _build_variants(build_settings, variants, as_json=as_json)
        return
    repository = build_settings.out
    on_interrupt(repository / build_settings.name, f"nothing was published, and {repository} is as it was", "the build is published")
    with steps() as show:
        built = build(build_settings, show)
    plan = built.plan
    for warning in built.warnings:
        click.echo(click.style(f"Warning: {warning}", fg="red"), err=True)
    if as_json:
        differences = [{**dataclasses.asdict(item), "ok": item.ok} for item in built.differences]
        remarks = {"notes": built.notes, "warnings": built.warnings}
        quality = None if built.quality is None else dataclasses.asdict(built.quality)
        show_json(
            {"repository": built.repository, "plan": dataclasses.asdict(plan), "differences": differences, "quality": quality, **remarks}
        )
        return
    show_table(
        ("table", "rows", "dim", "stored", "size"), [(t.name, t.rows, t.dim, t.stored, size_text(t.size_bytes)) for t in plan.tables]
    )
    if plan.shards:
        show_table(("shard", "ranks", "location", "replicas", "size"), [_shard_row(shard) for shard in plan.shards])
    show_differences([dataclasses.asdict(item) | {"ok": item.ok} for item in built.differences])
    for note in built.notes:
        click.echo(note)
    click.echo(_summary(plan, built.repository))


def _build_variants(settings: "BuildSettings", variants: tuple[str, ...], *, as_json: bool) -> None:
    """Build all of them, and show what became of each."""
    from recsplit.building.variants import build_variants, spec

    specs = [spec(text) for text in variants]
    on_interrupt(settings.out / settings.name, "the router is as it was; variants that are done are published", "all of it is published")
    with steps() as show:
        built = build_variants(settings, specs, show)
    for one in built.builds:
        for warning in one.warnings:
            click.echo(click.style(f"Warning: {one.plan.name}: {warning}", fg="red"), err=True)
    if as_json:
        routing = dataclasses.asdict(built.routing)
        plans = [dataclasses.asdict(one.plan) for one in built.builds]
        show_json({"repository": settings.out, "router": built.router, "version": built.version, "routing": routing, "plans": plans})
        return
    rows: list[list[Cell]] = []
    for variant, one in zip(built.routing.variants, built.builds, strict=True):
        size = sum(table.size_bytes for table in one.plan.tables)
        stored = ", ".join(sorted({table.stored for table in one.plan.tables}))
        worst = max((item.relative for item in one.differences), default=0.0)
        accuracy = None if variant.accuracy is None else f"{variant.accuracy:.5f}"
        rows.append([variant.name, one.plan.name, one.plan.version, stored, size_text(size), accuracy, f"{worst:.1e}", variant.weight])
    columns = ("variant", "model", "version", "tables", "size", "AUC", "largest relative", "weight")
    quoted = shlex.quote(str(settings.out))
    show_table(columns, rows, title=f"{built.router} version {built.version} is a router in {settings.out}")
    click.echo(
        f"Next: recsplit serve {quoted}, then recsplit control {quoted} --policy variants, or recsplit route {quoted} --share NAME=WEIGHT"
    )


def show_differences(differences: list[dict[str, Any]]) -> None:
    """The table of a proof: stage, output, largest errors and the case that made them."""
    show_table(
        ("stage", "output", "largest absolute", "largest relative", "in case", "runs", "holds"),
        [
            (
                item["stage"],
                item["output"],
                f"{item['absolute']:.2e}",
                f"{item['relative']:.2e}",
                item["case"],
                item["runs"],
                "yes" if item["ok"] else "NO",
            )
            for item in differences
        ],
    )


def _shard_row(shard: Shard) -> tuple[str, str, str, int, str]:
    shown = [f"{item.table} {item.first}..{item.last - 1}" for item in shard.segments[:_MOST_SEGMENTS]]
    left = len(shard.segments) - len(shown)
    ranks = ", ".join(shown) + (f" and {left} more" if left else "")
    return shard.model.name, ranks, shard.location, shard.replicas, size_text(shard.size_bytes)


def _summary(plan: Plan, repository: Path) -> str:
    vectors = ", ".join(f"{tensor.name} {list(tensor.dims)}" for tensor in plan.boundary)
    quoted = shlex.quote(str(repository))
    return (
        f"\n{plan.name} version {plan.version} is in {repository}: {len(plan.tables)} tables, {len(plan.lookups)} lookups, "
        f"across the boundary {vectors}\nNext: recsplit serve {quoted}"
        + (f", or recsplit update {quoted} where a server runs already" if plan.version > 1 else "")
    )
