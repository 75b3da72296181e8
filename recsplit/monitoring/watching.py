"""What the user says of the watching: which servers, how often, how far back, and the bound that alerts hold queries to."""

import re
from dataclasses import dataclass

from recsplit.errors import InputError
from recsplit.monitoring.names import JOB

_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]{1,5}")
#: What may stand between quotes in YAML and PromQL without escapes.
_LABEL = re.compile(r"[A-Za-z0-9_./-]{1,200}")


@dataclass(frozen=True)
class Scraped:
    """A server whose page is read: host:port, and its part of a fleet ("front", "0"), or None."""

    address: str
    part: str | None = None


@dataclass(frozen=True)
class Watching:
    """Settings of all that is rendered.

    `servers`: Triton's metrics ports; `controllers`: those of recsplit's controller. Pages are read and rules evaluated every `interval_s`
    seconds; rates look back `window_s`. `bound_ms`: what 95 of 100 queries must stay within (None: no alert on latency). `jobs`: the
    scrape jobs that read the servers; a PodMonitor's is "namespace/name".
    """

    servers: tuple[Scraped, ...] = ()
    controllers: tuple[str, ...] = ()
    interval_s: int = 2
    window_s: int = 10
    bound_ms: float | None = None
    jobs: tuple[str, ...] = (JOB,)

    def __post_init__(self) -> None:
        for address in (*(server.address for server in self.servers), *self.controllers):
            if not _ADDRESS.fullmatch(address):
                raise InputError(f"{address!r} is no address that Prometheus can scrape", hint="as 127.0.0.1:8002, without http://")
        if self.interval_s < 1 or self.window_s < 2 * self.interval_s:
            raise InputError(
                f"a window of {self.window_s} s at a scrape every {self.interval_s} s gives no rates",
                hint="a rate needs two scrapes; four or more are better",
            )
        for job in self.jobs:
            if not _LABEL.fullmatch(job):
                raise InputError(f"{job!r} is no name of a scrape job", hint="as recsplit, or shop/shop-front of a PodMonitor")

    @property
    def match(self) -> str:
        """The matcher of the servers' series."""
        if len(self.jobs) == 1:
            return f'job="{self.jobs[0]}"'
        return f'job=~"{"|".join(job.replace(".", "[.]") for job in self.jobs)}"'
