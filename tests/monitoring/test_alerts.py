"""Every alert fires where it should, and none does while all is well."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from recsplit.monitoring.alerts import alerts
from recsplit.monitoring.watching import Scraped, Watching
from recsplit.plan.plan import Plan
from recsplit.repository.find import find
from tests.monitoring.promtool import Case, needs_promtool, run, write

pytestmark = needs_promtool
WATCHING = Watching((Scraped("10.0.0.1:8002"),), controllers=("10.0.0.3:9100",), interval_s=10, window_s=40, bound_ms=50)
SERVER = 'job="recsplit",instance="10.0.0.1:8002"'
CONTROLLER = 'job="recsplit-controller",instance="10.0.0.3:9100"'
TARGET = f'{CONTROLLER},target="tiny_dense",model="tiny_dense",unit="instance"'
UNKNOWN = " ".join(["NaN"] * 10)  # promtool repeats numbers only
DENSE, WHOLE = f'{SERVER},model="tiny_dense"', f'{SERVER},model="tiny"'

#: Ten minutes in steps of ten seconds, all well: ten queries a second in 20 ms.
WELL: Mapping[str, str] = {
    f"up{{{SERVER}}}": "1x60",
    f"up{{{CONTROLLER}}}": "1x60",
    **{
        f'nv_inference_{name}{{{SERVER},model="{model}"}}': "0+100x60"
        for name in ("request_success", "exec_count", "count")
        for model in ("tiny", "tiny_dense", "tiny_embedding")
    },
    f"nv_inference_pending_request_count{{{DENSE}}}": "2x60",
    f'nv_inference_request_failure{{{WHOLE},reason="OTHER"}}': "0x60",
    f'nv_inference_request_failure{{{DENSE},reason="BACKEND"}}': "0x60",
    f'nv_inference_request_failure{{{DENSE},reason="REJECTED"}}': "0x60",
    f'nv_inference_request_summary_us{{{WHOLE},quantile="0.95"}}': "20000x60",
    f'recsplit_remote_replica_up{{{DENSE},replica="10.0.0.9:8001",pid="7"}}': "1x60",
    f"recsplit_controller_last_tick_timestamp_seconds{{{CONTROLLER}}}": "0+10x60",
    f"recsplit_controller_interval_seconds{{{CONTROLLER}}}": "5x60",
    f"recsplit_controller_stale{{{CONTROLLER}}}": "0x60",
    f"recsplit_controller_action_age_seconds{{{TARGET}}}": "0x60",
    f"recsplit_controller_wanted_units{{{TARGET}}}": "2x60",
    f"recsplit_controller_observed_units{{{TARGET}}}": f"{UNKNOWN} 2x50",
    f"recsplit_controller_asked_units{{{TARGET}}}": f"{UNKNOWN} 2x50",
    f"recsplit_controller_wish_units{{{TARGET}}}": f"{UNKNOWN} 1.4x50",
    f"recsplit_controller_maximum_units{{{TARGET}}}": "8x60",
    f"recsplit_controller_ill{{{TARGET}}}": "0x60",
}

#: What is different where each alert fires.
FIRES: Mapping[str, Mapping[str, str | None]] = {
    "RecsplitQueriesFailPage": {f'nv_inference_request_failure{{{WHOLE},reason="OTHER"}}': "0+10x60"},
    "RecsplitQueriesFailTicket": {f'nv_inference_request_failure{{{WHOLE},reason="OTHER"}}': "0+2x60"},
    "RecsplitQueriesSlowPage": {f'nv_inference_request_summary_us{{{WHOLE},quantile="0.95"}}': "20000x30 60000x30"},
    "RecsplitQueriesSlowTicket": {f'nv_inference_request_summary_us{{{WHOLE},quantile="0.95"}}': "20000x54 60000x6"},
    "RecsplitNoData": {f"nv_inference_request_success{{{WHOLE}}}": None},
    "RecsplitServerAway": {f"up{{{SERVER}}}": "1x30 0x30"},
    "RecsplitDeadStub": {f'nv_inference_request_failure{{{DENSE},reason="BACKEND"}}': "0x40 0+50x20"},
    "RecsplitQueueStands": {f"nv_inference_exec_count{{{DENSE}}}": "500x60"},
    "RecsplitQueueFull": {f'nv_inference_request_failure{{{WHOLE},reason="OTHER"}}': "0+200x60"},
    "RecsplitReplicaAvoided": {f'recsplit_remote_replica_up{{{DENSE},replica="10.0.0.9:8001",pid="7"}}': "1x30 0x30"},
    "RecsplitControllerStalled": {f"recsplit_controller_last_tick_timestamp_seconds{{{CONTROLLER}}}": "0+10x30 300x30"},
    "RecsplitControllerAway": {f"up{{{CONTROLLER}}}": "1x30 0x30"},
    "RecsplitControllerBlind": {f"recsplit_controller_stale{{{CONTROLLER}}}": "0x30 1x30"},
    "RecsplitStuckLoad": {f"recsplit_controller_action_age_seconds{{{TARGET}}}": "0x20 0+10x40"},
    "RecsplitCountsApart": {
        f"recsplit_controller_wanted_units{{{TARGET}}}": "5x60",
        f"recsplit_controller_asked_units{{{TARGET}}}": "2x60",
    },
    "RecsplitUnitsLack": {
        f"recsplit_controller_wanted_units{{{TARGET}}}": "5x60",
        f"recsplit_controller_asked_units{{{TARGET}}}": "5x60",
        f"recsplit_controller_observed_units{{{TARGET}}}": "2x60",
    },
    "RecsplitIll": {f"recsplit_controller_ill{{{TARGET}}}": "0x30 1x30"},
    "RecsplitAtItsMost": {
        f"recsplit_controller_wish_units{{{TARGET}}}": "12x60",
        f"recsplit_controller_observed_units{{{TARGET}}}": "8x60",
        f"recsplit_controller_asked_units{{{TARGET}}}": "8x60",
        f"recsplit_controller_wanted_units{{{TARGET}}}": "8x60",
    },
}


@pytest.fixture(scope="module")
def plan(repository: Path) -> Plan:
    return find(repository / "model_repository").plan


@pytest.fixture
def folder(tmp_path: Path, plan: Plan) -> Path:
    return write(tmp_path, plan, WATCHING)


def firing(alert: str) -> str:
    return f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'


def test_all_is_quiet_while_all_is_well(folder: Path) -> None:
    run(folder, [Case(WELL, "10m", {'ALERTS{alertstate="firing"}': []}, step_s=10)])


def test_each_fires_where_it_should(folder: Path, plan: Plan) -> None:
    assert set(FIRES) == {alert.name for alert in alerts(plan, WATCHING)}
    cases = [
        Case(
            {name: values for name, values in {**WELL, **different}.items() if values is not None},
            "10m",
            {firing(name): [("{}", 1)]},
            step_s=10,
            name=name,
        )
        for name, different in FIRES.items()
    ]
    run(folder, cases)


def test_without_a_bound_no_alert_speaks_of_latency(plan: Plan) -> None:
    assert not [alert for alert in alerts(plan, Watching()) if "Slow" in alert.name]
