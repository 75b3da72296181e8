"""What `recsplit tune` found, in tables and words."""

from pathlib import Path

import click

from recsplit.capacity.search import Figures, Throughput
from recsplit.commands.output import Cell, show_table
from recsplit.tuning.outcome import Outcome

#: Of the settings that were simulated.
_SHOWN = 8
COLUMNS = ("setting", "queries/s", "low", "high")


def sentence(throughput: Throughput) -> str:
    """A throughput in words."""
    if throughput.verdict != "found":
        return f"{throughput.rate:.4g} queries/s: {throughput.verdict}"
    return f"{throughput.rate:.4g} queries/s (95 % interval {throughput.low:.4g} to {throughput.high:.4g})"


def cells(figures: Figures) -> list[Cell]:
    """A rate and its interval, for a table of COLUMNS."""
    return [figures.rate, figures.low, figures.high]


def show(outcome: Outcome, repository: Path) -> None:
    """Tables, and what was chosen and done."""
    words = f"p{outcome.percentile:g} within {outcome.bound_ms:g} ms"
    climbed = [[f"batch {step.max_batch_size}", *cells(step.figures)] for step in outcome.climb]
    show_table(COLUMNS, climbed, title=f"DeepRecSched's climb from the present settings, simulated: {words}")
    ranked = sorted(outcome.simulated, key=lambda one: -one.figures.rate)[:_SHOWN]
    tried = f"the best of {len(outcome.simulated)} of {outcome.settings} settings, simulated"
    show_table(COLUMNS, [[str(one.setting), *cells(one.figures)] for one in ranked], title=f"All jointly: {tried}")
    if outcome.live:
        rows = [[str(one.setting), *cells(one.figures)] for one in outcome.live]
        show_table(COLUMNS, rows, title=f"On servers of {outcome.cores} cores; the first is the present one")
    if outcome.reasons:
        show_table(
            ("knob", "present", "chosen", "queries/s if it were left", "low", "high"),
            [[one.knob, one.present, one.chosen, *cells(one.turned_back)] for one in outcome.reasons],
            title="What each change is worth, simulated",
        )
    click.echo(conclusion(outcome, repository))


def conclusion(outcome: Outcome, repository: Path) -> str:
    """What was chosen and done, in a sentence or two."""
    if not outcome.live:
        return f"The simulator's choice: {outcome.chosen}. Nothing was written: no server was asked (--live)"
    if not any(one.figures.rate > 0 for one in outcome.live):
        return "No setting meets the bound at any rate: a query alone takes longer. Nothing was written"
    if outcome.chosen == outcome.present:
        return f"No setting is certainly better than the present one ({outcome.present}); nothing was written"
    if outcome.published is None:
        return f"Certainly better than {outcome.present}: {outcome.chosen}. Nothing was written (--dry-run)"
    return (
        f"Version {outcome.published} in {repository} is served with {outcome.chosen}, in place of {outcome.present}. "
        f"A server that runs takes it by: recsplit update {repository}"
    )
