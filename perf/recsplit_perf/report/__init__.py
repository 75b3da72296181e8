"""One self-contained HTML file that shows a cut, its load, its memory, and how the simulator agrees: `recsplit report`."""

from recsplit_perf.report.page import Fact, Page, Section, render

__all__ = ["Fact", "Page", "Section", "render"]
