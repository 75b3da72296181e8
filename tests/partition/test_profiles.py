"""Access profiles from traces and laws, called from Python, and their skew."""

from pathlib import Path

import numpy as np
import pytest

from recsplit.capacity.ids import Uniform
from recsplit.partition.access.counting import Inputs
from recsplit.partition.access.profiles import from_law, from_traces
from recsplit.partition.access.skew import curves, skew_of
from recsplit.plan.plan import Plan
from recsplit.proof import samples
from tests.partition.test_access import plain, sent


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Three rows of what the shop's clients send."""
    path = tmp_path / "trace.npz"
    np.savez(path, **sent())
    return path


def test_traces_are_counted_step_by_step(trace: Path) -> None:
    starts: list[str] = []
    profile = from_traces(plain(), [trace, trace], 3, progress=lambda text, done, _: starts.append(text) if done == 0 else None)
    assert (profile.queries, profile.about.rows, profile.query_size) == (2, 6, 3) and profile.about.sources == (str(trace), str(trace))
    assert starts == [f"Counting {trace}"] * 2


def test_ids_by_a_law_are_made_where_counts_alone_cannot_be_drawn() -> None:
    plan, asked = plain(), []

    def make_rows(rows: int, rng: np.random.Generator) -> Inputs:
        asked.append(rows)
        return samples.rows(plan, rows, rng, draw=samples.by_law(Uniform(), rng))

    profile = from_law(plan, Uniform(), 5, 4, source="uniform", make_rows=make_rows)
    assert asked == [1, 20] and (profile.queries, profile.about.rows) == (5, 20)


def test_the_skew_is_of_the_tables_that_are_read_most(trace: Path) -> None:
    plan: Plan = plain()
    profile = from_traces(plan, [trace])
    skew = skew_of(profile, (0.5, 1.0))
    assert [one.table for one in skew.tables] == list(profile.tables) and skew.queries == 3
    assert all(one.share == {"0.5": 1.0, "1": 1.0} and one.rows_read > 0 for one in skew.tables if one.gathers_per_query)
    drawn = curves(profile, skew, 1)
    ((name, (rows, reads)),) = drawn.items()
    assert name == max(skew.tables, key=lambda one: one.gathers_per_query).table
    assert (rows[0], rows[-1], reads[0], reads[-1]) == (0, 1, 0, 1)
