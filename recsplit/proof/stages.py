"""The stages of the proof that the parts answer as the source does: case by case, repeated and from several threads.

    source -> whole      exporting and lowering: equal up to a tolerance, since sums are reordered
    whole  -> parts      the cut: the same operators, equal bit for bit
    parts  -> served     the server: equal up to the tolerance

A sharded build has no whole: it would need the tables a second time. There the source's answers are compared with the parts.

One parity run misses a race 99 times in 100 (facts of ORT's ScatterND), so every comparison is repeated.
"""

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError, RecsplitError
from recsplit.parallel import in_threads
from recsplit.plan.files import WHOLE_FILE
from recsplit.plan.plan import Plan
from recsplit.proof.cases import Case, single_rows
from recsplit.proof.compare import differ, median_magnitude
from recsplit.proof.parts import Array, Run, joined, session
from recsplit.proof.rounding import NOT_TOLD, Rounding
from recsplit.rendering.notebook import html_table

SINGLE_ROWS = "batch - single rows"
BY_ENGINE, SHARDS_BY_ENGINE = "whole - engine", "source - engine"
_BY_BLOCKS = (BY_ENGINE, f"{BY_ENGINE}, threaded", SHARDS_BY_ENGINE)


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
    def excess(self) -> tuple[bool, float]:
        """To order differences by: those over their limit are worse than those that aren't."""
        return not self.ok, self.relative

    @property
    def ok(self) -> bool:
        """Whether the stage holds for this output."""
        return self.relative <= self.limit


def check(
    stage: str, cases: Sequence[Case], run: Run, *, limit: float, repeats: int = 1, threads: int = 1, rounding: Rounding = NOT_TOLD
) -> list[Difference]:
    """Run every case `repeats` times from each of `threads` threads and keep the worst difference of each output.

    `rounding` is asked where a difference is over the limit: what is rounding in that case raises it.
    """
    worst: dict[str, Difference] = {}
    jobs = [case for case in cases for _ in range(repeats * threads)]
    names = dict.fromkeys(name for case in cases for name in case.outputs)
    scales = {name: median_magnitude([case.outputs[name] for case in cases if name in case.outputs]) for name in names}
    judging = threading.Lock()

    def try_one(case: Case) -> None:
        got = run(case.inputs)
        with judging:
            judge(case, got)

    def judge(case: Case, got: Mapping[str, Array]) -> None:
        for name, want in case.outputs.items():
            absolute, relative = differ(stage, case.name, name, want, got.get(name), scales[name])
            if name in worst and (not worst[name].ok or relative <= limit) and relative <= worst[name].relative:
                continue  # no worse than what is known, whatever is rounding in it
            case_limit = limit if relative <= limit else max(limit, rounding.limit(case.inputs, name, scales[name]))
            difference = Difference(stage, name, absolute, relative, case.name, len(jobs), case_limit)
            if name not in worst or difference.excess > worst[name].excess:
                worst[name] = difference

    if threads == 1:
        for case in jobs:
            judge(case, run(case.inputs))
    else:
        for _ in in_threads(jobs, try_one, threads):
            pass
    return list(worst.values())


def parts(folder: Path, plan: Plan, cases: Sequence[Case], *, repeats: int = 3) -> list[Difference]:
    """The stages that need no server: source against whole, whole against parts, row by row against batches.

    `folder` is a model repository, or the staging area of one.
    """
    if plan.shards:
        return _sharded(folder, plan, cases, repeats)
    # One pair of sessions at a time: each maps the tables anew, and mapped pages count as memory in use.
    whole = session(folder / plan.embedding.name / str(plan.version) / WHOLE_FILE)
    lowered = [Case(case.name, case.inputs, whole(case.inputs)) for case in cases]
    rounding = rounding_of(folder, plan)
    differences = check("source - whole", cases, whole, limit=plan.tolerance, rounding=rounding)
    del whole
    run = joined(folder, plan)
    # onnxruntime computes half precision in float on a CPU, and rounds where a graph ends: the parts round once more.
    if has_engine(plan):
        by_engine = joined(folder, plan, by_engine=True)
        engine_limit = max(plan.tolerance, 1e-6)  # it adds in the order of the ids, and ONNX Runtime in blocks
        differences += check(BY_ENGINE, lowered, by_engine, limit=engine_limit, repeats=repeats, rounding=rounding)
        differences += check(
            f"{BY_ENGINE}, threaded", lowered, by_engine, limit=engine_limit, repeats=repeats, threads=4, rounding=rounding
        )
        del by_engine
    half = any(tensor.dtype in ("FP16", "BF16") for tensor in (*plan.boundary, *plan.outputs))
    differences += check("whole - parts", lowered, run, limit=plan.tolerance if half else 0.0, repeats=repeats)
    differences += check(SINGLE_ROWS, list(single_rows(lowered)), run, limit=max(plan.tolerance, 1e-5), rounding=rounding)
    del run
    many = joined(folder, plan, threads=max(2, os.cpu_count() or 1))
    differences += check("whole - parts, threaded", lowered, many, limit=plan.tolerance, repeats=repeats, threads=4, rounding=rounding)
    return differences


