"""The report: a page that needs nothing but itself, and pictures that say what the plan says."""

import dataclasses
import itertools
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from recsplit.commands.report import command
from recsplit.disk.files import size_text
from recsplit.errors import InputError
from recsplit.partition.access.frequencies import About, AccessProfile
from recsplit.partition.accounting import Node
from recsplit.partition.partition_file import Partition, ShardLayout
from recsplit.plan.plan import Plan, Segment, Table, Tensor, from_json
from recsplit_perf.report import Fact, Page, Section, contents, cut, figures, fleet, render, shards
from recsplit_perf.traffic.runs import Run
from tests.capacity.profiles import small

GOLDEN = Path(__file__).parents[3] / "model_repository"
#: What would make a browser ask the network; the names of XML's vocabularies are no addresses.
ASKS = re.compile(r'(?:src|href)\s*=\s*"(?!#)|url\((?!#)|@import|<script')


@pytest.fixture
def plan() -> Plan:
    """The plan of the golden repository."""
    (path,) = GOLDEN.glob("*/*/plan.json")
    return from_json(path.read_text())


def test_a_page_needs_no_network_and_escapes_what_users_name() -> None:
    section = Section("Memory", "see <b>here</b>", (figures.memory({"a_embedding": 5e6, "b & c": 1e6}),))
    page = Page("<script>alert(1)</script>", "x", (Fact("rate", "3 < 4"),), (section,), (("machine", "a & b"),))
    html = render(page)
    assert "&lt;script&gt;alert" in html and "3 &lt; 4" in html and "see &lt;b&gt;" in html
    assert not ASKS.search(html)


def test_every_figure_is_well_formed_and_holds_its_words() -> None:
    rng = np.random.default_rng(0)
    points = [figures.Point(rate, rate / 50, rate / 20, rate / 10) for rate in (10.0, 20.0, 30.0)]
    svg_by_words = {
        "bound 2 ms": figures.latency_against_rate(points, bound_ms=2, whole=points),
        "p99": figures.latency_distribution(rng.lognormal(1, 1, 500), bound_ms=3),
        "largest 9": figures.query_sizes(np.array([1, 2, 9])),
        "hottest": figures.skew({"items": (np.array([0.0, 0.1, 1.0]), np.array([0.0, 0.8, 1.0]))}),
        "5 MB": figures.memory({"embedding": 5e6}),
        "p95, simulated": figures.agreement(points, points),
    }
    for words, svg in svg_by_words.items():
        assert words in "".join(ET.fromstring(svg).itertext())
        assert not ASKS.search(svg)


def test_one_query_and_equal_sizes_are_drawn_too() -> None:
    ET.fromstring(figures.latency_distribution(np.array([2.0])))
    ET.fromstring(figures.query_sizes(np.array([64, 64])))
    ET.fromstring(figures.latency_against_rate([figures.Point(1, 0.5, 0.5, 0.5)]))


def test_the_same_values_make_the_same_picture() -> None:
    assert figures.memory({"a": 1e6}) == figures.memory({"a": 1e6})


def test_the_cut_shows_each_table_with_its_bytes_and_reads(plan: Plan) -> None:
    words = "".join(ET.fromstring(cut.draw(plan)).itertext())
    for table in plan.tables:
        assert table.name in words
        assert size_text(table.size_bytes) in words
    assert plan.embedding.name in words and plan.dense.name in words


def test_many_tables_share_the_last_bar(plan: Plan) -> None:
    tables = tuple(Table(f"t{n}", 10, 4, "FP32", "FP32", 160 * (n + 1)) for n in range(250))
    many = dataclasses.replace(plan, tables=tables, lookups=())
    bars = cut.bars(many)
    assert len(bars) == cut.BARS
    assert bars[-1].name == f"{250 - cut.BARS + 1} more tables"
    assert sum(bar.size_bytes for bar in bars) == sum(table.size_bytes for table in tables)
    ET.fromstring(cut.draw(many))


@pytest.mark.parametrize(("count", "named"), [(1, 1), (3, 3), (8, 8), (20, 7)])
def test_every_output_is_named_on_the_arrow_or_counted_and_none_over_another(plan: Plan, count: int, named: int) -> None:
    outputs = tuple(Tensor(f"score_{place}", "FP32", (1,)) for place in range(count))
    picture = ET.fromstring(cut.draw(dataclasses.replace(plan, outputs=outputs)))
    texts = {text.text: float(text.get("y", "nan")) for text in picture.iter() if text.tag.endswith("text")}
    assert [name for name in texts if str(name).startswith("score_")] == [f"score_{place}" for place in range(named)]
    assert (f"and {count - named} more" in texts) == (count > named)
    heights = sorted(y for name, y in texts.items() if str(name).startswith("score_"))
    assert all(after - before >= 13 for before, after in itertools.pairwise(heights)) and min(heights) > 20


