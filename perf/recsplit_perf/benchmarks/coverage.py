"""What recsplit cuts: every model of the zoo through every route, as a table: `python -m recsplit_perf.benchmarks.coverage`.

A route is a form in which a model reaches recsplit: the factory itself, torch.export's .pt2, and .onnx from either of
torch's exporters. Each model is tried in a process of its own (coverage_model.py), so that a crash costs its rows only.
"""

import fnmatch
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from recsplit.commands.output import progress
from recsplit_perf.machine import provenance
from recsplit_perf.report.markdown import plain

#: Relative error, fp32, up to which the parts count as equal to torch eager.
EQUAL = 1e-5

#: Each route and its heading.
ROUTES = {"factory": "factory", "pt2": ".pt2", "legacy": ".onnx, legacy exporter", "dynamo": ".onnx, dynamo exporter"}


#: Every model and how many tables a cut must find. A codebook, whose ids come out of a layer, is not one of them.
MODELS = {
    "recsplit.zoo.tiny:dlrm": 3,
    "recsplit.zoo.dlrm:dlrm": 8,
    "recsplit.zoo.dcn:dcnv2": 6,
    "recsplit.zoo.two_tower:two_tower": 3,
    "recsplit.zoo.ncf:ncf": 4,
    "recsplit.zoo.torchrec:dlrm": 3,
    "recsplit.zoo.torchrec:dlrm_values": 3,
    **{f"recsplit.zoo.deepctr:{name}": 10 for name in ("wdl", "deepfm", "xdeepfm", "dcn", "dcnmix", "autoint", "fibinet", "nfm")},
    "recsplit.zoo.deepctr:pnn": 5,
    "recsplit.zoo.deepctr:din": 2,
    **{f"recsplit.zoo.bags:{mode}_{form}": 1 for form in ("fixed", "offsets", "last_offset") for mode in ("sum", "mean", "max")},
    **{f"recsplit.zoo.bags:{mode}_{form}_padding": 1 for form in ("fixed", "offsets") for mode in ("sum", "mean", "max")},
    "recsplit.zoo.bags:sum_fixed_weights": 1,
    "recsplit.zoo.bags:sum_fixed_padding_weights": 1,
    "recsplit.zoo.bags:sum_offsets_weights": 1,
    "recsplit.zoo.bags:sum_last_offset_weights": 1,
    "recsplit.zoo.bags:facebook": 3,
    "recsplit.zoo.lookups:one_hot": 1,
    "recsplit.zoo.lookups:shared_table": 1,
    "recsplit.zoo.lookups:mod_hash": 1,
    "recsplit.zoo.lookups:qr_trick": 2,
    "recsplit.zoo.lookups:one_big_table": 1,
    "recsplit.zoo.lookups:history_attention": 1,
    "recsplit.zoo.lookups:masked_mean": 1,
    "recsplit.zoo.lookups:wide": 4,
    "recsplit.zoo.lookups:float_ids": 2,
    "recsplit.zoo.lookups:weight_indexing": 1,
    "recsplit.zoo.lookups:codebook": 1,
}


@dataclass(frozen=True)
class Row:
    """One model through one route.

    `reason`: why there is no cut, in the words of torch where it could not export, else in recsplit's. `error`: largest
    relative error of the joined parts against torch eager (largest difference over largest magnitude of that output and
    input), and `file_error` the same for the exported .onnx itself, where onnxruntime could run it. `operators_left`:
    Loop, If, Scan and Sequence operators in either sub-model.
    """

    model: str
    route: str
    exported: bool
    cut: bool
    tables: int
    tables_expected: int
    error: float | None
    file_error: float | None
    operators_left: tuple[str, ...]
    reason: str
    seconds: float

    @property
    def equal(self) -> bool:
        """Cut into all expected tables, with nothing left behind, and equal to torch eager."""
        return (
            self.cut and self.tables == self.tables_expected and self.error is not None and self.error <= EQUAL and not self.operators_left
        )


