"""DeepRecSched for a router: what its settings are, and both climbs."""

import pytest

from recsplit.capacity.search import Throughput
from recsplit.errors import InputError
from recsplit.plan.routing import Routing, Server, Variant
from recsplit.tuning.split import Split, changed, of_routing, scheduled
from tests.tuning.asked import NEVER, about


def variant(name: str, weight: float, split_rows: int = 0) -> Variant:
    return Variant(name, weight, split_rows, (Server(name, -1, "", 1.0, 0.01, 1),))


PLAIN = Routing((variant("exact", 1.0, 64), variant("small", 1.0, 128)))
WITH_LARGE = Routing((variant("exact", 1.0, 64), variant("wide", 0.0, 512)), 300, "wide")


def test_settings_are_read_and_written() -> None:
    assert of_routing(PLAIN, 2048) == Split(64, 0)
    assert of_routing(Routing((variant("exact", 1.0),)), 2048) == Split(2048, 0)
    assert of_routing(WITH_LARGE, 2048) == Split(64, 300)
    other = changed(WITH_LARGE, Split(32, 700))
    assert [one.split_rows for one in other.variants] == [32, 512], "large queries are cut as they were"
    assert (other.large_rows, other.large_variant) == (700, "wide")
    assert of_routing(other, 2048) == Split(32, 700)


def test_no_threshold_without_a_variant_for_large_queries() -> None:
    climbs = scheduled(PLAIN, 256, lambda split: about(100 - abs(split.split_rows - 64) / 10, 0.0), largest=1000)
    assert climbs.large is None
    assert climbs.best == Split(64, 0)
    with pytest.raises(InputError, match="no variant for large queries"):
        changed(PLAIN, Split(64, 100))


def test_parts_are_climbed_first_and_then_the_threshold_with_them() -> None:
    asked: list[Split] = []

    def evaluate(split: Split) -> Throughput:
        asked.append(split)
        if split.large_rows == 0:
            return about(100 - abs(split.split_rows - 128) / 10, 0.0)
        return about(130 - abs(split.large_rows - 384) / 10, 0.0)

    climbs = scheduled(WITH_LARGE, 512, evaluate, largest=800)
    assert climbs.best == Split(128, 384)
    assert all(split.split_rows == 128 for split in asked if split.large_rows)
    assert all(split.large_rows <= 800 for split in asked)


def test_where_a_second_target_only_costs_no_query_is_large() -> None:
    def evaluate(split: Split) -> Throughput:
        return about(100.0, 0.0) if split.large_rows == 0 else NEVER

    assert scheduled(WITH_LARGE, 512, evaluate, largest=2000).best.large_rows == 0
