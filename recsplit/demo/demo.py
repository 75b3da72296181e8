"""The demo: a ranker trained on a click log, and the commands that take it to a loaded server.

Training and scoring happen here; everything after it is a command line that the user could type, run as a process
of its own. Showing does not belong here.
"""

import contextlib
import importlib.util
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsplit.accuracy import ranking
from recsplit.client import Client
from recsplit.disk.files import whole_file
from recsplit.errors import MissingExtra, RecsplitError
from recsplit.plan.files import MODEL_FILE
from recsplit.repository.find import find
from recsplit.serving import Server, triton
from recsplit.serving.own_group import OWN_GROUP

if TYPE_CHECKING:
    from recsplit.demo.click_log import ClickLog

NAME = "ranker"
WEIGHTS = "weights.safetensors"
#: The held-out impressions, as `recsplit build --eval` takes them.
EVALUATION = "eval.npz"
REPOSITORY = "model_repository"
WORKLOAD = "workload.toml"
REPORT = "report.html"
_WORKLOAD = """\
# What the demo's report offers to the ranker: query sizes of DeepRecSys, true Poisson arrivals, ids as skewed as a shop's.
name = "demo"
seed = 1

[latency]
bound_ms = 25.0
percentile = 95

[sizes]
law = "lognormal"
mu = 5.1
sigma = 0.2

[arrivals]
process = "poisson"
rate = 100.0

[ids]
law = "zipf"
alpha = 1.05
"""

#: The synthetic log: enough impressions that one pass comes near what the true probabilities reach.
IMPRESSIONS = 2_000_000
HELD_OUT = 100_000
#: How long a command may take to clear up.
END_S = 20.0


@dataclass(frozen=True)
class Trained:
    """A trained ranker: its factory and weights as `recsplit build` takes them, and how well it ranks `held_out`.

    `auc` and `reference_auc` are areas under the ROC curve on the held-out impressions; `reference_name` says what
    the reference is: the true click probabilities, which nothing can beat, or a baseline.
    """

    source: str
    weights: Path
    impressions: int
    held_out: "ClickLog"
    click_share: float
    auc: float
    reference_auc: float
    reference_name: str
    seconds: float


#: Told of so many more impressions, as they are learned from.
Advance = Callable[[int], None]


def require() -> None:
    """Refuse before a minute of training what would fail after it. Raises MissingExtra."""
    for package in ("torch", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "torch", "the demo, which trains a model,")
    triton.find()


def logs(*, movielens: bool, impressions: int = IMPRESSIONS, held_out: int = HELD_OUT) -> tuple["ClickLog", "ClickLog"]:
    """(training, held-out) impressions: synthetic, or MovieLens-100k from the installed recbole. Raises InputError without that."""
    from recsplit.demo import click_log
    from recsplit.demo import movielens as ml
    from recsplit.zoo import ranker

    if movielens:
        return ml.read(ml.find())
    log = click_log.synthetic(ranker.CLICKS, impressions + held_out)
    return log.rows(slice(0, impressions)), log.rows(slice(impressions, None))


def train(log: "ClickLog", held_out: "ClickLog", folder: Path, *, movielens: bool, advance: Advance) -> Trained:
    """Fit the ranker and write its weights into `folder`. `advance` is told of each impression seen: `epochs` times the log."""
    from recsplit.demo import training
    from recsplit.zoo import ranker

    start = time.monotonic()
    sizes = ranker.MOVIELENS if movielens else ranker.CLICKS
    batch, rate = (256, 2e-3) if movielens else (1024, 1e-2)
    model = training.train(log, sizes, epochs=epochs(movielens=movielens), batch=batch, rate=rate, advance=advance)
    weights = folder / WEIGHTS
    training.save(model, weights)
    with whole_file(folder / EVALUATION) as file:
        np.savez(file, label=held_out.clicked, **held_out.inputs())
    return Trained(
        source=f"{ranker.__name__}:{'movielens' if movielens else 'clicks'}",
        weights=weights,
        impressions=len(log),
        held_out=held_out,
        click_share=float(held_out.clicked.mean()),
        auc=_auc(training.predict(model, held_out), held_out),
        reference_auc=_auc(held_out.reference, held_out),
        reference_name=held_out.reference_name,
        seconds=time.monotonic() - start,
    )


def epochs(*, movielens: bool) -> int:
    """Passes over the training log."""
    return 4 if movielens else 1


