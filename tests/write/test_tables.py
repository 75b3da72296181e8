"""Tables copied into one file: what lies where, from which sources, and what is refused."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from recsplit.errors import InputError, RecsplitError
from recsplit.plan.files import PAGE_BYTES
from recsplit.write import tables
from recsplit.write.tables import Entry, write_external


def array(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def in_file(path: Path, data: NDArray[np.float32], *, skip: int = 0) -> onnx_ir.ExternalTensor:
    """`data` as a tensor that lies in a file, after `skip` bytes of something else."""
    path.write_bytes(b"\xff" * skip + data.tobytes())
    return onnx_ir.ExternalTensor(
        path.name, skip, data.nbytes, onnx_ir.DataType.FLOAT, shape=onnx_ir.Shape(data.shape), name=path.name, base_dir=path.parent
    )


def test_every_entry_starts_at_a_page_and_reads_back_equal(tmp_path: Path) -> None:
    first, second, third = array(1000, 16), array(7, seed=1), array(5, 3, 2, seed=2)
    entries = [
        Entry("in a file", (in_file(tmp_path / "a", first, skip=12),)),
        Entry("an array", (onnx_ir.tensor(second),)),
        Entry("not contiguous", (onnx_ir.tensor(third.transpose(2, 0, 1)),)),
        Entry("a scalar", (onnx_ir.tensor(np.float32(4)),)),
        Entry("four bits", (onnx_ir.tensor([1, -2, 3], dtype=onnx_ir.DataType.INT4),)),
        Entry("nothing", (onnx_ir.tensor(np.zeros((0, 4), np.float32)),)),
    ]
    written = write_external(entries, tmp_path / "tables.bin")
    assert [tensor.name for tensor in written] == [entry.name for entry in entries]
    assert all((tensor.offset or 0) % 4096 == 0 for tensor in written)
    expected = [first, second, third.transpose(2, 0, 1), np.float32(4), np.array([1, -2, 3]), np.zeros((0, 4))]
    for tensor, values in zip(written, expected, strict=True):
        np.testing.assert_array_equal(tensor.numpy().astype(np.float32), np.asarray(values, np.float32))


def test_fused_tables_lie_one_after_the_other_and_end_in_zeros(tmp_path: Path) -> None:
    users, items = array(100, 8), array(50, 8, seed=1)
    entry = Entry("all", (in_file(tmp_path / "users", users), onnx_ir.tensor(items)), zero_rows=1)
    (written,) = write_external([entry], tmp_path / "tables.bin")
    np.testing.assert_array_equal(written.numpy(), np.concatenate([users, items, np.zeros((1, 8), np.float32)]))
    assert (tmp_path / "tables.bin").stat().st_size == 151 * 8 * 4


def test_onnxruntime_reads_what_was_written(tmp_path: Path) -> None:
    table = array(300, 4)
    (written,) = write_external([Entry("table", (onnx_ir.tensor(table),), zero_rows=1)], tmp_path / "tables.bin")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"])],
        "g",
        [info("ids", TensorProto.INT64, ["batch"])],
        [info("rows", TensorProto.FLOAT, ["batch", 4])],
        [onnx.numpy_helper.from_array(np.zeros((301, 4), np.float32), "table")],
    )
    model = onnx_ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))
    model.graph.initializers["table"].const_value = written
    onnx_ir.save(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (rows,) = session.run(None, {"ids": np.array([0, 299, 300])})
    np.testing.assert_array_equal(rows, [table[0], table[299], np.zeros(4)])


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_external(
        [Entry("a", (in_file(tmp_path / "a", array(30, 4)),), zero_rows=2), Entry("b", (onnx_ir.tensor(array(9)),))],
        tmp_path / "tables.bin",
        progress=lambda done, total: seen.append((done, total)),
    )
    end = (tmp_path / "tables.bin").stat().st_size
    assert end == 4096 + 36  # each tensor at a page boundary
    assert seen[-1] == (end, end)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("cached", [0, 1 << 30])
def test_blocks_join_sources_of_any_place_and_size(cached: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources end and begin inside a block, span several, and lie anywhere in their files; past the page cache and through it."""
    monkeypatch.setattr(tables, "BLOCK", 8192)
    monkeypatch.setattr(tables, "CACHED_BYTES", cached)
    rng = np.random.default_rng(0)
    source_arrays = [rng.random((rows, 4), np.float32) for rows in (1, 300, 3000, 5, 511)]
    whole = Entry("all", tuple(in_file(tmp_path / f"{n}", table, skip=n * 3) for n, table in enumerate(source_arrays)), zero_rows=700)
    alone = Entry("alone", (onnx_ir.tensor(source_arrays[2]),))
    first, second = write_external([whole, alone], tmp_path / "tables.bin")
    np.testing.assert_array_equal(first.numpy(), np.concatenate([*source_arrays, np.zeros((700, 4), np.float32)]))
    np.testing.assert_array_equal(second.numpy(), source_arrays[2])
    assert second.offset is not None
    assert (tmp_path / "tables.bin").stat().st_size == second.offset + source_arrays[2].nbytes


