"""`recsplit verify`: source, whole, parts and the running server against each other."""

import dataclasses
from pathlib import Path

import click

from recsplit.commands.build import show_differences
from recsplit.commands.output import example, json_option, progress, show_json
from recsplit.errors import InputError, RecsplitError


@click.command(
    epilog=example(
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/models --name tiny", "recsplit verify /tmp/models --source recsplit.zoo.tiny:dlrm"
    )
)
@click.argument("repository", type=click.Path(path_type=Path))
@click.option("--model", help="Which ensemble, where the repository holds several.")
@click.option("--source", help="Run this source again, rather than trust the outputs recorded at the build.")
@click.option("--weights", type=click.Path(path_type=Path), help="Trained weights, x.safetensors, for a factory source.")
@click.option("--served", is_flag=True, help="Also start a local Triton and ask it over gRPC and HTTP.")
@click.option("--grpc-url", help="Ask this running server over gRPC, host:port.")
@click.option("--http-url", help="Ask this running server over HTTP, host:port.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="How often each case is run, a thread.")
@json_option
def command(
    repository: Path,
    model: str | None,
    source: str | None,
    weights: Path | None,
    served: bool,
    grpc_url: str | None,
    http_url: str | None,
    repeats: int,
    as_json: bool,
) -> None:
    """Prove again that the parts in a model repository answer as the source does.

    Compares the source's outputs, the whole graph, the joined parts and, if asked, a running server, on the reference
    cases that the build recorded; exits with 1 if anything differs by more than its limit.
    """
    from recsplit.proof import published

    if weights is not None and source is None:
        raise InputError("--weights goes with --source", hint="--source package.module:factory --weights x.safetensors")
    if served and (grpc_url is not None or http_url is not None):
        raise InputError("--served starts a server of its own, and an address asks another one", hint="give one of the two")
    with progress(f"verifying {repository}"):
        differences = published.verify(
            repository, model=model, source=source, weights=weights, served=served, grpc_url=grpc_url, http_url=http_url, repeats=repeats
        )
    if as_json:
        show_json([{**dataclasses.asdict(item), "ok": item.ok} for item in differences])
    else:
        show_differences([dataclasses.asdict(item) | {"ok": item.ok} for item in differences])
    bad = sum(not item.ok for item in differences)
    if bad:
        raise RecsplitError(
            f"{bad} of {len(differences)} comparisons do not hold", hint="the table names the case that made each difference"
        )
