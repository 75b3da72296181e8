"""The command `profile`: what a build costs on this machine."""

from pathlib import Path

import click

from recsplit.commands.output import Cell, example, json_option, progress, refuse_output, show_table, warn
from recsplit.commands.workload_option import workload_option
from recsplit.disk.files import size_text

#: Exit code of a measurement that was broken off, and kept.
INTERRUPTED = 130


@click.command(
    epilog=example("recsplit build recsplit.zoo.tiny:dlrm -o /tmp/tiny", "recsplit profile /tmp/tiny --seconds 20 -o /tmp/profile.json")
)
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--model", metavar="NAME", help="Which ensemble, where DIR holds several.")
@click.option("--seconds", type=click.FloatRange(0, 36000, min_open=True), default=60, show_default=True, help="About how long to measure.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=5, show_default=True, help="Times that every size is gone through.")
@workload_option("Take the ids' law from this workload; uniform without.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random inputs.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write the profile there, for `recsplit simulate`.")
@json_option
def command(
    repository: Path, model: str | None, seconds: float, rounds: int, workload: Path | None, seed: int, output: Path | None, as_json: bool
) -> None:
    """Measure each sub-model in DIR, alone and beside another, and the whole ensemble.

    Starts a server of its own and asks for one batch at a time, at 1, 2, 4 and so on rows: service times by the server's own
    statistics, latencies as a client sees them, straight lines through both, memory, load times and bytes on the wire. With
    --json it prints the profile, every sample in it. Ctrl-C ends the measurement early and keeps what was measured.
    """
    from recsplit.capacity import workload as workloads
    from recsplit.capacity.profile import others_at_work, to_json
    from recsplit.disk.files import whole_file
    from recsplit.rendering.numbers import number_text
    from recsplit.repository.find import find
    from recsplit_perf.profile import profile_points, profiling

    build = find(repository, model)
    law = workloads.read(workload).ids if workload is not None else None
    if output is not None:
        refuse_output(output)
    with progress(f"Measuring {build.plan.name}", total=rounds * len(profile_points.sizes(build.plan.max_batch_size))) as advance:
        profile = profiling.measure(build, seconds=seconds, rounds=rounds, law=law, seed=seed, advance=advance)
    warn(others_at_work(profile))
    if output is not None:
        with whole_file(output) as file:
            file.write(to_json(profile).encode())
    if as_json:
        click.echo(to_json(profile), nl=False)
    else:
        rows: list[list[Cell]] = []
        for part in profile.parts:
            for name, curve in (("alone", part.alone), ("contended", part.contended), ("at the client", part.client)):
                if curve is not None:
                    rows.append([part.name, name, *_figures(curve)])
        rows.append([profile.model, "at the client", *_figures(profile.whole)])
        largest = profile.whole.x[-1]
        columns = ("model", "latency", "a_ms", "b_us_per_row", "r2", "1 row ms", f"{largest} rows ms", "samples")
        show_table(columns, rows, title=f"{profile.model}, version {profile.version}: latency = a + b * rows")
        costs: list[list[Cell]] = [
            [part.name, size_text(part.pss_bytes) if part.pss_bytes else "in Triton", part.load_s] for part in profile.parts
        ]
        show_table(("model", "memory", "load_s"), [*costs, ["Triton itself", size_text(profile.server_pss_bytes), None]])
        click.echo(
            f"An empty call takes {number_text(profile.overhead_ms)} ms; a row {number_text(profile.request_bytes_per_row)} B in, "
            f"{number_text(profile.response_bytes_per_row)} B out, {number_text(profile.gathers_per_row)} table rows read"
        )
    measured = profile.provenance["measured"]
    if measured["rounds"] < rounds:
        click.echo(f"Interrupted after {measured['rounds']} of {rounds} rounds; what was measured is kept", err=True)
        raise click.exceptions.Exit(INTERRUPTED)


def _figures(curve: object) -> list[Cell]:
    from recsplit.capacity.profile import Curve

    assert isinstance(curve, Curve)
    fit, samples = curve.fit, sum(map(len, curve.samples_ms))
    return [fit.a_ms, 1e3 * fit.b_ms, round(fit.r2, 4), curve.median_ms[0], curve.median_ms[-1], samples]