def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    code = f"""
import onnx_ir, pathlib, resource
from recsplit.write.tables import Entry, write_external
size = 256 << 20
path = pathlib.Path({str(tmp_path)!r})
with (path / "source").open("wb") as file:
    file.truncate(size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source = onnx_ir.ExternalTensor("source", 0, size, onnx_ir.DataType.FLOAT, shape=onnx_ir.Shape((size // 256, 64)), name="t", base_dir=path)
write_external([Entry("t", (source,), zero_rows=1)], path / "tables.bin")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (tmp_path / "tables.bin").stat().st_size == (256 << 20) + 256
    assert int(done.stdout) < 64 * 1024  # KB


@pytest.mark.parametrize(
    ("sources", "zero_rows"),
    [
        ((array(3, 4), array(3, 5)), 0),
        ((array(3, 4), array(3, 4).astype(np.float16)), 0),
        ((array(3),), 1),
        ((array(3, 4, 5),), 1),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_together_are_refused(sources: tuple[NDArray[np.generic], ...], zero_rows: int, tmp_path: Path) -> None:
    entry = Entry("all", tuple(onnx_ir.tensor(source) for source in sources), zero_rows)
    with pytest.raises(InputError, match="can't be laid out as one"):
        write_external([entry], tmp_path / "tables.bin")
    assert not (tmp_path / "tables.bin").exists()


def test_a_source_that_was_cut_short_is_named(tmp_path: Path) -> None:
    source = in_file(tmp_path / "weights.data", array(100, 8))
    os.truncate(tmp_path / "weights.data", 1000)
    with pytest.raises(InputError, match=r"weights\.data ends before tensor 'weights\.data' does"):
        write_external([Entry("t", (source,))], tmp_path / "tables.bin")


def test_too_little_space_is_told_before_anything_is_written(tmp_path: Path) -> None:
    size = 1 << 50
    source = onnx_ir.ExternalTensor("x", 0, size, onnx_ir.DataType.FLOAT, shape=onnx_ir.Shape((size // 4,)), name="x", base_dir=tmp_path)
    with pytest.raises(RecsplitError, match=r"no space left in .*: 1125\.9 TB needed") as error:
        write_external([Entry("t", (source,))], tmp_path / "tables.bin")
    assert "free some space" in error.value.hint
    assert not list(tmp_path.iterdir())


def test_a_source_that_is_missing_is_named(tmp_path: Path) -> None:
    source = in_file(tmp_path / "weights.data", array(100, 8))
    (tmp_path / "weights.data").unlink()
    with pytest.raises(InputError, match=r"can't be read from .*weights\.data: No such file"):
        write_external([Entry("t", (source,))], tmp_path / "tables.bin")


def test_a_write_that_the_system_refuses_half_way_leaves_no_file(tmp_path: Path) -> None:
    """A limit on file sizes stands for a disk that fills: the kernel refuses in mid-write, and needs no mount."""
    code = f"""
import numpy, onnx_ir, pathlib, resource, signal
from recsplit.errors import RecsplitError
from recsplit.write.tables import Entry, write_external
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    write_external([Entry("t", (onnx_ir.tensor(numpy.ones(1 << 20, numpy.float32)),))], pathlib.Path({str(tmp_path)!r}) / "tables.bin")
except RecsplitError as error:
    print(error, error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tables.bin can't be written: File too large" in done.stdout
    assert not list(tmp_path.iterdir())


def test_the_page_is_the_one_that_onnxruntime_maps() -> None:
    assert PAGE_BYTES % resource.getpagesize() == 0
