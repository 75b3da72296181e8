"""`recsplit serve`: a model repository on a real Triton, until Ctrl-C."""

import contextlib
import getpass
import ipaddress
import json
import shlex
from pathlib import Path

import click

from recsplit.commands import prometheus_beside
from recsplit.commands.output import example, json_option, progress, show_table, steps
from recsplit.errors import InputError
from recsplit.plan.triton_releases import IMAGE
from recsplit.serving import Server, notes, ports, serve
from recsplit.serving.control_key import read_key, shows
from recsplit.serving.docker import PORTS, docker_command
from recsplit.serving.repository import engine_needed
from recsplit.serving.sample import curl
from recsplit.serving.upkeep.keep_up import keep_up

HOST_HELP = "Address to listen on. 0.0.0.0 is every one: whoever reaches the machine may then ask the models, and read metrics."
MOST_HELP = "With --fleet: servers that a controller may give a shard, as 0=4,1=2. Default: as many as there are."
KEY_SHOWS = "Every user of this machine can read the control key in Triton's command line: the kernel let nobody hide it there."
KEY_HELP = "The key to its model control. Default: a new one, kept for this user's own commands (update, rollback, control)."
OPEN_HELP = "Let everyone who reaches the server load models. Who may load models runs code as the user who serves."
OPEN = (
    "Model control is open: whoever reaches {addresses} may load and unload models, and so run code as {user}. "
    "Leave out --open-control to close it."
)
EVERYONE = (
    "Listening beyond this machine, without TLS or passwords: {http} and {grpc} answer inference, metadata, statistics and shared memory "
    "registration to whoever reaches them, {metrics} the metrics. A firewall or proxy decides who that is. Model control is {control}."
)


FLEET_HELP = "Serve a partitioned build as a fleet: front servers, and servers of their own for its shards."
PROMETHEUS_HELP = "Run a Prometheus (the machine's own) beside it, with the rules and alerts of this build, on loopback."
REPLICAS_HELP = "With --fleet: servers of each part, as front=2,0=2,1=1. Default: the plan's, as far as this machine can run them."


