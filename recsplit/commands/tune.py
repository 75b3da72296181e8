"""The command `tune`: the settings that serve the most queries within the latency bound."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recsplit.commands.output import example, json_option, progress, refuse_file, warn
from recsplit.commands.workload_option import workload_option

if TYPE_CHECKING:
    from recsplit.capacity.profile import Profile
    from recsplit.capacity.search import Throughput
    from recsplit.capacity.workload import Workload
    from recsplit.repository.find import Build
    from recsplit.tuning.setting import Setting
    from recsplit.tuning.tune import Simulated

PROFILE_FILE = "profile.json"


@click.command(
    epilog=example(
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/tiny",
        "recsplit tune /tmp/tiny --workload elasticrec --simulated 12 --live 1 --rounds 1 --seconds 1 -o /tmp/tiny-tuning",
    )
)
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@workload_option("Sizes, arrivals and bound, as TOML.", required=True)
@click.option("--model", metavar="NAME", help="Which ensemble, where DIR holds several.")
@click.option("--cores", type=click.IntRange(1), help="That the server may use.  [default: all of this machine's]")
@click.option("--simulated", type=click.IntRange(1, 10_000), default=40, show_default=True, help="Settings that are simulated, at most.")
@click.option("--live", type=click.IntRange(0, 100), default=3, show_default=True, help="The best of them are tried on a server, so many.")
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="Measurements of each on a server, at most.")
@click.option("--seconds", type=click.FloatRange(0, 3600, min_open=True), default=3, show_default=True, help="Each trial, at least.")
@click.option("--profile", metavar="FILE", type=click.Path(path_type=Path), help="Of `recsplit profile`, of one thread; measured without.")
@click.option("-o", "--output", metavar="FOLDER", type=click.Path(path_type=Path), help="Keep all of it there.  [default: <model>.tuning]")
@click.option("--resume", is_flag=True, help="Go on with the tuning in FOLDER.")
@click.option("--dry-run", is_flag=True, help="Write nothing into DIR.")
@click.option("--keep", type=click.IntRange(1, 100), default=2, show_default=True, help="Builds that stay in DIR, for recsplit rollback.")
@click.option("--templates", metavar="FOLDER", type=click.Path(path_type=Path), help="As recsplit build had them.")
@json_option
def command(
    repository: Path,
    workload: Path,
    model: str | None,
    cores: int | None,
    simulated: int,
    live: int,
    rounds: int,
    seconds: float,
    profile: Path | None,
    output: Path | None,
    resume: bool,
    dry_run: bool,
    keep: int,
    templates: Path | None,
    as_json: bool,
) -> None:
    """Find the settings with which the build in DIR answers the most queries within the workload's bound, and publish it with them.

    Form, instances, threads, batch size (what larger queries are split at) and queue delay: first by the simulator, on a profile, as
    DeepRecSys does (larger batches for as long as that pays) and then all jointly; the best of them then on real servers beside the
    present settings, in rounds, until one is certainly the best. Another plan is published only if it is certainly better: as a new
    version of the same files, which `recsplit update` lets a server take and `recsplit rollback` takes back. Every measurement is on
    disk as soon as it ends; after Ctrl-C, --resume goes on where it was.

    Of a router, DeepRecSys's scheduler on a server: the rows of a part, and then, where large queries have a variant of their own
    (recsplit route --large), from how many rows on a query is large.
    """
    from recsplit.capacity import workload as workloads
    from recsplit.commands import tune_router, tune_shown
    from recsplit.disk.files import whole_file
    from recsplit.errors import InputError
    from recsplit.repository.find import ensemble_name, find
    from recsplit.repository.routers import router_of
    from recsplit.tuning import outcome as outcomes
    from recsplit.tuning import retuned, tune
    from recsplit.tuning import simulated as by_profile
    from recsplit.tuning.ledger import About
    from recsplit.tuning.setting import of_plan, space_of

    router = router_of(repository, model)
    name = ensemble_name(repository, model) if router is None else router
    asked = workloads.read(workload)
    here = len(os.sched_getaffinity(0))
    machine = here if cores is None else cores
    if machine > here and live:
        raise InputError(f"--cores is {machine}, and this machine has {here}", hint="--live 0 simulates more cores than there are")
    folder = Path(f"{name}.tuning") if output is None else output
    refuse_file(folder)
    if router is not None:
        if not live or profile is not None:
            raise InputError(f"{router!r} is a router, and is tuned on a server", hint="leave --live 0 and --profile out")
        folder.mkdir(parents=True, exist_ok=True)
        tune_router.tune_router(
            repository,
            router,
            asked,
            folder,
            cores=machine,
            seconds=seconds,
            rounds=rounds,
            resume=resume,
            dry_run=dry_run,
            keep=keep,
            as_json=as_json,
        )
        return
    build = find(repository, name)
    present = of_plan(build.plan)
    space = space_of(build.plan, machine)
    folder.mkdir(parents=True, exist_ok=True)
    ledger = tune_shown.ledger_in(folder, About(name, build.plan.build, asked.describe(), machine), resume=resume)
    known = _profile(build, asked, folder, profile, templates, resume=resume)
    evaluate = by_profile.evaluator(known, asked, machine)
    with progress(f"Simulating {min(simulated, len(space))} of {len(space)} settings", total=min(simulated, len(space))) as advance:
        said = tune.simulated(space, present, evaluate, ledger, trials=simulated, seed=asked.seed, advance=advance)
    raced, chosen = None, said.best.setting
    if live:
        ask = _asking(build, asked, said, machine, seconds, templates)
        raced = tune.raced(tune.candidates(said, present, live), ask, asked.latency, ledger, rounds=rounds)
        better = raced.better_than(present)
        chosen = present if better is None else better.setting
    published = None
    if live and chosen != present and not dry_run:
        with progress(f"Proving and publishing {build.plan.name}: {chosen}"):
            published = retuned.publish(build, chosen, repository, keep=keep, templates=templates).version
    subject = said.best.setting if chosen == present else chosen
    outcome = outcomes.outcome(
        model=build.plan.name,
        version=build.plan.version,
        workload=asked.name,
        bound=asked.latency,
        cores=machine,
        settings=len(space),
        present=present,
        said=said,
        raced=raced,
        chosen=chosen,
        reasons=tune.reasons(present, subject, lambda setting: ledger.once("simulated", setting, evaluate)),
        published=published,
    )
    with whole_file(folder / outcomes.OUTCOME_FILE) as file:
        file.write(outcomes.to_json(outcome).encode())
    if as_json:
        click.echo(outcomes.to_json(outcome), nl=False)
    else:
        tune_shown.show(outcome, repository)


def _asking(
    build: "Build", asked: "Workload", said: "Simulated", cores: int, seconds: float, templates: Path | None
) -> "Callable[[Setting, int], Throughput]":
    """What measures a setting on a server, and says so; each search begins near what is known."""
    from recsplit.commands import tune_shown
    from recsplit_perf import tuned
    from recsplit_perf.traffic.live import least_rate

    expected = {one.setting: one.throughput.rate / 2 for one in said.tried}

    def measure(setting: "Setting", number: int) -> "Throughput":
        first = expected.get(setting, 0.0) or 2 * least_rate(seconds)

        def on_a_server() -> "Throughput":
            return tuned.measure(build, setting, asked, cores=cores, seconds=seconds, first=first, number=number, templates=templates)

        throughput = tune_shown.announced(setting, number, on_a_server)
        expected[setting] = throughput.rate
        return throughput

    return measure


def _profile(build: "Build", asked: "Workload", folder: Path, given: Path | None, templates: Path | None, *, resume: bool) -> "Profile":
    """The profile that was given, or that an interrupted tuning left, or a new one."""
    from recsplit.capacity import profile as profiles
    from recsplit.disk.files import whole_file
    from recsplit.errors import InputError
    from recsplit_perf import tuned
    from recsplit_perf.profile import profile_points

    path = folder / PROFILE_FILE if given is None else given
    if given is None and not (resume and path.exists()):
        rounds = 5
        with progress(f"Measuring {build.plan.name}", total=rounds * len(profile_points.sizes(build.plan.max_batch_size))) as advance:
            measured = tuned.profile(build, seconds=30, rounds=rounds, workload=asked, advance=advance, templates=templates)
        with whole_file(path) as file:
            file.write(profiles.to_json(measured).encode())
    known = profiles.read(path)
    if given is not None and (known.model, known.build) != (build.plan.name, build.plan.build):
        raise InputError(f"{given} is of {known.model}, build {known.build}", hint=f"recsplit profile {build.repository} -o FILE")
    if any(part.threads > 1 for part in known.parts):
        raise InputError(f"{path} is of instances with several threads", hint="profile a build of --threads 1, or leave --profile out")
    warn(profiles.others_at_work(known))
    return known
