"""The cases that a build is proved on: inputs made from the plan, answered by the source, without what it can't answer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from recsplit.building.id_limits import Known
from recsplit.building.load_and_cut import CutSource
from recsplit.errors import InputError, RecsplitError
from recsplit.graph.find.vocabularies import Vocabulary
from recsplit.plan.plan import Plan
from recsplit.proof import samples, stages
from recsplit.proof.cases import Case, by_source, make_cases
from recsplit.proof.compare import median_magnitude
from recsplit.proof.judge import Judge
from recsplit.proof.parts import Array, Run, joined

#: Rows of inputs made of a vocabulary's keys.
_KEYED_ROWS = 16
#: Cases of so few rows are asked row by row where the source fails on them.
_ROWS_ASKED = 16


def reference_cases(
    plan: Plan,
    source: CutSource,
    example: Mapping[str, Array] | None,
    known: Known,
    folder: Path,
    progress: Callable[[str], None],
) -> tuple[list[Case], tuple[str, ...]]:
    """Reference inputs, edge cases included, answered by the source, and notes on what the source could not answer.

    `folder`: the models, as a repository.
    Rows with an unknown id are left out: the source may raise on them.
    """
    named = []
    rng = np.random.default_rng(0)
    for name, inputs in chain(samples.cases(plan, rng, references=example), _with_keys(plan, source.cut.vocabularies(), rng, example)):
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
    run = by_source(plan, source.loaded.run, source.dtypes)
    named, unanswered = _without_unanswered(named, run)
    ranks = {tensor.name: 1 + len(tensor.dims) for tensor in plan.outputs}
    named, notes = _without_one_row(named, run, partial(joined, folder, plan), ranks)
    cases = make_cases(named, run, progress, infinite_rows=True)
    return cases, (*unanswered, *notes, *(() if _may_be_infinite(plan) else _rows_left_out(named, cases, run)))


def _without_unanswered(named: list[tuple[str, dict[str, Array]]], run: Run) -> tuple[list[tuple[str, dict[str, Array]]], tuple[str, ...]]:
    """Leave rows out that the source fails on though their ids are inside their tables: a length of 0 where it reads the last of a history.

    Only of cases of few rows, whose rows are asked one by one, and of the batch that repeats them; never of the source's own example. An
    odd batch of which each row is answered alone, or none, stays: the source says there what is wrong with it.
    """
    kept, lost = [], 0
    answered: list[int] | None = None
    for name, inputs in named:
        count = _row_count(inputs)
        rows = list(range(count))
        if name != samples.EXAMPLE and 1 < count <= _ROWS_ASKED and _fails(run, inputs):
            rows = [row for row in rows if not _fails(run, {key: data[row : row + 1] for key, data in inputs.items()})]
            rows = rows if rows or name != samples.ODD_BATCH else list(range(count))
        elif count > _ROWS_ASKED and answered is not None:
            rows = [answered[index % len(answered)] for index in range(count)]
        if name == samples.ODD_BATCH:
            answered = rows
        lost += count - len(rows)
        if rows:
            kept.append((name, {key: data[rows] for key, data in inputs.items()}))
    note = f"Note: the source fails on {lost} made-up rows whose ids are inside their tables; nothing is proved of such rows."
    return kept, (note,) if lost else ()


def _fails(run: Run, inputs: Mapping[str, Array]) -> bool:
    try:
        run(inputs)
    except RecsplitError:
        return True
    return False


def _rows_left_out(named: Sequence[tuple[str, dict[str, Array]]], cases: Sequence[Case], run: Run) -> tuple[str, ...]:
    """A note on rows that the source answers with NaN or infinity: attention over a history of padding alone, say.

    Raises InputError, as make_cases does, where a row of the source's own example is one, or every second row: that is no such row.
    """
    kept = {case.name: _row_count(case.inputs) for case in cases}
    lost = {name: count - kept.get(name, 0) for name, inputs in named if (count := _row_count(inputs)) > kept.get(name, 0)}
    if not lost:
        return ()
    if samples.EXAMPLE in lost or 2 * sum(lost.values()) > sum(_row_count(inputs) for _, inputs in named):
        first = samples.EXAMPLE if samples.EXAMPLE in lost else next(iter(lost))
        make_cases([item for item in named if item[0] == first], run, lambda _: None)
    shown = ", ".join(f"{count} of case {name!r}" for name, count in lost.items())
    return (f"Note: the source answers NaN or infinity for some rows ({shown}), and nothing is proved of such rows.",)


def judge_of(plan: Plan, source: CutSource, known: Known, folder: Path, cases: Sequence[Case]) -> Judge:
    """The source beside the parts in `folder`, for the search; what the cases' answers are usually like is their scale."""
    return Judge(
        plan,
        by_source(plan, source.loaded.run, source.dtypes),
        [joined(folder, plan), *([joined(folder, plan, by_engine=True)] if stages.has_engine(plan) else [])],
        known,
        {name: median_magnitude([case.outputs[name] for case in cases]) for name in cases[0].outputs},
        stages.rounding_of(folder, plan),
        _may_be_infinite(plan),
    )


def _with_keys(
    plan: Plan, known: Sequence[Vocabulary], rng: np.random.Generator, example: Mapping[str, Array] | None
) -> Iterator[tuple[str, dict[str, Array]]]:
    """Inputs whose ids are keys of the model's vocabularies: of numbers at random nearly all mean the same, that they are none."""
    if known:
        inputs = samples.rows(plan, min(_KEYED_ROWS, plan.max_batch_size), rng, references=example)
        for vocabulary in known:
            data = np.array(inputs[vocabulary.source], order="C")
            by_column = data.reshape(len(data), -1)
            by_column[:, vocabulary.columns] = rng.choice(vocabulary.keys, (len(data), len(vocabulary.columns))).astype(data.dtype)
            inputs[vocabulary.source] = data
        yield "keys of vocabularies", inputs


def _without_one_row(
    named: list[tuple[str, dict[str, Array]]], source: Run, parts: Callable[[], Run], ranks: Mapping[str, int]
) -> tuple[list[tuple[str, dict[str, Array]]], tuple[str, ...]]:
    """Leave batches of one row out where the source fails on them or drops their batch, as modules do whose squeeze() takes it away.

    The parts are proved on one row all the same: each row of the larger batches is asked for on its own. Raises InputError
    where they fail on it too, or where there is no larger batch.
    """
    kept, notes = [], []
    for name, inputs in named:
        error = _failure(source, inputs, ranks) if _row_count(inputs) == 1 else None
        if error is None:
            kept.append((name, inputs))
            continue
        if all(_row_count(others) == 1 for _, others in named):
            raise error
        _refuse_if_parts_fail(inputs, parts, error)
        notes.append(f"Note: on a batch of one row {error}. The parts answer it, as they answer that row of a larger batch.")
    return kept, tuple(dict.fromkeys(notes))


def _row_count(inputs: Mapping[str, Array]) -> int:
    return len(next(iter(inputs.values())))


def _failure(source: Run, one_row: Mapping[str, Array], ranks: Mapping[str, int]) -> RecsplitError | None:
    """Why the source can't be compared on a batch of one row; None where it answers one row, in outputs of these ranks."""
    try:
        answers = source(one_row)
    except InputError:  # not of one row: of the model
        raise
    except RecsplitError as error:
        return error
    for output, data in answers.items():
        if data.shape[:1] != (1,) or data.ndim != ranks.get(output, data.ndim):
            return InputError(
                f"the source answers output {output!r} without the batch dimension",
                hint="name the axis of every squeeze() in the model: squeeze(-1); or choose a larger --max-batch-size",
            )
    return None


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
