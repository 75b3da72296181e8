"""The controller's own metrics tell what a tick was, and what isn't known is NaN."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from recsplit_controller.decision import Action, Decision, Outcome
from recsplit_controller.meters import Meters
from recsplit_controller.observation import Observation
from recsplit_controller.settings import Settings, Target

DENSE = Target("shop_dense", "shop_dense", "dense", maximum=4)
SCALE = Action("scale", "shop_dense", 3, 1000.0, "busy")
HEAL = Action("heal", "shop_dense", 2, 1000.0, "a stub died")


@dataclass(frozen=True)
class Shown:
    observation: Observation
    decisions: Sequence[Decision] = ()
    actions: Sequence[Action] = ()
    outcomes: Sequence[Outcome] = ()


def seen(at_s: float = 1000.0, data_s: float | None = 995.0, count: int | None = 2, problems: tuple[str, ...] = ()) -> Observation:
    return Observation(at_s, data_s, "shop", {}, {"shop_dense": count}, problems)


def meters(now_s: float = 1000.5) -> Meters:
    return Meters(Settings(), [DENSE], clock=lambda: now_s)


def value(of: Meters, name: str, **labels: str) -> float:
    """As Prometheus would read it, through the text format; of the one target, or of the labels given."""
    labels = labels or {"target": "shop_dense", "model": "shop_dense", "unit": "instance"}
    (found,) = [
        sample.value
        for family in text_string_to_metric_families(generate_latest(of.registry).decode())
        for sample in family.samples
        if sample.name == name and sample.labels in ({}, labels)
    ]
    return float(found)


def test_wanted_requested_and_observed_are_kept_apart() -> None:
    shown = meters()
    wanted = Decision("shop_dense", 1000.0, 2, 3.4, 4, "busy", saturated=True)
    shown.show(Shown(seen(), [wanted], [SCALE]))
    assert value(shown, "recsplit_controller_wish_units") == 3.4
    assert value(shown, "recsplit_controller_wanted_units") == 4
    assert value(shown, "recsplit_controller_requested_units") == 3
    assert value(shown, "recsplit_controller_observed_units") == 2
    assert value(shown, "recsplit_controller_saturated") == 1
    assert value(shown, "recsplit_controller_maximum_units") == 4


def test_what_is_not_known_is_nan() -> None:
    shown = meters()
    shown.show(
        Shown(seen(data_s=None, count=None, problems=("Prometheus is away",)), [Decision("shop_dense", 1000.0, None, None, None, "")])
    )
    for name in ("wish_units", "wanted_units", "requested_units", "observed_units"):
        assert math.isnan(value(shown, f"recsplit_controller_{name}"))
    assert math.isnan(value(shown, "recsplit_controller_data_age_seconds"))
    assert value(shown, "recsplit_controller_stale") == 1
    assert value(shown, "recsplit_controller_failures_total", reason="observe") == 1


def test_data_are_stale_from_stale_s_on() -> None:
    shown = meters()
    shown.show(Shown(seen(data_s=1000.0 - Settings().stale_s)))
    assert shown.fresh and value(shown, "recsplit_controller_stale") == 0
    shown.show(Shown(seen(data_s=999.0 - Settings().stale_s)))
    assert not shown.fresh and value(shown, "recsplit_controller_stale") == 1


def test_an_action_ages_until_it_ends() -> None:
    shown = meters()
    shown.show(Shown(seen(), actions=[SCALE]))
    shown.show(Shown(seen(at_s=1070.0, data_s=1070.0)))
    assert value(shown, "recsplit_controller_action_age_seconds") == 70
    shown.show(Shown(seen(at_s=1075.0, data_s=1075.0, count=3), outcomes=[Outcome(SCALE, None, 72.0)]))
    assert value(shown, "recsplit_controller_action_age_seconds") == 0
    assert value(shown, "recsplit_controller_actions_total", target="shop_dense", kind="scale", outcome="succeeded") == 1
    assert value(shown, "recsplit_controller_action_seconds_sum", kind="scale") == 72


def test_after_a_failure_nothing_more_is_asked_for_than_what_runs() -> None:
    shown = meters()
    shown.show(Shown(seen(), actions=[SCALE]))
    shown.show(Shown(seen(), outcomes=[Outcome(SCALE, "no memory", 1.0)]))
    assert value(shown, "recsplit_controller_requested_units") == 2
    assert value(shown, "recsplit_controller_failures_total", reason="act") == 1
    assert value(shown, "recsplit_controller_actions_total", target="shop_dense", kind="scale", outcome="failed") == 1


def test_a_target_is_ill_until_it_was_healed() -> None:
    shown = meters()
    shown.show(Shown(seen(), actions=[HEAL]))
    assert value(shown, "recsplit_controller_ill") == 1
    shown.show(Shown(seen(), outcomes=[Outcome(HEAL, "refused", 1.0)]))
    assert value(shown, "recsplit_controller_ill") == 1
    shown.show(Shown(seen(), outcomes=[Outcome(HEAL, None, 1.0)]))
    assert value(shown, "recsplit_controller_ill") == 0


def test_a_failed_tick_is_a_tick() -> None:
    shown = meters(now_s=2000.0)
    shown.fail("decide")
    assert value(shown, "recsplit_controller_ticks_total", result="failed") == 1
    assert value(shown, "recsplit_controller_failures_total", reason="decide") == 1
    assert value(shown, "recsplit_controller_last_tick_timestamp_seconds") == 2000


def test_a_tick_takes_from_its_observation_until_it_is_shown() -> None:
    shown = meters(now_s=1000.5)
    shown.show(Shown(seen(at_s=1000.0)))
    assert value(shown, "recsplit_controller_tick_seconds_sum") == pytest.approx(0.5)


def test_every_counter_is_there_before_its_first_event() -> None:
    text = generate_latest(meters().registry).decode()
    assert 'recsplit_controller_actions_total{kind="heal",outcome="failed",target="shop_dense"} 0.0' in text
    assert 'recsplit_controller_failures_total{reason="lease"} 0.0' in text
    assert "process_resident_memory_bytes" in text
