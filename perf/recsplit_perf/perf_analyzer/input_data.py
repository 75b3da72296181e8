"""Input data for perf_analyzer: valid queries of a built model, as the JSON that its --input-data reads."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity.ids import Skew
from recsplit.disk.files import whole_file
from recsplit.plan.plan import Plan
from recsplit.proof import samples

#: Entries times batch that perf_analyzer prepares within a second.
PREPARED_ROWS = 1 << 20


def entries_for(batch: int) -> int:
    """How many rows to write for requests of `batch` rows: four requests' worth, and 256 at least, unless that takes too long.

    Before it starts, perf_analyzer 2.51 prepares a request of `batch` rows from every single row of the file, for every
    concurrent request: 8192 rows at 2048 a request take minutes and gigabytes. One request's worth is the least that
    repeats no row within a request.
    """
    return max(batch, min(max(4 * batch, 256), PREPARED_ROWS // batch))


def write(path: Path, plan: Plan, entries: int, seed: int, law: Skew | None = None) -> None:
    """Write `entries` rows of valid inputs for the plan's ensemble, ids by `law` or uniform; the same seed gives the same file."""
    rng = np.random.default_rng(seed)
    rows = samples.rows(plan, entries, rng, draw=samples.by_law(law, rng) if law is not None else None)
    with whole_file(path) as file:
        file.write(to_json({tensor.name: rows[tensor.name] for tensor in plan.inputs}).encode())


def to_json(rows: Mapping[str, NDArray[Any]]) -> str:
    """One entry for each row of the arrays (first dimension = rows).

    perf_analyzer puts `-b` entries together into a request, so an entry has no batch dimension, and all entries share
    their shapes. The next request takes the entries that follow, round robin: seen with 2.51.
    """
    # Triton has no empty dims: a tensor with one value a row is served as [batch, 1].
    shapes = {name: list(array.shape[1:]) or [1] for name, array in rows.items()}
    batch = len(next(iter(rows.values())))
    lines = ",\n".join(
        json.dumps({name: {"content": _content(array[row]), "shape": shapes[name]} for name, array in rows.items()}) for row in range(batch)
    )
    return f'{{"data": [\n{lines}\n]}}\n'


def _content(row: NDArray[Any]) -> object:
    """One row's numbers; those of half precision as their bytes, for perf_analyzer has no such numbers in its JSON."""
    if row.dtype.kind == "f" and row.dtype.itemsize == 2:
        return {"b64": base64.b64encode(np.ascontiguousarray(row).astype("<f2").tobytes()).decode()}
    content: object = row.reshape(-1).tolist()
    return content
