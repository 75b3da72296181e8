"""Building: from a source to a published, proved model repository. The stages, in order, on one page."""

import dataclasses
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from recsplit.building import id_limits, sharding
from recsplit.building.load_and_cut import Taken, take
from recsplit.configs.render import check_templates, render
from recsplit.errors import InputError, RecsplitError
from recsplit.graph.flow import CONTROL, SEQUENCE
from recsplit.graph.lower.fused_tables import policy
from recsplit.graph.lower.ragged_bags import BagForm
from recsplit.graph.shards.shards import Sharded
from recsplit.plan.dtypes import NUMPY
from recsplit.plan.files import MODEL_FILE, PLAN_FILE, REFERENCES_FILE
from recsplit.plan.plan import Kind, Plan, Role, Runtime, Submodel, Table, to_json
from recsplit.proof import samples, verify
from recsplit.proof.parts import Array, Run, joined
from recsplit.proof.verify import Case, Difference
from recsplit.repository.staging import staging
from recsplit.write import shard_files, submodels, tensorrt

#: Told (text, bytes done, bytes in all) as the work goes on; the bytes are 0 where there is nothing to count.
Progress = Callable[[str, int, int], None]


#: Where a slip of the keyboard begins: with more rows a request passes gRPC's 2 GB, and no machine runs more instances or threads.
_MOST_ROWS = 2**20
_MOST_PROCESSES = 4096
_HOUR_S = 3600


@dataclass(frozen=True)
class BuildSettings:
    """What the user sets. Threads None: this machine's cores divided by the instances."""

    source: str
    out: Path
    name: str
    weights: Path | None = None
    max_batch_size: int = 2048
    unknown_ids: str = "error"
    int32_ids: bool = False
    bag_form: BagForm | None = None
    embedding_instances: int = 1
    dense_instances: int = 1
    threads: int | None = None
    dense_kind: Kind = "cpu"
    dense_runtime: Runtime = "onnxruntime"
    queue_delay_us: int = 0
    queue_timeout_ms: int = 0
    templates: Path | None = None
    tolerance: float = 1e-5
    build_id: str | None = None
    partition: Path | None = None
    access: Path | None = None


@dataclass(frozen=True)
class Built:
    """A published build: its plan, the repository, and what the proof found."""

    plan: Plan
    repository: Path
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


def build(settings: BuildSettings, progress: Progress) -> Built:
    """Load, cut, write, render, prove and publish. On any error the repository stays as it was.

    Raises InputError for what the user must mend, RecsplitError where the work failed or the proof did not hold.
    """
    _refuse(settings)
    wanted = None if settings.partition is None else sharding.read(settings.partition, settings.access)
    with staging(settings.out, settings.name) as stage:  # first of all: a folder that can't be written shows at once
        progress(f"loading {settings.source}", 0, 0)
        taken = take(
            settings.source,
            weights=settings.weights,
            unknown_ids=settings.unknown_ids,
            int32_ids=settings.int32_ids,
            bag_form=settings.bag_form if wanted is None else "padded",
            adding_up=wanted is not None,
        )
        tables = submodels.tables(taken.cut)
        sharded = None if wanted is None else sharding.cut(wanted, taken.cut, tables)
        plan = _plan(settings, taken, stage.version, tables, wanted, sharded)
        embedding, *shards, dense = (stage.path(model.name, MODEL_FILE).parent for model in plan.submodels)
        told = partial(progress, "writing tables")
        if wanted is None or sharded is None:
            submodels.write(taken.cut, embedding, dense, progress=told)
        else:
            shard_files.write(sharded, plan.readings, wanted.order, embedding, shards, dense, progress=told)
        known = taken.cut.known()
        example = _example(plan, taken)
        plan = dataclasses.replace(plan, lookups=id_limits.probe(plan, known, references=example))
        stage.write(render(plan, templates=settings.templates))
        notes = tensorrt.prepare(plan, dense) if plan.dense.runtime == "tensorrt" else ()
        cases, left_out = _cases(plan, taken, example, known, embedding.parents[1], progress)
        progress("proving the parts equal", 0, 0)
        differences = verify.parts(embedding.parents[1], plan, cases)
        verify.demand(differences)
        verify.record(cases, stage.path(plan.name, REFERENCES_FILE))
        stage.path(plan.name, PLAN_FILE).write_text(to_json(plan), encoding="utf-8")
        progress("publishing", 0, 0)
        stage.publish()
    return Built(plan, settings.out, tuple(differences), (*notes, *left_out))


