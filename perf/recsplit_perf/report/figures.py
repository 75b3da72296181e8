"""Plots of a report, as SVG text that scales with the page. Arrays in, text out."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from recsplit.rendering.numbers import number_text

#: Values of which one is so many times another are drawn on a logarithmic axis.
DWARFS = 20
#: A bound so many times above everything measured is told, not drawn: it would squeeze the curves flat.
FAR = 4
INK, SOFT, LINE = "#16202e", "#5b6878", "#dfe4ea"
TEAL, INDIGO, AMBER, RED, GREY = "#0f766e", "#4338ca", "#d97706", "#dc2626", "#94a3b8"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the page's own font
    "text.parse_math": False,  # names are users': a dollar sign in one is no formula
    "svg.hashsalt": "recsplit",  # the same data makes the same file
    "font.size": 11,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eef1f4",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 10,
}
_BOUND: dict[str, Any] = {"color": RED, "linewidth": 1.2, "linestyle": (0, (4, 3))}
_FONT = re.compile(r"font-family: [^;\"]*;?|font: (\d+(?:\.\d+)?px) [^;\"]*")


@dataclass(frozen=True)
class Point:
    """Latencies in ms at one rate in queries/s."""

    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def latency_against_rate(
    points: Sequence[Point], *, bound_ms: float | None = None, whole: Sequence[Point] = (), title: str = "Latency against rate"
) -> str:
    """p50, p95 and p99 against the offered rate, with the bound, and the whole model's p95 beside them."""
    figure, axes = new_axes(title, "queries/s", "latency, ms")
    rates = [point.rate for point in points]
    for name, color, marker in (("p50", TEAL, "o"), ("p95", INDIGO, "s"), ("p99", GREY, "^")):
        axes.plot(
            rates, [getattr(point, f"{name}_ms") for point in points], color=color, marker=marker, markersize=4.5, linewidth=1.8, label=name
        )
    if whole:
        axes.plot(
            [point.rate for point in whole],
            [point.p95_ms for point in whole],
            color=AMBER,
            linestyle="--",
            marker="s",
            markersize=4,
            label="p95, whole model",
        )
    values = [value for point in [*points, *whole] for value in (point.p50_ms, point.p99_ms)]
    if bound_ms is not None and bound_ms < FAR * max(values):
        axes.axhline(bound_ms, label=f"bound {number_text(bound_ms)} ms", **_BOUND)
    elif bound_ms is not None:
        axes.plot([], [], label=f"bound {number_text(bound_ms)} ms, far above", **_BOUND)
    _latency_axis(axes, values)
    axes.set_xlim(left=0)
    legend_below(figure)
    return svg(figure)


def latency_distribution(
    latency_ms: NDArray[np.float64], *, bound_ms: float | None = None, title: str = "Latency of single queries"
) -> str:
    """Histogram on a logarithmic axis, with p50, p95, p99 and the bound marked."""
    figure, axes = new_axes(title, "latency, ms", "queries")
    low, high = float(latency_ms.min()), float(latency_ms.max())
    middle = max(float(np.sqrt(low * high)), 1e-3)
    bins = np.geomspace(max(min(low, middle / 2), 1e-3), max(high, middle * 2), 60)  # a factor of four at least
    axes.hist(latency_ms, bins=bins, color=GREY, alpha=0.75)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))
    for share, color, style in ((50, TEAL, "solid"), (95, INDIGO, "solid"), (99, INK, "dotted")):
        value = float(np.percentile(latency_ms, share))
        axes.axvline(value, color=color, linewidth=1.6, linestyle=style, label=f"p{share} {number_text(value)} ms")
    if bound_ms is not None and bound_ms < FAR * high:
        axes.axvline(bound_ms, label=f"bound {number_text(bound_ms)} ms", **_BOUND)
    legend_below(figure)
    return svg(figure)


