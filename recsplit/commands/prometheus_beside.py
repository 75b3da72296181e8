"""The option --prometheus of `recsplit serve`: a Prometheus with the build's own scrape configuration and rules."""

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from recsplit.commands.output import progress
from recsplit.plan.plan import Plan

Pages = Sequence[tuple[str | None, str]]
_LOOK_S = 0.5


@dataclass(frozen=True)
class Prepared:
    """What is known before servers start: the binary, the plan whose rules it is given, and its port, None: a free one."""

    binary: Path
    plan: Plan
    port: int | None = None


def prepare(repository: Path, models: Sequence[str], port: int | None) -> Prepared:
    """Look for both. Raises InputError where there is no Prometheus, or not one build to watch."""
    from recsplit.repository.find import find
    from recsplit.serving import prometheus

    return Prepared(prometheus.find(), find(repository, models[0] if models else None).plan, port)


def start(stack: contextlib.ExitStack, prepared: Prepared, pages: Callable[[], Pages]) -> str:
    """Start one until `stack` ends; gives its URL. `pages`: part of the fleet, or None, and metrics URL of each server that runs now.

    Servers don't need it: where it ends by itself, that is told, and they go on.
    """
    from recsplit.monitoring.rendering import TARGETS, render, targets
    from recsplit.monitoring.watching import Scraped, Watching
    from recsplit.serving import prometheus

    def servers() -> tuple[Scraped, ...]:
        return tuple(Scraped(url.removeprefix("http://").removesuffix("/metrics"), part) for part, url in pages())

    known = servers()
    with progress("Prometheus starts"):
        running = prometheus.start(prepared.binary, render(prepared.plan, Watching(known)), port=prepared.port)
    ending = threading.Event()
    stack.callback(running.stop)
    stack.callback(ending.set)  # the last one in is the first one to run

    def watch(shown: tuple[Scraped, ...]) -> None:
        while not ending.wait(_LOOK_S):
            if (code := running.process.poll()) is not None:
                click.echo(f"Prometheus ended by itself (exit status {code}); the servers go on without it", err=True)
                return
            if (now := servers()) != shown:  # a fleet has more servers, or fewer
                with contextlib.suppress(FileNotFoundError):  # it was stopped in this moment, and its folder is gone
                    running.put(TARGETS, targets(now))
                shown = now

    threading.Thread(target=watch, args=(known,), daemon=True, name="recsplit-prometheus").start()
    return running.url
