"""The controller's own metrics tell what a tick was, and what isn't known is NaN."""

import math

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from recsplit_controller.shell.metrics import Meters
from recsplit_controller.values.decision import Action, Decision, Outcome
from recsplit_controller.values.observation import Count, Observation
from recsplit_controller.values.settings import Settings, Target
from recsplit_controller.values.tick import Progress, Tick

DENSE = Target("shop_dense", "shop_dense", "dense", maximum=4)
SCALE = Action("scale", "shop_dense", 3, 1000.0, "busy")


def seen(at_s: float = 1000.0, data_s: float | None = 995.0, count: int | None = 2, problems: tuple[str, ...] = ()) -> Observation:
    return Observation(at_s, data_s, "shop", {}, {"shop_dense": Count.steady(count)}, problems)


def meters(now_s: float = 1000.5) -> Meters:
    return Meters(Settings(), [DENSE], clock=lambda: now_s)


def value(of: Meters, name: str, **labels: str) -> float:
    """As Prometheus would read it, through the text format; of the one target, or of the labels given."""
    labels = labels or {"target": "shop_dense", "model": "shop_dense", "unit": "instance"}
    (sample_value,) = [
        sample.value
        for family in text_string_to_metric_families(generate_latest(of.registry).decode())
        for sample in family.samples
        if sample.name == name and sample.labels in ({}, labels)
    ]
    return float(sample_value)


def progress(*, count: int = 3, under_way: bool = False, error: str | None = None) -> dict[str, Progress]:
    return {"shop_dense": Progress(requested=count, asked_s=1000.0, under_way=under_way, failures=error is not None, error=error)}


def test_wanted_requested_and_observed_are_kept_apart() -> None:
    shown = meters()
    decision = Decision("shop_dense", 1000.0, Count.steady(2), 3.4, 4, "busy", saturated=True)
    shown.show(Tick(seen(), (decision,), (SCALE,), progress=progress(under_way=True)))
    assert value(shown, "recsplit_controller_wish_units") == 3.4
    assert value(shown, "recsplit_controller_wanted_units") == 4
    assert value(shown, "recsplit_controller_requested_units") == 3
    assert value(shown, "recsplit_controller_observed_units") == 2
    assert value(shown, "recsplit_controller_saturated") == 1
    assert value(shown, "recsplit_controller_maximum_units") == 4


def test_what_is_not_known_is_nan() -> None:
    shown = meters()
    nothing = Decision("shop_dense", 1000.0, Count(), None, None, "no data")
    shown.show(Tick(seen(data_s=None, count=None, problems=("Prometheus is away",)), (nothing,)))
    for name in ("wish_units", "wanted_units", "requested_units", "observed_units", "asked_units"):
        assert math.isnan(value(shown, f"recsplit_controller_{name}"))
    assert math.isnan(value(shown, "recsplit_controller_data_age_seconds"))
    assert value(shown, "recsplit_controller_stale") == 1
    assert value(shown, "recsplit_controller_failures_total", reason="observe") == 1


def test_data_are_stale_from_stale_s_on() -> None:
    shown = meters()
    shown.show(Tick(seen(data_s=1000.0 - Settings().stale_s), ()))
    assert shown.fresh and value(shown, "recsplit_controller_stale") == 0
    shown.show(Tick(seen(data_s=999.0 - Settings().stale_s), ()))
    assert not shown.fresh and value(shown, "recsplit_controller_stale") == 1


def test_an_action_ages_until_it_ends() -> None:
    shown = meters()
    shown.show(Tick(seen(), (), (SCALE,), progress=progress(under_way=True)))
    shown.show(Tick(seen(at_s=1070.0, data_s=1070.0), (), progress=progress(under_way=True)))
    assert value(shown, "recsplit_controller_action_age_seconds") == 70
    shown.show(Tick(seen(at_s=1075.0, data_s=1075.0, count=3), (), (), (Outcome(SCALE, None, 72.0),), progress=progress()))
    assert value(shown, "recsplit_controller_action_age_seconds") == 0
    assert value(shown, "recsplit_controller_actions_total", target="shop_dense", kind="scale", outcome="begun") == 1
    assert value(shown, "recsplit_controller_actions_total", target="shop_dense", kind="scale", outcome="succeeded") == 1
    assert value(shown, "recsplit_controller_action_seconds_sum", kind="scale") == 72


def test_after_a_failure_nothing_more_is_asked_for_than_what_runs() -> None:
    shown = meters()
    shown.show(Tick(seen(), (), (), (Outcome(SCALE, "no memory", 1.0),), progress=progress(error="no memory")))
    assert value(shown, "recsplit_controller_requested_units") == 2
    assert value(shown, "recsplit_controller_failures_total", reason="act") == 1
    assert value(shown, "recsplit_controller_actions_total", target="shop_dense", kind="scale", outcome="failed") == 1


def test_a_target_is_ill_while_it_is_said_to_be() -> None:
    shown = meters()
    shown.show(Tick(seen(), (), ill={"shop_dense": "a stub died"}))
    assert value(shown, "recsplit_controller_ill") == 1
    shown.show(Tick(seen(), ()))
    assert value(shown, "recsplit_controller_ill") == 0


def test_a_failed_tick_is_a_tick() -> None:
    shown = meters(now_s=2000.0)
    shown.fail("decide")
    assert value(shown, "recsplit_controller_ticks_total", result="failed") == 1
    assert value(shown, "recsplit_controller_failures_total", reason="decide") == 1
    assert value(shown, "recsplit_controller_last_tick_timestamp_seconds") == 2000


def test_one_that_waits_for_the_lease_sets_off_no_alert() -> None:
    """Those on stalled loops, blind controllers and counts that are apart: all compare with what is NaN here."""
    shown = meters(now_s=5000.0)
    silent = ("last_tick_timestamp_seconds", "stale", "data_age_seconds", "wanted_units", "observed_units")
    assert all(math.isnan(value(shown, f"recsplit_controller_{name}")) for name in silent)
    shown.lead(True)
    assert value(shown, "recsplit_controller_last_tick_timestamp_seconds") == 5000
    assert value(shown, "recsplit_controller_stale") == 1
    shown.show(Tick(seen(), (Decision("shop_dense", 1000.0, Count.steady(2), 3.0, 3, ""),)))
    assert value(shown, "recsplit_controller_wanted_units") == 3
    shown.lead(False)
    assert all(math.isnan(value(shown, f"recsplit_controller_{name}")) for name in silent)
    assert value(shown, "recsplit_controller_leader") == 0


def test_every_series_is_there_before_its_first_event() -> None:
    text = generate_latest(meters().registry).decode()
    assert 'recsplit_controller_actions_total{kind="heal",outcome="failed",target="shop_dense"} 0.0' in text
    assert 'recsplit_controller_failures_total{reason="lease"} 0.0' in text
    assert 'recsplit_controller_observed_units{model="shop_dense",target="shop_dense",unit="instance"} NaN' in text
    assert "process_resident_memory_bytes" in text
