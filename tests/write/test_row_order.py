"""Rows picked from a tensor, in order or in any, as a shard's file holds them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsplit.errors import InputError
from recsplit.graph.shards.places import rows_at
from recsplit.write.row_order import Picked
from recsplit.write.tables import BLOCK, Entry, write_external


def tensor(path: Path, data: NDArray[Any], *, in_file: bool) -> ir.TensorProtocol:
    if not in_file:
        return ir.tensor(data, name="t")
    path.write_bytes(b"\xff" * 12 + data.tobytes())
    dtype = ir.DataType.from_numpy(data.dtype)
    return ir.ExternalTensor(path.name, 12, data.nbytes, dtype, shape=ir.Shape(data.shape), name="t", base_dir=path.parent)


@settings(max_examples=40)
@given(data=st.data())
def test_picked_rows_come_out_in_the_order_asked_for(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("picked")
    rows, dim = data.draw(st.integers(1, 50)), data.draw(st.integers(1, 5))
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.float16]))
    table = np.random.default_rng(0).standard_normal((rows, dim)).astype(dtype)
    source = tensor(folder / "source.bin", table, in_file=data.draw(st.booleans()))
    first = data.draw(st.integers(0, rows - 1))
    last = data.draw(st.integers(first + 1, rows))
    order = np.array(data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=60)), np.int32)
    picked = (Picked(source, range(first, last), last - first), Picked(source, lambda: order, len(order)), ir.tensor(table[:1]))
    (written,) = write_external([Entry("made", picked)], folder / "made.bin")
    np.testing.assert_array_equal(written.numpy(), np.concatenate([table[first:last], table[order], table[:1]]))


def test_rows_that_blocks_of_the_file_cut_through_come_out_whole(tmp_path: Path) -> None:
    table = np.random.default_rng(0).standard_normal((BLOCK // 12 + 1000, 3)).astype(np.float32)  # 12 bytes a row: BLOCK is no multiple
    order = np.random.default_rng(1).permutation(len(table)).astype(np.int32)
    source = tensor(tmp_path / "source.bin", table, in_file=True)
    (written,) = write_external([Entry("made", (Picked(source, lambda: order, len(order)),))], tmp_path / "made.bin")
    np.testing.assert_array_equal(written.numpy(), table[order])


@pytest.mark.parametrize("damage", ["cut short", "missing"])
def test_a_source_that_is_not_whole_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "source.bin"
    source = tensor(path, np.ones((10, 4), np.float32), in_file=True)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    entry = Entry("made", (Picked(source, lambda: np.arange(10, dtype=np.int32), 10),))
    with pytest.raises(InputError, match=r"ends before tensor 't'|can't be read"):
        write_external([entry], tmp_path / "made.bin")
    assert not (tmp_path / "made.bin").exists()


@given(st.integers(1, 200), st.integers(0, 3), st.data())
def test_rows_at_places_is_the_inverse_of_the_map(rows: int, seed: int, data: st.DataObject) -> None:
    order = np.random.default_rng(seed).permutation(rows).astype(np.int32)
    start = data.draw(st.integers(0, 1000))
    places = np.empty(rows, np.int32)
    places[order] = np.arange(start, start + rows)
    first = data.draw(st.integers(0, rows - 1))
    last = data.draw(st.integers(first + 1, rows))
    np.testing.assert_array_equal(rows_at(places, start + first, start + last), order[first:last])