def query_sizes(sizes: NDArray[np.int64], *, title: str = "Query sizes") -> str:
    """Histogram of items in a query, and the share of all items that the larger queries hold."""
    ordered = np.sort(sizes)
    quarter = ordered[-max(1, len(ordered) // 4) :].sum() / max(1, ordered.sum())
    summary = f"median {np.median(sizes):.0f}, largest {ordered[-1]}; the largest quarter holds {quarter:.0%} of all"
    figure, axes = new_axes(title, f"items in a query\n{summary}", "share of queries")
    width = max(1, int(sizes.max()) // 60)
    axes.hist(
        sizes,
        bins=np.arange(int(sizes.min()), int(sizes.max()) + 2 * width, width) - 0.5,
        weights=np.full(len(sizes), 1 / len(sizes)),
        color=INDIGO,
        alpha=0.75,
    )
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    axes.set_xlim(0, 1.05 * int(sizes.max()) + 1)
    return svg(figure)


def skew(curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], *, title: str = "Access skew") -> str:
    """Share of accesses against share of rows, hottest rows first: (rows, accesses) by name, both rising from 0 to 1."""
    figure, axes = new_axes(title, "share of rows, hottest first", "share of accesses")
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1)
    for number, (name, (rows, accesses)) in enumerate(curves.items()):
        color = (TEAL, INDIGO, AMBER, GREY)[number % 4]
        tenth = float(np.interp(0.1, rows, accesses))
        # Equal curves are seen both: each next one is dashed more widely.
        dashes = "solid" if number == 0 else (0, (4, 2 * number))
        axes.plot(rows, accesses, color=color, linewidth=1.9, linestyle=dashes, label=f"{name}: {tenth:.0%} in the hottest 10%")
        axes.plot([0.1], [tenth], marker="o", markersize=5, color=color)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_formatter(FuncFormatter(_percent))
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    legend_below(figure, columns=1)
    return svg(figure)


def profile(curves: Mapping[str, tuple[Sequence[float], Sequence[float], float, float]], *, title: str = "Latency against rows") -> str:
    """Medians and the line through them, by name: (rows, medians in ms, a in ms, b in ms a row)."""
    figure, axes = new_axes(title, "rows in a request", "latency, ms")
    for color, (name, (rows, medians, a_ms, b_ms)) in zip((TEAL, INDIGO, GREY, AMBER), curves.items(), strict=False):
        line = np.linspace(rows[0], rows[-1], 2)
        axes.plot(line, a_ms + b_ms * line, color=color, linewidth=1.4)
        axes.plot(rows, medians, color=color, linestyle="none", marker="o", markersize=5, label=name)
    axes.set_ylim(bottom=0)
    _plain_numbers(axes)
    legend_below(figure)
    return svg(figure)


def memory(parts: Mapping[str, float], *, title: str = "Memory") -> str:
    """Bytes by part, as bars."""
    figure, axes = new_axes(title, "MB", "", height=0.55 * len(parts) + 1.3)
    names = list(parts)[::-1]
    values = [parts[name] / 1e6 for name in names]
    axes.barh(names, values, color=[TEAL if "embedding" in name else INDIGO if "dense" in name else GREY for name in names], height=0.6)
    for row, value in enumerate(values):
        axes.text(value, row, f"  {number_text(value)} MB", va="center", fontsize=10)
    axes.set_xlim(0, max(values) * 1.18 or 1)
    axes.grid(visible=False, axis="y")
    return svg(figure)


def agreement(live: Sequence[Point], simulated: Sequence[Point], *, title: str = "Live and simulated") -> str:
    """p50 and p95 against rate: points measured, lines simulated."""
    figure, axes = new_axes(title, "queries/s", "latency, ms")
    for name, color in (("p50", TEAL), ("p95", INDIGO)):
        axes.plot(
            [point.rate for point in simulated],
            [getattr(point, f"{name}_ms") for point in simulated],
            color=color,
            linewidth=1.8,
            label=f"{name}, simulated",
        )
        axes.plot(
            [point.rate for point in live],
            [getattr(point, f"{name}_ms") for point in live],
            color=color,
            linestyle="none",
            marker="o",
            markersize=6,
            label=f"{name}, live",
        )
    _latency_axis(axes, [value for point in [*live, *simulated] for value in (point.p50_ms, point.p95_ms)])
    legend_below(figure)
    return svg(figure)


def _latency_axis(axes: Any, values: Sequence[float]) -> None:
    """From 0, or a logarithmic one where the largest dwarfs the least."""
    if max(values) > DWARFS * min(values) > 0:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    _plain_numbers(axes)


def _plain_numbers(axes: Any) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_plain))


def legend_below(figure: Figure, columns: int = 2) -> None:
    """Below the picture: inside there is no place that is free for certain."""
    with mpl.rc_context(_STYLE):
        figure.legend(loc="outside lower center", ncols=columns, frameon=False)


def new_axes(title: str, x: str, y: str, *, height: float = 3.5, width: float = 6.2) -> "tuple[Figure, Any]":
    """A figure of so many inches in the report's style, and its axes."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
    return figure, axes


def new_rows(title: str, x: str, labels: Sequence[str], heights: Sequence[float], *, width: float = 12.6) -> "tuple[Figure, list[Any]]":
    """A figure of one axes a label, one below the other on one x axis, of so many inches each."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, sum(heights) + 0.6), layout="constrained")
        panels = figure.subplots(len(labels), 1, sharex=True, height_ratios=list(heights), squeeze=False)[:, 0].tolist()
        for axes, label in zip(panels, labels, strict=True):
            axes.set_ylabel(label)
        panels[0].set_title(title)
        panels[-1].set_xlabel(x)
    return figure, panels


def svg(figure: Figure) -> str:
    """The figure as SVG text, in the font of the page that holds it."""
    text = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    return _FONT.sub(lambda match: f"font-size: {match[1]}" if match[1] else "", svg)


def _plain(value: float, _position: int) -> str:
    return number_text(value)


def _percent(value: float, _position: int) -> str:
    return f"{value:.0%}"
