"""The command `render`: what runs a build elsewhere, and what watches it."""

import shlex
from pathlib import Path

import click

from recsplit.commands import render_prometheus
from recsplit.commands.output import example, json_option, progress, show_json, show_table
from recsplit.disk.files import size_text


@click.group(no_args_is_help=False)
def command() -> None:
    """Write what runs a build elsewhere, or watches it."""


@command.command(
    epilog=example(
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/tiny", "recsplit render kubernetes /tmp/tiny -o /tmp/tiny-k8s --p95-bound-ms 50"
    )
)
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FOLDER", required=True, type=click.Path(path_type=Path), help="Where the manifests go.")
@click.option("--model", metavar="NAME", help="Which ensemble, where DIR holds several.")
@click.option("--profile", metavar="FILE", type=click.Path(path_type=Path), help="Take memory and load times from `recsplit profile`.")
@click.option("--partition", metavar="FILE", type=click.Path(path_type=Path), help="Take what each replica sustains from the partition.")
@click.option("--rows", type=click.IntRange(1), help="Of a usual query: shards in the profile are rated at that many.")
@click.option(
    "--p95-bound-ms",
    type=click.FloatRange(0, min_open=True),
    help="Bound of a query's latency: front servers scale at 65 % of it. Without it nothing scales them.",
)
@json_option
def kubernetes(
    repository: Path,
    output: Path,
    model: str | None,
    profile: Path | None,
    partition: Path | None,
    rows: int | None,
    p95_bound_ms: float | None,
    as_json: bool,
) -> None:
    """Write a kustomize base with overlays that serves the build in DIR on Kubernetes.

    Front servers hold the ensemble, its dense and embedding model and the shards that stay there; every other shard gets servers of
    its own. FOLDER/values.yaml is written once, from the options; from then on it is yours, and everything else is rendered from it
    again. Nothing is sent to a cluster: kubectl apply -k FOLDER/overlays/dev does that.
    """
    from recsplit.capacity import profile as profiles
    from recsplit.kubernetes import rendering
    from recsplit.partition import partition_file
    from recsplit.repository.find import find

    build = find(repository, model)
    known = rendering.Known(
        profile=profiles.read(profile) if profile is not None else None,
        partition=partition_file.read(partition) if partition is not None else None,
        rows=rows,
        p95_bound_ms=p95_bound_ms,
    )
    prepared = rendering.prepare(build, output, known)
    with progress(f"Checksums of {build.plan.name}", total=prepared.size_bytes) as advance:
        rendered = rendering.render(prepared, advance=advance)
    if as_json:
        show_json({"folder": str(output), "files": rendered.files, "groups": rendered.groups, "warnings": rendered.warnings})
        return
    show_table(
        ("servers", "models", "scaled on", "target", "cores", "memory", "files"),
        [
            (
                group.name,
                ", ".join(group.models),
                group.scaled_on,
                group.target,
                group.cpu,
                size_text(group.memory_mib << 20),
                size_text(group.size_bytes),
            )
            for group in rendered.groups
        ],
    )
    for warning in rendered.warnings:
        click.echo(f"Note: {warning}", err=True)
    click.echo(f"\n{len(rendered.files)} files in {output}. Set what is yours in {output / 'values.yaml'}, render again, then:")
    click.echo(f"  kubectl apply -k {shlex.quote(str(output / 'overlays/dev'))}")


command.add_command(render_prometheus.command, "prometheus")
