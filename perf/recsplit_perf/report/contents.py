"""What a report says: the plan, runs at several rates, a profile and a simulation become facts and sections.

Each section stands where there is something to show in it, and only there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity import ids
from recsplit.capacity.profile import Profile
from recsplit.capacity.search import percentile_ms
from recsplit.capacity.workload import Workload
from recsplit.disk.files import size_text
from recsplit.plan.plan import Plan
from recsplit.rendering.numbers import number_text
from recsplit_perf.report import cut, figures
from recsplit_perf.report.page import Fact, Page, Section, Table
from recsplit_perf.traffic.runs import Run

#: Where the share of accesses is drawn: more points among the hottest rows, where the curve bends.
_SHARES = np.unique(np.concatenate([np.geomspace(1e-4, 1, 60), np.linspace(0, 1, 61), [0.1]]))


@dataclass(frozen=True)
class Material:
    """What was measured, and what was predicted for it.

    `runs`: open-loop runs of the cut model, one workload; `whole`: of the whole model in one piece; `simulated`: predicted
    latencies at the runs' rates and between them. `workload` adds the access skew of its id law, table by table. `shards`: what
    recsplit_perf.report.shards makes of a partition; `tuning` and `control`: what recsplit_perf.report.tuning
    and control make of a tuning and of a controller's journal.
    """

    plan: Plan
    provenance: Mapping[str, Any]
    runs: Sequence[Run] = ()
    whole: Sequence[Run] = ()
    profile: Profile | None = None
    simulated: Sequence[figures.Point] = ()
    workload: Workload | None = None
    shards: Section | None = None
    tuning: Section | None = None
    control: Section | None = None


#: Of the reads, whose rows should be in memory: the others wait for a disk.
_RESIDENT_SHARE = 0.99


def page(material: Material) -> Page:
    """The whole report."""
    plan, runs = material.plan, sorted(material.runs, key=lambda run: run.rate)
    sections = [_cut(plan)]
    if any(run.answered.any() for run in runs):
        sections += [_load(runs, material.whole), _workload(plan, runs, material.workload)]
    if runs and material.simulated:
        sections.append(_agreement(runs, material.simulated))
    if material.profile is not None:
        sections += [_profile(material.profile), _memory(plan, material.profile)]
    if material.shards is not None:
        sections.append(material.shards)
    if material.tuning is not None:
        sections.append(material.tuning)
    if material.control is not None:
        sections.append(material.control)
    return Page(
        title=f"{plan.name}, version {plan.version}",
        subtitle=f"{plan.source.spec}, cut into an embedding model and a dense model and served by Triton",
        facts=(*_served(runs), *_built(plan, material.profile)),
        sections=tuple(sections),
        origin=_origin(plan, material.provenance),
    )


def point(run: Run) -> figures.Point:
    """A run as three percentiles at one rate; failed queries are endless ones and left to the table."""
    p50, p95, p99 = (percentile_ms(run.latency_ms[run.answered], percent) for percent in (50, 95, 99))
    return figures.Point(len(run.latency_ms) / run.seconds, p50, p95, p99)


def largest_within(runs: Sequence[Run]) -> Run | None:
    """The run of the largest rate, among those whose generator kept up, that kept its bound."""

    def meets(run: Run) -> bool:
        bound = run.workload["latency"]
        failed = int((~run.answered).sum())
        return run.kept_up and percentile_ms(run.latency_ms[run.answered], bound["percentile"], failed) <= bound["bound_ms"]

    return max((run for run in runs if meets(run)), key=lambda run: run.rate, default=None)


def _served(runs: Sequence[Run]) -> list[Fact]:
    if not runs:
        return []
    bound = runs[0].workload["latency"]
    rule = f"p{bound['percentile']:g} under {bound['bound_ms']:g} ms"
    best = largest_within(runs)
    if best is None:
        return [Fact("Largest rate measured in bound", "none", f"{rule}; {_missed(runs)}")]
    summary = best.summary()
    p50, p95, p99 = (number_text(summary[f"p{percent}_ms"]) for percent in (50, 95, 99))
    failed = f"{summary['failed']:,} of {summary['queries']:,} queries failed"
    return [
        Fact("Largest rate measured in bound", f"{number_text(summary['offered_per_s'])} queries/s", rule),
        Fact("Throughput there", f"{number_text(summary['rows_per_s'])} rows/s", failed),
        Fact("Latency there", f"{p50} ms", f"p95 {p95} ms, p99 {p99} ms"),
    ]


def _missed(runs: Sequence[Run]) -> str:
    """Why no run kept its bound, by the slowest of those whose generator kept up."""
    sent = [run for run in runs if run.kept_up]
    if not sent:
        return "the load generator kept up with no rate"
    slowest = min(sent, key=lambda run: run.rate)
    bound, failed = slowest.workload["latency"], int((~slowest.answered).sum())
    reached = percentile_ms(slowest.latency_ms[slowest.answered], bound["percentile"], failed) if slowest.answered.any() else np.inf
    at = f"at {number_text(slowest.rate)} queries/s"
    if not np.isfinite(reached):
        return f"{at} {failed:,} of {len(slowest.latency_ms):,} failed"
    return f"{at} it is {number_text(reached)} ms"


def _built(plan: Plan, profile: Profile | None) -> list[Fact]:
    size = size_text(sum(table.size_bytes for table in plan.tables))
    facts = [Fact("Tables", size, f"{_count(len(plan.tables), 'table')}, {_count(len(plan.lookups), 'lookup')}")]
    if plan.losses:
        kinds = ", ".join(sorted({loss.stored for loss in plan.losses}))
        worst = max(plan.losses, key=lambda loss: loss.rms / loss.rms_numbers if loss.rms_numbers else 0.0)
        share = f"{worst.table} loses most: {worst.rms / worst.rms_numbers:.1%} of its numbers" if worst.rms_numbers else "of zeros only"
        facts.append(Fact("Tables in fewer bits", kinds, f"{_count(len(plan.losses), 'table')}; {share}, root mean square"))
    for item in plan.resident:
        if item.share == _RESIDENT_SHARE:
            before = f"for {item.share:.0%} of the reads, rows lying by heat; {size_text(item.as_they_were_bytes)} in their own order"
            facts.append(Fact("Memory that reads need", size_text(item.by_heat_bytes), before))
    if profile is not None:
        memory = sum(part.pss_bytes for part in profile.parts) + profile.server_pss_bytes
        facts.append(Fact("Memory in use", size_text(memory), "proportional set size of all server processes"))
    return facts


def _cut(plan: Plan) -> Section:
    lead = "Bars are as tall as their tables are large, and as dark as they are often read. Bytes on the arrows are those of one row."
    return Section("The cut", lead, (cut.draw(plan), cut.draw_narrow(plan)))


def _load(runs: Sequence[Run], whole: Sequence[Run]) -> Section:
    bound = runs[0].workload["latency"]
    chosen = largest_within(runs) or next(run for run in runs if run.answered.any())
    drawn = [[point(run) for run in group if run.answered.any()] for group in (runs, whole)]
    pictures = (
        figures.latency_against_rate(drawn[0], bound_ms=bound["bound_ms"], whole=drawn[1]),
        figures.latency_distribution(
            chosen.latency_ms[chosen.answered], bound_ms=bound["bound_ms"], title=f"Single queries at {number_text(chosen.rate)} queries/s"
        ),
    )
    lead = "Queries are sent when they are due, whether or not earlier ones are answered; their latency counts from then."
    columns = ("model", "offered /s", "answered /s", "rows /s", "p50 ms", "p95 ms", "p99 ms", "in bound", "failed", "generator")
    rows = [_row(name, run) for name, group in (("cut", runs), ("whole", whole)) for run in group]
    return Section("Latency and rate", lead, pictures, Table(columns, tuple(rows)))


def _row(name: str, run: Run) -> tuple[str, ...]:
    summary = run.summary()
    return (
        name,
        number_text(summary["offered_per_s"]),
        number_text(summary["answered_per_s"]),
        number_text(summary["rows_per_s"]),
        *("too many failed" if summary[key] is None else number_text(summary[key]) for key in ("p50_ms", "p95_ms", "p99_ms")),
        f"{summary['within_bound']:.1%}",
        f"{summary['failed']:,}",
        "kept up" if run.kept_up else "could not keep up",
    )


def _workload(plan: Plan, runs: Sequence[Run], workload: Workload | None) -> Section:
    traffic = runs[0].workload
    pictures = [figures.query_sizes(np.concatenate([run.query_rows for run in runs]))]
    if workload is not None:
        pictures.append(figures.skew(_skew(plan, workload)))
    lead = f"{traffic['name']}: {traffic['sizes']['law']} sizes, {traffic['arrivals']['process']} arrivals, {traffic['ids']['law']} ids."
    return Section("Workload", lead, tuple(pictures))


def _skew(plan: Plan, workload: Workload) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The law's curve for the largest and the smallest table: others lie between."""
    ordered = sorted(plan.tables, key=lambda table: -table.rows)
    curves = {}
    for table in {table.rows: table for table in (ordered[0], ordered[-1])}.values():
        hottest = np.maximum(np.round(_SHARES * table.rows), 1).astype(int)
        shares = np.array([ids.share(workload.ids, table.rows, int(rows)) for rows in hottest])
        curves[f"{table.name}, {table.rows:,} rows"] = (np.concatenate([[0.0], hottest / table.rows]), np.concatenate([[0.0], shares]))
    return curves


