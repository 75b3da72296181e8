"""`recsplit route`: a router in front of models of a repository, and what a running one does."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsplit.commands.output import Cell, example, json_option, show_json, show_table
from recsplit.errors import InputError

if TYPE_CHECKING:
    from recsplit.plan.routing import Routing, Server

_TO = re.compile(r"(?:(?P<variant>[\w.-]+)=)?(?P<model>[\w.-]+)(?:@(?P<address>[^@\s]+:[0-9]{1,5}))?")


@click.command(
    epilog=example(
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/models --name exact",
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/models --name small --table-dtype int8",
        "recsplit route /tmp/models --name shop --to exact --to small --share exact=3",
    )
)
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="The router's name, which clients call. Default: the only one in DIR.")
@click.option(
    "--to",
    "targets",
    multiple=True,
    metavar="[VARIANT=]MODEL[@HOST:PORT]",
    help="A model that answers; several of one variant share its queries by who is done first. @: on another server, at its HTTP.",
)
@click.option("--share", "shares", multiple=True, metavar="VARIANT=WEIGHT", help="Its share of the queries, of the sum of all. Default: 1.")
@click.option("--accuracy", "accuracies", multiple=True, metavar="VARIANT=A", help="Of its answers, 0 to 1, for `recsplit control`.")
@click.option(
    "--max-qps", "capacities", multiple=True, metavar="VARIANT=Q", help="Queries a second that one worker of it sustains, likewise."
)
@click.option("--split-rows", type=click.IntRange(1), metavar="N", help="Rows of a part. Default: what the models take.")
@click.option("--large", metavar="ROWS=VARIANT", help="Queries of so many rows and more go to one variant.")
@click.option("--deadline-ms", type=click.FloatRange(0), metavar="MS", help="What can't be answered by then is refused before it is sent.")
@click.option("--running", is_flag=True, help="Not in DIR: change, or show, what the router of the server that serves DIR does now.")
@click.option("--grpc-url", metavar="HOST:PORT", help="Which server, with --running, where several serve DIR.")
@click.option("--keep", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Versions that DIR holds then.")
@json_option
def command(
    repository: Path,
    name: str | None,
    targets: tuple[str, ...],
    shares: tuple[str, ...],
    accuracies: tuple[str, ...],
    capacities: tuple[str, ...],
    split_rows: int | None,
    large: str | None,
    deadline_ms: float | None,
    running: bool,
    grpc_url: str | None,
    keep: int,
    as_json: bool,
) -> None:
    """Put a router in front of models of DIR, or change one.

    Clients call the router as they would the models behind it, with queries of any size: it cuts large ones into parts, shares queries out
    among variants, and gives each part to the server that is done with it first. Without options: show what it does. With --running the
    router of a running server does otherwise from the next query on; no request is lost, and nothing is written.
    """
    from recsplit.repository.routers import publish, router_name, settings_of
    from recsplit.serving.workers import route, running_routing

    if grpc_url is not None and not running:
        raise InputError("--grpc-url goes with --running", hint="recsplit route DIR --running")
    changes = any(value is not None for value in (split_rows, large, deadline_ms)) or bool(targets or shares or accuracies or capacities)
    if name is None or running or not targets:
        name = router_name(repository, name)
    folder = _server(repository, grpc_url) if running else None
    if targets:
        before = _routing(repository, targets)
    else:
        before = settings_of(repository, name) if folder is None else running_routing(folder, name)
    numbers = {
        name: _numbers(before, f"--{option}", texts)
        for name, option, texts in (("weight", "share", shares), ("accuracy", "accuracy", accuracies), ("max_qps", "max-qps", capacities))
    }
    routing = _changed(before, numbers, split_rows, large, deadline_ms)
    if folder is not None:
        _show_running(route(folder, name, routing if changes else None), as_json=as_json)
        return
    version = publish(repository, name, routing, keep=keep) if changes else None
    if as_json:
        show_json({"name": name, "version": version, "routing": dataclasses.asdict(routing)})
        return
    _show(routing, name if version is None else f"{name} version {version} is in {repository}")


def _server(repository: Path, grpc_url: str | None) -> Path:
    """The private folder of the server that serves `repository`."""
    from recsplit.serving import notes

    return notes.own_folder(grpc_url or notes.only(repository).grpc_url)


def _routing(repository: Path, targets: Sequence[str]) -> "Routing":
    """The variants that --to names, each with as many parts as its models ask for."""
    from recsplit.plan.routing import A_MS, B_MS, Routing, Server, Variant
    from recsplit.repository.find import find

    variants: dict[str, list[Server]] = {}
    most: dict[str, int] = {}
    for text in targets:
        match = _TO.fullmatch(text)
        if match is None:
            raise InputError(f"--to {text!r} can't be read", hint="--to MODEL, --to VARIANT=MODEL, or --to VARIANT=MODEL@HOST:PORT")
        model, address = match["model"], match["address"] or ""
        variant = match["variant"] or model
        variants.setdefault(variant, []).append(Server(model, -1, address, A_MS, B_MS, 1))
        rows = find(repository, model).plan.max_batch_size
        most[variant] = min(most.get(variant, rows), rows)
    return Routing(tuple(Variant(variant, 1.0, most[variant], tuple(servers)) for variant, servers in variants.items()))


def _changed(
    routing: "Routing", numbers: Mapping[str, Mapping[str, float]], split_rows: int | None, large: str | None, deadline_ms: float | None
) -> "Routing":
    """Other settings; what was not said stays. `numbers`: of variants, by field and variant."""
    variants = []
    for variant in routing.variants:
        said = {name: values[variant.name] for name, values in numbers.items() if variant.name in values}
        if split_rows is not None:
            said["split_rows"] = split_rows
        variants.append(dataclasses.replace(variant, **said))  # type: ignore[arg-type]
    rows, target = (routing.large_rows, routing.large_variant) if large is None else _large(large)
    deadline = routing.deadline_ms if deadline_ms is None else deadline_ms
    return dataclasses.replace(routing, variants=tuple(variants), large_rows=rows, large_variant=target, deadline_ms=deadline)


def _numbers(routing: "Routing", option: str, texts: Sequence[str]) -> dict[str, float]:
    """What an option says of variants, by their names."""
    names, numbers = [variant.name for variant in routing.variants], {}
    for text in texts:
        variant, number = _pair(text, option, "VARIANT=NUMBER")
        if variant not in names:
            raise InputError(f"{option} {variant}: there is no such variant", hint=f"variants: {', '.join(names)}")
        if not re.fullmatch(r"[0-9]{0,9}\.?[0-9]{1,9}", number):
            raise InputError(f"{option} {text}: that is no number", hint="from 0 on, as in 0.25 or 3")
        numbers[variant] = float(number)
    return numbers


def _large(text: str) -> tuple[int, str]:
    rows, variant = _pair(text, "--large", "ROWS=VARIANT")
    if not re.fullmatch("[0-9]{1,9}", rows):
        raise InputError(f"--large {text!r} can't be read", hint="--large ROWS=VARIANT, as in --large 1000=gpu")
    return int(rows), variant


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    first, mark, second = text.partition("=")
    if not (first and mark and second):
        raise InputError(f"{option} {text!r} can't be read", hint=f"{option} {form}")
    return first, second


def _server_text(server: "Server") -> str:
    return f"{server.model}@{server.address}" if server.address else server.model


def _show(routing: "Routing", title: str) -> None:
    total = sum(variant.weight for variant in routing.variants)
    rows: list[list[Cell]] = [
        [
            variant.name,
            f"{100 * variant.weight / total:.3g} %",
            variant.accuracy,
            variant.max_qps,
            variant.split_rows or "any",
            "" if variant.name != routing.large_variant else f"from {routing.large_rows:,} rows",
            ", ".join(map(_server_text, variant.servers)),
        ]
        for variant in routing.variants
    ]
    show_table(("variant", "share", "accuracy", "max_qps", "rows of a part", "large queries", "servers"), rows, title=title)
    if routing.deadline_ms:
        click.echo(f"Refused where no answer is expected within {routing.deadline_ms:g} ms")


def _show_running(routed: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(routed)
        return
    variants = [[one["name"], one["queries"], one["rows"], one["parts"]] for one in routed["variants"]]
    show_table(("variant", "queries", "rows", "parts"), variants)
    servers = [[one["model"], one["address"] or "here", one["answered"], one["failed"]] for one in routed["servers"]]
    show_table(("model", "at", "answered", "failed"), servers)
    click.echo(f"Refused: {routed['late']} too late, {routed['lost']} with no server well")
