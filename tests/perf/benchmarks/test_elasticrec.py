"""ElasticRec's evaluation again: acceptance rows E4, E5 and E7 of the shared facts, and what the paper's inputs decide."""

import dataclasses
import html
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from recsplit.capacity.profile import Profile
from recsplit.errors import InputError
from recsplit_perf.benchmarks.elasticrec import contents, gains, inputs, measured, micro, paper, ramp
from recsplit_perf.benchmarks.elasticrec.__main__ import command
from recsplit_perf.benchmarks.elasticrec.cases import answer, cut, mean, question
from recsplit_perf.benchmarks.elasticrec.markdown import markdown
from recsplit_perf.benchmarks.elasticrec.result import Measured, Result, plain
from recsplit_perf.report.page import Page, render
from tests.capacity.profiles import small

RM1, RM2, RM3 = paper.CASES[:3]


def test_rm1_takes_145_gb_in_four_shards_a_table() -> None:  # E4
    rm1_answer = answer(question(RM1))
    assert rm1_answer.shards.memory_bytes / 1e9 == pytest.approx(145, rel=0.01)
    assert [shard.replicas for shard in rm1_answer.one_table] == [10, 10, 2, 2]


def test_rm3_takes_84_gb_a_seventh_of_serial_model_wise() -> None:  # E5
    rm3_answer = answer(question(RM3))
    assert rm3_answer.shards.memory_bytes / 1e9 == pytest.approx(84, rel=0.01)
    assert rm3_answer.memory_ratio == pytest.approx(7.4, rel=0.05)


@pytest.fixture(scope="module")
def bars() -> list[micro.Bar]:
    return micro.panels()


def test_less_locality_takes_more_memory(bars: list[micro.Bar]) -> None:  # E7
    gb_by_setting = {bar.setting: bar.shards_gb for bar in bars if bar.panel == "b"}
    assert list(gb_by_setting) == ["P = 10%", "P = 50%", "P = 90%"]
    assert gb_by_setting["P = 10%"] > gb_by_setting["P = 50%"] > gb_by_setting["P = 90%"]
    assert gb_by_setting["P = 10%"] == pytest.approx(221, rel=0.05)
    assert gb_by_setting["P = 90%"] == pytest.approx(145, rel=0.01)


def test_more_shards_pay_until_containers_outweigh_rows(bars: list[micro.Bar]) -> None:
    one, two, four, eight, sixteen = (bar.shards_gb for bar in bars if bar.panel == "d")
    assert one > 3 * two
    assert two > four
    assert eight == pytest.approx(four, rel=0.05)
    assert sixteen > eight


def test_tables_alike_are_cut_alike() -> None:
    """RM1 and RM2 differ in tables' number and layers only, and so does what Algorithm 1 sees; the paper's bars differ."""
    one, two = (answer(question(case)).one_table for case in (RM1, RM2))
    assert [shard.size_bytes for shard in one] == [shard.size_bytes for shard in two]
    assert RM1.bars.shard_replicas != RM2.bars.shard_replicas


@pytest.fixture(scope="module")
def steps() -> list[inputs.Step]:
    return inputs.steps()


def test_plotted_containers_bring_the_memory_ratio_to_the_abstracts(steps: list[inputs.Step]) -> None:
    memory = [step for step in steps if step.ratio == "memory"]
    assert memory[0].mean < paper.MEMORY_RATIO <= memory[1].mean


def test_a_two_level_law_cannot_reach_the_utility_of_the_abstract(steps: list[inputs.Step]) -> None:
    utility = [step for step in steps if step.ratio == "utility"]
    assert utility[0].mean < utility[1].mean < paper.UTILITY_RATIO < utility[2].mean


def test_the_papers_bars_give_the_means_of_its_abstract() -> None:
    assert mean([case.bars.utility_ratio for case in paper.CASES]) == pytest.approx(paper.UTILITY_RATIO, rel=0.03)
    assert mean([case.bars.whole_servers / case.bars.shards_servers for case in paper.CASES]) == pytest.approx(
        paper.SERVERS_RATIO, rel=0.03
    )


@pytest.fixture(scope="module")
def gained() -> list[gains.Gain]:
    return gains.gains([question(RM3)], lambda _: None)


def test_no_algorithm_costs_less_than_joint(gained: list[gains.Gain]) -> None:
    for objective in (gains.MEMORY, gains.PRICE, gains.BOUND):
        costs = {gain.algorithm: gain.cost for gain in gained if gain.objective == objective}
        joint, theirs = costs["joint"], costs["paper"]
        assert joint is not None
        assert theirs is not None
        assert all(cost is None or cost >= joint * (1 - 1e-9) for cost in costs.values())
        assert joint < 0.95 * theirs


def test_the_account_of_a_partition_is_its_cost() -> None:
    """Two ways to the same sum: the objective of the algorithms, and the containers that come of it."""
    asked = question(RM3)
    partition = cut(asked, "joint", 8)
    assert answer(asked, partition).shards.memory_bytes == pytest.approx(partition.cost)


@pytest.fixture(scope="module")
def half_hour() -> dict[str, ramp.Way]:
    rm1_answer = answer(question(RM1))
    return {name: ramp.run(name, kinds) for name, kinds in ramp.plays(rm1_answer).items() if name != "shards"}