def test_a_phone_gets_a_picture_of_its_own_in_the_place_of_the_wide_one(plan: Plan) -> None:
    """It says all that the wide one says, and fits its names into its own width."""
    wide, narrow = cut.draw(plan), cut.draw_narrow(plan)
    words = ["".join(ET.fromstring(picture).itertext()) for picture in (wide, narrow)]
    for said in (plan.embedding.name, plan.dense.name, *(table.name for table in plan.tables), *(out.name for out in plan.outputs)):
        assert all(said in text for text in words)
    markers = re.findall(r'<marker id="([^"]+)"', wide + narrow)
    assert len(set(markers)) == 2
    html = render(contents.page(contents.Material(plan, PROVENANCE)))
    assert 'class="wide paired"' in html and 'class="narrow"' in html
    many = dataclasses.replace(plan, tables=tuple(Table(f"t{n}", 10, 4, "FP32", "FP32", 160 * (n + 1)) for n in range(250)), lookups=())
    root = ET.fromstring(cut.draw_narrow(many))
    _, _, width, height = map(float, root.get("viewBox", "").split())
    assert width == cut.NARROW
    assert all(0 <= float(text.get("y", "nan")) <= height for text in root.iter() if text.tag.endswith("text"))


def test_reads_that_vary_from_row_to_row_are_not_counted(plan: Plan) -> None:
    name = plan.lookups[0].inputs[0]
    inputs = tuple(dataclasses.replace(each, dims=(-1,)) if each.name == name else each for each in plan.inputs)
    reads = {bar.name: bar.reads for bar in cut.bars(dataclasses.replace(plan, inputs=inputs))}
    assert reads[plan.lookups[0].table] is None
    assert "reads vary" in "".join(ET.fromstring(cut.draw(dataclasses.replace(plan, inputs=inputs))).itertext())


def test_values_that_dwarf_others_are_drawn_on_a_logarithmic_axis() -> None:
    near, far = figures.Point(10, 1, 2, 3), figures.Point(20, 100, 2000, 3000)
    assert "1,000" in "".join(ET.fromstring(figures.agreement([near], [near, far])).itertext())
    assert "1,000" not in "".join(ET.fromstring(figures.agreement([near], [near, near])).itertext())


def test_names_with_markup_stay_text(plan: Plan) -> None:
    odd = dataclasses.replace(plan, tables=(Table('<a href="x">', 1, 1, "FP32", "FP32", 4),), lookups=())
    assert '<a href="x">' in "".join(ET.fromstring(cut.draw(odd)).itertext())


def run(rate: float, latency_ms: np.ndarray[Any, np.dtype[np.float64]]) -> Run:
    """A run of as many queries as there are latencies, of 64 rows each, under a bound of p95 10 ms."""
    workload = {
        "name": "evening",
        "latency": {"bound_ms": 10.0, "percentile": 95.0},
        "sizes": {"law": "fixed"},
        "arrivals": {"process": "poisson"},
        "ids": {"law": "zipf"},
    }
    count = len(latency_ms)
    times = np.arange(count) / rate
    errors = {"overloaded": int((~np.isfinite(latency_ms)).sum())}
    return Run({}, workload, "shop", 1, rate, count / rate, times, np.full(count, 0.1), latency_ms, np.full(count, 64), errors)


PROVENANCE = {
    "machine": {"cpu": "one", "cores": 2, "memory_gib": 4, "load_average": [0.1]},
    "versions": {"python": "3.11"},
    "commit": None,
    "command": "recsplit report",
}


def test_the_facts_come_from_the_largest_rate_that_kept_the_bound(plan: Plan) -> None:
    latencies = np.linspace(1, 8, 400)
    slow = np.where(np.arange(400) % 10, latencies, 50.0)  # one in ten is late: p95 is over the bound
    failing = np.where(np.arange(400) % 10, latencies, np.inf)
    runs = [run(300, slow), run(100, latencies), run(200, latencies), run(400, failing)]
    page = contents.page(contents.Material(plan, PROVENANCE, runs=runs))
    assert page.facts[0].value == "200 queries/s"
    assert page.facts[1].value == "12,800 rows/s"  # 25,600 rows until the last answer, after 2.003 s
    (load,) = [section for section in page.sections if section.title == "Latency and rate"]
    assert load.table is not None
    assert [row[1] for row in load.table.rows] == ["100", "200", "300", "400"]  # in order of rate
    assert load.table.rows[3][8] == "40"  # failed
    assert "could not keep up" not in {row[-1] for row in load.table.rows}


