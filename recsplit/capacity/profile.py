"""A profile: what a build was measured to cost on one machine, and the straight lines through it.

Frozen values and their JSON; recsplit_perf.profile.profiling measures them. Latency is in ms and sizes in rows throughout. Every
curve keeps its raw samples, so that the simulator can draw from them and a reader can fit something else.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recsplit.disk import bounded
from recsplit.errors import InputError
from recsplit.plan.plan import Role
from recsplit.plan.strict_json import read_json

SCHEMA = 2
#: A shorter time was not measured: a clock is read in a tenth of it.
SHORTEST_MS = 1e-4
#: Of a profile's text: as many samples as a thousand rounds of `recsplit profile` take.
MOST_BYTES = 1 << 27


@dataclass(frozen=True)
class Fit:
    """latency = a_ms + b_ms * x. `r2` is the share of the medians' variance that the line explains.

    Service times of recommenders are affine in every one of the papers: ElasticRec figure 9 (x: gathers), DeepRecSys and
    RIBBON (x: batch).
    """

    a_ms: float
    b_ms: float
    r2: float

    def ms(self, x: float) -> float:
        """Latency at `x`, in ms."""
        return self.a_ms + self.b_ms * x


@dataclass(frozen=True)
class Curve:
    """Latency against rows: `samples_ms[i]` are single executions at `x[i]` rows, in the order in which they were taken; x rises."""

    x: tuple[int, ...]
    samples_ms: tuple[tuple[float, ...], ...]
    fit: Fit

    @property
    def median_ms(self) -> tuple[float, ...]:
        """The median at each x."""
        return tuple(float(np.median(samples)) for samples in self.samples_ms)


@dataclass(frozen=True)
class PartProfile:
    """One sub-model, one instance, no batch but its own.

    `alone`: what an execution keeps the instance busy, on one core while the others idle; `contended`: while another core
    runs the same sub-model, None where that was not measured; `client`: a direct call of it, as a client sees it. `cores`: processor
    time of its instances' processes over the time that they are busy; the rest of that time Triton itself moves tensors. `pss_bytes`:
    memory of these processes, shared pages divided among those that share them; `load_s`: from the load call until it is ready, files
    in the page cache.
    """

    name: str
    role: Role
    instances: int
    threads: int
    alone: Curve
    contended: Curve | None
    client: Curve
    cores: float
    pss_bytes: int
    load_s: float


@dataclass(frozen=True)
class Profile:
    """What one version of one ensemble costs.

    `whole`: a query's latency at the client, one at a time with pauses, every sub-model and all that lies between included. `overhead_ms`:
    what is left of that at its fewest rows without the sub-models' own time. `cpu_ms`: processor time of one query at each x of
    `whole` outside the sub-models' processes, in Triton itself and the client, with several queries on their way: under load, threads
    that find the next query waiting sleep and wake less often. Bytes are those of the messages on the wire. `gathers_per_row`: table
    rows that one row reads, in the mean of the inputs used. `server_pss_bytes`: Triton without the sub-models' processes.
    """

    model: str
    version: int
    build: str
    max_batch_size: int
    queue_delay_us: int
    provenance: Mapping[str, Any]
    parts: tuple[PartProfile, ...]
    whole: Curve
    cpu_ms: tuple[float, ...]
    overhead_ms: float
    request_bytes_per_row: float
    response_bytes_per_row: float
    gathers_per_row: float
    server_pss_bytes: int
    schema: int = SCHEMA

    def part(self, role: Role) -> PartProfile:
        """The sub-model of a role. Raises InputError where the profile has none."""
        for part in self.parts:
            if part.role == role:
                return part
        raise InputError(f"the profile of {self.model!r} has no {role} model", hint="recsplit profile DIR measures both")


def others_at_work(profile: Profile) -> str | None:
    """A warning where the machine had more work than cores when its profile was begun: what others did is in the times then."""
    machine = profile.provenance.get("machine", {})
    load, cores = (machine.get("load_average") or [0.0])[0], machine.get("cores", 0)
    if not cores or not load > cores:
        return None
    return (
        f"Warning: when {profile.model!r} was profiled, {load:g} processes were at work on {cores} cores before it began; its times hold "
        "what they took. Profile it again on a quiet machine."
    )


def fit(x: Sequence[int], samples_ms: Sequence[Sequence[float]]) -> Fit:
    """The line through the medians that makes relative errors small: each point weighs 1 / its median.

    Unweighted, a batch of 2048 rows would decide the line alone, and `a_ms` would be noise. A single x says nothing of the
    slope: then b_ms is 0. Raises ValueError without points, for unequal lengths, an x without samples, or a time that isn't positive.
    """
    if not x or len(x) != len(samples_ms) or not all(len(samples) for samples in samples_ms):
        raise ValueError("a fit needs one x or more, with samples at each")
    medians = np.array([np.median(samples) for samples in samples_ms])
    if not (medians > 0).all():
        raise ValueError("times must be positive")
    if len(set(x)) == 1:
        return Fit(float(np.median(medians)), 0.0, 1.0)
    matrix = np.stack([np.ones(len(x)), np.asarray(x, dtype=np.float64)], axis=1)
    (a_ms, b_ms), *_ = np.linalg.lstsq(matrix / medians[:, None], np.ones(len(x)), rcond=None)
    residual = ((medians - matrix @ (a_ms, b_ms)) ** 2).sum()
    spread = ((medians - medians.mean()) ** 2).sum()
    return Fit(float(a_ms), float(b_ms), float(1 - residual / spread) if spread > 0 else 1.0)


def curve(x: Sequence[int], samples_ms: Sequence[Sequence[float]]) -> Curve:
    """A curve with its fit. Raises ValueError as `fit` does, and where x does not rise."""
    if any(low >= high for low, high in itertools.pairwise(x)):
        raise ValueError("x must rise")
    return Curve(tuple(x), tuple(tuple(map(float, samples)) for samples in samples_ms), fit(x, samples_ms))


def to_json(profile: Profile) -> str:
    """The profile as JSON that ends in a newline: one line a curve point would be thousands, so only the outer keys are indented."""
    fields = dataclasses.asdict(profile)
    return "{\n" + ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in fields.items()) + "\n}\n"


def read(path: Path) -> Profile:
    """Read the profile in a file. Raises InputError as `from_json` does, and where there is no such text."""
    text = bounded.read_text(path, MOST_BYTES, hint="recsplit profile DIR -o profile.json writes one")
    return from_json(text, origin=str(path))


def from_json(text: str, *, origin: str = "profile.json") -> Profile:
    """Read a profile strictly. Raises InputError as `recsplit.plan.strict_json.read_json` does, and for a curve without points."""
    profile = read_json(Profile, text, schema=SCHEMA, origin=origin, again="measure it again: recsplit profile DIR")
    curves = [
        profile.whole,
        *(
            measured_curve
            for part in profile.parts
            for measured_curve in (part.alone, part.contended, part.client)
            if measured_curve is not None
        ),
    ]
    for measured_curve in curves:
        try:
            curve(measured_curve.x, measured_curve.samples_ms)
        except ValueError as error:
            raise InputError(f"{origin}: a curve can't be used: {error}", hint="measure it again: recsplit profile DIR") from error
        shortest_ms = min(map(min, measured_curve.samples_ms))
        if not shortest_ms >= SHORTEST_MS or not math.isfinite(max(map(max, measured_curve.samples_ms))):
            raise InputError(
                f"{origin}: a curve holds a time of {shortest_ms:g} ms, and no server answers in less than {SHORTEST_MS:g} ms"
                if not shortest_ms >= SHORTEST_MS
                else f"{origin}: a curve holds a time without end",
                hint="measure it again: recsplit profile DIR",
            )
    if len(profile.cpu_ms) != len(profile.whole.x):
        raise InputError(f"{origin}: cpu_ms needs one number for each x of whole", hint="measure it again: recsplit profile DIR")
    return profile
