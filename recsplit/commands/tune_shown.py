"""What `recsplit tune` found, in tables and words."""

from collections.abc import Callable
from pathlib import Path

import click

from recsplit.capacity.search import Figures, Throughput
from recsplit.commands.output import Cell, on_interrupt, progress, show_table
from recsplit.tuning.ledger import LEDGER_FILE, About, Ledger
from recsplit.tuning.outcome import Outcome

#: Of the settings that were simulated.
_SHOWN = 8
COLUMNS = ("setting", "queries/s", "low", "high")


def ledger_in(folder: Path, about: About, *, resume: bool) -> Ledger:
    """The ledger of a tuning, which Ctrl-C tells of from now on. Raises InputError as Ledger does."""
    ledger = Ledger(folder, about, resume=resume)
    on_interrupt(folder / LEDGER_FILE, f"{folder} holds what was known before", f"{folder} holds what was tried: --resume goes on with it")
    return ledger


def announced(setting: object, number: int, measure: Callable[[], Throughput]) -> Throughput:
    """A measurement on a server, told of while it goes on and at its end."""
    with progress(f"Round {number + 1}: {setting}"):
        throughput = measure()
    click.echo(f"  {_sentence(throughput)}", err=True)
    return throughput


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
    click.echo(concluded(outcome, repository))


def concluded(outcome: Outcome, repository: Path) -> str:
    """What was chosen of a build's settings and done, in a sentence or two."""
    if not outcome.live:
        return f"The simulator's choice: {outcome.chosen}. Nothing was written: no server was asked (--live)"
    done = (
        f"Version {outcome.published} in {repository} is served with {outcome.chosen}, in place of {outcome.present}. "
        f"A server that runs takes it by: recsplit update {repository}"
    )
    met = any(one.figures.rate > 0 for one in outcome.live)
    return conclusion(outcome.present, outcome.chosen, met=met, done=done if outcome.published is not None else None)


def conclusion(present: object, chosen: object, *, met: bool, done: str | None) -> str:
    """What servers' word led to. `met`: whether any setting met the bound at some rate. `done`: the words for what was published."""
    if not met:
        return "No setting meets the bound at any rate: a query alone takes longer. Nothing was written"
    if chosen == present:
        return f"No setting is certainly better than the present one ({present}); nothing was written"
    return done or f"Certainly better than {present}: {chosen}. Nothing was written (--dry-run)"


def _sentence(throughput: Throughput) -> str:
    if throughput.verdict != "found":
        return f"{throughput.rate:.4g} queries/s: {throughput.verdict}"
    return f"{throughput.rate:.4g} queries/s (95 % interval {throughput.low:.4g} to {throughput.high:.4g})"