def _agreement(runs: Sequence[Run], simulated: Sequence[figures.Point]) -> Section:
    live = [point(run) for run in runs if run.answered.any()]
    ordered = sorted(simulated, key=lambda item: item.rate)
    rates = [item.rate for item in ordered]
    rows = []
    for item in live:
        p50, p95 = (float(np.interp(item.rate, rates, [getattr(other, name) for other in ordered])) for name in ("p50_ms", "p95_ms"))
        rows.append(
            (
                number_text(item.rate),
                number_text(item.p50_ms),
                number_text(p50),
                f"{p50 / item.p50_ms - 1:+.0%}",
                number_text(item.p95_ms),
                number_text(p95),
                f"{p95 / item.p95_ms - 1:+.0%}",
            )
        )
    columns = ("rate /s", "p50 live, ms", "simulated", "off by", "p95 live, ms", "simulated", "off by")
    lead = "The simulator knows the profile below and the workload, and nothing of these runs."
    return Section("Live and simulated", lead, (figures.agreement(live, ordered),), Table(columns, tuple(rows)))


def _profile(profile: Profile) -> Section:
    curves = {part.name: part.alone for part in profile.parts} | {f"{profile.model}, whole query": profile.whole}
    rows = tuple(
        (name, number_text(curve.fit.a_ms), number_text(1000 * curve.fit.b_ms), f"{curve.fit.r2:.3f}", f"{curve.x[0]:,} to {curve.x[-1]:,}")
        for name, curve in curves.items()
    )
    pictures = (figures.profile({name: (curve.x, curve.median_ms, curve.fit.a_ms, curve.fit.b_ms) for name, curve in curves.items()}),)
    lead = f"One query at a time; the server and the wire add {number_text(profile.overhead_ms)} ms to a query of one row."
    return Section("Profile", lead, pictures, Table(("model", "a, ms", "b, µs a row", "R²", "rows"), rows))


def _memory(plan: Plan, profile: Profile) -> Section:
    tables = sum(table.size_bytes for table in plan.tables)
    lead = f"Proportional set size by process. The tables hold {size_text(tables)}; pages that were never read are not in memory."
    # A sub-model that the engine runs has no process of its own.
    apart = {part.name: float(part.pss_bytes) for part in profile.parts if part.pss_bytes}
    inside = [part.name for part in profile.parts if not part.pss_bytes]
    if inside:
        lead += f" {' and '.join(inside)} {'is' if len(inside) == 1 else 'are'} computed in Triton's own process."
    parts = apart | {"Triton, and all in it" if inside else "Triton itself": float(profile.server_pss_bytes)}
    return Section("Memory", lead, (figures.memory(parts),))


def _origin(plan: Plan, provenance: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    machine, versions = provenance["machine"], provenance["versions"]
    return (
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, load {machine['load_average'][0]}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)),
        ("commit", str(provenance["commit"] or "outside of a checkout")),
        ("command", str(provenance["command"])),
        ("build", plan.build),
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
