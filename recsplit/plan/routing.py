"""What a router does with queries: the variants that answer them, their servers and shares, and where large queries go.

Frozen values, which lie as JSON in the router's version folder (routing.json) and go to a running router; backends/native/router.h reads
them.
"""

import dataclasses
import json
import re
from dataclasses import dataclass

from recsplit.errors import InputError
from recsplit.plan.strict_json import read_json

SCHEMA = 1
#: What a request is thought to take where nobody said: the router corrects the scale by what it sees.
A_MS, B_MS = 1.0, 0.01


@dataclass(frozen=True)
class Server:
    """A model of the router's own server (`address` empty), or of another one at host:port of its HTTP.

    `version` -1: the newest. A request of r rows is thought to take a_ms + b_ms * r there, `at_once` requests at a time; the router
    corrects the scale of that by what it sees.
    """

    model: str
    version: int
    address: str
    a_ms: float
    b_ms: float
    at_once: int


@dataclass(frozen=True)
class Variant:
    """One of several models that can answer.

    `weight`: its share of the queries, of the sum of all; 0: none but large ones, where they are its. `split_rows`: a larger query goes out
    in parts; 0: none does. `accuracy` of its answers, in [0, 1], and `max_qps`, the queries a second that one worker of it sustains: where
    they were measured, for a controller that chooses among variants.
    """

    name: str
    weight: float
    split_rows: int
    servers: tuple[Server, ...]
    accuracy: float | None = None
    max_qps: float | None = None


@dataclass(frozen=True)
class Routing:
    """`large_rows`: queries of at least so many rows go to `large_variant` (0: none). `deadline_ms`: of queries whose client names no
    deadline; 0: none. `timeout_ms`: how long a server elsewhere is waited for before another is asked."""

    variants: tuple[Variant, ...]
    large_rows: int = 0
    large_variant: str = ""
    deadline_ms: float = 0.0
    timeout_ms: int = 10_000
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise InputError(f"two variants have one name: {', '.join(names)}", hint="give each a name of its own")
        if not any(variant.weight > 0 for variant in self.variants):
            raise InputError("no variant has a weight above 0", hint="queries that aren't large go to those that have one")
        if self.large_rows and self.large_variant not in names:
            raise InputError(f"large queries go to {self.large_variant!r}, which is no variant", hint=f"variants: {', '.join(names)}")
        servers = [(server.model, server.version, server.address) for variant in self.variants for server in variant.servers]
        for server in servers:
            if servers.count(server) > 1:
                raise InputError(f"the model {server[0]!r} is named twice for one server", hint="name each once, for one variant")
            if not re.fullmatch(r"[\w.-]+", server[0], re.ASCII):  # it goes into the head of an HTTP request
                raise InputError(f"a model can't be named {server[0]!r}", hint="letters, digits, '.', '_' and '-'")
        for variant in self.variants:
            if variant.accuracy is not None and not 0 <= variant.accuracy <= 1:
                raise InputError(f"variant {variant.name!r} has the accuracy {variant.accuracy:g}", hint="from 0 to 1, as in 0.79")
            if variant.max_qps is not None and not 0 < variant.max_qps < float("inf"):
                raise InputError(f"variant {variant.name!r} sustains {variant.max_qps:g} queries/s", hint="more than 0")
            if not variant.servers:
                raise InputError(f"variant {variant.name!r} has no server", hint="name a model that answers for it")


def to_json(routing: Routing) -> str:
    """The settings as JSON, in one line."""
    return json.dumps(dataclasses.asdict(routing), separators=(",", ":")) + "\n"


def from_json(text: str, *, origin: str) -> Routing:
    """Read settings strictly. Raises InputError where they can't be."""
    return read_json(Routing, text, schema=SCHEMA, origin=origin, again="write it again")