def _refuse(settings: BuildSettings) -> None:
    numbers = {
        "--max-batch-size": (settings.max_batch_size, 1, _MOST_ROWS),
        "--embedding-instances": (settings.embedding_instances, 1, _MOST_PROCESSES),
        "--dense-instances": (settings.dense_instances, 1, _MOST_PROCESSES),
        "--threads": (1 if settings.threads is None else settings.threads, 1, _MOST_PROCESSES),
        "--queue-delay-us": (settings.queue_delay_us, 0, _HOUR_S * 10**6),
        "--queue-timeout-ms": (settings.queue_timeout_ms, 0, _HOUR_S * 1000),
    }
    for option, (number, least, most) in numbers.items():
        if not least <= number <= most:
            raise InputError(f"{option} is {number}", hint=f"choose a number from {least} to {most}")
    if not 0 <= settings.tolerance < 1:  # NaN is neither
        raise InputError(f"--tolerance is {settings.tolerance:g}", hint="choose a number from 0 to below 1; 1e-5 is usual for FP32")
    if settings.dense_runtime != "onnxruntime" and settings.dense_kind != "gpu":
        raise InputError(
            f"the dense runtime {settings.dense_runtime!r} needs a GPU, and the dense model is placed on CPU", hint="--dense-kind gpu"
        )
    if settings.access is not None and settings.partition is None:
        raise InputError("--access is of use with --partition only", hint="recsplit partition DIR --access FILE writes a partition")
    if settings.partition is not None and settings.bag_form == "cumulative":
        raise InputError("the cumulative form of bags can't be cut into shards", hint="--bags padded, or leave --bags out")
    policy(settings.unknown_ids)
    if settings.templates is not None:
        check_templates(settings.templates)


