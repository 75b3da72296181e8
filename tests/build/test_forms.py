"""Modules whose tables are read in a form of their own: cut as torch.onnx exports them, every table proved over its whole range."""

from pathlib import Path

import numpy as np
import pytest

from recsplit.plan.files import MODEL_FILE, REFERENCES_FILE, TABLES_FILE
from recsplit.plan.plan import Segment
from recsplit.proof.cases import recorded
from tests.build.onnx_models import build_of, built
from tests.build.partitions import write_partition
from tests.graph.small import Array, table

# The tables that are read, what is told of the ids, and their limit.
FORMS = {
    "item_to_category": [("item", None, True, 200), ("category", None, False, 200)],
    "bias_vector": [("user", None, True, 300), ("bias", None, True, 500_000)],
    "one_hot_product": [("item", None, True, 200), ("weight", None, True, 300)],
    "multi_hot": [("tables.0", (0, 7), True, 50), ("tables.1", (7, 14), True, 500), ("tables.2", (14, 21), True, 5000)],
    "dense_weights": [("table", (0, 4), True, 50)],
    "floor_divided": [("table", None, False, 52)],
}


@pytest.mark.parametrize("name", FORMS)
def test_it_is_cut_with_nothing_large_left_in_the_dense_model(name: str, tmp_path: Path) -> None:
    build = build_of(f"tests.build.lookup_models:{name}", tmp_path / "models")
    told = [(lookup.table, lookup.columns, lookup.direct, lookup.limit) for lookup in build.plan.lookups]
    assert told == FORMS[name] and not any("stays in the dense model" in note for note in build.notes)


def test_each_table_of_a_stacked_input_is_proved_with_its_own_last_row(tmp_path: Path) -> None:
    build = build_of("tests.build.lookup_models:multi_hot", tmp_path / "models")
    cases = {case.name: case.inputs for case in recorded(build.repository / "m" / "1" / REFERENCES_FILE)}
    assert [int(cases["last rows"]["sparse"][0, number, 0]) for number in range(3)] == [49, 499, 4999]


def test_each_of_many_features_has_its_own_row_of_stacked_offsets(tmp_path: Path) -> None:
    """With four known lengths, every fourth feature was taken for the one before it."""
    build = build_of("tests.build.torch_models:facebook_of_many", tmp_path / "models")
    assert [bag.source_row for bag in build.plan.bags] == list(range(9)) and len({bag.lengths for bag in build.plan.bags}) == 9


BUFFER = "(int64[N] ids) => (float[N,1] y) { c=Gather(of,ids) v=Gather(t,c) m=MatMul(v,w) u=Gather(items,ids) p=MatMul(u,w) y=Add(m,p) }"
LARGE: dict[str, Array] = {
    "of": np.random.default_rng(0).integers(0, 50, 20_000),
    "t": table(50, 8),
    "items": table(20_000, 8),
    "w": table(8, 1),
}


def test_a_large_buffer_lies_beside_the_tables_and_not_in_the_model(tmp_path: Path) -> None:
    build = built(tmp_path, BUFFER, LARGE)
    folder = build.repository / "m_embedding" / "1"
    assert (folder / MODEL_FILE).stat().st_size < LARGE["of"].nbytes / 4
    assert LARGE["of"].tobytes() in (folder / TABLES_FILE).read_bytes()


def test_a_model_with_a_buffer_is_cut_into_shards(tmp_path: Path) -> None:
    shards = write_partition(tmp_path / "p.json", [[Segment("items", 0, 9_000), Segment("t", 0, 50)], [Segment("items", 9_000, 20_000)]])
    build = built(tmp_path, BUFFER, LARGE, partition=shards)
    assert all(difference.ok for difference in build.differences) and not any("stays in the dense model" in note for note in build.notes)
    assert (build.repository / "m_embedding" / "1" / MODEL_FILE).stat().st_size < LARGE["of"].nbytes / 4
