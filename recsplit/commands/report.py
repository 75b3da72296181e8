"""The command `report`: one HTML file about a build, with what it measures itself or what was measured before."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from recsplit.commands import perf_search
from recsplit.commands.output import example, json_option, progress, refuse_output, show_json
from recsplit.errors import InputError

if TYPE_CHECKING:
    from recsplit.building.sharding import Request
    from recsplit.capacity.profile import Profile
    from recsplit.capacity.workload import Workload
    from recsplit.plan.plan import Plan
    from recsplit.repository.find import Build
    from recsplit_perf.report import Section
    from recsplit_perf.report.figures import Point
    from recsplit_perf.traffic.runs import Run

#: Where a sweep measures, in parts of the rate that the profile promises.
SHARES = (0.2, 0.5, 0.7, 0.85, 0.95)
#: Where the simulation draws its line, in the same parts.
QUERIES = 20_000
PROFILE_S, ROUNDS = 20.0, 3
LINE = tuple(float(share) for share in np.linspace(0.1, 1.0, 19))

FILE = click.Path(path_type=Path)


@click.command(
    epilog=example(
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/tiny",
        "recsplit report /tmp/tiny --workload perf/scenarios/elasticrec.toml --seconds 2 -o /tmp/tiny.html",
    )
)
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--model", metavar="NAME", help="Which ensemble, where DIR holds several.")
@click.option("--workload", metavar="FILE", type=FILE, help="TOML file: sizes, arrivals, ids, bound.")
@click.option("--profile", "profile_path", metavar="FILE", type=FILE, help="What `recsplit profile` wrote.")
@click.option("--partition", metavar="FILE", type=FILE, help="What `recsplit partition` wrote: shards beside the whole model.")
@click.option("--access", metavar="FILE", type=FILE, help="The access profile that the partition was made with.")
@click.option("--journal", metavar="FILE", type=FILE, help="What `recsplit control --journal` wrote: load, latency and counts over time.")
@click.option("--run", "run_paths", metavar="FILE", type=FILE, multiple=True, help="What `perf run -o` wrote; again for more.")
@click.option("--whole", "whole_paths", metavar="FILE", type=FILE, multiple=True, help="Runs of the whole model, to compare.")
@click.option("--seconds", type=click.FloatRange(0, 600, min_open=True), default=5, show_default=True, help="Each rate that is measured.")
@click.option("-o", "--output", metavar="FILE", type=FILE, default=Path("report.html"), show_default=True, help="The HTML file.")
@json_option
def command(
    repository: Path,
    model: str | None,
    workload: Path | None,
    profile_path: Path | None,
    partition: Path | None,
    access: Path | None,
    journal: Path | None,
    run_paths: tuple[Path, ...],
    whole_paths: tuple[Path, ...],
    seconds: float,
    output: Path,
    as_json: bool,
) -> None:
    """Write a report on the ensemble in DIR: the cut, latency and rate, workload, profile, memory, live against simulated.

    With --workload and without --run it measures: a profile, unless --profile gives one, then the workload at five rates.
    What it measured is kept beside the report, in a folder of the same name. --partition adds what the model takes whole and in shards;
    --journal what a controller saw, decided and did.
    """
    from recsplit.capacity import profile as profiles
    from recsplit.capacity.workload import read
    from recsplit.disk.files import whole_file
    from recsplit.repository.find import find
    from recsplit_perf.machine import provenance
    from recsplit_perf.report import contents, render
    from recsplit_perf.traffic import runs as kept

    found = find(repository, model)
    plan = found.plan
    refuse_output(output)
    origin = provenance()
    wanted = None if workload is None else read(workload)
    runs = [kept.read(path) for path in run_paths]
    profile = None if profile_path is None else profiles.read(profile_path)
    controlled = None if journal is None else _control(journal)  # before anything is measured: a wrong file is told at once
    given = _given(partition, access, profile is not None or (wanted is not None and not runs))
    if wanted is not None and not runs:
        folder = output.with_suffix("")
        folder.mkdir(parents=True, exist_ok=True)
        profile = profile or _profile(found, wanted, folder)
        runs = _sweep(repository, plan, wanted, profile, seconds, folder)
    simulated: list[Point] = []
    if wanted is not None and profile is not None:
        with progress("Simulating"):
            simulated = _simulated(profile, wanted)
    material = contents.Material(
        plan,
        origin,
        runs=runs,
        whole=[kept.read(path) for path in whole_paths],
        profile=profile,
        simulated=simulated,
        workload=wanted,
        shards=None if given is None or profile is None else _shards(plan, profile, given, origin),
        control=controlled,
    )
    page = contents.page(material)
    with whole_file(output) as file:
        file.write(render(page).encode())
    if as_json:
        show_json({"report": str(output), **{fact.label: f"{fact.value} ({fact.note})" for fact in page.facts}})
    else:
        click.echo(f"{output}: {', '.join(section.title for section in page.sections)}")


def _control(journal: Path) -> "Section":
    """A controller's journal. Raises InputError where it is none."""
    from recsplit.commands import report_journal

    return report_journal.section(journal)


