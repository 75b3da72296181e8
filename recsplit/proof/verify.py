"""Proof that the parts answer as the whole did: stage by stage, case by case, repeated and from several threads.

    source -> whole      exporting and lowering: equal up to a tolerance, since sums are reordered
    whole  -> parts      the cut: the same operators, equal bit for bit
    parts  -> served     the server: equal up to the tolerance

A sharded build has no whole: it would need the tables a second time. There the source's answers are compared with the parts.

One parity run misses a race 99 times in 100 (facts of ORT's ScatterND), so every comparison is repeated.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from recsplit.errors import InputError, RecsplitError
from recsplit.plan import ragged
from recsplit.plan.files import WHOLE_FILE
from recsplit.plan.plan import UNKNOWN_IDS, Plan
from recsplit.proof.parts import Array, Run, joined, session

#: Two answers of one model to one question differ by less, whatever the order in which its threads add.
_RANDOM = 1e-3
#: Cases of at most so many rows are asked again: together enough rows for dropout to show, and the largest batch only once.
_ASKED_TWICE = 64
SINGLE_ROWS = "batch - single rows"


@dataclass(frozen=True)
class Case:
    """Reference inputs of the ensemble and the source's outputs for them."""

    name: str
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


@dataclass(frozen=True)
class Difference:
    """The largest differences found for one output at one stage, and the cases that made them.

    `relative` is the largest, over all rows, of a row's absolute difference divided by its magnitude, the largest absolute
    value in it, or by the median row's, where that is more: a row whose score happens to lie near zero would make
    rounding look large, and one row of huge numbers must not hide what is wrong in the others.
    """

    stage: str
    output: str
    absolute: float
    relative: float
    case: str
    runs: int
    limit: float

    @property
    def ok(self) -> bool:
        """Whether the stage holds for this output."""
        return self.relative <= self.limit


def check(stage: str, cases: Sequence[Case], run: Run, *, limit: float, repeats: int = 1, threads: int = 1) -> list[Difference]:
    """Run every case `repeats` times from each of `threads` threads and keep the worst difference of each output."""
    worst: dict[str, tuple[float, float, str]] = {}
    jobs = [case for case in cases for _ in range(repeats * threads)]
    names = dict.fromkeys(name for case in cases for name in case.outputs)
    scales = {name: _median([case.outputs[name] for case in cases if name in case.outputs]) for name in names}
    with ThreadPoolExecutor(max_workers=threads) as pool:
        for case, got in zip(jobs, pool.map(lambda case: run(case.inputs), jobs), strict=True):
            for name, want in case.outputs.items():
                absolute, relative = _difference(stage, case, name, want, got.get(name), scales[name])
                if name not in worst or relative > worst[name][1]:
                    worst[name] = (absolute, relative, case.name)
    return [Difference(stage, name, *values, runs=len(jobs), limit=limit) for name, values in worst.items()]


def parts(folder: Path, plan: Plan, cases: Sequence[Case], *, repeats: int = 3) -> list[Difference]:
    """The stages that need no server: source against whole, whole against parts, row by row against batches.

    `folder` is a model repository, or the staging area of one.
    """
    if plan.shards:
        return _sharded(folder, plan, cases, repeats)
    # One pair of sessions at a time: each maps the tables anew, and mapped pages count as memory in use.
    whole = session(folder / plan.embedding.name / str(plan.version) / WHOLE_FILE)
    lowered = [Case(case.name, case.inputs, whole(case.inputs)) for case in cases]
    found = check("source - whole", cases, whole, limit=plan.tolerance)
    del whole
    run = joined(folder, plan)
    # onnxruntime computes half precision in float on a CPU, and rounds where a graph ends: the parts round once more.
    half = any(tensor.dtype in ("FP16", "BF16") for tensor in (*plan.boundary, *plan.outputs))
    found += check("whole - parts", lowered, run, limit=plan.tolerance if half else 0.0, repeats=repeats)
    found += check(SINGLE_ROWS, list(_single_rows(lowered)), run, limit=max(plan.tolerance, 1e-5))
    del run
    many = joined(folder, plan, threads=max(2, os.cpu_count() or 1))
    found += check("whole - parts, threaded", lowered, many, limit=plan.tolerance, repeats=repeats, threads=4)
    return found


