"""What recsplit cuts of public libraries, model by model: `python -m recsplit_perf.benchmarks.libraries --env DIR`.

The libraries need versions of their own of much, so they live in an environment of their own, DIR, made where it isn't there yet; so
does each model's process (library_model.py), where a crash or a hang costs its row only.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from recsplit.commands.output import progress
from recsplit_perf.benchmarks import coverage
from recsplit_perf.machine import provenance
from recsplit_perf.report.markdown import plain

#: The libraries, as PyPI has them. RecBole 1.2.1 writes to copies of pandas' columns, which 2.3 warns of and 3 ignores.
PINNED = ("pytorch-widedeep==1.7.0", "recbole==1.2.1", "torch-rechub==0.9.0", "pandas<2.3")
#: What recsplit needs there: its own dependencies and the extra `torch`, without recsplit, which is found by PYTHONPATH.
NEEDED = tuple("torch onnxscript onnx onnx-ir onnxruntime numpy safetensors click rich jinja2 filelock pyyaml tritonclient[all]".split())
NEEDED_ALSO = ("prometheus-api-client", "prometheus-client")
#: Of constraints.txt, what the libraries are held to as well: the rest of it and theirs can't be had together.
HELD = ("torch", "numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "protobuf", "ml_dtypes")
#: Error relative to the row's magnitude up to which the parts count as equal to torch eager.
EQUAL = 1e-4
#: Seconds after which a model's process is ended.
LIMIT_S = 400

_CHECKOUT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Row:
    """One model. `exported`: by torch itself, with a batch that varies; `reason`: why there is no cut, as torch or recsplit says.

    torch.onnx is asked too where there is no cut, since recsplit needs ONNX. `error`: the largest difference of the joined parts from torch
    eager on fresh inputs, relative to the magnitude of its row; `tables`: in the build's plan; `tables_read`: tensors that torch eager
    reads by ids that depend on the inputs; `left`: what `recsplit inspect` names as not cut out, asked where tables are missing.
    """

    library: str
    model: str
    exported: bool = False
    cut: bool = False
    error: float | None = None
    tables: int = 0
    tables_read: int = 0
    left: tuple[str, ...] = ()
    reason: str = ""
    seconds: float = 0.0

    @property
    def equal(self) -> bool:
        """Cut, and answering as torch eager does."""
        return self.cut and self.error is not None and self.error <= EQUAL

    @property
    def wrong(self) -> bool:
        """Cut and published, and answering otherwise than torch eager: the worst outcome."""
        return self.cut and not self.equal


@click.command()
@click.option("--env", metavar="DIR", type=click.Path(path_type=Path), required=True, help="The libraries' environment, made if need be.")
@click.option("--library", metavar="NAME", help="Only this library.")
@click.option("--model", metavar="NAME", help="Only models whose name has this in it.")
@click.option("--json", "as_json", metavar="FILE", type=click.Path(path_type=Path), help="Write the rows there, as JSON.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write the table there, as Markdown.")
@click.option("--again", is_flag=True, help="Keep what FILE of --json has as equal, and try the others again.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True, help="Models at a time.")
def command(env: Path, library: str | None, model: str | None, as_json: Path | None, output: Path | None, again: bool, jobs: int) -> None:
    """Build the models of public libraries and compare the parts with torch eager."""
    from recsplit_perf.benchmarks.library_models import LEFT_OUT, LIBRARIES

    chosen = [(name, item) for name in LIBRARIES if library in (None, name) for item in LIBRARIES[name] if (model or "") in item]
    if not chosen:
        raise click.BadParameter(f"no model of {', '.join(LIBRARIES)} fits", param_hint="--library, --model")
    prepare(env)
    rows = _kept(as_json, chosen) if again else []
    missing = [item for item in chosen if item not in {(row.library, row.model) for row in rows}]
    with (
        TemporaryDirectory(prefix="recsplit-libraries-") as folder,
        progress(f"Trying {len(missing)} models", total=len(missing)) as advance,
    ):
        for row in tried(missing, env, Path(folder), jobs=jobs, advance=advance):
            rows = sorted([*rows, row], key=lambda row: chosen.index((row.library, row.model)))
            if as_json is not None:  # as it goes: what was tried is kept where the run is ended
                as_json.write_text(json.dumps(record(rows), indent=1) + "\n")
            if not row.equal:
                click.echo(f"{row.library}, {row.model}: {why(row)}", err=True)
    page = markdown(rows, LEFT_OUT)
    if output is None:
        click.echo(page)
    else:
        output.write_text(page)
        click.echo(totals(rows), err=True)


def _kept(path: Path | None, chosen: Sequence[tuple[str, str]]) -> list[Row]:
    """The rows of a file that are equal and were chosen."""
    if path is None or not path.is_file():
        raise click.BadParameter("there is no file of --json to go on from", param_hint="--again")
    rows = [read(row) for row in json.loads(path.read_text())["rows"]]
    return [row for row in rows if row.equal and (row.library, row.model) in chosen]


def record(rows: Sequence[Row]) -> dict[str, Any]:
    """What the JSON file holds."""
    counts = {"totals": totals(rows), "wrong": sum(row.wrong for row in rows), "by_library": by_library(rows)}
    return {**provenance(), "libraries": PINNED, **counts, "rows": [asdict(row) for row in rows]}


def prepare(env: Path) -> None:
    """Make the libraries' environment where there is none: some minutes, and a network with PyPI."""
    done = env / ".complete"
    if done.is_file() and done.read_text() == "\n".join(PINNED):
        return
    constraints = _CHECKOUT / "constraints.txt"
    held = env / "held.txt"
    with progress(f"Making {env}", total=3) as advance:
        _run([sys.executable, "-m", "venv", str(env)])
        advance(1)
        lines = [line for line in constraints.read_text().splitlines() if line.partition("==")[0] in HELD]
        held.write_text("\n".join(lines) + "\n")
        pip = [str(env / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "-c", str(constraints), *NEEDED, *NEEDED_ALSO])
        advance(1)
        _run([*pip, "-c", str(held), *PINNED])
        advance(1)
    done.write_text("\n".join(PINNED))


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise click.ClickException(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


def tried(models: Sequence[tuple[str, str]], env: Path, folder: Path, *, jobs: int, advance: Callable[[int], None]) -> Iterator[Row]:
    """The rows of these models, in the order in which they are done. Files go under `folder`."""
    with ThreadPoolExecutor(jobs) as pool:
        pending = [pool.submit(_try, library, model, env, folder / f"{n}") for n, (library, model) in enumerate(models)]
        for done in as_completed(pending):
            yield done.result()
            advance(1)


def _try(library: str, model: str, env: Path, folder: Path) -> Row:
    """One model in a process of its own; a crash or a hang becomes its row."""
    folder.mkdir()
    path = os.pathsep.join(str(_CHECKOUT / part) for part in ("", "perf", "controller"))
    command = [str(env.absolute() / "bin" / "python"), "-m", "recsplit_perf.benchmarks.library_model", library, model, str(folder)]
    # One thread each: models are small, several are tried at a time. In a folder of its own: RecBole writes into the working directory.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return Row(library, model, reason=f"not done in {LIMIT_S} s", seconds=LIMIT_S)
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"library"')]
    if lines:
        return read(json.loads(lines[-1]))
    tail = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
    return Row(library, model, reason=f"the process ended with exit status {done.returncode}: {tail}")


def read(data: dict[str, Any]) -> Row:
    """A row as JSON has it."""
    return Row(**{**data, "left": tuple(data["left"])})


def why(row: Row) -> str:
    """Why a row is not equal, in one line."""
    if row.wrong:
        return f"WRONG: differs from torch by {row.error:.1e}" if row.error is not None else f"WRONG: {row.reason}"
    return row.reason if row.exported else f"torch can't export: {row.reason}"


def totals(rows: Sequence[Row]) -> str:
    """How many models were cut and equal, in the sentence of docs/coverage.md."""
    return coverage.totals_of(sum(row.equal for row in rows), sum(row.exported for row in rows), len(rows))


def by_library(rows: Sequence[Row]) -> dict[str, str]:
    """The same sentence for each library, of rows in the libraries' order."""
    return {library: totals(list(group)) for library, group in groupby(rows, key=lambda row: row.library)}


def markdown(rows: Sequence[Row], left_out: dict[str, dict[str, str]]) -> str:
    """The page: totals, each library's table, what was left out and why."""
    lines = [
        "# What recsplit cuts of public libraries",
        "",
        "Written by `python -m recsplit_perf.benchmarks.libraries -o FILE`; do not edit.",
        "",
        f"**{totals(rows)}; {sum(row.wrong for row in rows)} wrong.**",
        "",
        "Every model of pytorch-widedeep, RecBole and torch-rechub that takes rows of inputs, small and with seeded weights. A number is",
        "the largest difference of the joined parts from torch eager, on fresh inputs with batches of 1, 3 and 17, relative to its row's",
        f"magnitude; up to {EQUAL:.0e} counts as equal. Tables: those in the plan, of the tensors that torch reads by ids that depend",
        "on the inputs.",
    ]
    for library, group in groupby(rows, key=lambda row: row.library):
        members = list(group)
        lines += ["", f"## {library}", "", f"{totals(members)}.", "", "| model | answer | tables | why not |", "| --- | --- | ---: | --- |"]
        lines += [f"| {row.model} | {_answer(row)} | {row.tables} of {row.tables_read} | {_note(row)} |" for row in members]
        skipped = left_out.get(library, {})
        if skipped:
            lines += ["", "Left out:", "", *(f"* {name}: {reason}" for name, reason in skipped.items())]
    return "\n".join(lines) + "\n"


def _answer(row: Row) -> str:
    if row.error is not None:
        return f"{row.error:.0e}"
    return "cut" if row.cut else "not cut" if row.exported else "no export"


def _note(row: Row) -> str:
    return plain("" if row.equal and not row.left else "; ".join(row.left) if row.equal else why(row))


if __name__ == "__main__":
    command()
