"""`recsplit serve --fleet`: front servers and shard servers on this machine, until Ctrl-C."""

import contextlib
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from recsplit.commands import prometheus_beside
from recsplit.commands.output import progress, show_table
from recsplit.errors import InputError
from recsplit.serving.fleet.fleet import Fleet, serve_fleet
from recsplit.serving.fleet.placement import FRONT
from recsplit.serving.sample import curl


def run(
    repository: Path,
    *,
    models: Sequence[str],
    replicas: str | None,
    host: str,
    logs: Path | None,
    ready_timeout_s: float,
    prometheus: bool,
    prometheus_port: int | None,
    control_key: str | None,
    most: str | None,
    as_json: bool,
) -> None:
    """Serve, show where, keep the servers running, and end them on Ctrl-C."""
    asked = read_replicas(replicas)
    room = read_replicas(most, "--most")
    watched = prometheus_beside.prepare(repository, models, prometheus_port) if prometheus else None
    with progress(f"A fleet loads {repository}"):
        fleet = serve_fleet(
            repository,
            model=models[0] if models else None,
            replicas=asked,
            host=host,
            logs=logs,
            ready_timeout_s=ready_timeout_s,
            control_key=control_key,
            most=room,
        )
    try:
        with fleet, contextlib.ExitStack() as stack:
            url = None if watched is None else prometheus_beside.start(stack, watched, lambda: fleet.metrics_pages)
            _announce(fleet, repository, url, as_json=as_json)
            fleet.wait(lambda text: click.echo(text, err=True))
    except KeyboardInterrupt:
        click.echo("Stopped: what was in flight is answered, and nothing is left running.", err=True)


def read_replicas(text: str | None, option: str = "--replicas") -> dict[str, int]:
    """Servers by part, from "front=2,0=2,1=1". Raises InputError for anything else."""
    counts: dict[str, int] = {}
    for item in (text or "").split(",") if text is not None else ():
        part, mark, number = (piece.strip() for piece in item.partition("="))
        if not (mark and part and number.isdecimal()) or part in counts:
            raise InputError(f"{option} {text!r}: {item!r} is not PART=N", hint="as front=2,0=2,1=1; each part once")
        counts[part] = int(number)
    return counts


def _announce(fleet: Fleet, repository: Path, prometheus_url: str | None, *, as_json: bool) -> None:
    servers = [(member, member.server) for member in fleet.members if member.server is not None]
    if as_json:
        names = ("http_url", "grpc_url", "metrics_url", "log", "pid")
        shown = [
            {"part": member.part, "replica": member.number, "state": member.state(), **{name: getattr(server, name) for name in names}}
            for member, server in servers
        ]
        parts = {part.name: {"wanted": part.wanted, "running": part.count} for part in fleet.parts}
        beside = {} if prometheus_url is None else {"prometheus_url": prometheus_url}
        beside |= {} if fleet.requests is None else {"control": str(fleet.requests.folder)}
        click.echo(json.dumps({"parts": parts, "servers": shown, **beside}, default=str))
        return
    rows = [
        (member.name, member.state(), server.http_url, server.grpc_url, server.metrics_url, str(server.log)) for member, server in servers
    ]
    show_table(("server", "state", "HTTP", "gRPC", "metrics", "log"), rows)
    cores = len(os.sched_getaffinity(0))
    for part in fleet.parts:
        if part.count < part.wanted:
            what = "fronts" if part.name == FRONT else f"replicas of shard {part.name}"
            click.echo(
                f"The plan has {part.wanted} {what}; {part.count} run here, for {cores} cores. --replicas {part.name}=N asks for more."
            )
    if prometheus_url is not None:
        click.echo(f"Prometheus: {prometheus_url}")
    if fleet.requests is not None:
        command = ["recsplit", "control", str(repository), "--fleet", str(fleet.requests.folder)]
        if prometheus_url is not None:
            command += ["--prometheus", prometheus_url]
        else:
            for _, url in fleet.metrics_pages:
                command += ["--metrics-url", url]
        click.echo(f"\nKeep its shards at the right size:\n  {shlex.join(command)}")
    front = fleet.fronts[0]
    click.echo(f"\nTry it:\n  {curl(front.http_url, fleet.plan.name)}\n\nCtrl-C stops all servers.")
