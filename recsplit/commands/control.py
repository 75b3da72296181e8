"""The command `control`: keeps a served repository at the right size."""

import contextlib
import dataclasses
import logging
import signal
import threading
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from recsplit.commands.output import example, json_option, show_json
from recsplit.errors import InputError, RecsplitError

if TYPE_CHECKING:
    from recsplit_controller.observe.protocol import Observer
    from recsplit_controller.shell.loop import Loop
    from recsplit_controller.shell.systems import System
    from recsplit_controller.values.settings import Settings

POLICY_HELP = (
    "utilization: how busy; latency: a percentile within --bound-ms; elasticrec: throughput of lookups, latency of the rest; "
    "variants: which of a group's run, for accuracy and cost."
)
SETTINGS_HELP = (
    "Settings as TOML: their names at the top, and [targets.NAME] with minimum, maximum, cores, max_qps, group and accuracy. "
    "docs/controller.md"
)
PROMETHEUS_HELP = "Prometheus with the rules of `recsplit render prometheus`. Default: recsplit serve's own, where it runs one."
HTTP_HELP = "How it, or the page, wants to be asked: an http_config as Prometheus has it, with credentials, headers, certificates."
SELECT_HELP = "A label that the series of Prometheus must have, as namespace=shop. Repeatable; where several builds share a Prometheus."
METRICS_HELP = "A server's own metrics page, instead. Repeatable. Default: the page of the server that recsplit serve runs on DIR."
URL_HELP = "The server to act on. Default: the one that recsplit serve runs on DIR on this machine."
KEY_HELP = "The key to its model control. Default: the one that recsplit serve left for this user."
KUBERNETES_HELP = "Act on replicas of the Deployments that --settings names, in place of DIR. controller/README.md"
FLEET_HELP = "Act on servers of shards: the control folder that `recsplit serve --fleet --most` shows."
REPLAY_HELP = "Decide the ticks of this journal again and compare; with --policy or --settings: what these would have decided."
#: How long `--once` waits for what it has begun.
ONCE_S = 60.0


