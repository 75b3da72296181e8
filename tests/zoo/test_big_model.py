"""The writer of big models, at a small size: both files hold one and the same model."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import load_file

from recsplit.zoo import big
from recsplit_perf.benchmarks.big_files import write

ROWS = 70_000  # more than the random block that is repeated


def test_the_onnx_file_and_the_safetensors_file_are_one_model(tmp_path: Path) -> None:
    write(2, tmp_path, ROWS)
    module, (dense, ids) = big.dlrm(tables=2, rows=ROWS, batch=6, seed=1)[:2]
    state = load_file(tmp_path / "model.safetensors")
    module.load_state_dict(state, assign=True)
    with torch.no_grad():
        expected = module(dense, ids).numpy()
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"dense": dense.numpy(), "ids": ids.numpy()})
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-4)
    tables = [state[f"tables.{n}.weight"] for n in range(2)]
    assert not torch.equal(*tables) and all((table.abs().sum(dim=1) > 0).all() for table in tables)
