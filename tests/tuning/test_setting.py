"""Settings and the space of them."""

import dataclasses
from pathlib import Path

import pytest

from recsplit.errors import InputError
from recsplit.repository.find import find
from recsplit.tuning.setting import Setting, changed, of_plan, space_of
from tests.tuning.asked import SPACE


def test_the_grid_holds_each_setting_once() -> None:
    grid = list(SPACE.grid())
    assert len(grid) == len(set(grid)) == len(SPACE) == 2 * 2 * 2 * 3 * 2 + 2 * 2 * 3 * 2
    assert all(setting == setting.canonical for setting in grid)


def test_the_present_setting_is_one_of_its_space(tiny: Path) -> None:
    plan = find(tiny).plan
    space = space_of(plan, 2)
    assert of_plan(plan) in set(space.grid())
    assert space.batches == (32, 64), "no batch is larger than the build's"
    assert space.forms == ("ensemble",), "NVIDIA's backend has no fused model"


@pytest.mark.parametrize(("cores", "counts"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (16, (1, 2, 4, 8, 16))])
def test_no_part_has_more_instances_than_there_are_cores(tiny: Path, cores: int, counts: tuple[int, ...]) -> None:
    assert space_of(find(tiny).plan, cores).instances == counts


def test_a_changed_plan_is_of_the_same_parts(tiny: Path) -> None:
    plan = find(tiny).plan
    other = changed(plan, Setting("ensemble", 2, 3, 1, 32, 500), version=7, build="b")
    assert of_plan(other) == Setting("ensemble", 2, 3, 1, 32, 500)
    assert dataclasses.replace(other, version=plan.version, build=plan.build, max_batch_size=plan.max_batch_size, queue_delay_us=0) == (
        dataclasses.replace(
            plan,
            embedding=dataclasses.replace(plan.embedding, instances=2, threads=1),
            dense=dataclasses.replace(plan.dense, instances=3, threads=1),
        )
    )


def test_what_the_engine_does_not_run_is_not_fused(tiny: Path) -> None:
    with pytest.raises(InputError, match="not both the engine's"):
        changed(find(tiny).plan, Setting("fused", 1, 1, 1, 64, 0), version=2, build="b")


def test_a_setting_says_what_it_is() -> None:
    assert str(Setting("ensemble", 1, 2, 2, 64, 500)) == "ensemble, batch 64, 1+2 instances of 2 threads, waits 500 us"
    assert str(Setting("fused", 1, 1, 1, 64, 0)) == "fused, batch 64, 1 instances"
