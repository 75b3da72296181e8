"""What the recording rules make of pages: sums, corrections, and nothing out of nothing."""

import dataclasses
from pathlib import Path

import pytest

from recsplit.monitoring.rendering import render
from recsplit.monitoring.watching import Scraped, Watching
from recsplit.plan.plan import Plan
from recsplit.repository.find import find
from tests.monitoring.promtool import Case, Series, needs_promtool, run, write

pytestmark = needs_promtool
ONE, TWO = "10.0.0.1:8002", "10.0.0.2:8002"


@pytest.fixture(scope="module")
def plan(repository: Path) -> Plan:
    return find(repository / "model_repository").plan


@pytest.fixture
def folder(tmp_path: Path, plan: Plan) -> Path:
    return write(tmp_path, plan, Watching((Scraped(ONE, "front"), Scraped(TWO, "front"))))


def page(instance: str, model: str, *, up: str = "1x60", **values: str) -> Series:
    """A server's series; values by the end of Triton's name."""
    labels = f'job="recsplit",instance="{instance}",model="{model}"'
    counters = ("count", "exec_count", "request_duration_us", "queue_duration_us", "request_success")
    compute = (f"compute_{part}_duration_us" for part in ("input", "infer", "output"))
    texts_by_name = dict.fromkeys((*counters, *compute), "0x60") | {"pending_request_count": "0x60"} | values
    series = {
        f"nv_inference_{name}{{{labels}}}": value
        for name, value in texts_by_name.items()
        if name not in ("p95_us", "failure", "remote_rows", "worker_busy_us")
    }
    series[f'nv_inference_request_failure{{{labels},reason="OTHER"}}'] = values.get("failure", "0x60")
    series[f'nv_inference_request_summary_us{{{labels},quantile="0.95"}}'] = values.get("p95_us", " ".join(["NaN"] * 61))
    if "worker_busy_us" in values:
        series[f"recsplit_worker_busy_us{{{labels}}}"] = values["worker_busy_us"]
    if "remote_rows" in values:
        series[f'recsplit_remote_rows{{{labels},pid="7"}}'] = values["remote_rows"]
    return series | {f'up{{job="recsplit",instance="{instance}"}}': up}


def record(what: str, value: float | None, model: str = "tiny_dense") -> tuple[str, list[tuple[str, float]]]:
    labels = f'{{__name__="recsplit:{what}",build="golden",ensemble="tiny",model="{model}"}}'
    return f'recsplit:{what}{{model="{model}"}}', [] if value is None else [(labels, value)]


def test_the_engines_workers_are_counted_by_their_own_time(folder: Path) -> None:
    busy = {"request_success": "0+20x60", "exec_count": "0+4x60", "compute_infer_duration_us": "0+2000000x60"}
    series = {**page(ONE, "tiny_dense", **busy, worker_busy_us="0+600000x60"), **page(TWO, "tiny_dense", **busy)}
    run(folder, [Case(series, "60s", dict([record("busy", 0.5)]))])


def test_busy_time_is_divided_by_the_requests_of_a_batch_and_servers_are_summed(folder: Path) -> None:
    # Each server: 10 requests a second in batches of 5; 1 s of compute a second as Triton sums it, so a fifth of an instance.
    busy = {"request_success": "0+20x60", "exec_count": "0+4x60", "compute_infer_duration_us": "0+2000000x60", "p95_us": "7000x60"}
    slower = busy | {"p95_us": "9000x60", "queue_duration_us": "0+1000000x60", "request_duration_us": "0+3000000x60"}
    series = {**page(ONE, "tiny_dense", **busy), **page(TWO, "tiny_dense", **slower, pending_request_count="4x60")}
    expected = dict(
        [
            record("busy", 0.4),
            record("requests", 20),
            record("executions", 4),
            record("p95_ms", 9),
            record("waiting", 0.5),
            record("pending", 4),
        ]
    )
    run(
        folder,
        [
            Case(
                series,
                "60s",
                expected | dict([record("mean_ms", 75), record("failures", 0), record("data_s", 60), record("offered", None)]),
            )
        ],
    )


def test_an_idle_model_has_rates_of_zero_and_no_latency(folder: Path) -> None:
    idle = dict([record("requests", 0), record("busy", 0), record("waiting", 0), record("mean_ms", None), record("p95_ms", None)])
    run(folder, [Case(page(ONE, "tiny_dense"), "60s", idle)])


def test_a_server_that_went_away_is_left_out_at_once(folder: Path) -> None:
    """Its samples stay in the window; its page doesn't."""
    gone = page(ONE, "tiny_dense", up="1x29 0x30", request_success="0+20x29 stale")
    expected = dict([record("requests", None), record("busy", None), record("pending", None), record("data_s", None)])
    alive = dict([record("requests", 10), record("busy", 0)])
    other = page(TWO, "tiny_dense", request_success="0+20x60")
    run(folder, [Case(_stale(gone), "60s", expected), Case({**_stale(gone), **other}, "60s", alive)])


