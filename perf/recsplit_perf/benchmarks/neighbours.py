"""What bad rows do to the requests beside them: `python -m recsplit_perf.benchmarks.neighbours`.

Models of the zoo under every policy for unknown ids, on one real Triton whose stand-in backend doesn't try requests alone, so that a run
that fails takes its whole batch along as on NVIDIA's backend. For each way in which an input can be bad (recsplit.proof.adversary), one bad
request and four good ones are sent at once and meet in a batch; the good ones must answer as they do without it.
"""

import dataclasses
import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
from tritonclient.grpc import InferenceServerClient

from recsplit.building.build import build
from recsplit.building.settings import BuildSettings
from recsplit.client.wire import GrpcConnection, server
from recsplit.commands.output import progress, show_table
from recsplit.graph.lower.ragged_bags import BagForm
from recsplit.plan.plan import UNKNOWN_IDS, Plan
from recsplit.proof import adversary, samples
from recsplit.proof.compare import by_row
from recsplit.proof.parts import Array, joined
from recsplit.rendering.progress import in_silence
from recsplit.serving import serve
from recsplit_perf.machine import provenance

MODELS = (
    *("tiny:dlrm", "dlrm:dlrm", "dcn:dcnv2", "two_tower:two_tower", "ncf:ncf", "torchrec:dlrm", "deepctr:deepfm", "deepctr:din"),
    *("bags:sum_fixed_padding_weights", "bags:mean_offsets", "bags:max_offsets_padding", "bags:sum_offsets_weights", "bags:facebook"),
    *("lookups:mod_hash", "lookups:history_attention", "lookups:masked_mean", "lookups:float_ids"),
)
POLICIES = ("error", "zero", "row=1")
FORMS: tuple[BagForm, ...] = ("padded", "chunked")
GOOD = 4
#: Long enough that five requests sent at once meet in one batch.
DELAY_US = 20_000


@dataclasses.dataclass
class Line:
    """One model under one policy: good requests asked, failed, changed, what became of the bad ones; runs of the embedding model."""

    model: str
    policy: str
    bags: str
    kinds: int = 0
    good: int = 0
    failed: int = 0
    changed: int = 0
    executions: int = 0
    bad: Counter[str] = dataclasses.field(default_factory=Counter)
    examples: list[str] = dataclasses.field(default_factory=list)


@click.command()
@click.option("--model", "models", multiple=True, help="A factory of recsplit.zoo, module:name; again for more.  [default: 17 of them]")
@click.option("--policy", "policies", multiple=True, help="A policy for unknown ids; again for more.  [default: error, zero, row=1]")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(models: tuple[str, ...], policies: tuple[str, ...], output: Path | None) -> None:
    """Send bad requests beside good ones."""
    os.environ["RECSPLIT_STAND_IN_RETRY"] = "0"
    lines = [line for policy in policies or POLICIES for line in measured(models or MODELS, policy)]
    if output is not None:
        shown = [{**dataclasses.asdict(line), "bad": dict(line.bad)} for line in lines]
        output.write_text(json.dumps({"benchmark": "neighbours", **provenance(), "lines": shown}, indent=1) + "\n")
    columns = ("model", "policy", "bags", "kinds", "good", "failed", "changed", "executions")
    show_table(columns, [[getattr(line, column) for column in columns] for line in lines], title="Good requests beside bad ones")
    for text in [text for line in lines for text in line.examples[:2]]:
        click.echo(text)
    good, failed, changed = (sum(getattr(line, name) for line in lines) for name in ("good", "failed", "changed"))
    click.echo(f"{good:,} good requests beside bad ones: {failed} failed, {changed} changed")
    if failed or changed:
        raise SystemExit(1)


def measured(models: tuple[str, ...], policy: str) -> list[Line]:
    """All models under one policy, served together."""
    with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as folder:
        repository = Path(folder) / "models"
        plans: list[tuple[Line, Plan]] = []
        for model in models:
            for form in FORMS:
                with progress(f"Building {model} under {policy}"):
                    settings = BuildSettings(
                        source=f"recsplit.zoo.{model}", out=repository, name=f"m{len(plans)}", unknown_ids=policy, bag_form=form,
                        max_batch_size=64, queue_delay_us=DELAY_US, threads=1, search_s=0.0, embedding_runtime="onnxruntime",
                    )  # fmt: skip
                    plan = build(settings, in_silence).plan
                plans.append((Line(model, policy, form if plan.bags else "-"), plan))
                if not plan.bags:
                    break
        with serve(repository) as server:
            for line, plan in plans:
                with progress(f"Asking {line.model} under {policy}"):
                    ask(line, plan, repository, server.grpc_url)
        return [line for line, _ in plans]


def ask(line: Line, plan: Plan, repository: Path, url: str) -> None:
    """Every kind of badness of one model; what comes of it is counted in `line`."""
    alone = joined(repository, plan)
    connection = GrpcConnection(server(url, "grpc", None), 30.0)
    rng = np.random.default_rng(0)
    usual = alone(samples.rows(plan, 32, rng))
    scales = {name: float(np.median(np.abs(data))) for name, data in usual.items()}
    with ThreadPoolExecutor(GOOD + 1) as threads:
        for fills in adversary.systematic(plan):
            inputs = adversary.batch(plan, [{}] * GOOD + [fills], rng, references=None, draw=None)
            rows = [{name: data[row : row + 1] for name, data in inputs.items()} for row in range(GOOD + 1)]
            answers = list(threads.map(lambda row: _answer(connection, plan, row), rows))
            line.kinds, line.good = line.kinds + 1, line.good + GOOD
            for row, answer in zip(rows[:GOOD], answers[:GOOD], strict=True):
                if isinstance(answer, Exception):
                    line.failed += 1
                    line.examples.append(f"{line.model} under {line.policy}, {dict(fills)}: {str(answer)[:200]}")
                elif _differs(alone(row), answer, scales, plan):
                    line.changed += 1
                    line.examples.append(f"{line.model} under {line.policy}, {dict(fills)}: a good answer changed")
            line.bad[_outcome(answers[GOOD])] += 1
    connection.close()
    line.executions = _executions(url, plan)


def _executions(url: str, plan: Plan) -> int:
    """Runs of the embedding model so far: one for each kind, and some for its warm-up, where all requests met."""
    with InferenceServerClient(url) as client:
        return sum(model.execution_count for model in client.get_inference_statistics(plan.embedding.name).model_stats)


def _answer(connection: GrpcConnection, plan: Plan, row: Mapping[str, Array]) -> dict[str, Array] | Exception:
    dims = {tensor.name: tensor.dims for tensor in plan.inputs}
    try:
        return connection.infer(plan.name, {name: data if dims[name] else data.reshape(-1, 1) for name, data in row.items()})
    except Exception as error:  # tritonclient's own
        return error


def _differs(truth: Mapping[str, Array], answer: Mapping[str, Any], scales: Mapping[str, float], plan: Plan) -> bool:
    for name, want in truth.items():
        if name not in answer:
            continue
        got = np.asarray(answer[name]).reshape(want.shape)
        if want.dtype.kind != "f":
            if not np.array_equal(want, got):
                return True
        elif by_row(want, got, scales[name])[1].max() > max(plan.tolerance, 1e-5):
            return True
    return False


def _outcome(answer: dict[str, Array] | Exception) -> str:
    if isinstance(answer, Exception):
        return "refused"
    marks = answer.get(UNKNOWN_IDS)
    return "marked" if marks is not None and bool(np.max(marks.astype(np.int64)[:, 0]) >= 0) else "answered"


if __name__ == "__main__":
    command()
