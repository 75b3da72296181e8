"""The script that builds a TensorRT plan: its text, and what it does with a trtexec that only notes its arguments."""

import dataclasses
import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from recsplit.errors import InputError
from recsplit.plan.plan import Plan, Tensor
from recsplit.write import tensorrt
from tests.configs.plans import shop

pytestmark = pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="with TensorRT the plan itself is built")


def on_tensorrt(*extra: Tensor) -> Plan:
    dense = shop().dense
    return dataclasses.replace(shop(), dense=dataclasses.replace(dense, runtime="tensorrt", kind="gpu", inputs=(*dense.inputs, *extra)))


def run(folder: Path, trtexec: str) -> "subprocess.CompletedProcess[str]":
    tools = folder / "tools"
    tools.mkdir()
    (tools / "trtexec").write_text(f"#!/bin/sh\n{trtexec}\n")
    (tools / "trtexec").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    return subprocess.run([folder / "build_plan.sh"], env=environment, cwd="/", capture_output=True, text=True, check=False)


def test_the_script_passes_the_shapes_and_leaves_a_plan(tmp_path: Path) -> None:
    notes = tensorrt.prepare(on_tensorrt(Tensor("a 'b' $c", "FP32", (2,))), tmp_path)
    done = run(tmp_path, 'printf "%s\\n" "$@" > arguments; echo plan > model.plan.part')
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "arguments").read_text().splitlines() == [
        "--onnx=model.onnx",
        "--minShapes=dense:1x13,pooled:1x3x16,wide:1,a 'b' $c:1x2",
        "--optShapes=dense:512x13,pooled:512x3x16,wide:512,a 'b' $c:512x2",
        "--maxShapes=dense:512x13,pooled:512x3x16,wide:512,a 'b' $c:512x2",
        "--noTF32",
        "--skipInference",
        "--saveEngine=model.plan.part",
    ]
    assert (tmp_path / "model.plan").read_text() == "plan\n"
    assert notes == (
        f"TensorRT is not installed here: before you serve, run shop_dense/{tmp_path.name}/build_plan.sh on the machine that will",
    )


def test_a_failed_trtexec_leaves_no_plan(tmp_path: Path) -> None:
    tensorrt.prepare(on_tensorrt(), tmp_path)
    done = run(tmp_path, "echo half > model.plan.part; exit 3")
    assert done.returncode == 3
    assert not (tmp_path / "model.plan").exists()


def test_a_name_that_trtexec_can_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't name the inputs"):
        tensorrt.prepare(on_tensorrt(Tensor("x:0", "FP32", (2,))), tmp_path)
    assert not list(tmp_path.iterdir())
