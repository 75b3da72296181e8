"""The report's section on a controller: its journal becomes a picture and a table of changes."""

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from recsplit.commands.report import command
from recsplit.commands.report_journal import timeline
from recsplit.errors import InputError
from recsplit_controller.core.memory import Memory
from recsplit_controller.core.reconcile import State
from recsplit_controller.shell.journal import Journal
from recsplit_controller.values.decision import Action, Decision, Outcome
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import Settings, Target
from recsplit_controller.values.tick import Progress, Tick
from recsplit_perf.report import Page, render
from recsplit_perf.report.control import DRAWN, LISTED, Change, Line, Timeline, draw, section

GOLDEN = Path(__file__).parents[3] / "model_repository"
SETTINGS = Settings(bound_ms=150)


def words(svg: str) -> str:
    return "".join(ET.fromstring(svg).itertext())


def record(
    at_s: float, counts: dict[str, int | None], wanted_count: int | None, *actions: Action, outcomes: tuple[Outcome, ...] = ()
) -> Tick:
    """One tick on "shop_dense": half a query failed a second, and nothing is known of p95 at first."""
    seen = Series(requests=80.0, failures=0.5, p95_ms=None if at_s < 1010 else 90.0, mean_ms=40.0)
    observation = Observation(at_s, at_s, "shop", {"shop": seen}, {name: Count.steady(count) for name, count in counts.items()})
    decision = Decision("shop_dense", at_s, Count.steady(counts["shop_dense"]), 3.3, wanted_count, "busy")
    return Tick(observation, (decision,), actions, outcomes, {}, {"shop_dense": Progress(requested=wanted_count)})


def records() -> list[Tick]:
    grow = Action("scale", "shop_dense", 4, 1005.0, "busy 2 of 1 <b>")
    fail = Action("scale", "shop_dense", 5, 1010.0, "more")
    return [
        record(1000.0, {"shop_dense": 1}, 1),
        record(1005.0, {"shop_dense": 1}, 4, grow),
        record(1010.0, {"shop_dense": 4}, 5, fail, outcomes=(Outcome(grow, None, 1.25),)),
        record(1015.0, {"shop_dense": None}, 5, outcomes=(Outcome(fail, "no memory", 0.5),)),
    ]


def test_a_journal_becomes_lines_from_its_first_tick_on() -> None:
    run_timeline = timeline("run", SETTINGS, records())
    np.testing.assert_array_equal(run_timeline.rate.seconds, [0, 5, 10, 15])
    np.testing.assert_array_equal(run_timeline.latency["p95, last minute"].values, [np.nan, np.nan, 90, 90])
    np.testing.assert_array_equal(run_timeline.counts["shop_dense"]["wanted"].values, [1, 4, 5, 5])
    np.testing.assert_array_equal(run_timeline.counts["shop_dense"]["serving"].values, [1, 1, 4, np.nan])  # not known is no zero
    assert run_timeline.failed is not None
    assert run_timeline.failed.values.sum() == 7.5  # 0.5 a second for 15 s
    assert run_timeline.changes == [
        Change(5.0, "shop_dense", 1, 4, "busy 2 of 1 <b>", "1.2 s"),
        Change(10.0, "shop_dense", 4, 5, "more", "failed: no memory"),
    ]


def test_it_may_begin_at_another_moment() -> None:
    assert timeline("run", SETTINGS, records(), began_s=990.0).rate.seconds[0] == 10.0


def test_a_journal_without_a_tick_is_told() -> None:
    with pytest.raises(InputError, match="no tick"):
        timeline("run", SETTINGS, [])


def test_the_section_is_drawn_and_its_texts_are_escaped() -> None:
    controller_section = section("The controller", "What it did.", [timeline("run", SETTINGS, records())])
    (picture,) = controller_section.figures
    for word in ("bound 150 ms", "wanted", "requested", "serving", "shop_dense", "7 failed"):
        assert word in words(picture)
    html = render(Page("t", "s", (), (controller_section,), ()))
    assert "1 to 4" in html
    assert "busy 2 of 1 &lt;b&gt;" in html


def flat(value: float) -> Line:
    return Line(np.arange(100.0), np.full(100, value))


def test_of_many_targets_those_that_changed_are_drawn() -> None:
    counts = {f"model_{n}": {"serving": flat(1.0)} for n in range(50)}
    counts["changing"] = {"serving": Line(np.arange(100.0), np.arange(100.0) // 50)}
    picture = draw(Timeline("many", flat(1.0), {"p95": flat(5.0)}, counts))
    drawn = {text.strip() for text in ET.fromstring(picture).itertext()} & set(counts)
    assert "changing" in drawn
    assert len(drawn) == DRAWN


def test_latencies_without_end_or_without_any_value_are_drawn_too() -> None:
    counts = {"dense": {"serving": flat(np.nan)}}
    ET.fromstring(draw(Timeline("failed", flat(1.0), {"p95": flat(np.inf)}, counts, bound_ms=10, failed=flat(1.0))))
    ET.fromstring(draw(Timeline("unknown", flat(np.nan), {"p95": flat(np.nan)}, counts)))


def test_a_long_list_of_changes_ends_and_says_so() -> None:
    changes = [Change(n, "dense", 1, 2, "why", "1.0 s") for n in range(LISTED + 5)]
    changes_section = section("t", "l", [Timeline("run", flat(1.0), {}, {}, changes=changes)])
    assert changes_section.table is not None
    assert len(changes_section.table.rows) == LISTED
    assert "5 later changes" in changes_section.note


def test_the_command_shows_a_journal_of_two_starts(tmp_path: Path) -> None:
    for number in range(2):
        with Journal(tmp_path / "journal.jsonl", SETTINGS, (Target("shop_dense", "shop_dense", "dense"),)) as journal:
            for each in records():
                seen = dataclasses.replace(each.observation, at_s=each.observation.at_s + 60 * number)
                journal.write(dataclasses.replace(each, observation=seen), Memory(), State())
    output = tmp_path / "report.html"
    done = CliRunner().invoke(
        command, [str(GOLDEN), "--journal", str(tmp_path / "journal.jsonl"), "-o", str(output)], catch_exceptions=False
    )
    assert done.exit_code == 0
    html = output.read_text()
    assert "The controller" in done.output
    assert "8 ticks of the policy utilization" in html
    assert html.count(">start<") == 2


def test_a_file_that_is_no_journal_is_told(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"at_s": 1}\n')
    done = CliRunner().invoke(command, [str(GOLDEN), "--journal", str(tmp_path / "journal.jsonl"), "-o", str(tmp_path / "report.html")])
    assert isinstance(done.exception, InputError)
    assert not (tmp_path / "report.html").exists()
