"""The Python API: its page runs as it stands, its names are there, and importing it costs nothing."""

import ast
import copy
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import recsplit
from recsplit.building.settings import default_name
from recsplit.proof.parts import joined
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "python.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    """In one interpreter, as a notebook would: an in-memory module is built, served by a real Triton and asked."""
    check = "\nimport numpy as np\nassert answer['output'].shape == (3, 1) and np.isfinite(answer['output']).all()\n"
    (tmp_path / "page.py").write_text("\n".join(blocks()) + check)
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "<Built shop version 1 in models: 1 tables, 1 lookups" in done.stdout
    assert "('items',)" in done.stdout and "comes without example inputs" in done.stdout


def test_ten_lines_build_serve_and_ask() -> None:
    lines = [line for line in blocks()[0].splitlines() if line.strip()]
    after_the_model = lines[[line.startswith("item, dense") for line in lines].index(True) :]
    assert len(after_the_model) == 4 and len(lines) <= 12
    ast.parse(blocks()[0])


def test_every_public_name_is_there_and_documented() -> None:
    page = PAGE.read_text() + (REPOSITORY / "docs" / "clients.md").read_text()
    for name in recsplit.__all__:
        assert getattr(recsplit, name).__doc__, name
        assert name in page or name in ("Built", "Inspection", "Proof", "Server"), name
    assert set(recsplit.__all__) <= set(dir(recsplit))
    with pytest.raises(AttributeError, match="has no attribute 'biuld'"):
        _ = recsplit.biuld


def test_importing_it_imports_nothing() -> None:
    script = "import sys; before = set(sys.modules); import recsplit; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    new = {name.partition(".")[0] for name in done.stdout.split()}
    assert new - sys.stdlib_module_names <= {"recsplit"}


class TwoTower(torch.nn.Module):
    """A table and a product."""

    def __init__(self) -> None:
        super().__init__()
        self.items, self.dropout = torch.nn.Embedding(50, 8), torch.nn.Dropout(0.5)

    def forward(self, item: torch.Tensor, user: torch.Tensor) -> torch.Tensor:
        """INT64 [batch], FP32 [batch, 8] -> FP32 [batch, 1]."""
        return (self.dropout(self.items(item)) * user).sum(dim=1, keepdim=True)


ITEM, USER = torch.tensor([1, 2, 49]), torch.arange(24.0).reshape(3, 8)


def program(module: TwoTower) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    return torch.export.export(copy.deepcopy(module).eval(), (ITEM, USER), dynamic_shapes=({0: batch}, {0: batch}))


def proto(module: TwoTower) -> onnx.ModelProto:
    exported = torch.onnx.export(program(module), dynamo=True, verbose=False)
    assert exported is not None
    return exported.model_proto


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["module", "module by keyword", "program", "proto", "factory"])
def test_models_in_memory_are_built_and_answer_as_they_did(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = TwoTower()
    expected = copy.deepcopy(module).eval()(ITEM, USER).detach().numpy()
    sources: dict[str, Callable[[], tuple[Any, Any]]] = {
        "module": lambda: (module, (ITEM, USER)),
        "module by keyword": lambda: (module, {"item": ITEM, "user": USER}),
        "program": lambda: (program(module), None),
        "proto": lambda: (proto(module), None),
        "factory": lambda: (lambda: (module, (ITEM, USER)), None),
    }
    source, example = sources[kind]()
    texts: list[str] = []
    built = recsplit.build(
        source, example, out=tmp_path / "models", name="m", max_batch_size=16, progress=lambda text, done, total: texts.append(text)
    )
    names = [tensor.name for tensor in built.plan.inputs]
    answer = joined(Path(os.fspath(built)), built.plan)(dict(zip(names, (ITEM.numpy(), USER.numpy()), strict=True)))
    assert np.allclose(answer[built.plan.outputs[0].name], expected, rtol=1e-5)
    assert texts[-1] == "publishing"
    assert module.training or kind == "factory", "a module of the caller's stays in the mode that it was in"


def test_results_show_themselves(tmp_path: Path) -> None:
    built = recsplit.build(TwoTower(), (ITEM, USER), out=tmp_path / "models", max_batch_size=16)
    assert built.plan.name == "two_tower"
    assert repr(built).startswith("<Built two_tower version 1 in ")
    assert "<td>items</td>" in built._repr_html_() and "<caption>proof</caption>" in built._repr_html_()
    inspection = recsplit.inspect(TwoTower(), (ITEM, USER))
    counted = "1 of 1 candidates are lookups, on 1 tables"
    assert repr(inspection).startswith(f"<Inspection of TwoTower: {counted}; recsplit's engine has ONNX Runtime do them: lookup ")
    assert "<td>items</td>" in inspection._repr_html_()
    proof = recsplit.verify(built, repeats=1)
    assert proof.ok and len(proof) == len(list(proof)) > 2 and "comparisons hold" in repr(proof)
    assert "<td>yes</td>" in proof._repr_html_()


def test_mistakes_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(recsplit.InputError, match="TwoTower comes without example inputs"):
        recsplit.build(TwoTower(), out=tmp_path / "models")
    with pytest.raises(recsplit.InputError, match="a dict is not a model"):
        recsplit.build({}, out=tmp_path / "models", name="m")
    with pytest.raises(recsplit.InputError, match="example inputs go with a"):
        recsplit.build("recsplit.zoo.tiny:dlrm", (ITEM,), out=tmp_path / "models")
    with pytest.raises(recsplit.InputError, match="--max-batch-size is 0"):
        recsplit.build("recsplit.zoo.tiny:dlrm", out=tmp_path / "models", max_batch_size=0)
    with pytest.raises(TypeError, match="no setting 'batchsize'"):
        recsplit.build("recsplit.zoo.tiny:dlrm", out=tmp_path / "models", batchsize=3)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("source", "name"),
    [("shop.models:ranker", "ranker"), ("exported/dlrm v2.onnx", "dlrm_v2"), (TwoTower(), "two_tower"), (onnx.ModelProto(), "model_proto")],
)
def test_a_name_follows_from_the_source(source: object, name: str) -> None:
    assert default_name(source) == name


def test_a_module_in_training_answers_the_same_from_many_threads(tmp_path: Path) -> None:
    """Its dropout is off for each call, and its own mode is back after the last."""
    module = TwoTower()
    module.train()
    built = recsplit.build(module, (ITEM, USER), out=tmp_path / "models", max_batch_size=16)
    proof = recsplit.verify(built, source=module, example_inputs=(ITEM, USER), repeats=5)
    assert proof.ok, list(proof)
    assert module.training
