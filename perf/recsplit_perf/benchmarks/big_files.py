"""Writing a DLRM with tables of many GB, as .onnx with external data and as .safetensors, without holding a table in memory."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import safetensors.torch
import torch

from recsplit.commands.output import progress
from recsplit.load.export import quiet
from recsplit.zoo import big

BLOCK_ROWS = 65_521
PAGE = 4096
FACTORY = "big_factory"


def table_bytes(tables: int, rows: int = big.ROWS) -> int:
    """Bytes of so many tables."""
    return tables * rows * big.DIM * 4


def write(tables: int, folder: Path, rows: int = big.ROWS, *, with_safetensors: bool = True) -> None:
    """model.onnx with tables.bin, and model.safetensors and the factory that goes with it. Holds a block in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    small = big.small(tables)
    with progress(f"Writing {folder / 'model.onnx'}", total=table_bytes(tables, rows)) as advance:
        _write_onnx(tables, rows, small, folder, advance)
    if not with_safetensors:
        return
    with progress(f"Writing {folder / 'model.safetensors'}", total=table_bytes(tables, rows)) as advance:
        _write_safetensors(tables, rows, small, folder / "model.safetensors", advance)
    text = f"from recsplit.zoo import big\n\n\ndef dlrm():\n    return big.dlrm(tables={tables}, rows={rows})\n"
    (folder / f"{FACTORY}.py").write_text(text)


def _write_onnx(tables: int, rows: int, small: torch.nn.Module, folder: Path, advance: Callable[[int], None]) -> None:
    """What torch's exporter makes of the small model, its tables replaced by references into tables.bin."""
    path = folder / "model.onnx"
    shapes = ({0: torch.export.Dim.AUTO},) * 2
    with quiet():
        torch.onnx.export(small, big.inputs(tables, 16, 4, 0), path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False)
    model = onnx.load(path)
    numbers = {_weight(n): n for n in range(tables)}
    size = table_bytes(1, rows)
    stride = -(-size // PAGE) * PAGE
    for initializer in model.graph.initializer:
        if initializer.name in numbers:
            initializer.dims[0] = rows
            initializer.ClearField("raw_data")
            initializer.data_location = onnx.TensorProto.EXTERNAL
            entries = {"location": "tables.bin", "offset": numbers[initializer.name] * stride, "length": size}
            for key, value in entries.items():
                initializer.external_data.add(key=key, value=str(value))
    for value in [value for value in model.graph.value_info if value.name in numbers]:
        model.graph.value_info.remove(value)
    with (folder / "tables.bin").open("wb") as file:
        for table in range(tables):
            file.seek(table * stride)
            _stream(file, table, size, advance)
    onnx.save(model, path)


def _write_safetensors(tables: int, rows: int, small: torch.nn.Module, path: Path, advance: Callable[[int], None]) -> None:
    """The big model's state_dict: the tables first, then the rest, which the small model has."""
    size = table_bytes(1, rows)
    header: dict[str, Any] = {}
    for table in range(tables):
        header[_weight(table)] = {"dtype": "F32", "shape": [rows, big.DIM], "data_offsets": [table * size, (table + 1) * size]}
    packed = safetensors.torch.save({name: tensor for name, tensor in small.state_dict().items() if name not in header})
    length = int.from_bytes(packed[:8], "little")
    for name, entry in json.loads(packed[8 : 8 + length]).items():
        if name != "__metadata__":
            header[name] = {**entry, "data_offsets": [tables * size + offset for offset in entry["data_offsets"]]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for table in range(tables):
            _stream(file, table, size, advance)
        file.write(packed[8 + length :])


def _weight(table: int) -> str:
    return f"tables.{table}.weight"


def _stream(file: BinaryIO, table: int, size: int, advance: Callable[[int], None]) -> None:
    """One table: a block of random rows, the same for all tables, repeated from another row on for each."""
    block = (np.random.default_rng(0).standard_normal((BLOCK_ROWS, big.DIM), dtype=np.float32) / 8).tobytes()
    row = big.DIM * 4
    first, left = (table * 1009 % BLOCK_ROWS) * row, size
    while left:
        piece = block[first : first + left]
        file.write(piece)
        advance(len(piece))
        first, left = 0, left - len(piece)


# Measuring
