"""What the benchmark says: sections of tables and pictures, the same for the page and for docs/deeprecsys.md."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recsplit_perf.benchmarks.deeprecsched.paper import BOUNDS, CORES, FIRST, SIZES
from recsplit_perf.report.figures import AMBER, INDIGO, TEAL, legend_below, new_axes, svg
from recsplit_perf.report.page import Fact, Section, Table

Result = Mapping[str, Any]

LEAD = f"""\
DeepRecSys (Gupta et al., ISCA 2020) asks how large a part of a query one core should take: small parts spread a query over cores, large
ones pay the fixed time of a call less often. Its scheduler climbs from small batches to larger ones for as long as the throughput within
the latency bound grows, and then does the same with the size from which a query goes whole to an accelerator. The static batch it is
compared with cuts the largest query, 1,000 items, evenly over {CORES} cores.

Curves are measured on this machine: eager PyTorch, one thread on one core, stands for the paper's Caffe2; the engine's by
`recsplit profile`. {CORES} cores are simulated, with Poisson arrivals and the bounds of the paper's Table II (p95). What says "served" ran
on real Triton servers of this machine, which the load generator shares."""


def facts(result: Result) -> tuple[Fact, ...]:
    """The paper's number, what the joint search adds, and what real servers say."""
    models = result["models"]
    at_bound = [gain for one in models if (gain := _scheduled(one, FIRST, 1.0)["gain"]) is not None]
    added = [ratio for one in models if (ratio := _ratio(_at(one["forty_cores"], 1.0), "joint", "climbed")) is not None]
    listed = [
        Fact(
            "DeepRecSched over the static batch, in the paper's setting",
            f"{_mean(at_bound):.2f}x",
            f"geometric mean of {len(at_bound)} models at their own bounds; the paper's abstract: 2x",
        ),
        Fact(
            f"The joint search over the climb, the engine on {CORES} simulated cores",
            f"{_mean(added):.2f}x",
            f"geometric mean of {len(added)} models at their own bounds",
        ),
    ]
    served = [_at(one["live"], 1.0)["served"] for one in models if one["live"]]
    gains = [one["joint"]["median"] / one["static"]["median"] for one in served if one["static"]["median"] > 0]
    if gains:
        note = f"geometric mean of {len(gains)} models at their own bounds, medians of five searches each"
        listed.append(Fact("The tuned plan over the static batch, served here", f"{_mean(gains):.2f}x", note))
    return tuple(listed)


def sections(result: Result) -> list[Section]:
    """All of them."""
    models = result["models"]
    return [_curves(models), *(_paper(models, sizes) for sizes in SIZES), _threshold(models), _joint(models), *_served(models)]


def _curves(models: Sequence[Result]) -> Section:
    rows = tuple(
        (
            one["model"],
            f"{one['torch']['a_ms']:.3g}",
            f"{1e3 * one['torch']['b_ms']:.3g}",
            f"{one['torch']['a_ms'] / one['torch']['b_ms']:.3g}",
        )
        for one in models
    )
    return Section(
        "What a batch takes on one core",
        "PyTorch: a + b * items. What a larger batch can save is in a / b, the items whose own time is that of a call: an item of a static "
        "batch of 25 costs a / 25 + b.",
        table=Table(("model", "a, ms", "b, us an item", "a / b, items"), rows),
    )


def _paper(models: Sequence[Result], sizes: str) -> Section:
    rows = []
    for one in models:
        cells = [one["model"], f"{one['bound_ms']:g} ms"]
        for share in BOUNDS:
            said = _scheduled(one, sizes, share)
            cells.append("none at 25" if said["gain"] is None else f"{said['gain']:.2f}x ({said['best']})")
        rows.append(tuple(cells))
    means = []
    for share in BOUNDS:
        gains = [gain for one in models if (gain := _scheduled(one, sizes, share)["gain"]) is not None]
        means.append(f"{_mean(gains):.2f}x")
    rows.append(("geometric mean", "", *means))
    return Section(
        f"The paper's setting, sizes: {sizes}",
        f"{CORES} cores; throughput within the bound over the static batch's, and the batch that the climb took.",
        figures=(_climbs(models),) if sizes == FIRST else (),
        table=Table(("model", "bound", *(f"{share:g} of the bound" for share in BOUNDS)), tuple(rows)),
    )