def test_an_ensemble_has_no_queue_and_what_only_it_counts_is_told(folder: Path) -> None:
    # A full queue: the ensemble counts each of 3 failures a second twice, its step none.
    series = {**page(ONE, "tiny", request_success="0+20x60", failure="0+12x60"), **page(ONE, "tiny_dense")}
    expected = dict(
        [record("busy", None, "tiny"), record("waiting", None, "tiny"), record("pending", None, "tiny"), record("failures", 6, "tiny")]
    )
    run(folder, [Case(series, "60s", expected | dict([record("unattributed_failures", 3, "tiny")]))])
    # A dead stub: the step counts them too, once.
    series = {**page(ONE, "tiny", failure="0+12x60"), **page(ONE, "tiny_dense", failure="0+6x60")}
    run(folder, [Case(series, "60s", dict([record("unattributed_failures", 0, "tiny")]))])


def test_a_stand_in_s_requests_are_offered_and_not_served(folder: Path) -> None:
    front = page(ONE, "tiny_dense", request_success="0+20x60", failure="0+2x60", pending_request_count="9x60", remote_rows="0+5x60")
    shard_series = page(TWO, "tiny_dense", request_success="0+16x60")
    expected = dict([record("offered", 11), record("requests", 8), record("pending", 0)])
    run(
        folder,
        [Case({**front, **shard_series}, "60s", expected), Case(front, "60s", dict([record("offered", 11), record("requests", None)]))],
    )


def test_requests_of_a_front_of_the_engine_are_offered(folder: Path) -> None:
    """It has no model of the shard's name, so Triton counts nothing of it."""
    labels = f'job="recsplit",instance="{ONE}",model="tiny_dense"'
    front = {
        f"recsplit_remote_rows{{{labels}}}": "0+5x60",
        f"recsplit_remote_requests{{{labels}}}": "0+22x60",
        f'up{{job="recsplit",instance="{ONE}"}}': "1x60",
    }
    shard_series = page(TWO, "tiny_dense", request_success="0+16x60")
    run(folder, [Case({**front, **shard_series}, "60s", dict([record("offered", 11), record("requests", 8)]))])


def test_servers_of_another_job_or_model_are_none_of_ours(folder: Path) -> None:
    other = {name.replace('job="recsplit"', 'job="other"'): values for name, values in page(ONE, "tiny_dense").items()}
    run(folder, [Case({**other, **page(TWO, "tiny_dense2")}, "60s", {'count({__name__=~"recsplit:.+",model!=""})': []})])


def _stale(series: Series) -> Series:
    """As a failed scrape leaves a server: all but `up` end with a stale marker."""
    return {name: values if name.startswith("up{") else f"{_half(values)} stale" for name, values in series.items()}


def _half(values: str) -> str:
    return " ".join(["NaN"] * 30) if values.startswith("NaN") else f"{values.partition('x')[0]}x29"


def test_namespaces_and_clusters_side_by_side_are_not_mixed(folder: Path) -> None:
    """The same address in two clusters, and another namespace: three sums, each of its own server."""
    series: dict[str, str] = {}
    for number, place in enumerate(('cluster="eu",namespace="shop"', 'cluster="us",namespace="shop"', 'cluster="eu",namespace="test"'), 1):
        busy = {"request_success": f"0+{20 * number}x60", "exec_count": f"0+{4 * number}x60", "compute_infer_duration_us": "0+2000000x60"}
        of_place = page(ONE, "tiny_dense", **busy)
        series |= {name.replace('job="recsplit"', f'job="recsplit",{place}'): value for name, value in of_place.items()}
    labels = '{{__name__="recsplit:{what}",build="golden",cluster="{cluster}",ensemble="tiny",model="tiny_dense",namespace="{namespace}"}}'
    places = [("eu", "shop", 10.0), ("us", "shop", 20.0), ("eu", "test", 30.0)]
    requests = [(labels.format(what="requests", cluster=cluster, namespace=namespace), rate) for cluster, namespace, rate in places]
    busy_units = [(labels.format(what="busy", cluster=cluster, namespace=namespace), 0.2) for cluster, namespace, _ in places]
    expected = {'recsplit:requests{model="tiny_dense"}': requests, 'recsplit:busy{model="tiny_dense"}': busy_units}
    run(folder, [Case(series, "60s", expected)])


def test_two_builds_while_one_takes_over_from_the_other_are_not_mixed(folder: Path, plan: Plan) -> None:
    """The same ensemble twice, each with its own scrape jobs and rules: a front of the old one, two of the new."""
    new = dataclasses.replace(plan, build="newer")
    texts = render(new, Watching((Scraped(TWO, "front"),), jobs=("shop/newer",)))
    (folder / "newer.yml").write_text(texts["rules.yml"])
    busy = {"request_success": "0+20x60", "exec_count": "0+4x60", "compute_infer_duration_us": "0+2000000x60"}
    series = dict(page(ONE, "tiny_dense", **busy))
    for address in (TWO, "10.0.0.3:8002"):
        series |= {name.replace('job="recsplit"', 'job="shop/newer"'): value for name, value in page(address, "tiny_dense", **busy).items()}
    labels = '{{__name__="recsplit:requests",build="{build}",ensemble="tiny",model="tiny_dense"}}'
    expected = [(labels.format(build="golden"), 10.0), (labels.format(build="newer"), 20.0)]
    run(folder, [Case(series, "60s", {'recsplit:requests{model="tiny_dense"}': expected})], ["rules.yml", "newer.yml"])
