"""The trade-off as a picture: accuracy against cores, as SVG text."""

from recsplit_perf.benchmarks.infadapter.result import ONE_AT_A_TIME, OURS, PAPER, Result
from recsplit_perf.report.figures import AMBER, GREY, INDIGO, TEAL, legend_below, new_axes, svg


def trade_off(result: Result, name: str) -> str:
    """Accuracy lost against cores at every cost, a dot the larger the more queries are late; VPA and MS+ as dots of their own."""
    figure, axes = new_axes(f"Accuracy against cores: {name}", "cores in use", "accuracy lost, points")
    for rule, color in ((PAPER, AMBER), (OURS, TEAL)):
        points = sorted(result.curve(name, rule), key=lambda each: each.cores)
        cores, lost = [each.cores for each in points], [100 * each.lost for each in points]
        axes.plot(cores, lost, color=color, linewidth=1.8, label=rule)
        axes.scatter(cores, lost, [_area(each.missed) for each in points], color=color)
    verticals = [each for each in result.runs[name] if each.rule.startswith("VPA reactive")]
    for label, ones, color in (("VPA, reactive", verticals, GREY), (ONE_AT_A_TIME, [result.one(name, ONE_AT_A_TIME)], INDIGO)):
        areas = [_area(each.missed) for each in ones]
        axes.scatter([each.cores for each in ones], [100 * each.lost for each in ones], areas, color=color, alpha=0.7, label=label)
    axes.set_xlim(0, None)
    axes.set_ylim(0, None)
    legend_below(figure)
    return svg(figure)


def _area(missed: float) -> float:
    """Of a dot, in points squared."""
    return 16 + 600 * missed
