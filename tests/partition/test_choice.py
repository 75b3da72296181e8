"""What the command `partition` does, called from Python: a choice by an access profile, and an update of an older one."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest

from recsplit.errors import InputError
from recsplit.partition import partition_file
from recsplit.partition.access import frequencies
from recsplit.partition.access.frequencies import About, AccessProfile
from recsplit.partition.algorithms import ALGORITHMS
from recsplit.partition.choice import choose
from recsplit.partition.cost import CostSettings
from recsplit.partition.drift import Pay
from recsplit.partition.update import read_old, update
from recsplit.plan.plan import Plan
from tests.configs.plans import shop

SETTINGS = CostSettings(200.0, min_bytes=5000)


def profiled(plan: Plan, hottest: int = 0) -> AccessProfile:
    """Counts of 100 queries of 30 rows: ten rows of each table are read, from the row `hottest` on."""
    counts = {table.name: np.zeros(table.rows, np.uint32) for table in plan.tables}
    for rows in counts.values():
        rows[hottest : hottest + 10] = 300
    return AccessProfile(About(plan.name, 100, 3000, 0, ("test",)), counts)


def test_a_choice_tells_its_steps_and_compares_what_can_be_asked() -> None:
    plan, steps = shop(), dict[str, tuple[int, int]]()
    choice = choose(plan, profiled(plan), SETTINGS, "whole", compare=True, progress=lambda text, *done: steps.update({text: done}))
    rows = sum(table.rows for table in plan.tables)
    assert steps == {"Ordering rows by heat": (rows, rows), "Looking for the cheapest partition": (0, 0)}
    assert [one.algorithm for one in choice.compared] == [name for name in ALGORITHMS if name != "front"]
    assert choice.partition in choice.compared and choose(plan, profiled(plan), SETTINGS, "whole").compared == ()


def test_an_update_gives_the_partition_and_the_order_that_it_follows(tmp_path: Path) -> None:
    plan, now = shop(), profiled(shop(), hottest=40)
    partition = choose(plan, profiled(plan), SETTINGS, "whole").partition
    (tmp_path / "old.json").write_text(partition_file.to_json(partition))
    old = read_old(plan, tmp_path / "old.json", None, now.queries)
    updated = update(plan, old, now, SETTINGS, Pay(1000.0))
    partition_file.check(updated.moves.partition, {table.name: table.rows for table in plan.tables})
    assert updated.moves.partition.access is None and updated.moves.cost < updated.moves.kept_cost
    others = {table.table: table.order for table in updated.moves.tables if table.order != "new"}
    assert updated.about.sources == ("test", *(f"{name}: {order} order" for name, order in others.items()))
    file = io.BytesIO()
    updated.write_order(file)
    (tmp_path / "order.npz").write_bytes(file.getvalue())
    assert list(frequencies.read_for(tmp_path / "order.npz", plan).tables) == [table.name for table in plan.tables]


def test_an_old_partition_must_be_of_the_model_and_of_its_profile(tmp_path: Path) -> None:
    plan, path = shop(), tmp_path / "old.json"
    partition = choose(plan, profiled(plan), SETTINGS, "one", access="0" * 64).partition
    path.write_text(partition_file.to_json(partition))
    with pytest.raises(InputError, match="follows an access profile of its own"):
        read_old(plan, path, None, 1)
    path.write_text(partition_file.to_json(dataclasses.replace(partition, model="other")))
    with pytest.raises(InputError, match="is a partition of 'other'"):
        read_old(plan, path, None, 1)
