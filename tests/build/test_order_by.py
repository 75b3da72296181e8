"""Rows by heat in whole tables: every answer stays, the hottest rows lie first, and what must be in memory is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsplit.building import ordering
from recsplit.errors import InputError
from recsplit.partition.access import frequencies
from recsplit.plan.files import TABLES_FILE
from recsplit.plan.plan import Segment, Table
from recsplit.proof import published
from recsplit.rows import stored as narrow
from tests.build.onnx_models import built
from tests.build.partitions import profile_file, write_partition
from tests.build.rounded_models import ARRAYS, TEXT

ROWS = {"a": 50, "b": 60, "c": 70}


@pytest.mark.parametrize("dtypes", [(), ("int8", "b=int4"), ("c=fp16",)])
@pytest.mark.parametrize("policy", ["error", "zero", "row=3"])
def test_answers_stay_whatever_the_order(dtypes: tuple[str, ...], policy: str, tmp_path: Path) -> None:
    profile = profile_file(tmp_path / "access.npz", ROWS)
    build = built(tmp_path, TEXT, ARRAYS, order_by=profile, table_dtype=dtypes, unknown_ids=policy)
    assert build.plan.ordered_by == frequencies.digest(profile)
    assert all(difference.ok for difference in published.verify(build.repository))
    assert any(note.startswith("Rows lie by heat. Of memory need 90.0% of the reads ") for note in build.notes)


@pytest.mark.parametrize("spec", ["bags:facebook", "torchrec:dlrm_values", "lookups:history_attention", "lookups:shared_table"])
def test_bags_padding_and_shared_tables_are_read_in_order_too(spec: str, tmp_path: Path) -> None:
    import recsplit

    plain = recsplit.build(f"recsplit.zoo.{spec}", out=tmp_path, name="m", search_s=0)
    profile = profile_file(tmp_path / "access.npz", {table.name: table.rows for table in plain.plan.tables})
    build = recsplit.build(f"recsplit.zoo.{spec}", out=tmp_path, name="m", search_s=0.3, order_by=profile, table_dtype=("int8",))
    assert build.plan.ordered_by and all(difference.ok for difference in build.differences)


def test_the_hottest_rows_lie_first(tmp_path: Path) -> None:
    profile = profile_file(tmp_path / "access.npz", ROWS)
    build = built(tmp_path, TEXT, ARRAYS, order_by=profile, table_dtype=("int8",))
    order = frequencies.order(frequencies.read(profile).tables["b"])
    data = (build.repository / "m_embedding" / "1" / TABLES_FILE).read_bytes()
    assert narrow.encode(ARRAYS["b"][order], "INT8").tobytes() in data


def test_a_profile_of_another_model_is_refused(tmp_path: Path) -> None:
    other: dict[str, Any] = {**ROWS, "c": 71}
    for profile, message in (
        (profile_file(tmp_path / "1.npz", other), "table 'c' has 71 rows, and in 'm' it has 70"),
        (profile_file(tmp_path / "2.npz", ROWS, model="n"), "is an access profile of 'n', and the model is 'm'"),
    ):
        with pytest.raises(InputError, match=message):
            built(tmp_path, TEXT, ARRAYS, order_by=profile)


def test_a_partition_has_an_order_of_its_own(tmp_path: Path) -> None:
    partition = write_partition(tmp_path / "p.json", [[Segment(name, 0, rows) for name, rows in ROWS.items()]])
    with pytest.raises(InputError, match="--order-by orders whole tables, and --partition cuts them"):
        built(tmp_path, TEXT, ARRAYS, order_by=profile_file(tmp_path / "a.npz", ROWS), partition=partition)


def test_pages_are_counted_as_the_system_reads_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for row_bytes in (36, 128, 4096, 5000):
        rows = 20_000
        counts = random.integers(0, 3, rows, dtype=np.uint32) * (random.random(rows) < 0.01)
        with (tmp_path / "a.npz").open("wb") as file:
            frequencies.write(file, frequencies.About("m", 1, 1, 0, ("x",)), [("t", counts.astype(np.uint32))])
        table = Table("t", rows, row_bytes // 4, "FP32", "FP32", rows * row_bytes)
        everything = ordering.by_heat(tmp_path / "a.npz", "m", [table], lambda *_: None).resident[-1]
        read = np.flatnonzero(counts)
        pages = {page for row in read for page in range(row * row_bytes // 4096, ((row + 1) * row_bytes - 1) // 4096 + 1)}
        assert everything.as_they_were_bytes == len(pages) * 4096
        assert everything.by_heat_bytes == -(-len(read) * row_bytes // 4096) * 4096