def _given(partition: Path | None, access: Path | None, profiled: bool) -> "Request | None":
    """The partition to show. Raises InputError where something for it is missing."""
    from recsplit.building import sharding

    if partition is None:
        if access is not None:
            raise InputError("--access goes with --partition", hint="recsplit partition DIR --access FILE writes a partition")
        return None
    if access is None:
        raise InputError("--partition needs --access", hint="the access profile that the partition was made with")
    if not profiled:
        raise InputError("--partition needs a profile of the model", hint="--profile FILE, or --workload FILE to measure one")
    return sharding.read(partition, access)


def _shards(plan: "Plan", profile: "Profile", given: "Request", origin: "Mapping[str, Any]") -> "Section":
    """The whole model beside the partition's shards, on servers like this one."""
    from recsplit.partition import partition_file
    from recsplit.partition.access.frequencies import check
    from recsplit.partition.accounting import Node
    from recsplit_perf.report import shards

    rows = {table.name: table.rows for table in plan.tables}
    partition_file.check(given.partition, rows)
    assert given.profile is not None
    check(given.profile, plan.name, rows, origin="--access")
    if plan.shards:
        raise InputError(f"{plan.name!r} is cut into shards already", hint="give the build that the partition was made for")
    machine = origin["machine"]
    node = Node(machine["cpu"], machine["cores"], machine["memory_gib"] * 2**30)
    with progress("Counting what the shards take"):
        return shards.section(shards.compare(plan, profile, given.partition, given.profile, node), given.partition, node)


def _profile(built: "Build", wanted: "Workload", folder: Path) -> "Profile":
    """Measure a profile with the workload's id law, and keep it."""
    from recsplit.capacity.profile import to_json
    from recsplit.disk.files import whole_file
    from recsplit_perf.profile import profile_points, profiling

    steps = ROUNDS * len(profile_points.sizes(built.plan.max_batch_size))
    with progress(f"Profiling {built.plan.name}", total=steps) as advance:
        found = profiling.measure(built, seconds=PROFILE_S, rounds=ROUNDS, law=wanted.ids, advance=advance)
    with whole_file(folder / "profile.json") as file:
        file.write(to_json(found).encode())
    return found


def _sweep(repository: Path, plan: "Plan", wanted: "Workload", profile: "Profile", seconds: float, folder: Path) -> "list[Run]":
    """Offer the workload at rising rates; each run is on disk as soon as it ends. An interrupted one ends the sweep."""
    from recsplit_perf.traffic import live, queries, runs

    most = _capacity(profile, wanted)
    found: list[Run] = []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(perf_search.served(repository, plan.name))
        with progress("Preparing queries"):
            pool = queries.pool(plan, wanted, np.random.default_rng(wanted.seed))
        for number, share in enumerate(SHARES):
            rate = float(f"{share * most:.3g}")
            with progress(f"Offering {wanted.name}, {rate:g} queries/s for {seconds:g} s"):
                rng = np.random.default_rng([wanted.seed, number])
                found.append(live.measure(server.http_url, plan, live.at_rate(wanted, rate), pool, rng, seconds=seconds))
            runs.save(found[-1], folder / f"rate-{rate:g}.npz")
    return found


def _simulated(profile: "Profile", wanted: "Workload") -> "list[Point]":
    """What the simulator expects at rates up to the capacity that the profile promises."""
    from recsplit.capacity import arrivals, drive, served
    from recsplit_perf.report.figures import Point

    pools, cores = served.pools(profile, {}), served.cores(profile)
    most = _capacity(profile, wanted)
    found = []
    for share in LINE:
        law = arrivals.at_rate(wanted.arrivals, share * most)
        split = profile.max_batch_size
        run = drive.run(pools, wanted.sizes, law, QUERIES / (share * most), split_rows=split, cores=cores, seed=wanted.seed)
        found.append(Point(share * most, *(float(value) for value in np.percentile(run.latency_ms, (50, 95, 99)))))
    return found


def _capacity(profile: "Profile", wanted: "Workload") -> float:
    from recsplit.capacity import drive, served

    return drive.capacity(served.pools(profile, {}), wanted.sizes, split_rows=profile.max_batch_size, cores=served.cores(profile))