@click.command(
    epilog=example(
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/tiny",
        "recsplit serve /tmp/tiny &",
        "recsplit control /tmp/tiny --journal /tmp/control.jsonl",
    )
)
@click.argument("repository", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--model", metavar="NAME", help="The ensemble, where DIR has several.")
@click.option("--prometheus", "prometheus_url", metavar="URL", help=PROMETHEUS_HELP)
@click.option("--prometheus-http", "http_file", metavar="FILE.yml", type=click.Path(path_type=Path), help=HTTP_HELP)
@click.option("--select", "selects", metavar="LABEL=VALUE", multiple=True, help=SELECT_HELP)
@click.option("--metrics-url", "metrics_urls", metavar="URL", multiple=True, help=METRICS_HELP)
@click.option("--grpc-url", metavar="HOST:PORT", help=URL_HELP)
@click.option("--control-key", metavar="FILE", type=click.Path(path_type=Path), help=KEY_HELP)
@click.option("--settings", "settings_file", metavar="FILE.toml", type=click.Path(path_type=Path), help=SETTINGS_HELP)
@click.option("--policy", type=click.Choice(["utilization", "latency", "elasticrec", "variants"]), help=POLICY_HELP)
@click.option("--bound-ms", type=click.FloatRange(0, min_open=True), help="What the ensemble's percentile must stay within.")
@click.option("--fleet", metavar="FOLDER", type=click.Path(path_type=Path), help=FLEET_HELP)
@click.option("--kubernetes", is_flag=True, help=KUBERNETES_HELP)
@click.option("--namespace", metavar="NAME", help="In Kubernetes. Default: the one of kubectl, or the pod's own.")
@click.option("--lease", metavar="NAME", default="recsplit-controller", show_default=True, help="In Kubernetes: who holds it acts.")
@click.option("--dry-run", is_flag=True, help="Decide, and do nothing.")
@click.option("--once", is_flag=True, help="One decision, with what follows from it, and end.")
@click.option("--journal", metavar="FILE", type=click.Path(path_type=Path), help="Append every tick here as a line of JSON.")
@click.option("--replay", metavar="FILE", type=click.Path(path_type=Path), help=REPLAY_HELP)
@click.option("--host", metavar="H", default="127.0.0.1", show_default=True, help="Address of its own metrics and health.")
@click.option("--port", metavar="N", type=click.IntRange(0, 65535), default=0, help="Of its own metrics and health. Default: a free one.")
@json_option
def command(
    repository: Path | None,
    model: str | None,
    prometheus_url: str | None,
    http_file: Path | None,
    selects: tuple[str, ...],
    metrics_urls: tuple[str, ...],
    grpc_url: str | None,
    control_key: Path | None,
    settings_file: Path | None,
    policy: str | None,
    bound_ms: float | None,
    fleet: Path | None,
    kubernetes: bool,
    namespace: str | None,
    lease: str,
    dry_run: bool,
    once: bool,
    journal: Path | None,
    replay: Path | None,
    host: str,
    port: int,
    as_json: bool,
) -> None:
    """Keep the models of DIR, which a Triton serves, at the right number of instances.

    Sees the server through Prometheus or its own metrics page, decides every few seconds, and changes instance counts
    (workers, of what recsplit's engine runs); no request is lost by that. Runs until Ctrl-C, and leaves what runs as it is.
    What is decided is on stdout, and with --json every tick is a line of JSON; logs are on stderr.
    """
    if replay is not None:
        _replay(replay, settings_file, policy, bound_ms, as_json=as_json)
        return
    if repository is None and not kubernetes:
        raise InputError("there is no DIR", hint="recsplit control DIR, the repository that the server serves; or --replay FILE")
    if prometheus_url is not None and metrics_urls:
        raise InputError("--prometheus and --metrics-url are two ways to see one server", hint="give one of them")
    from recsplit.commands.control_seen import observer_of, refuse_users

    refuse_users(prometheus_url, metrics_urls)
    if fleet is not None and (kubernetes or control_key is not None):
        raise InputError(
            "--fleet goes without --kubernetes and --control-key", hint="recsplit control DIR --fleet FOLDER --metrics-url URL"
        )
    if kubernetes and repository is not None:
        raise InputError("--kubernetes needs no DIR", hint="Deployments are named in --settings FILE.toml")
    if repository is not None and fleet is None:
        grpc_url, prometheus_url, metrics_urls = _server(repository, grpc_url, prometheus_url, metrics_urls)
    if prometheus_url is None and not metrics_urls:
        raise InputError(
            "give --prometheus URL or --metrics-url URL, one of them",
            hint="recsplit serve shows the address of its metrics; with --prometheus it runs a Prometheus, too",
        )
    options = partial(_with, policy=policy, bound_ms=bound_ms)
    with contextlib.ExitStack() as stack:
        from recsplit_controller.shell import systems

        if kubernetes:
            opened = systems.deployments(settings_file, options=options, namespace=namespace, lease=lease, dry_run=dry_run)
        elif fleet is not None:
            assert repository is not None
            opened = systems.fleet(repository, fleet, model=model, settings_file=settings_file, options=options, dry_run=dry_run)
        else:
            assert repository is not None and grpc_url is not None
            opened = systems.server(
                repository,
                model=model,
                settings_file=settings_file,
                options=options,
                grpc_url=grpc_url,
                key=control_key,
                dry_run=dry_run,
            )
        system = stack.enter_context(opened)
        observer = observer_of(prometheus_url, metrics_urls, http_file, selects, system)
        stack.callback(observer.close)
        looks = 2 if metrics_urls else 1
        _run(stack, system, observer, journal, (host, port), once=once, looks=looks, as_json=as_json)


def _server(
    repository: Path, grpc_url: str | None, prometheus_url: str | None, metrics_urls: tuple[str, ...]
) -> tuple[str, str | None, tuple[str, ...]]:
    """Where the server is and where it is seen; what wasn't said is what recsplit serve left word of."""
    from recsplit.serving import notes

    known = notes.only(repository) if grpc_url is None else notes.at(grpc_url)
    if known is None:
        assert grpc_url is not None
        return grpc_url, prometheus_url, metrics_urls
    if prometheus_url is None and not metrics_urls:
        prometheus_url, metrics_urls = known.prometheus_url, () if known.prometheus_url else (known.metrics_url,)
    return known.grpc_url, prometheus_url, metrics_urls


def _with(settings: "Settings", *, policy: str | None, bound_ms: float | None) -> "Settings":
    """The settings with the options that were given."""
    options = {"policy": policy, "bound_ms": bound_ms}
    return dataclasses.replace(settings, **{name: value for name, value in options.items() if value is not None})  # type: ignore[arg-type]


def _run(
    stack: contextlib.ExitStack,
    system: "System",
    observer: "Observer",
    journal: Path | None,
    listen: tuple[str, int],
    *,
    once: bool,
    looks: int,
    as_json: bool,
) -> None:
    """Run the loop, and show what it does."""
    from recsplit.commands.control_seen import memory_of
    from recsplit.commands.control_shown import Changes, Last, Lines, show_begin, show_tick
    from recsplit_controller.shell.health import Health, HealthServer
    from recsplit_controller.shell.journal import Journal
    from recsplit_controller.shell.leading import Leading
    from recsplit_controller.shell.logs import start_logs, stop_logs
    from recsplit_controller.shell.loop import Loop
    from recsplit_controller.shell.metrics import Meters

    settings, targets, last = system.asked.settings, system.asked.targets, Last()
    meters = Meters(settings, targets)
    ticks = None if journal is None else stack.enter_context(Journal(journal, settings, targets, forecaster=system.forecaster.digest))
    stack.callback(stop_logs, start_logs(level=logging.WARNING if once else logging.INFO))
    stop = _stopping(stack)
    shows = [meters, last if once else Lines() if as_json else Changes()]
    loop = Loop(settings, system.forecaster, targets, observer, system.actuator, ticks, shows, memory=memory_of(system, observer))
    if system.lease is None:
        meters.lead(True)
    else:
        loop.may = Leading(system.lease, meters)
    if once:
        loop.run(stop, ticks=looks)
        _finish(loop, stop)
        if last.record is None:
            raise RecsplitError("nothing was decided", hint="the log on stderr says why")
        show_json(last.record) if as_json else show_tick(last.record)
        if last.record.observation.data_s is None:
            raise RecsplitError(
                "nothing was seen, so nothing was decided",
                hint="; ".join(last.record.observation.problems) or "does the server run, and does it have these models?",
            )
        return
    server = HealthServer(meters, Health(meters, settings.interval_s), host=listen[0], port=listen[1])
    stack.callback(server.close)
    if not as_json:
        show_begin(targets, settings, {"own metrics and health": server.url} | ({} if journal is None else {"journal": str(journal)}))
    loop.run(stop)


def _finish(loop: "Loop", stop: threading.Event) -> None:
    """Wait until what was begun has ended."""
    deadline_s = time.monotonic() + ONCE_S
    waiting = {target for target, progress in loop.state.progress.items() if progress.under_way}
    while waiting and not stop.is_set() and time.monotonic() < deadline_s:
        for outcome in loop.actuator.outcomes():
            waiting.discard(outcome.action.target)
            if outcome.error is not None:
                raise RecsplitError(f"{outcome.action.target}: {outcome.error}", hint="what ran before runs still")
        stop.wait(0.05)


def _stopping(stack: contextlib.ExitStack) -> threading.Event:
    """An event that the first SIGTERM or Ctrl-C sets; a second one interrupts."""
    stop = threading.Event()

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler)
        # Not here: the interrupted code may hold the event's lock.
        threading.Thread(target=stop.set, daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        stack.callback(signal.signal, number, signal.signal(number, end))
    return stop


def _replay(path: Path, file: Path | None, policy: str | None, bound_ms: float | None, *, as_json: bool) -> None:
    """Decide a journal again, and tell. Raises RecsplitError where the same settings gave other decisions."""
    from recsplit.commands.control_shown import show_replay
    from recsplit_controller.shell.journal import latest
    from recsplit_controller.shell.replay import replay
    from recsplit_controller.targets.targets import read_settings

    session = latest(path)
    other = (file, policy, bound_ms) != (None, None, None)
    settings = _with(session.settings if file is None else read_settings(file, session.targets).settings, policy=policy, bound_ms=bound_ms)
    replayed = replay(session, settings if other else None)
    show_json(replayed) if as_json else show_replay(session, replayed, other=other)
    if not other and (replayed.differences or replayed.actions):
        raise RecsplitError(
            f"{len(replayed.differences)} decisions and the actions of {replayed.actions} ticks are others than they were",
            hint="the journal was written by another version of recsplit, or was changed",
        )