def _sharded(folder: Path, plan: Plan, cases: Sequence[Case], repeats: int) -> list[Difference]:
    """Source against parts, row by row against batches."""
    run = joined(folder, plan)
    answered = [Case(case.name, case.inputs, run(case.inputs)) for case in cases]
    found = check("source - parts", cases, run, limit=plan.tolerance, repeats=repeats)
    found += check(SINGLE_ROWS, list(_single_rows(answered)), run, limit=max(plan.tolerance, 1e-5))
    del run
    many = joined(folder, plan, threads=max(2, os.cpu_count() or 1))
    found += check("source - parts, threaded", cases, many, limit=plan.tolerance, repeats=repeats, threads=4)
    return found


def served(plan: Plan, cases: Sequence[Case], runs: Mapping[str, Run], *, repeats: int = 3) -> list[Difference]:
    """The running server against the source's recorded outputs, over each protocol in `runs`, repeated, from four threads."""
    found = []
    for protocol, run in runs.items():
        found += check(f"source - served, {protocol}", cases, run, limit=plan.tolerance, repeats=repeats, threads=4)
    return found


def demand(found: Iterable[Difference]) -> None:
    """Raise RecsplitError if any difference is over its limit; InputError where the source itself mixes rows."""
    bad = [item for item in found if not item.ok]
    if bad:
        lines = [
            f"{item.stage}: output {item.output!r} differs by {item.relative:.2e} (limit {item.limit:.0e}) in case {item.case!r}"
            for item in bad
        ]
        if all(item.stage == SINGLE_ROWS for item in bad):
            raise InputError(
                "a row's answer depends on the other rows of its batch, and Triton puts rows of different clients into one",
                hint="take out of the model what mixes rows: statistics, softmax or a mean along dimension 0",
                detail="\n".join(lines),
            )
        raise RecsplitError(
            "the parts do not answer as the source does", hint="nothing was published; see --tolerance", detail="\n".join(lines)
        )


def record(cases: Sequence[Case], path: Path) -> None:
    """Write reference cases to a safetensors file."""
    tensors: dict[str, Array] = {}
    for number, case in enumerate(cases):
        for kind, arrays in (("in", case.inputs), ("out", case.outputs)):
            tensors.update({f"{number}/{kind}/{name}": np.ascontiguousarray(data) for name, data in arrays.items()})
    # Not save_file: of a full disk it tells in an error of its own, with no errno.
    path.write_bytes(save(tensors, metadata={"cases": json.dumps([case.name for case in cases])}))