@click.command()
@click.option("--only", metavar="PATTERN", default="*", help="Models whose name matches, as in *bags:max*.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write the table there, as Markdown.")
@click.option("--json", "as_json", metavar="FILE", type=click.Path(path_type=Path), help="Write the rows there, as JSON.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True, help="Models at a time.")
def command(only: str, output: Path | None, as_json: Path | None, jobs: int) -> None:
    """Build every model of the zoo through every route and compare the parts with torch eager."""
    chosen = [model for model in MODELS if fnmatch.fnmatchcase(model, only) or fnmatch.fnmatchcase(model, f"*{only}*")]
    if not chosen:
        raise click.BadParameter(f"no model matches {only!r}", param_hint="--only")
    rows = []
    text = f"Trying {len(chosen)} models through {len(ROUTES)} routes"
    with (
        tempfile.TemporaryDirectory(prefix="recsplit-coverage-") as folder,
        progress(text, total=len(chosen) * len(ROUTES)) as advance,
    ):
        for row in cover(chosen, Path(folder), jobs=jobs, advance=advance):
            rows.append(row)
            if not row.equal:
                click.echo(f"{row.model}, {row.route}: {why(row)}", err=True)
    rows.sort(key=lambda row: (chosen.index(row.model), list(ROUTES).index(row.route)))
    page = markdown(rows)
    if output is None:
        click.echo(page)
    else:
        output.write_text(page)
        click.echo(totals(rows), err=True)
    if as_json is not None:
        as_json.write_text(json.dumps({**provenance(), "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def cover(models: Sequence[str], folder: Path, *, jobs: int, advance: Callable[[int], None]) -> Iterator[Row]:
    """The rows of these models, in the order in which they are done. Files go under `folder`."""
    with ThreadPoolExecutor(jobs) as pool:
        pending = {pool.submit(_try, model, folder / f"{n}") for n, model in enumerate(models)}
        for done in as_completed(pending):
            yield from done.result()
            advance(len(ROUTES))


def _try(model: str, folder: Path) -> list[Row]:
    """All routes of one model, in one process; what it did not get to is reported as a crash."""
    folder.mkdir()
    command = [sys.executable, "-m", "recsplit_perf.benchmarks.coverage_model", model, str(MODELS[model]), str(folder)]
    # One thread each: models are small, several are tried at a time, and OpenMP's threads wait for each other by spinning.
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    rows = [_row(json.loads(line)) for line in done.stdout.splitlines() if line.startswith('{"model"')]
    seen = {row.route for row in rows}
    tail = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
    reason = f"the process ended with exit status {done.returncode}: {tail}"
    return rows + [Row(model, route, False, False, 0, MODELS[model], None, None, (), reason, 0.0) for route in ROUTES if route not in seen]


def _row(data: dict[str, Any]) -> Row:
    return Row(**{**data, "operators_left": tuple(data["operators_left"])})


def why(row: Row) -> str:
    """Why a row is not equal, in one line."""
    if not row.exported:
        return f"torch can't export: {row.reason}"
    if not row.cut:
        wrong = row.file_error is not None and row.file_error > EQUAL
        return row.reason + (f" (the exported file itself differs from torch by {row.file_error:.1e})" if wrong else "")
    table_counts = [f"{row.tables} of {row.tables_expected} tables"] if row.tables != row.tables_expected else []
    left = [f"left: {', '.join(row.operators_left)}"] if row.operators_left else []
    wrong = row.error is None or row.error > EQUAL
    differs = [f"differs from torch by {row.error:.1e}" if row.error is not None else row.reason] if wrong else []
    return "; ".join(table_counts + left + differs)


def totals(rows: Sequence[Row]) -> str:
    """How many rows were cut and equal, in a sentence."""
    exported = [row for row in rows if row.exported]
    return totals_of(sum(row.equal for row in exported), len(exported), len(rows))


def totals_of(equal: int, exported: int, tried: int) -> str:
    """How many of those that torch can export are equal, in a sentence."""
    share = 100 * equal / max(exported, 1)
    return f"{equal} of {exported} cut and equal ({share:.1f} %); {tried - exported} more could not be exported by torch"


def markdown(rows: Sequence[Row]) -> str:
    """The page docs/coverage.md."""
    notes = {(row.model, row.route): n for n, row in enumerate((row for row in rows if not row.equal), start=1)}
    by_model: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_model.setdefault(row.model, {})[row.route] = row
    lines = [
        "# What recsplit cuts",
        "",
        "Written by `python -m recsplit_perf.benchmarks.coverage -o docs/coverage.md`; do not edit.",
        "",
        f"**{totals(rows)}.**",
        "",
        "A number is the largest relative error of the joined parts, run by onnxruntime, against torch eager: the largest",
        "difference over the largest magnitude, over every output and a set of fresh random inputs with batches of 1 to 64,",
        f"first and last rows, and empty bags. Up to {EQUAL:.0e} counts as equal (fp32: sums are reordered). Every cut was also proved by",
        "`recsplit build` itself, with its own cases. A number in brackets is a note below. No row that is equal has a Loop, If, Scan or",
        "Sequence operator left in either sub-model, and in each the number of tables found is the one expected.",
        "",
        f"| model | tables | {' | '.join(ROUTES.values())} |",
        f"| --- | ---: | {' | '.join('---' for _ in ROUTES)} |",
    ]
    for model, routes in by_model.items():
        cells = [_cell(routes[route], notes.get((model, route))) for route in ROUTES]
        lines.append(f"| {model.removeprefix('recsplit.zoo.')} | {MODELS[model]} | {' | '.join(cells)} |")
    lines += ["", "Each route:", "", "| route | exported by torch | cut and equal |", "| --- | ---: | ---: |"]
    for route, heading in ROUTES.items():
        exported = [row for row in rows if row.route == route and row.exported]
        lines.append(f"| {heading} | {len(exported)} of {len(by_model)} | {sum(row.equal for row in exported)} |")
    if notes:
        lines += ["", "## Notes", ""]
        lines += [
            f"{notes[row.model, row.route]}. {row.model.removeprefix('recsplit.zoo.')}, {ROUTES[row.route]}: {plain(why(row))}"
            for row in rows
            if not row.equal
        ]
    return "\n".join(lines) + "\n"


def _cell(row: Row, note: int | None) -> str:
    if note is None:
        return "0" if row.error == 0 else f"{row.error:.0e}"
    return f"{'cut' if row.cut else 'not cut' if row.exported else 'no export'} [{note}]"


if __name__ == "__main__":
    command()