def _plan(
    settings: BuildSettings,
    taken: Taken,
    version: int,
    tables: tuple[Table, ...],
    wanted: sharding.Wanted | None,
    sharded: Sharded | None,
) -> Plan:
    made = taken.cut
    models_made = (made.embedding, made.dense) if sharded is None else (sharded.embedding, sharded.dense)
    for part in models_made:
        left = submodels.left_in(part, CONTROL - {"Scan"} | SEQUENCE)
        if left:
            raise RecsplitError(f"the {part.graph.name} model still has {', '.join(left)}", hint="build from the factory instead")
    whole, embedding, dense = (submodels.interface(model) for model in (made.whole, *models_made))
    crossing = submodels.interface(made.embedding).outputs  # before the shards, whose partial tensors have other names
    cores = os.cpu_count() or 1

    def submodel(role: Role, sides: submodels.Interface, runtime: Runtime, kind: Kind, instances: int, suffix: str = "") -> Submodel:
        threads = settings.threads or max(1, cores // instances)
        name = f"{settings.name}_{suffix or role}"
        return Submodel(name, role, sides.inputs, sides.outputs, runtime, kind, instances, threads)

    def shard(number: int, sides: submodels.Interface) -> Submodel:
        return submodel("shard", sides, "onnxruntime", "cpu", settings.embedding_instances, f"embedding_{number}")

    return Plan(
        name=settings.name,
        version=version,
        build=settings.build_id or secrets.token_hex(8),
        source=taken.loaded.source,
        max_batch_size=settings.max_batch_size,
        queue_delay_us=settings.queue_delay_us,
        queue_timeout_us=settings.queue_timeout_ms * 1000,
        unknown_ids=settings.unknown_ids,
        inputs=whole.inputs,
        outputs=whole.outputs,
        boundary=tuple(tensor for tensor in crossing if tensor.name in made.boundary),
        tables=tables,
        lookups=made.lookups,
        bags=made.bags,
        embedding=submodel("embedding", embedding, "onnxruntime", "cpu", settings.embedding_instances),
        shards=() if wanted is None or sharded is None else sharding.described(wanted, sharded, tables, shard),
        readings=() if sharded is None else sharding.readings(sharded, settings.unknown_ids),
        dense=submodel("dense", dense, settings.dense_runtime, settings.dense_kind, settings.dense_instances),
        tolerance=settings.tolerance,
    )


def _example(plan: Plan, taken: Taken) -> dict[str, Array] | None:
    """The source's example in the dtypes of the ensemble's inputs."""
    dtypes = {tensor.name: NUMPY[tensor.dtype] for tensor in plan.inputs}
    given = taken.example
    return None if given is None else {name: data.astype(dtypes[name], copy=False) for name, data in given.items() if name in dtypes}


def _cases(
    plan: Plan,
    taken: Taken,
    example: Mapping[str, Array] | None,
    known: id_limits.Known,
    folder: Path,
    progress: Progress,
) -> tuple[list[Case], tuple[str, ...]]:
    """Reference inputs, edge cases included, answered by the source, and notes on what the source could not answer.

    `folder`: the models, as a repository.
    Rows with an unknown id are left out: the source may raise on them.
    """
    named = []
    for name, inputs in samples.cases(plan, np.random.default_rng(0), references=example):
        fine = known(inputs)
        if name == samples.EXAMPLE and not fine.all():
            raise InputError(
                f"row {int(np.argmin(fine))} of the source's own example has an id outside its table, counted from 0 on",
                hint="ids below 0, which torch's indexing and ONNX count from the end, are refused: add the table's rows to them",
            )
        if fine.any():
            named.append((name, {key: data[fine] for key, data in inputs.items()}))
    if not named:
        raise RecsplitError(
            "no inputs were found whose ids are all inside their tables, so nothing could be proved",
            hint="build from the factory or the .pt2, which bring an example along",
        )
    source = verify.by_source(plan, taken.loaded.run, taken.dtypes)
    named, notes = _without_one_row(named, source, partial(joined, folder, plan))
    told = verify.make_cases(named, source, lambda case: progress(f"asking the source: {case}", 0, 0), infinite_rows=_may_be_infinite(plan))
    return told, notes


def _without_one_row(
    named: list[tuple[str, dict[str, Array]]], source: Run, parts: Callable[[], Run]
) -> tuple[list[tuple[str, dict[str, Array]]], tuple[str, ...]]:
    """Leave a batch of one row out where the source fails on it, as modules do whose squeeze() takes the batch away.

    The parts are proved on one row all the same: each row of the larger batches is asked for on its own. Raises InputError
    where they fail on it too.
    """
    kept, notes = [], []
    for name, inputs in named:
        if name == samples.ONE_ROW and len(named) > 1:
            try:
                source(inputs)
            except RecsplitError as error:
                _refuse_if_parts_fail(inputs, parts, error)
                notes.append(f"Note: on a batch of one row {error}. The parts answer it, as they answer that row of a larger batch.")
                continue
        kept.append((name, inputs))
    return kept, tuple(notes)


def _refuse_if_parts_fail(one_row: Mapping[str, Array], parts: Callable[[], Run], error: RecsplitError) -> None:
    try:
        parts()(one_row)
    except Exception as failure:  # onnxruntime raises its own kinds, undocumented
        raise InputError(
            "the model fails on a batch of one row, which is what most requests are",
            hint="name the axis of every squeeze() in the model: squeeze(-1); or build from the factory",
            detail=f"{error}\n{error.detail}",
        ) from failure


def _may_be_infinite(plan: Plan) -> bool:
    """Whether the source may answer -inf for an empty bag: only legacy ONNX exports of a max do."""
    return plan.source.kind == "onnx" and bool(plan.bags) and any(lookup.pooling == "max" for lookup in plan.lookups)
