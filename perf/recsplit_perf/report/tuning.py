"""A tuning as a section of the report: what was tried, in order, what servers said, and what each change is worth."""

from recsplit.capacity.search import Figures
from recsplit.tuning.outcome import Measured, Outcome
from recsplit_perf.report.figures import AMBER, GREY, INDIGO, TEAL, legend_below, new_axes, svg
from recsplit_perf.report.page import Section, Table


def section(outcome: Outcome) -> Section:
    """The section. Its table has the servers' word, or without servers the simulator's best, and below each change turned back."""
    served = outcome.live or tuple(sorted(outcome.simulated, key=lambda one: -one.figures.rate)[:5])
    rows = [(_name(outcome, one), *_cells(one.figures)) for one in served]
    rows += [(f"chosen, but {one.knob} {one.present}: simulated", *_cells(one.turned_back)) for one in outcome.reasons]
    where = "on real servers" if outcome.live else "by the simulator alone"
    kept = outcome.chosen == outcome.present
    return Section(
        "The tuning",
        f"Which settings answer the most queries of {outcome.workload} with p{outcome.percentile:g} within {outcome.bound_ms:g} ms on "
        f"{outcome.cores} cores: {len(outcome.simulated)} of {outcome.settings} settings simulated, the best of them judged {where}. "
        + ("None is certainly better than the present one." if kept else f"Chosen: {outcome.chosen}."),
        figures=(_climb(outcome), _path(outcome)),
        table=Table(("setting", "queries/s", "95 % interval"), tuple(rows)),
    )


def _name(outcome: Outcome, one: Measured) -> str:
    marks = [word for word, setting in (("present", outcome.present), ("chosen", outcome.chosen)) if setting == one.setting]
    return f"{one.setting} ({', '.join(marks)})" if marks else str(one.setting)


def _cells(figures: Figures) -> tuple[str, str]:
    if figures.verdict != "found":
        return f"{figures.rate:,.4g}", figures.verdict
    return f"{figures.rate:,.4g}", f"{figures.low:,.4g} to {figures.high:,.4g}"


def _climb(outcome: Outcome) -> str:
    figure, axes = new_axes("DeepRecSched: larger batches for as long as that pays", "batch, rows", "queries/s within the bound")
    batches, rates = [step.max_batch_size for step in outcome.climb], [step.figures.rate for step in outcome.climb]
    axes.plot(batches, rates, color=TEAL, linewidth=1.8, marker="o", markersize=4)
    axes.fill_between(
        batches,
        [step.figures.low for step in outcome.climb],
        [step.figures.rate if step.figures.high is None else step.figures.high for step in outcome.climb],
        color=TEAL,
        alpha=0.15,
        linewidth=0,
    )
    axes.set_xscale("log", base=2)
    axes.set_ylim(0, None)
    return svg(figure)


def _path(outcome: Outcome) -> str:
    figure, axes = new_axes("All jointly, in the order of the search", "setting", "queries/s within the bound")
    for form, color in (("ensemble", INDIGO), ("fused", AMBER)):
        places = [place for place, one in enumerate(outcome.simulated, 1) if one.setting.form == form]
        if places:
            rates = [outcome.simulated[place - 1].figures.rate for place in places]
            axes.scatter(places, rates, 22, color=color, label=f"{form}, simulated")
    best = 0.0
    steps = [best := max(best, one.figures.rate) for one in outcome.simulated]
    axes.step(range(1, len(steps) + 1), steps, where="post", color=GREY, linewidth=1.2, label="best so far")
    axes.set_ylim(0, None)
    legend_below(figure, 3)
    return svg(figure)
