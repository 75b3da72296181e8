"""Plots of what a fleet takes, as SVG text: bars side by side, and lines over time above a load."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from recsplit.rendering.numbers import number_text
from recsplit_perf.report.figures import AMBER, GREY, INDIGO, LINE, RED, SOFT, TEAL, legend_below, new_axes, svg

#: Colours of series in the order in which they are given.
COLORS = (AMBER, TEAL, INDIGO, GREY, RED)


def bars(
    title: str,
    y: str,
    groups: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    *,
    notes: Mapping[str, Sequence[str]] | None = None,
    colors: Sequence[str] = COLORS,
    pale: Sequence[str] = (),
    line: float | None = None,
    wide: bool = False,
) -> str:
    """One bar of each series in each group, its value above it; None leaves a gap. `notes` replace the values by text.

    Series named in `pale` are drawn as outlines. `line`: a value to compare with, drawn across.
    """
    figure, axes = new_axes(title, "", y, width=12.6 if wide else 6.2)
    places = np.arange(len(groups), dtype=np.float64)
    width = 0.84 / len(series)
    for number, ((name, values), color) in enumerate(zip(series.items(), colors, strict=False)):
        at = places + (number - (len(series) - 1) / 2) * width
        heights = [0.0 if value is None else value for value in values]
        fill = "none" if name in pale else color
        axes.bar(at, heights, width * 0.92, color=fill, edgecolor=color, linewidth=1.2, label=name)
        for place, (x, value) in enumerate(zip(at, values, strict=True)):
            if value is not None:
                text = notes[name][place] if notes and name in notes else _number(value)
                axes.text(x, value, text, ha="center", va="bottom", fontsize=9 if wide or len(groups) * len(series) < 14 else 8)
    if line is not None:
        axes.axhline(line, color=RED, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set_xticks(places, groups)
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.14)
    if len(series) > 1:
        legend_below(figure, len(series) if wide else 2)
    return _spread(svg(figure)) if wide else svg(figure)


def parts(title: str, unit: str, values: Mapping[str, float]) -> str:
    """One bar a part, the first in a colour of its own, its value beside it."""
    figure, axes = new_axes(title, unit, "", height=0.34 * len(values) + 1.2)
    names = list(values)[::-1]
    axes.barh(names, [values[name] for name in names], color=[TEAL] * (len(names) - 1) + [AMBER], height=0.66)
    for row, name in enumerate(names):
        axes.text(values[name], row, f"  {number_text(values[name])}", va="center", fontsize=10)
    axes.set_xlim(0, max(values.values()) * 1.16 or 1)
    axes.grid(visible=False, axis="y")
    return svg(figure)


def over_time(
    title: str,
    y: str,
    minutes: NDArray[np.float64],
    series: Mapping[str, NDArray[np.float64]],
    load: tuple[NDArray[np.float64], NDArray[np.float64]],
    *,
    line: float | None = None,
    share: bool = False,
) -> str:
    """Steps over time, with the load (minutes, queries a second) as an area behind, on an axis of its own. `share`: y in percent."""
    figure, axes = new_axes(title, "minute", y)
    behind = axes.twinx()
    behind.fill_between(*load, color=LINE, alpha=0.6, linewidth=0, step=None)
    behind.set_ylim(0, 2.2 * float(load[1].max()))
    behind.set_ylabel("queries/s (grey)", color=SOFT)
    behind.grid(visible=False)
    behind.spines[["top", "right"]].set_visible(False)
    behind.set_zorder(0)
    axes.set_zorder(1)
    axes.patch.set_visible(False)
    for (name, values), color in zip(series.items(), COLORS, strict=False):
        axes.step(minutes, values, where="post", color=color, linewidth=1.8, label=name)
    if line is not None:
        axes.axhline(line, color=RED, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set_xlim(0, float(minutes[-1] + np.mean([b - a for a, b in pairwise(minutes)])))
    axes.set_ylim(0, 1.02 if share else None)
    if share:
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    legend_below(figure)
    return svg(figure)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _spread(text: str) -> str:
    """Marks a picture as one that takes the page's whole width."""
    return text.replace("<svg ", '<svg data-wide="" ', 1)
