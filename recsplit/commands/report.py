"""The command `report`: one HTML file about a build, with what it measures itself or what was measured before."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsplit.commands import perf_search
from recsplit.commands.output import example, json_option, on_interrupt, progress, refuse_output, show_json, steps
from recsplit.commands.workload_option import workload_option
from recsplit.errors import InputError

if TYPE_CHECKING:
    from recsplit.building.sharding import Request
    from recsplit.capacity.profile import Profile
    from recsplit.capacity.workload import Workload
    from recsplit.plan.plan import Plan
    from recsplit.repository.find import Build
    from recsplit_perf.report import Section
    from recsplit_perf.traffic.runs import Run

FILE = click.Path(path_type=Path)


@click.command(
    epilog=example(
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/tiny",
        "recsplit report /tmp/tiny --workload elasticrec --seconds 2 -o /tmp/tiny.html",
    )
)
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--model", metavar="NAME", help="Which ensemble, where DIR holds several.")
@workload_option("TOML file: sizes, arrivals, ids, bound.")
@click.option("--profile", "profile_path", metavar="FILE", type=FILE, help="What `recsplit profile` wrote.")
@click.option("--partition", metavar="FILE", type=FILE, help="What `recsplit partition` wrote: shards beside the whole model.")
@click.option("--access", metavar="FILE", type=FILE, help="The access profile that the partition was made with.")
@click.option("--journal", metavar="FILE", type=FILE, help="What `recsplit control --journal` wrote: load, latency and counts over time.")
@click.option("--tuning", metavar="FOLDER", type=FILE, help="What `recsplit tune` left there: the settings it tried, and why it chose.")
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
    tuning: Path | None,
    run_paths: tuple[Path, ...],
    whole_paths: tuple[Path, ...],
    seconds: float,
    output: Path,
    as_json: bool,
) -> None:
    """Write a report on the ensemble in DIR: the cut, latency and rate, workload, profile, memory, live against simulated.

    With --workload and without --run it measures: a profile, unless --profile gives one, then the workload at five rates.
    What it measured is kept beside the report, in a folder of the same name. --partition adds what the model takes whole and in shards;
    --tuning which settings were tried, --journal what a controller saw, decided and did.
    """
    from recsplit.capacity import profile as profiles
    from recsplit.capacity import workload as workloads
    from recsplit.disk.files import whole_file
    from recsplit.repository.find import find
    from recsplit_perf.machine import provenance
    from recsplit_perf.report import contents, render
    from recsplit_perf.traffic import runs as kept

    build = find(repository, model)
    refuse_output(output)
    origin = provenance()
    asked = None if workload is None else workloads.read(workload)
    runs = [kept.read(path) for path in run_paths]
    profile = None if profile_path is None else profiles.read(profile_path)
    controlled = None if journal is None else _control(journal)  # before anything is measured: a wrong file is told at once
    tuned = None if tuning is None else _tuning(tuning)
    request = _request(partition, access, profile is not None or (asked is not None and not runs))
    if asked is not None and not runs:
        folder = output.with_suffix("")
        on_interrupt(folder, "", f"what was measured is in {folder}")
        profile = profile or _profile(build, asked, folder)
        runs = _sweep(build, asked, profile, seconds, folder)
    simulated = []
    if asked is not None and profile is not None:
        from recsplit_perf.report import measuring

        with progress("Simulating"):
            simulated = measuring.simulated(profile, asked)
    material = contents.Material(
        build.plan,
        origin,
        runs=runs,
        whole=[kept.read(path) for path in whole_paths],
        profile=profile,
        simulated=simulated,
        workload=asked,
        shards=None if request is None or profile is None else _shards(build.plan, profile, request, origin),
        tuning=tuned,
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


def _tuning(folder: Path) -> "Section":
    """What a tuning found. Raises InputError where it isn't there."""
    from recsplit.tuning import outcome
    from recsplit_perf.report import tuning

    return tuning.section(outcome.read(folder))


def _request(partition: Path | None, access: Path | None, profiled: bool) -> "Request | None":
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


def _shards(plan: "Plan", profile: "Profile", request: "Request", origin: "Mapping[str, Any]") -> "Section":
    from recsplit_perf.report import shards

    assert request.profile is not None
    with steps() as show:
        return shards.checked_section(plan, profile, request.partition, request.profile, origin, show)


def _profile(build: "Build", workload: "Workload", folder: Path) -> "Profile":
    """Measure a profile, and keep it. Raises KeyboardInterrupt where Ctrl-C ended that early."""
    from recsplit.capacity.profile import to_json
    from recsplit.disk.files import whole_file
    from recsplit_perf.report import measuring

    with steps() as show:
        profile = measuring.profiled(build, workload, show)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "profile.json") as file:
        file.write(to_json(profile).encode())
    if profile.provenance["measured"]["rounds"] < profile.provenance["measured"]["asked_rounds"]:
        raise KeyboardInterrupt
    return profile


def _sweep(build: "Build", workload: "Workload", profile: "Profile", seconds: float, folder: Path) -> "list[Run]":
    from recsplit_perf.report import measuring

    rates = measuring.rates(profile, workload)
    folder.mkdir(parents=True, exist_ok=True)
    with perf_search.served(build.repository, build.plan.name) as server, steps() as show:
        return measuring.sweep(server.http_url, build.plan, workload, rates, folder, seconds=seconds, progress=show)
