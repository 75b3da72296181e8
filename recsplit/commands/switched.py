"""What `recsplit update` and `recsplit rollback` share: their options, and what they show."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from recsplit.commands.output import Cell, show_json, show_table, steps
from recsplit.errors import InputError

URL_HELP = "Only this server's gRPC address. Default: every server of this user on this machine that recsplit serve runs on DIR."
KEY_HELP = "The key to its model control. Default: the one that recsplit serve left for this user."


def switch_all(
    function: Any, repository: Path, model: str | None, grpc_url: str | None, control_key: Path | None, *, as_json: bool, **settings: Any
) -> None:
    """Run recsplit.update or recsplit.rollback, and show what became of the servers. Raises InputError for a key without an address."""
    from recsplit.repository.find import find, served_build, served_version
    from recsplit.repository.routers import router_of
    from recsplit.serving.control_key import read_key

    if control_key is not None and grpc_url is None:
        raise InputError("--control-key goes with --grpc-url", hint="recsplit serve shows the gRPC address of the server that it starts")
    key = None if control_key is None else read_key(control_key)
    with steps() as show:
        switched = function(repository, model, grpc_url=grpc_url, control_key=key, progress=lambda text: show(text, 0, 0), **settings)
    router = router_of(repository, model)
    name = router or find(repository, model).plan.name
    version, build = served_version(repository / name), served_build(repository / name)
    if as_json:
        show_json({"model": name, "version": version, "build": build, "servers": [dataclasses.asdict(item) for item in switched]})
        return
    if switched:
        rows: list[list[Cell]] = [
            [item.model, item.grpc_url, item.before or None, item.after, f"{item.answering_s:.2f} s", f"{item.seconds:.2f} s"]
            for item in switched
        ]
        show_table(("model", "server", "version before", "version now", "new one answered after", "old one gone after"), rows)
    else:
        click.echo(f"No server of yours on this machine serves {repository}.")
        click.echo("One elsewhere takes it with --grpc-url HOST:PORT, a fleet when it is started anew.")
    click.echo(f"{repository} holds {name} version {version}, build {build}.")
