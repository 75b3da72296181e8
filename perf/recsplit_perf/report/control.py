"""What a controller did over time: load, latency against the bound, and counts that follow. Values in, SVG text and a section out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from recsplit_perf.report.figures import AMBER, GREY, INDIGO, INK, LINE, RED, SOFT, TEAL, new_rows, svg
from recsplit_perf.report.page import Section, Table

#: Targets that get a picture of their counts: those that changed most.
DRAWN = 6
#: Changes that a table lists.
LISTED = 60
#: Latencies this many times the bound are cut off: what happens near it is of interest.
_MOST_BOUNDS = 6
#: The counts of a target, the lowest line first: last asked of the server by this controller, asked for by whoever, ready and answering,
#: there by the kernel's account, decided.
KINDS = {
    "requested": (GREY, "solid", 4.5),
    "asked": (SOFT, "solid", 1.2),
    "serving": (INDIGO, "solid", 2.0),
    "running": (TEAL, (0, (1, 1)), 2.2),
    "wanted": (AMBER, (0, (3, 2)), 1.3),
}


@dataclass(frozen=True, eq=False)
class Line:
    """Values at times in s, both float64 [n]; nan: not known."""

    seconds: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """One action: s from the start, target, its count before (None: not known) and the one asked for (None: a router's weights), why, and
    how it ended."""

    at_s: float
    target: str
    before: int | None
    count: int | None
    reason: str
    ended: str


@dataclass(frozen=True, eq=False)
class Timeline:
    """One run. `rate` in queries/s; `latency` in ms by its name; `failed` queries since the time before; `counts` by target, then by
    one of KINDS.

    `marks`: moments in s from the start, with a word on each.
    """

    title: str
    rate: Line
    latency: Mapping[str, Line]
    counts: Mapping[str, Mapping[str, Line]]
    bound_ms: float | None = None
    failed: Line | None = None
    marks: Sequence[tuple[float, str]] = ()
    changes: Sequence[Change] = field(default=())


def section(title: str, lead: str, timelines: Sequence[Timeline], *, note: str = "") -> Section:
    """Each timeline as a picture, and the changes of all of them as a table."""
    named = len(timelines) > 1
    rows = tuple(_row(timeline.title if named else "", change) for timeline in timelines for change in timeline.changes)
    head = (*(("run",) if named else ()), "s", "target", "count", "took", "why")
    more = f" {len(rows) - LISTED} later changes are not listed." if len(rows) > LISTED else ""
    table = Table(head, rows[:LISTED]) if rows else None
    return Section(title, lead, tuple(draw(timeline) for timeline in timelines), table, (note + more).strip())


def draw(timeline: Timeline) -> str:
    """Rate, latency and counts, one below the other."""
    chosen = _drawn(timeline.counts)
    labels = ["queries/s", "latency, ms", *("count" for _ in chosen)]
    end_s = max((float(line.seconds[-1]) for line in _lines(timeline) if len(line.seconds)), default=1.0)
    minutes = end_s > 600
    figure, rows = new_rows(timeline.title, "minutes" if minutes else "seconds", labels, [1.3, 1.9, *(1.3 for _ in chosen)])
    if minutes:
        rows[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 60:g}"))
        rows[-1].xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 3, 6, 10]))
    rows[0].fill_between(timeline.rate.seconds, timeline.rate.values, color=LINE, step="post")
    rows[0].step(timeline.rate.seconds, timeline.rate.values, where="post", color=SOFT, linewidth=1.2)
    rows[0].set_ylim(bottom=0)
    _latency(rows[1], timeline)
    for axes, name in zip(rows[2:], chosen, strict=True):
        _counts(axes, name, timeline.counts[name])
    for axes in rows:
        axes.set_xlim(0, end_s)
        for at_s, _ in timeline.marks:
            axes.axvline(at_s, color=INK, linewidth=0.8, alpha=0.5)
    for at_s, word in timeline.marks:
        rows[0].annotate(
            word,
            (at_s, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -4),
            textcoords="offset points",
            va="top",
            fontsize=10,
            color=INK,
        )
    return svg(figure).replace("<svg ", '<svg data-wide="" ', 1)


def _latency(axes: Any, timeline: Timeline) -> None:
    bound_ms = timeline.bound_ms
    known = np.concatenate([line.values for line in timeline.latency.values()] or [np.zeros(0)])
    known = known[np.isfinite(known)]
    most = float(known.max(initial=bound_ms or 1.0))
    top = min(1.08 * most, _MOST_BOUNDS * bound_ms) if bound_ms is not None else 1.08 * most
    for (name, line), color in zip(timeline.latency.items(), (INDIGO, TEAL, GREY), strict=False):
        values = np.where(np.isinf(line.values), 2 * top, line.values)  # where too many failed, it leaves the picture
        axes.step(line.seconds, values, where="post", color=color, linewidth=1.5, label=name)
    if bound_ms is not None:
        axes.axhline(bound_ms, color=RED, linewidth=1.2, linestyle=(0, (4, 3)), label=f"bound {bound_ms:g} ms")
        if most > top:
            axes.text(0.995, 0.95, f"up to {most:,.0f} ms", transform=axes.transAxes, ha="right", va="top", fontsize=10, color=SOFT)
    axes.set_ylim(0, top)
    if timeline.failed is not None:
        failing = timeline.failed.values > 0
        total = int(np.nansum(timeline.failed.values))
        if total:
            axes.plot(
                timeline.failed.seconds[failing], np.full(failing.sum(), 0.03 * top), linestyle="none", marker="x", color=RED, markersize=5
            )
        # None that failed is no alarm: the words, without a red cross.
        axes.plot([], [], linestyle="none", marker="x" if total else "none", color=RED, markersize=5, label=f"{total:,} failed")
    _legend(axes)


def _counts(axes: Any, name: str, kinds: Mapping[str, Line]) -> None:
    most = 1.0
    for kind, (color, style, width) in KINDS.items():
        if kind in kinds:
            line = kinds[kind]
            axes.step(line.seconds, line.values, where="post", color=color, linestyle=style, linewidth=width, label=kind)
            most = max(most, float(np.nanmax(line.values, initial=1.0)))
    axes.set_ylim(0, most + 0.9)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _legend(axes, title=name)


def _legend(axes: Any, **more: str) -> None:
    """Beside the picture: inside there is no place that is free for certain."""
    if not axes.get_legend_handles_labels()[0]:
        return
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05), frameon=False, alignment="left", title_fontsize=10, **more)


def _drawn(counts: Mapping[str, Mapping[str, Line]]) -> list[str]:
    """The targets to draw, in their order: the DRAWN with the most changes."""

    def changes(name: str) -> int:
        return sum(int((np.diff(line.values[~np.isnan(line.values)]) != 0).sum()) for line in counts[name].values())

    kept = set(sorted(counts, key=lambda name: -changes(name))[:DRAWN])
    return [name for name in counts if name in kept]


def _lines(timeline: Timeline) -> list[Line]:
    return [timeline.rate, *timeline.latency.values(), *(line for kinds in timeline.counts.values() for line in kinds.values())]


def _row(title: str, change: Change) -> tuple[str, ...]:
    count = "weights" if change.count is None else f"{'?' if change.before is None else change.before} to {change.count}"
    return (*((title,) if title else ()), f"{math.floor(change.at_s)}", change.target, count, change.ended, change.reason)
