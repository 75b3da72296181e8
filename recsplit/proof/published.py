"""Verifying a published repository again: finds the build, runs its recorded cases through every stage asked for."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsplit.client import Client
from recsplit.load import Example, ModelSource, load
from recsplit.load.rounded import with_rounded_rows
from recsplit.plan.files import REFERENCES_FILE
from recsplit.plan.plan import Plan
from recsplit.proof import cases as reference
from recsplit.proof import stages
from recsplit.proof.parts import Array, Run
from recsplit.repository.find import find
from recsplit.serving import serve


@dataclass(frozen=True, repr=False)
class Proof:
    """What every comparison found; iterating gives the comparisons."""

    differences: tuple[stages.Difference, ...]

    @property
    def ok(self) -> bool:
        """Whether all hold."""
        return all(difference.ok for difference in self.differences)

    def __iter__(self) -> Iterator[stages.Difference]:
        return iter(self.differences)

    def __len__(self) -> int:
        return len(self.differences)

    def __repr__(self) -> str:
        bad = [difference for difference in self.differences if not difference.ok]
        worst = max((difference.relative for difference in self.differences), default=0.0)
        text = f"{len(bad)} of {len(self)} comparisons do not hold" if bad else f"{len(self)} comparisons hold"
        return f"<Proof: {text}, largest relative difference {worst:.1e}>"

    def _repr_html_(self) -> str:
        return stages.differences_html(self.differences)


def verify(
    repository: str | os.PathLike[str],
    *,
    model: str | None = None,
    source: ModelSource | None = None,
    example_inputs: Example | None = None,
    weights: str | os.PathLike[str] | None = None,
    served: bool = False,
    grpc_url: str | None = None,
    http_url: str | None = None,
    repeats: int = 3,
) -> Proof:
    """Differences at every stage: recorded or fresh source, whole graph, parts, and the server if asked for.

    Args:
        repository: the model repository, or what `recsplit.build` returned; `model` names the ensemble where it holds several.
        source: run this source again (with `weights`, or an nn.Module with `example_inputs`) and compare it with the recorded outputs.
        served: start a local Triton for the time of the comparison.
        grpc_url, http_url: a running server to ask instead.
        repeats: runs of each case from each thread.
    """
    folder = Path(repository)
    build = find(folder, model)
    cases = reference.recorded(build.folder / REFERENCES_FILE)
    differences = []
    if source is not None:
        loaded = load(source, weights=None if weights is None else Path(weights), example=example_inputs)
        dtypes = {value.name or "": np.dtype(value.dtype.numpy()) for value in loaded.model.graph.inputs if value.dtype is not None}
        # Beside the repository, as in a build: the system's folder for temporary files may be small, or in memory.
        room = folder.parent if os.access(folder.parent, os.W_OK) else Path(tempfile.gettempdir())
        run = with_rounded_rows(loaded, build.plan.losses, room)
        again = reference.by_source(build.plan, run, dtypes)
        differences += stages.check(
            "source - recorded", cases, again, limit=build.plan.tolerance, rounding=stages.rounding_of(folder, build.plan)
        )
    differences += stages.parts(folder, build.plan, cases, repeats=repeats)
    with contextlib.ExitStack() as stack:
        if served:
            server = stack.enter_context(serve(folder, models=(build.plan.name,)))
            grpc_url, http_url = server.grpc_url, server.http_url
        runs: dict[str, Run] = {}
        if grpc_url is not None:
            runs["gRPC"] = _asking(stack.enter_context(Client(grpc_url, build.plan.name, protocol="grpc")), build.plan)
        if http_url is not None:
            runs["HTTP"] = _asking(stack.enter_context(Client(http_url, build.plan.name, protocol="http")), build.plan)
        differences += stages.served(folder, build.plan, cases, runs, repeats=repeats)
    return Proof(tuple(differences))


def _asking(client: Client, plan: Plan) -> Run:
    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return client.infer({tensor.name: inputs[tensor.name] for tensor in plan.inputs})

    return run