def recorded(path: Path) -> list[Case]:
    """Read reference cases. Raises InputError where the file is missing or broken."""
    from safetensors import SafetensorError, safe_open

    try:
        tensors = load_file(path)
        with safe_open(path, framework="numpy") as file:
            names = json.loads(file.metadata()["cases"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} can't be read: {error}", hint="build the model again") from error
    return [
        Case(
            name,
            {key.split("/", 2)[2]: data for key, data in tensors.items() if key.startswith(f"{number}/in/")},
            {key.split("/", 2)[2]: data for key, data in tensors.items() if key.startswith(f"{number}/out/")},
        )
        for number, name in enumerate(names)
    ]


def by_source(plan: Plan, run: Run, dtypes: Mapping[str, np.dtype[np.generic]]) -> Run:
    """The source as a function of the ensemble's inputs. `dtypes` are the source's own, where ids were narrowed."""

    def call(inputs: Mapping[str, Array]) -> dict[str, Array]:
        source = ragged.source_inputs(plan.bags, inputs)
        return run({name: data.astype(dtypes[name], copy=False) if name in dtypes else data for name, data in source.items()})

    return call


def make_cases(
    named: Iterable[tuple[str, dict[str, Array]]],
    run: Run,
    progress: Callable[[str], None],
    *,
    infinite_rows: bool = False,
) -> list[Case]:
    """Run the source on named inputs, telling `progress` the name of each.

    With `infinite_rows`, rows that the source does not answer with a number are left out: the legacy ONNX exporter's
    max over an empty bag is -inf, and NaN a layer later, where torch, and so the parts, give zeros. Otherwise raises
    InputError where the source answers NaN or infinity, or differently when asked again: nothing could be compared.
    """
    made: list[Case] = []
    for name, inputs in named:
        progress(name)
        outputs = run(inputs)
        finite = np.ones(len(next(iter(inputs.values()))), dtype=bool)
        for output, data in outputs.items():
            if data.dtype.kind != "f" or np.isfinite(data).all():
                continue
            if not infinite_rows or len(data) != len(finite):
                raise InputError(
                    f"the source answers NaN or infinity in output {output!r} (case {name!r})", hint="are the trained weights loaded?"
                )
            finite &= np.isfinite(data.reshape(len(data), -1)).all(axis=1)
        if finite.any():
            case = Case(name, {key: data[finite] for key, data in inputs.items()}, {key: data[finite] for key, data in outputs.items()})
            if len(finite) <= _ASKED_TWICE:
                _refuse_random(case, run(case.inputs))
            made.append(case)
    return made


def _refuse_random(case: Case, again: Mapping[str, Array]) -> None:
    for output, data in case.outputs.items():
        _, relative = _difference("source - source", case, output, data, again.get(output), _median([data]))
        if relative > _RANDOM:
            raise InputError(
                f"the source answers differently when it is asked again: output {output!r} by {relative:.0e} in case {case.name!r}",
                hint="take out what draws random numbers: dropout outside of .eval(), noise, sampling",
            )


def _single_rows(cases: Sequence[Case]) -> Iterable[Case]:
    """Each row of the small cases on its own: a row's answer may not depend on its neighbours, or batching changes it."""
    for case in cases:
        size = len(next(iter(case.inputs.values())))
        if 1 < size <= 16:
            for row in range(size):
                one = {name: data[row : row + 1] for name, data in case.inputs.items()}
                yield Case(f"{case.name}, row {row}", one, {name: data[row : row + 1] for name, data in case.outputs.items()})


def _magnitudes(data: Array) -> Array:
    """The largest absolute value among the finite numbers of each row, FP64 [rows]."""
    finite = np.nan_to_num(data.astype(np.float64), posinf=0.0, neginf=0.0)
    largest: Array = np.abs(finite.reshape(len(data) if data.ndim else 1, -1)).max(axis=1, initial=0.0)
    return largest


def _median(outputs: Sequence[Array]) -> float:
    """The median magnitude of the rows that aren't zero; 0 where there is none, or no floating point."""
    found = np.concatenate([_magnitudes(data) for data in outputs if data.dtype.kind in "fc"] or [np.zeros(0)])
    return float(np.median(found[found > 0])) if (found > 0).any() else 0.0


def _difference(stage: str, case: Case, name: str, want: Array, got: Array | None, scale: float) -> tuple[float, float]:
    if got is None and name == UNKNOWN_IDS:
        return 0.0, 0.0  # a server that errs on unknown ids need not hand out the marks
    if got is None or got.shape != want.shape:
        shape = None if got is None else got.shape
        raise RecsplitError(
            f"{stage}: output {name!r} has shape {shape} instead of {want.shape} in case {case.name!r}", hint="rows got lost or mixed"
        )
    if want.size == 0:
        return 0.0, 0.0
    if want.dtype.kind not in "fc":
        wrong = float(np.count_nonzero(want != got))
        return wrong, wrong
    gap = np.abs(want.astype(np.float64) - got.astype(np.float64))
    gap = np.where(np.isnan(gap), np.where(np.isnan(want) & np.isnan(got), 0.0, np.inf), gap)
    worst = gap.reshape(len(want) if want.ndim else 1, -1).max(axis=1, initial=0.0)
    scales = np.maximum(_magnitudes(want), scale)
    return float(worst.max()), float(np.divide(worst, scales, out=worst.copy(), where=scales > 0).max())