def rounding_of(folder: Path, plan: Plan) -> Rounding:
    """What is rounding in the answers of a build in the repository `folder`; a sharded one has no whole that could tell."""
    whole = None if plan.shards else folder / plan.embedding.name / str(plan.version) / WHOLE_FILE
    return Rounding(whole, partial(_terms, plan) if any(table.is_rounded for table in plan.tables) else None)


def _terms(plan: Plan, inputs: Mapping[str, Array]) -> int:
    """At most so many rows are added up: ids that come in one input's row, or in a bag."""
    longest = [int(inputs[bags.lengths].max(initial=0)) for bags in plan.bags]
    ragged = {name for bags in plan.bags for name in (bags.values, bags.lengths, bags.weights)}
    ids = {name for lookup in plan.lookups for name in lookup.inputs} - ragged
    return max([1, *longest, *(inputs[name].size // max(len(inputs[name]), 1) for name in ids if name in inputs)])


def has_engine(plan: Plan) -> bool:
    """Whether recsplit's engine runs a part of it, and can be had here: where it can't, ONNX Runtime serves the build."""
    return bool(plan.native) and unavailable() is None


def _sharded(folder: Path, plan: Plan, cases: Sequence[Case], repeats: int) -> list[Difference]:
    """Source against parts, row by row against batches."""
    run = joined(folder, plan)
    answered = [Case(case.name, case.inputs, run(case.inputs)) for case in cases]
    differences = check("source - parts", cases, run, limit=plan.tolerance, repeats=repeats)
    differences += check(SINGLE_ROWS, list(single_rows(answered)), run, limit=max(plan.tolerance, 1e-5))
    if has_engine(plan):
        engine = joined(folder, plan, by_engine=True)
        differences += check(SHARDS_BY_ENGINE, cases, engine, limit=plan.tolerance, repeats=repeats, threads=4)
        del engine
    del run
    many = joined(folder, plan, threads=max(2, os.cpu_count() or 1))
    differences += check("source - parts, threaded", cases, many, limit=plan.tolerance, repeats=repeats, threads=4)
    return differences


def served(folder: Path, plan: Plan, cases: Sequence[Case], runs: Mapping[str, Run], *, repeats: int = 3) -> list[Difference]:
    """The running server against the source's recorded outputs, over each protocol in `runs`, repeated, from four threads."""
    differences: list[Difference] = []
    rounding = rounding_of(folder, plan)
    for protocol, run in runs.items():
        stage = f"source - served, {protocol}"
        differences += check(stage, cases, run, limit=plan.tolerance, repeats=repeats, threads=4, rounding=rounding)
    return differences


def demand(differences: Iterable[Difference]) -> None:
    """Raise RecsplitError if any difference is over its limit; InputError where the source itself mixes rows."""
    bad = [item for item in differences if not item.ok]
    if bad:
        lines = [
            f"{item.stage}: output {item.output!r} differs by {item.relative:.2e} (limit {item.limit:.0e}) in case {item.case!r}"
            for item in bad
        ]
        # The engine takes a batch block by block of rows, so that rows that mix show there too.
        if {SINGLE_ROWS} <= {item.stage for item in bad} <= {SINGLE_ROWS, *_BY_BLOCKS}:
            raise InputError(
                "a row's answer depends on the other rows of its batch, and Triton puts rows of different clients into one",
                hint="take out of the model what mixes rows: statistics, softmax or a mean along dimension 0",
                detail="\n".join(lines),
            )
        raise RecsplitError(
            "the parts do not answer as the source does", hint="nothing was published; see --tolerance", detail="\n".join(lines)
        )


def differences_html(differences: Iterable[Difference]) -> str:
    """The comparisons of a proof as a table for a notebook."""
    columns = ("stage", "output", "largest relative", "limit", "in case", "holds")
    rows = [
        (item.stage, item.output, f"{item.relative:.1e}", f"{item.limit:.0e}", item.case, "yes" if item.ok else "NO")
        for item in differences
    ]
    return html_table("proof", columns, rows)
