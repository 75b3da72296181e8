"""What the benchmark says: sections of tables and pictures, the same for the page and for docs/infadapter.md."""

from collections.abc import Sequence

from recsplit_perf.benchmarks.infadapter import pictures
from recsplit_perf.benchmarks.infadapter.inputs import ACCURACY, BOUND_MS, CORES, DAY_S, LOAD_S
from recsplit_perf.benchmarks.infadapter.player import Run
from recsplit_perf.benchmarks.infadapter.result import COST, COSTS, ONE_AT_A_TIME, OURS, PAPER, Result
from recsplit_perf.report.page import Fact, Section, Table

BURST = "burst"
LEAD = """\
Everything here is simulation, query by query, with the capacities, accuracies, load times and the trace of InfAdapter's authors
(Salmani et al., EuroMLSys 2023): five ResNets, 20 cores, a p99 within 750 ms. A core of a variant is a server that takes 1 / slope
seconds a query; a new deployment serves 10 s after it was asked for, a container that is resized in place 1 s. Cores are those in use:
what starts, what drains, and both deployments during a switch. The controller has its defaults."""


def facts(result: Result) -> tuple[Fact, ...]:
    """The abstract's two numbers, in its sense: the best case against VPA; and the trade-off curve."""
    ours = result.one(BURST, f"{OURS}, cost {COST:g}")
    fewest = min(_verticals(result, BURST), key=lambda each: each.missed)
    accurate = result.one(BURST, "VPA 152")
    behind, points = len(result.behind()), sum(len(result.curve(name, PAPER)) for name in result.runs)
    return (
        Fact(
            "Queries late, against the VPA that is late least",
            f"{ours.missed / fewest.missed - 1:+.0%}".replace("-", "\N{MINUS SIGN}"),
            f"{ours.missed:.1%} of them, and {fewest.missed:.1%} under {fewest.rule}, which loses {100 * (fewest.lost - ours.lost):.1f} "
            "points more accuracy; the paper's abstract: up to 65 % fewer",
        ),
        Fact(
            "Cores, against VPA of the most accurate variant",
            f"{ours.cores / accurate.cores - 1:+.0%}".replace("-", "\N{MINUS SIGN}"),
            f"{ours.cores:.1f} and {accurate.cores:.1f}, under which {accurate.missed:.0%} are late; "
            "the paper's abstract: up to 33 % fewer",
        ),
        Fact(
            "Points of the paper's trade-off curves that are beaten",
            f"{points - behind} of {points}",
            "on as many cores more accurate, and no more queries late or the p99 within the bound; "
            f"{len(COSTS)} costs on {len(result.runs)} slices",
        ),
    )


def sections(result: Result) -> list[Section]:
    """All of them."""
    return [_capacities(result), _burst(result), *(_curve(result, name) for name in result.runs), _baselines(result)]


def _verticals(result: Result, name: str) -> list[Run]:
    return [each for each in result.runs[name] if each.rule.startswith("VPA")]


def _capacities(result: Result) -> Section:
    rows = tuple(
        (
            f"ResNet-{line.name}",
            f"{ACCURACY[line.name]:.2%}",
            f"{LOAD_S[line.name]:g} s",
            f"{line.slope:.2f}",
            f"{line.intercept:.2f}",
            f"{line.r2:.3f}",
        )
        for line in result.lines
    )
    chosen = " and ".join(f"{cores:g} cores of ResNet-{name}" for name, cores in result.example.items())
    return Section(
        "Capacities",
        f"Queries a second that keep the p99 within {BOUND_MS:g} ms, by cores: lines through the authors' measurements at 1, 2, 4, 8 and "
        "16.",
        table=Table(("variant", "accuracy", "load", "slope", "intercept", "R2 over 1 to 20"), rows),
        note=f"The paper's formula for 110 queries/s on {CORES} idle cores chooses {chosen}; so does exhaustive search. 200 random cases "
        "are equal to exhaustive search in tests/capacity/test_variants.py.",
    )


def _burst(result: Result) -> Section:
    names = (
        f"{PAPER}, its forecaster",
        f"{PAPER}, cost {COST:g}",
        ONE_AT_A_TIME,
        f"{OURS}, cost {COST:g}",
        f"{OURS}, cost {COST:g}, not in place",
        f"{OURS}, cost {COST:g}, seasonal",
    )
    said = {
        names[0]: "InfAdapter: its forecaster until it has learned (EWM)",
        names[1]: "InfAdapter: the last minute's largest second",
        names[2]: "MS+: the same, one variant at a time",
        names[3]: "recsplit: the last minute's largest rate",
        names[4]: "recsplit, each core as slow as a deployment",
        names[5]: "recsplit: as on earlier days, or the last minute",
    }
    rows = tuple((said[name], *_cells(result.one(part, name))) for part in (BURST,) for name in names)
    mean, largest, start_s = result.loads[BURST]
    return Section(
        "The paper's burst",
        f"Day {start_s // DAY_S}, minutes 82 to 103 of the trace: {mean:.0f} queries/s in the mean, {largest:.0f} in the largest second. "
        f"Everyone at a cost of {COST:g}.",
        table=Table(("rule", "late", "cores", "accuracy lost"), rows),
        note="Who forecasts decides most of what is late: with the paper's first forecaster cores are there when the burst is half "
        "over. The rest is that the controller looks every five seconds, counts cores as servers behind one queue, and lets go at once of "
        "what another variant carries.",
    )


def _curve(result: Result, name: str) -> Section:
    rows = tuple(
        (paper.rule.rpartition(" ")[2], *_cells(paper), *_cells(ours))
        for paper, ours in zip(result.curve(name, PAPER), result.curve(name, OURS), strict=True)
    )
    mean, largest, start_s = result.loads[name]
    columns = ("cost of all cores", "InfAdapter: late", "cores", "lost", "recsplit: late", "cores", "lost")
    return Section(
        f"Trade-off: {name}",
        f"Day {start_s // DAY_S}, from minute {start_s % DAY_S // 60}: {mean:.0f} queries/s in the mean, {largest:.0f} in the largest "
        "second. Both forecast by the last minute.",
        figures=(pictures.trade_off(result, name),),
        table=Table(columns, rows),
    )


def _baselines(result: Result) -> Section:
    rows: list[tuple[str, ...]] = []
    for kind, said in (("VPA ", "VPA"), ("VPA reactive ", "VPA, half-life of 5 min, sees the demand"), ("HPA ", "HPA on queries")):
        for line in result.lines:
            cells: list[str] = []
            for name in result.runs:
                cells += _cells(result.one(name, f"{kind}{line.name}"))[:2]
            rows.append((f"{said}, ResNet-{line.name}", *cells))
    columns = ("rule", *(cell for name in result.runs for cell in (f"{name}: late", "cores")))
    return Section(
        "Kubernetes with one variant",
        "VPA's recommender as it is: the 90th percentile of use and 15 % more, samples of a minute, a half-life of a day, and a day known "
        "before; then one that forgets in five minutes and is told what the load asks for; HPA with replicas of a core.",
        table=Table(columns, tuple(rows)),
        note="A variant that the 20 cores can't carry is late for nearly all: the most accurate three of them, in the burst.",
    )


def _cells(one: Run) -> Sequence[str]:
    return (f"{one.missed:.2%}", f"{one.cores:.1f}", f"{100 * one.lost:.2f} pts")