def _threshold(models: Sequence[Result]) -> Section:
    rows = []
    for one in models:
        away, alone = one["threshold"], next((step for step in one["threshold"]["steps"] if step["value"] > 1024), None)
        gain = "" if alone is None or not alone["rate"] else f"{away['rate'] / alone['rate']:.2f}x"
        size = "none" if away["best"] > 1024 else f"{away['best']}"
        rows.append((one["model"], size, f"{away['queries_away']:.1%}", f"{away['rows_away']:.1%}", f"{away['rate']:,.0f}", gain))
    return Section(
        "From this size on a query goes elsewhere",
        f"Beside the {CORES} cores a second target, one query at a time: the engine on two cores, by its profile. Queries from the "
        "threshold on go there whole, by the router's own decision; sizes are lognormal, the bound is the model's own. The gain is over "
        "no threshold.",
        table=Table(("model", "threshold", "queries away", "items away", "queries/s", "gain"), tuple(rows)),
    )


def _joint(models: Sequence[Result]) -> Section:
    rows = []
    for one in models:
        for each in one["forty_cores"]:
            ratio, over = _ratio(each, "joint", "climbed"), _ratio(each, "climbed", "static")
            setting = each["joint"]["setting"]
            rows.append((one["model"], f"{each['bound_share']:g}", _times(over), _times(ratio), setting))
    return Section(
        f"All settings jointly, on {CORES} simulated cores",
        "The engine's parts by their profile. The climb: one fused model with an instance a core, its batch raised from 16; over the "
        "static batch of 25. The joint search, 40 settings of form, instances, threads, batch and delay: over the climb.",
        table=Table(("model", "of the bound", "climb over static", "joint over climb", "joint choice"), tuple(rows)),
    )


def _served(models: Sequence[Result]) -> list[Section]:
    rows = []
    for one in models:
        for each in one["live"]:
            served = each["served"]
            cells = [f"{served[name]['median']:,.0f}" for name in ("static", "climbed", "joint")]
            gains = [_times(_over(served[name]["median"], served["static"]["median"])) for name in ("climbed", "joint")]
            rates = served["joint"]["rates"]
            spread = f"{min(rates):,.0f} to {max(rates):,.0f}" if len(rates) > 1 else ""
            rows.append((one["model"], f"{each['bound_share']:g}", *cells, *gains, spread, each["joint"]["setting"]))
    if not rows:
        return []
    columns = (
        "model",
        "of the bound",
        "static",
        "climb",
        "joint",
        "climb over static",
        "joint over static",
        "five times",
        "joint choice",
    )
    return [
        Section(
            "Served on this machine",
            "Queries/s within the bound on real servers, which share two cores with the load generator. Static: the build's defaults with "
            "a batch of 1,000 / cores. The climb's and the joint search's choices are the simulator's.",
            table=Table(columns, tuple(rows)),
        )
    ]


def _climbs(models: Sequence[Result]) -> str:
    figure, axes = new_axes("Throughput by batch, of each model's best", "batch, items", "share of the best")
    colors = (TEAL, INDIGO, AMBER)
    for place, one in enumerate(models):
        steps = [step for step in _scheduled(one, FIRST, 1.0)["steps"] if step["rate"] > 0]
        best = max((step["rate"] for step in steps), default=1.0)
        style = ("-", "--", ":")[place // len(colors) % 3]
        axes.plot(
            [step["value"] for step in steps],
            [step["rate"] / best for step in steps],
            style,
            color=colors[place % len(colors)],
            linewidth=1.6,
            label=one["model"],
        )
    axes.set_xscale("log", base=2)
    axes.set_ylim(0, None)
    legend_below(figure, 4)
    return svg(figure)


def _scheduled(one: Result, sizes: str, share: float) -> Any:
    return next(each for each in one["scheduled"] if (each["sizes"], each["bound_share"]) == (sizes, share))


def _at(choices: Sequence[Result], share: float) -> Any:
    return next(each for each in choices if each["bound_share"] == share)


def _ratio(choice: Result, first: str, other: str) -> float | None:
    return _over(choice[first]["rate"], choice[other]["rate"])


def _over(rate: float, other: float) -> float | None:
    return rate / other if other > 0 else None


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def _mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
