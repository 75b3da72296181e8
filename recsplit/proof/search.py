"""The search for an input on which the parts answer otherwise than the source: first what breaks models, then what comes closest to it.

Batches of rows, each filled in its own way (adversary), are asked of the source and of the parts. Rows that the source can't answer, and
rows with unknown ids or NaN, are asked of the parts alone: they must hurt none of the rows beside them. What differs is made smaller: to
one row, and to the inputs that matter.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsplit.proof import adversary, samples
from recsplit.proof.adversary import USUAL, Fills
from recsplit.proof.judge import Judge, Judged
from recsplit.proof.parts import Array
from recsplit.proof.stages import Difference

STAGE = "source - parts, search"
#: Rows of a batch: many fills beside one another, so that what one does to another shows.
_ROWS = 16
#: Random batches are drawn until the time is over, but no more than these: of a small model there is nothing left to find then.
_MOST_BATCHES = 120
_SHOWN = 6


@dataclass(frozen=True)
class Searched:
    """What was tried, and the worst difference of each output; `tried` is a sentence for people."""

    differences: tuple[Difference, ...]
    tried: str


def search(judge: Judge, *, references: Mapping[str, Array] | None, seconds: float, seed: int = 0) -> Searched:
    """Try all of `adversary.systematic`, then random rows and changes of the worst ones for `seconds`.

    `references`: valid inputs of the ensemble. Nothing is raised where the parts differ: the differences say it.
    """
    rng = np.random.default_rng(seed)
    began_s, batches, compared, worst = time.monotonic(), 0, 0, 0.0
    rows_left = adversary.systematic(judge.plan)
    differences: dict[str, Difference] = {}
    near: Fills = {}
    failing = ""
    size = min(_ROWS, judge.plan.max_batch_size)
    while rows_left or (batches < _MOST_BATCHES and time.monotonic() - began_s < seconds):
        if not rows_left:
            rows_left = [
                adversary.changed(judge.plan, near, rng) if near and rng.random() < 0.5 else adversary.drawn(judge.plan, rng)
                for _ in range(size)
            ]
        drawn_rows, rows_left = rows_left[:size], rows_left[size:]
        drawn_inputs = adversary.batch(judge.plan, drawn_rows, rng, references=references, draw=samples.few_places(rng))
        drawn_inputs = adversary.resized(judge.plan, drawn_inputs, batches)
        rows, inputs, judged = _without_refused(judge, drawn_rows, drawn_inputs)
        if batches % 3 == 0 and not failing:  # in the other variants the sizes may be what doesn't fit
            failing = next((_words(fills) for fills in drawn_rows if fills not in rows), "")
        batches, compared = batches + 1, compared + judged.compared
        if judged.fails:
            text, small = _smaller(judge, rows, inputs, references)
            return Searched((_difference(small, text, compared),), f"{compared} rows")
        if len(rows) and judged.relative[judged.worst] > worst:
            worst, near = float(judged.relative[judged.worst]), rows[judged.worst]
        for row, output in enumerate(judged.output):
            known = differences.get(output)
            if output and (known is None or judged.relative[row] > known.relative):
                differences[output] = Difference(
                    STAGE, output, float(judged.absolute[row]), float(judged.relative[row]), _words(rows[row]), compared, judged.limit
                )
    took_s = time.monotonic() - began_s
    tried = f"Searched: {compared:,} rows of numbers, ids and bags that break models, in {took_s:.1f} s; largest difference {worst:.1e}"
    if failing:
        tried += f". A row that the source can't answer fails its whole batch on NVIDIA's backend: {failing}"
    return Searched(tuple(replace(item, runs=compared) for item in differences.values()), tried)


def _without_refused(judge: Judge, rows: Sequence[Fills], inputs: dict[str, Array]) -> tuple[Sequence[Fills], dict[str, Array], Judged]:
    """The batch judged; if the parts fail on it, without the rows that the source fails on too: a length beyond its sequence, say."""
    judged = judge(inputs)
    if not judged.problem:
        return rows, inputs, judged
    kept = [row for row in range(len(rows)) if judge.answers(_rows(inputs, [row]))]
    if len(kept) in (0, len(rows)):
        return (rows, inputs, judged) if kept else ([], inputs, replace(judged, problem="", compared=0))
    inputs = _rows(inputs, kept)
    return [rows[row] for row in kept], inputs, judge(inputs)


def _smaller(judge: Judge, rows: Sequence[Fills], inputs: dict[str, Array], references: Mapping[str, Array] | None) -> tuple[str, Judged]:
    """One row that fails, as few as can be otherwise, with as few inputs filled as can be: in words, and judged."""
    first = judge(inputs).worst
    for row in (first, *range(len(rows))):
        if judge(_rows(inputs, [row])).fails:
            rows, inputs = [rows[row]], _rows(inputs, [row])
            break
    else:
        for row in reversed(range(len(rows))):
            kept = [index for index in range(len(rows)) if index != row]
            if len(kept) > 1 and judge(_rows(inputs, kept)).fails:
                rows, inputs = [rows[index] for index in kept], _rows(inputs, kept)
    rng = np.random.default_rng(1)
    plain = adversary.batch(judge.plan, [{}] * len(rows), rng, references=references, draw=samples.few_places(rng))
    fills = [dict(row) for row in rows]
    for tensor in judge.plan.inputs:
        other = {**inputs, tensor.name: plain[tensor.name]}
        if plain[tensor.name].shape == inputs[tensor.name].shape and judge(other).fails:
            inputs = other
            for row in fills:
                row.pop(tensor.name, None)
    judged = judge(inputs)
    values = "; ".join(f"{name} = {_shown(data)}" for name, data in inputs.items())
    words = " | ".join(_words(row) for row in fills)
    return f"{'one row' if len(rows) == 1 else f'{len(rows)} rows'}: {words} ({values})", judged


def _difference(judged: Judged, text: str, runs: int) -> Difference:
    row = judged.worst
    if judged.problem:
        return Difference(STAGE, judged.output[row] or "all", float("inf"), float("inf"), f"{text}: {judged.problem}", runs, judged.limit)
    return Difference(STAGE, judged.output[row], float(judged.absolute[row]), float(judged.relative[row]), text, runs, judged.limit)


def _words(fills: Fills) -> str:
    return ", ".join(f"{name}: {fill}" for name, fill in fills.items() if fill != USUAL) or USUAL


def _shown(data: Array) -> str:
    numbers = [f"{number:.6g}" if data.dtype.kind == "f" else str(number) for number in data.reshape(-1)[:_SHOWN].tolist()]
    return f"[{', '.join(numbers)}{', ...' if data.size > _SHOWN else ''}]"


def _rows(inputs: Mapping[str, Array], rows: Sequence[int]) -> dict[str, Array]:
    return {name: data[list(rows)] for name, data in inputs.items()}