def test_a_bound_that_no_run_kept_is_told(plan: Plan) -> None:
    page = contents.page(contents.Material(plan, PROVENANCE, runs=[run(10, np.full(100, 99.0))]))
    assert (page.facts[0].value, page.facts[0].note) == ("none", "p95 under 10 ms; at 10 queries/s it is 99 ms")
    page = contents.page(contents.Material(plan, PROVENANCE, runs=[run(10, np.full(20, np.inf))]))
    assert page.facts[0].note == "p95 under 10 ms; at 10 queries/s 20 of 20 failed"


def test_runs_without_an_answer_leave_the_cut(plan: Plan) -> None:
    page = contents.page(contents.Material(plan, PROVENANCE, runs=[run(10, np.full(20, np.inf))]))
    assert [section.title for section in page.sections] == ["The cut"]
    render(page)


def test_live_and_simulated_are_compared_rate_by_rate(plan: Plan) -> None:
    simulated = [figures.Point(50, 2, 4, 5), figures.Point(150, 4, 8, 9)]
    page = contents.page(contents.Material(plan, PROVENANCE, runs=[run(100, np.full(100, 3.0))], simulated=simulated))
    (section,) = [section for section in page.sections if section.title == "Live and simulated"]
    assert section.table is not None
    assert section.table.rows[0] == ("100", "3", "3", "+0%", "3", "6", "+100%")


def test_a_bound_above_all_points_is_drawn_and_one_far_above_is_told() -> None:
    points = [figures.Point(100, 3, 3, 3)]
    near, far = (figures.latency_against_rate(points, bound_ms=bound) for bound in (10, 400))
    assert "bound 10 ms" in near and "far above" not in near
    assert "bound 400 ms, far above" in far


def test_a_partition_is_shown_beside_the_whole_model(plan: Plan) -> None:
    counts = {table.name: np.arange(table.rows, 0, -1, dtype=np.uint32) for table in plan.tables}
    access = AccessProfile(About(plan.name, 10, 320, 0, ("made up",)), counts)
    (first, *others) = plan.tables
    layouts = (
        ShardLayout((Segment(first.name, 0, 1),), "own", 3, 5.0, first.size_bytes // first.rows),
        ShardLayout((Segment(first.name, 1, first.rows),), "own", 1, 5.0, first.size_bytes - first.size_bytes // first.rows),
        ShardLayout(tuple(Segment(table.name, 0, table.rows) for table in others), "front", 2, 5.0, sum(t.size_bytes for t in others)),
    )
    partition = Partition(plan.name, "digest", 2000.0, "front", 1.0, "bytes", layouts)
    node = Node("machine", 8, 1e9)
    compared = shards.compare(plan, small(), partition, access, node)
    # A query of 32 rows takes 0.4 + 0.64 and 0.3 + 0.32 ms, one after the other: 602 a second.
    assert compared.whole.replicas == 4
    assert [kind.replicas for kind in compared.apart] == [2, 3, 1]
    assert compared.apart[1].utility is not None
    assert compared.apart[2].utility is not None
    assert compared.apart[1].utility >= compared.apart[2].utility
    assert compared.whole_account.memory_bytes == pytest.approx(4 * compared.whole.size_bytes)
    section = shards.section(compared, partition, node)
    page = contents.page(contents.Material(plan, PROVENANCE, shards=section))
    assert [page_section.title for page_section in page.sections] == ["The cut", "Whole or in shards"]
    assert "dense model" in render(page)
    for picture in section.figures:
        ET.fromstring(picture)


def test_bars_and_lines_over_time_are_well_formed() -> None:
    bars = fleet.bars("Servers", "servers", ["a & b", "c"], {"whole": [5, None], "shards": [3.25, 12]}, pale=("whole",), line=4, wide=True)
    assert "data-wide" in bars
    words = "".join(ET.fromstring(bars).itertext())
    assert all(word in words for word in ("a & b", "3.2", "12", "Servers"))
    minutes = np.array([0.0, 1.0, 2.0])
    lines = fleet.over_time("Late", "share", minutes, {"whole": minutes / 2}, (minutes, minutes), share=True)
    assert "100%" in "".join(ET.fromstring(lines).itertext())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--access", "a.npz"), "--access goes with --partition"),
        (("--partition", "p.json"), "--partition needs --access"),
        (("--partition", "p.json", "--access", "a.npz"), "--partition needs a profile"),
    ],
)
def test_a_partition_without_what_it_needs_is_refused(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(command, [str(GOLDEN), "-o", str(tmp_path / "report.html"), *options])
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)
    assert not list(tmp_path.iterdir())