def test_shards_follow_the_load_with_less_memory_and_fewer_misses(half_hour: dict[str, ramp.Way]) -> None:
    whole, shards = half_hour["model-wise, on queries/s"], half_hour["shards, on queries/s"]
    assert shards.peak_gb < 0.75 * whole.peak_gb
    assert shards.missed_share < whole.missed_share < 0.1
    assert shards.minutes_missed <= 3  # the paper has two short spikes


def test_a_rule_on_latency_swings(half_hour: dict[str, ramp.Way]) -> None:
    """With nobody waiting it takes servers away that the load still needs, and the whole takes long to start again."""
    assert half_hour["model-wise"].missed_share > 2 * half_hour["model-wise, on queries/s"].missed_share


def test_a_target_of_all_that_one_sustains_never_catches_up(half_hour: dict[str, ramp.Way]) -> None:
    assert half_hour["shards, at all that one sustains"].missed_share > 0.5


def test_the_same_seed_plays_the_same_half_hour(half_hour: dict[str, ramp.Way]) -> None:
    again = ramp.run("again", ramp.sharded(question(RM1), answer(question(RM1)), signal="qps"))
    assert np.array_equal(again.p95_ms, half_hour["shards, on queries/s"].p95_ms)


@pytest.fixture(scope="module")
def made_up() -> Profile:
    """A call of 0.4 ms and 20 µs an item of 1,280 gathers."""
    return dataclasses.replace(small(), model="rm1", gathers_per_row=1280.0)


def test_a_measured_profile_asks_for_ten_whole_containers(made_up: Profile) -> None:
    asked = measured.questions(made_up)
    assert [answer(one).whole_replicas for one in asked] == [measured.WHOLE] * 4
    few, many = (one.gather for one in asked[::2])
    assert few.a_ms / few.b_ms == pytest.approx(0.65 / (0.02 / 1280 * 32))  # half of the 0.5 ms overhead is the call's
    assert many.a_ms / many.b_ms == pytest.approx(0.65 / (0.02 / 1280 * 1000))


def test_shards_gain_less_over_whole_containers_whose_instances_share_tables(made_up: Profile) -> None:
    ratios = [answer(one).memory_ratio for one in measured.questions(made_up)]
    assert ratios[0] > ratios[1]
    assert ratios[2] > ratios[3]


def test_a_profile_of_another_model_is_refused() -> None:
    with pytest.raises(InputError, match="'shop', which is none of the paper's models") as caught:
        measured.questions(small())
    assert "recsplit.zoo.elasticrec:rm1" in str(caught.value.hint)


@pytest.fixture(scope="module")
def result(
    half_hour: dict[str, ramp.Way], made_up: Profile, steps: list[inputs.Step], bars: list[micro.Bar], gained: list[gains.Gain]
) -> Result:
    """All of it but the long runs, in place of which shorter ones are used."""
    provenance = {"machine": {"cpu": "none", "cores": 2, "load_average": [0.5]}, "commit": "abc", "command": "test"}
    answers = tuple(answer(question(case)) for case in paper.CASES)
    line = made_up.part("embedding").client.fit
    measured_rm1 = Measured("rm1", line, 1280.0, provenance, tuple(answer(one) for one in measured.questions(made_up)))
    of_profile = [dataclasses.replace(gain, question=measured_rm1.answers[0].question.name) for gain in gained]
    ways = (half_hour["model-wise, on queries/s"], half_hour["shards, on queries/s"])
    return Result(provenance, answers, tuple(steps), tuple(inputs.speeds()), tuple(bars), ways, (measured_rm1,), (*gained, *of_profile))


def test_the_page_and_the_document_say_the_same(result: Result) -> None:
    sections = contents.sections(result)
    page = render(Page("t", "s", contents.facts(result), tuple(sections), ()))
    text = markdown(result, sections)
    for section in sections:
        assert {len(row) for row in section.table.rows} == {len(section.table.columns)} if section.table else True
        assert f"## {section.title}" in text
        assert f"<h2>{html.escape(section.title, quote=False)}</h2>".replace("'", "&#39;") in page
    assert page.count("<svg") == sum(len(section.figures) for section in sections) > 12
    assert "259 (310)" in text
    assert "nan" not in text.lower().split()


def test_the_numbers_are_json(result: Result) -> None:
    report = json.loads(json.dumps(plain(result)))
    assert [case["question"] for case in report["cases"]] == [case.name for case in paper.CASES]
    assert report["cases"][2]["memory_ratio"] == pytest.approx(7.4, rel=0.05)
    assert report["measured"][0]["answers"][1]["whole"]["replicas"] == measured.WHOLE


@pytest.mark.slow
def test_the_command_writes_all_three(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.md", "a.html", "a.json")]
    options = [word for flag, path in zip(("-o", "--html", "--json"), files, strict=True) for word in (flag, str(path))]
    done = CliRunner().invoke(command, options)
    assert done.exit_code == 0, done.output
    assert all(path.stat().st_size > 5000 for path in files)


def test_an_output_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["--html", str(tmp_path / "nowhere" / "a.html")])
    assert isinstance(done.exception, InputError)