def served_auc(server: Server, held_out: "ClickLog") -> float:
    """The AUC of what the server answers for the held-out impressions, asked over gRPC as any client would."""
    with Client(server.grpc_url, NAME, timeout_s=60) as client:
        (scores,) = client.infer(held_out.inputs()).values()
    return _auc(scores.reshape(-1), held_out)


def _auc(scores: NDArray[Any], held_out: "ClickLog") -> float:
    return ranking.auc(held_out.clicked > 0, scores.astype(np.float64))


def command_lines(trained: Trained, folder: Path) -> dict[str, list[str]]:
    """The commands before there is a server, by name, as arguments of `recsplit`."""
    source = [trained.source, "--weights", str(trained.weights)]
    return {"inspect": ["inspect", *source], "build": ["build", *source, "-o", str(folder / REPOSITORY), "--name", NAME]}


def served_command_lines(server: Server, folder: Path, *, seconds: float) -> dict[str, list[str]]:
    """The commands that ask the running server."""
    repository = str(folder / REPOSITORY)
    return {
        "verify": ["verify", repository, "--grpc-url", server.grpc_url, "--http-url", server.http_url],
        "perf": ["perf", "run", repository, "--url", server.grpc_url, "--seconds", f"{seconds:g}"],
    }


def control_command_line(server: Server, folder: Path) -> list[str]:
    """The command that decides once, under load, how many instances there should be."""
    return ["control", str(folder / REPOSITORY), "--metrics-url", server.metrics_url, "--grpc-url", server.grpc_url, "--once"]


def report_command_line(folder: Path, *, seconds: float) -> list[str]:
    """The command that profiles the build, offers it a workload at five rates, and draws what came of it. Writes the workload."""
    with whole_file(folder / WORKLOAD) as file:
        file.write(_WORKLOAD.encode())
    chosen = ["--workload", str(folder / WORKLOAD), "--seconds", f"{seconds:g}", "-o", str(folder / REPORT)]
    return ["report", str(folder / REPOSITORY), *chosen]


def run(arguments: Sequence[str], *, as_json: bool) -> Any:
    """Run `recsplit ARGUMENTS`; its words go where ours go, or with `as_json` its result is returned.

    Raises RecsplitError where it fails; it has said why itself, on stderr.
    """
    with begun(arguments, as_json=as_json) as ended:
        return ended()


@contextlib.contextmanager
def begun(arguments: Sequence[str], *, as_json: bool) -> Iterator[Callable[[], Any]]:
    """`run` beside something else: yields what waits for its end, and gives what `run` does. Ended where that isn't called."""
    command = [sys.executable, "-m", "recsplit", *arguments, *(["--json"] if as_json else [])]

    def ended() -> Any:
        text, _ = process.communicate()
        if process.returncode != 0:
            raise RecsplitError(f"`{typed(arguments)}` failed", hint="what it said is above")
        return json.loads(text) if as_json else None

    # In a group of its own: a Ctrl-C at the terminal reaches only us, who have it end in order.
    with subprocess.Popen(command, stdout=subprocess.PIPE if as_json else None, text=True, **OWN_GROUP) as process:
        try:
            yield ended
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def typed(arguments: Sequence[str]) -> str:
    """The command as one would type it."""
    return shlex.join(["recsplit", *arguments])


def summary(
    trained: Trained, folder: Path, differences: Sequence[Mapping[str, Any]], load: Mapping[str, Any], auc: float, seconds: float
) -> dict[str, Any]:
    """What the demo found, as plain values. Sizes in bytes, latencies in ms."""
    plan = find(folder / REPOSITORY, NAME).plan
    size = {
        part.name: sum(path.stat().st_size for path in version.iterdir() if path.name == MODEL_FILE or path.suffix == ".bin")
        for part in plan.submodels
        for version in [folder / REPOSITORY / part.name / str(plan.version)]
    }
    return {
        "source": trained.source,
        "weights": str(trained.weights),
        "impressions": trained.impressions,
        "held_out": len(trained.held_out),
        "click_share": round(trained.click_share, 4),
        "auc": round(trained.auc, 4),
        "auc_served": round(auc, 4),
        "auc_reference": round(trained.reference_auc, 4),
        "reference": trained.reference_name,
        "tables": len(plan.tables),
        "lookups": len(plan.lookups),
        "table_bytes": sum(table.size_bytes for table in plan.tables),
        "part_bytes": size,
        "comparisons": len(differences),
        "largest_relative_error": max(item["relative"] for item in differences),
        "load": dict(load),
        "training_seconds": round(trained.seconds, 1),
        "seconds": round(seconds, 1),
        "repository": str(folder / REPOSITORY),
        "report": str(folder / REPORT),
    }
