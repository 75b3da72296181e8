"""Access profiles out of samples: as a partition needs them, close to what was read."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recsplit.capacity import ids
from recsplit.errors import InputError
from recsplit.partition.access import sampled
from recsplit.partition.access.sampled import TableSample
from recsplit.plan.plan import Plan, from_json

GOLDEN = Path(__file__).parents[2] / "model_repository"


@pytest.fixture
def plan() -> Plan:
    """The plan of the golden repository: tables of 1000, 400 and 100 rows."""
    (path,) = GOLDEN.glob("*/*/plan.json")
    return from_json(path.read_text())


def sample_of(counts: NDArray[np.int64], size: int, seed: int = 0) -> TableSample:
    """So many reads at random out of all."""
    random = np.random.default_rng(seed)
    rows = np.repeat(np.arange(len(counts)), random.multivariate_hypergeometric(counts, size, method="marginals"))
    return TableSample("t", len(counts), int(counts.sum()), int(counts.sum()), 0, random.permutation(rows).astype(np.uint32))


@pytest.mark.parametrize("law", [ids.Uniform(), ids.Zipf(0.8), ids.Zipf(1.05), ids.Zipf(1.5), ids.TwoLevel(0.9)])
@pytest.mark.parametrize("size", [50_000, 500_000])
def test_rows_that_are_thought_hottest_are_read_as_often_as_is_thought(law: ids.Uniform | ids.Zipf | ids.TwoLevel, size: int) -> None:
    rows, reads = 50_000, 20_000_000
    exact = np.zeros(rows, np.int64)
    for some, times in ids.counts(law, rows, reads, np.random.default_rng(1)):
        exact[some] = times
    counts = sampled.counts(sample_of(exact, size))
    assert counts.sum() == pytest.approx(reads, rel=1e-3)
    by_sample = np.sort(counts)[::-1].cumsum() / reads
    chosen = exact[np.argsort(~counts, kind="stable")].cumsum() / reads  # what the rows have that the sample thinks hottest
    assert np.abs(by_sample - chosen).max() < 0.02
    hottest = np.sort(exact)[::-1].cumsum() / reads
    assert (chosen[rows // 100], chosen[rows // 10]) > (0.7 * hottest[rows // 100], 0.7 * hottest[rows // 10])


def test_nothing_read_is_nothing_and_one_read_is_one() -> None:
    nothing = TableSample("t", 10, 0, 0, 0, np.zeros(0, np.uint32))
    assert not sampled.counts(nothing).any()
    one = TableSample("t", 10, 1, 1, 0, np.array([3], np.uint32))
    assert sampled.counts(one).sum() == 1


def test_counts_beyond_32_bits_are_kept() -> None:
    table = TableSample("t", 4, 2**35, 2**35, 0, np.zeros(1000, np.uint32))
    assert sampled.counts(table).dtype == np.uint64 and sampled.counts(table)[0] == 2**35


def tables_of(plan: Plan, read: int = 1000) -> list[TableSample]:
    return [TableSample(table.name, table.rows, read, read, 1, np.arange(50, dtype=np.uint32)) for table in plan.tables]


def test_a_profile_tells_where_it_is_from(plan: Plan) -> None:
    profile = sampled.profile(plan, 640, tables_of(plan), 64, "served at x")
    assert (profile.about.queries, profile.about.rows, profile.about.unknown) == (10, 640, 3)
    assert profile.about.sources == ("served at x: 150 reads at random out of 3,000",)
    assert list(profile.tables) == [table.name for table in plan.tables]


def test_samples_that_arent_the_plans_are_refused(plan: Plan) -> None:
    with pytest.raises(InputError, match="tables aren't those of 'tiny'"):
        sampled.profile(plan, 100, tables_of(plan)[1:], None, "x")
    with pytest.raises(InputError, match="has answered 3 rows, less than one query"):
        sampled.profile(plan, 3, tables_of(plan), 64, "x")
    none = [TableSample(table.name, table.rows, 5, 5, 0, np.zeros(0, np.uint32)) for table in plan.tables]
    with pytest.raises(InputError, match="was sampled yet, of 5"):
        sampled.profile(plan, 100, none, None, "x")