@click.command(epilog=example("recsplit serve model_repository/ --http-port 8000"))
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--model", "models", metavar="NAME", multiple=True, help="Load this model. Repeatable. Default: what recsplit build wrote.")
@click.option("--http-port", type=int, metavar="N", help="Default: a free port.")
@click.option("--grpc-port", type=int, metavar="N", help="Default: a free port.")
@click.option("--metrics-port", type=int, metavar="N", help="Default: a free port.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="H", help=HOST_HELP)
@click.option("--log", type=click.Path(path_type=Path), metavar="FILE", help="Append Triton's log here (with --fleet: a folder).")
@click.option(
    "--ready-timeout",
    type=click.FloatRange(0, min_open=True),
    default=120,
    show_default=True,
    metavar="S",
    help="Give up loading after so many seconds.",
)
@click.option("--fleet", is_flag=True, help=FLEET_HELP)
@click.option("--replicas", metavar="PART=N,...", help=REPLICAS_HELP)
@click.option("--most", metavar="PART=N,...", help=MOST_HELP)
@click.option("--prometheus", is_flag=True, help=PROMETHEUS_HELP)
@click.option("--prometheus-port", metavar="N", type=click.IntRange(1, 65535), help="Of that Prometheus. Default: a free one.")
@click.option("--control-key", metavar="FILE", type=click.Path(path_type=Path), help=KEY_HELP)
@click.option("--open-control", is_flag=True, help=OPEN_HELP)
@click.option("--restart/--no-restart", default=True, show_default=True, help="Start the server again where it ends by itself.")
@click.option("--docker", is_flag=True, help="Only print the docker run that serves DIR on NVIDIA's image (ports: 8000, 8001, 8002).")
@click.option("--image", default=IMAGE, show_default=True, help="Image for --docker.")
@json_option
def command(
    repository: Path,
    models: tuple[str, ...],
    http_port: int | None,
    grpc_port: int | None,
    metrics_port: int | None,
    host: str,
    log: Path | None,
    ready_timeout: float,
    fleet: bool,
    replicas: str | None,
    most: str | None,
    prometheus: bool,
    prometheus_port: int | None,
    control_key: Path | None,
    open_control: bool,
    restart: bool,
    docker: bool,
    image: str,
    as_json: bool,
) -> None:
    """Serve the model repository DIR on a local Triton until Ctrl-C.

    The server is NVIDIA's, from the wheel nvidia-pytriton (pip install 'recsplit[local]'); models run on the CPU. With
    --json, one line of JSON says when it is ready and where. A server that ends by itself is started again, and an instance whose process
    died is replaced; both are told on standard error.

    With --fleet, every server is a process on this machine: the fronts, which clients ask, and those of each shard that the
    partition gave servers of its own. One that ends by itself is started again.
    """
    for option, counts in (("--replicas", replicas), ("--most", most)):
        if counts is not None and not fleet:
            raise InputError(f"{option} goes with --fleet", hint=f"recsplit serve DIR --fleet {option} 0=2,1=2")
    if prometheus_port is not None and not prometheus:
        raise InputError("--prometheus-port goes with --prometheus", hint="recsplit serve DIR --prometheus --prometheus-port 9090")
    if control_key is not None and open_control:
        raise InputError("--control-key closes what --open-control opens", hint="give one of the two")
    key = None if control_key is None else read_key(control_key)
    if fleet:
        from recsplit.commands import serve_fleet

        if open_control:
            raise InputError("nothing loads models in a fleet's servers", hint="leave out --open-control")
        if docker or http_port is not None or grpc_port is not None or metrics_port is not None or len(models) > 1:
            raise InputError(
                "--fleet takes free ports for its servers, and one --model",
                hint="leave out --docker, --http-port, --grpc-port, --metrics-port; the addresses are shown, and --json prints them",
            )
        serve_fleet.run(
            repository,
            models=models,
            replicas=replicas,
            host=host,
            logs=log,
            ready_timeout_s=ready_timeout,
            prometheus=prometheus,
            prometheus_port=prometheus_port,
            control_key=key,
            most=most,
            as_json=as_json,
        )
        return
    if docker:
        if key is not None:
            raise InputError(
                "--docker prints a command, and a key is no part of one",
                hint="put it into the two options that the command ends in: see docs/decisions/0011-instances-in-place.md",
            )
        if prometheus:
            raise InputError("--docker only prints a command, and --prometheus runs one", hint="recsplit render prometheus DIR -o FOLDER")
        _warn(host, http_port or PORTS[0], grpc_port or PORTS[1], metrics_port or PORTS[2], open_control=open_control)
        click.echo(
            docker_command(
                repository,
                models=models,
                http_port=http_port,
                grpc_port=grpc_port,
                metrics_port=metrics_port,
                host=host,
                image=image,
                open_control=open_control,
                engine=_engine(repository),
            )
        )
        return

    def start(before: Server | None = None) -> Server:
        http, grpc, metrics = (http_port, grpc_port, metrics_port) if before is None else before.ports()
        started = serve(
            repository,
            models=models,
            http_port=http,
            grpc_port=grpc,
            metrics_port=metrics,
            host=host,
            log=log,
            ready_timeout_s=ready_timeout,
            control_key=key if before is None else before.control_key,
            open_control=open_control,
        )
        if url is not None:
            notes.add_prometheus(started.running.folder, url)
        return started

    url: str | None = None
    watched = prometheus_beside.prepare(repository, models, prometheus_port) if prometheus else None
    with progress(f"Triton loads {repository}"):
        server = start()
    try:
        with server, contextlib.ExitStack() as stack:
            if watched is not None:
                url = prometheus_beside.start(stack, watched, lambda: [(None, server.metrics_url)])
                notes.add_prometheus(server.running.folder, url)
            _announce(server, repository, url, as_json=as_json)
            _warn(host, *server.ports(), open_control=open_control)
            if server.control_key is not None and shows(server.pid, server.control_key):
                click.echo(KEY_SHOWS, err=True)
            keep_up(server, start if restart else None, repository, lambda text: click.echo(text, err=True))
    except KeyboardInterrupt:
        click.echo("Stopped: what was in flight is answered, and nothing is left running.", err=True)


def _engine(repository: Path) -> Path | None:
    """The library of the engine that a model of the repository needs, made where it isn't yet; None where none does."""
    if not engine_needed(repository):
        return None
    from recsplit.engine import compilation

    reason = compilation.unavailable()
    if reason is not None:
        raise InputError(
            f"a model of {repository} is for recsplit's engine, and {reason}",
            hint="recsplit backend build says what is missing; or build with --embedding-runtime onnxruntime",
        )
    with steps() as show:
        return compilation.make(show).backend


def _warn(host: str, http: int, grpc: int, metrics: int, *, open_control: bool) -> None:
    """Say on standard error what is open to whom."""
    if open_control:
        addresses = f"port {http} or {grpc} of {'this machine' if _loopback(host) else host}"
        click.echo(click.style("Warning: " + OPEN.format(addresses=addresses, user=getpass.getuser()), fg="red"), err=True)
    if not _loopback(host):
        control = "open, too" if open_control else "closed"
        ipv6 = " (over IPv6, too)" if ipaddress.ip_address(ports.address(host)).is_unspecified else ""  # gRPC takes it so
        grpc_address = f"gRPC {host}:{grpc}{ipv6}"
        text = EVERYONE.format(http=f"HTTP {host}:{http}", grpc=grpc_address, metrics=f"{host}:{metrics}", control=control)
        click.echo(click.style(text, fg="yellow"), err=True)


def _loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name is taken for what it resolves to."""
    return ipaddress.ip_address(ports.address(host)).is_loopback


def _announce(server: Server, repository: Path, prometheus_url: str | None, *, as_json: bool) -> None:
    states = server.states()
    if as_json:
        names = ("http_url", "grpc_url", "metrics_url", "log", "pid")
        beside = {} if prometheus_url is None else {"prometheus_url": prometheus_url}
        click.echo(json.dumps({**{name: getattr(server, name) for name in names}, **beside, "models": states}, default=str))
        return
    addresses = [("HTTP", server.http_url), ("gRPC", server.grpc_url), ("metrics", server.metrics_url)]
    if prometheus_url is not None:
        addresses.append(("Prometheus", prometheus_url))
    show_table(("endpoint", "address"), addresses)
    show_table(("model", "state"), [(name, state or "not loaded") for name, state in states.items()])
    click.echo(f"\nTry it:\n  {curl(server.http_url, server.models[0])}")
    if prometheus_url is not None:
        click.echo(f"\nKeep it at the right size:\n  recsplit control {shlex.quote(str(repository))} --grpc-url {server.grpc_url}")
    click.echo(f"\nThe log is {server.log}. Ctrl-C stops the server.")
