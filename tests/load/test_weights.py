"""Weights from a safetensors file are mapped: the IR points into the file, and nothing is copied."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from recsplit.errors import InputError
from recsplit.load import load
from tests.conftest import Run
from tests.load.agreement import compare
from tests.load.models import DIM, ROWS, ids, make


def ranker() -> Any:
    """A bag, a shared table, a layer and a buffer, on the meta device."""

    def forward(self: Any, ids: Tensor, user: Tensor) -> Tensor:
        score: Tensor = self.layer(self.bag(ids + self.shift) + self.items(user) + self.again(user))
        return score

    with torch.device("meta"):
        items = nn.Embedding(ROWS, DIM)
        parts = {"bag": nn.EmbeddingBag(ROWS, DIM, mode="sum"), "items": items, "again": items, "layer": nn.Linear(DIM, 1)}
        module = make(forward, **parts, shift=torch.zeros(3, dtype=torch.int64))
    return module, (ids(4, 3, rows=20), ids(4))


def tensors() -> dict[str, Tensor]:
    """What fits `ranker`; the shared table under one of its two names."""
    return {
        "bag.weight": torch.randn(ROWS, DIM),
        "again.weight": torch.randn(ROWS, DIM),
        "layer.weight": torch.randn(1, DIM),
        "layer.bias": torch.randn(1),
        "shift": torch.tensor([0, 10, 20]),
    }


@pytest.fixture
def save(tmp_path: Path) -> Callable[[dict[str, Tensor]], Path]:
    def write(contents: dict[str, Tensor]) -> Path:
        path = tmp_path / "model.safetensors"
        safetensors.torch.save_file(contents, path, metadata={"format": "pt"})
        return path

    return write


def test_initializers_point_into_the_file(save: Callable[[dict[str, Tensor]], Path]) -> None:
    contents = tensors()
    path = save(contents)
    loaded = load(f"{__name__}:ranker", weights=path)
    raw = path.read_bytes()
    initializers = {name: value.const_value for name, value in loaded.model.graph.initializers.items()}
    assert {"bag.weight", "again.weight"} <= set(initializers)
    for name, tensor in initializers.items():
        if tensor is not None and name in ("bag.weight", "again.weight", "layer.weight", "layer.bias"):
            assert isinstance(tensor, ir.ExternalTensor) and Path(tensor.path) == path.resolve()
            assert tensor.offset is not None and tensor.length is not None
            file_array = contents[name].numpy()
            assert raw[tensor.offset : tensor.offset + tensor.length] == file_array.tobytes()
            np.testing.assert_array_equal(tensor.numpy(), file_array)


def test_source_and_ir_use_the_files_values(save: Callable[[dict[str, Tensor]], Path]) -> None:
    contents = tensors()
    loaded = load(f"{__name__}:ranker", weights=save(contents))
    inputs = {"ids": ids(2, 3, rows=20, seed=1).numpy(), "user": ids(2, seed=2).numpy()}
    compare(loaded, inputs)
    bags = contents["bag.weight"][torch.from_numpy(inputs["ids"]) + contents["shift"]].sum(1)
    vectors = bags + 2 * contents["again.weight"][torch.from_numpy(inputs["user"])]
    reference = vectors @ contents["layer.weight"].T + contents["layer.bias"]
    np.testing.assert_allclose(loaded.run(inputs)["output"].astype(np.float64), reference.numpy(), rtol=1e-5)
    assert loaded.source.weights is not None


def test_weights_replace_those_of_a_module_that_has_some(save: Callable[[dict[str, Tensor]], Path]) -> None:
    path = save({"e.weight": torch.full((ROWS, DIM), 3.0)})
    loaded = load(f"{__name__}:filled", weights=path)
    assert loaded.run({"user": np.array([1])})["output"].tolist() == [[3.0] * DIM]


def filled() -> Any:
    return make(lambda self, user: self.e(user), e=nn.Embedding(ROWS, DIM)), (ids(3),)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bag.weight": None}, "bag.weight is missing in the file"),
        ({"more": torch.zeros(1)}, "more is in the file and not in the module"),
        ({"bag.weight": torch.zeros(ROWS + 1, DIM)}, r"bag.weight is \[51, 4\] in the file and \[50, 4\] in the module"),
        ({"bag.weight": torch.zeros(ROWS, DIM).half()}, "bag.weight is torch.float16 in the file and torch.float32 in the module"),
    ],
)
def test_what_does_not_fit_is_listed(change: dict[str, Tensor | None], words: str, save: Callable[[dict[str, Tensor]], Path]) -> None:
    contents = {name: tensor for name, tensor in {**tensors(), **change}.items() if tensor is not None}
    with pytest.raises(InputError, match=words) as caught:
        load(f"{__name__}:ranker", weights=save(contents))
    assert caught.value.detail


def test_many_misfits_are_counted(save: Callable[[dict[str, Tensor]], Path]) -> None:
    with pytest.raises(InputError, match=r"again\.weight is missing in the file, and 16 more") as caught:
        load(f"{__name__}:ranker", weights=save({f"x{n}": torch.zeros(1) for n in range(11)}))
    assert caught.value.detail.endswith("... and 7 more")


def hidden() -> Any:
    """A meta tensor that no state_dict knows."""
    module, inputs = filled()
    module.register_buffer("mask", torch.zeros(2, device="meta"), persistent=False)
    module.plain = torch.zeros(2, device="meta")
    return module, inputs


def test_tensors_that_no_file_can_fill_are_named(save: Callable[[dict[str, Tensor]], Path]) -> None:
    with pytest.raises(InputError, match="mask, plain is on the meta device and not in the module's state_dict"):
        load(f"{__name__}:hidden", weights=save({"e.weight": torch.zeros(ROWS, DIM)}))


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    def attempt(name: str, contents: bytes, words: str) -> None:
        path = tmp_path / name
        path.write_bytes(contents)
        with pytest.raises(InputError, match=words):
            load(f"{__name__}:ranker", weights=path)

    header = json.dumps({"a": {"dtype": "F32", "shape": [100], "data_offsets": [0, 400]}}).encode()
    attempt("model.bin", b"", "recsplit opens no pickled checkpoint")
    attempt("empty.safetensors", b"", "not a safetensors file, or is cut short")
    attempt("text.safetensors", b"not a tensor in sight", "not a safetensors file, or is cut short")
    attempt("short.safetensors", len(header).to_bytes(8, "little") + header + bytes(40), "not a safetensors file, or is cut short")
    with pytest.raises(InputError, match="does not exist"):
        load(f"{__name__}:ranker", weights=tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match=r"model.onnx holds its weights itself"):
        load("model.onnx", weights=tmp_path / "model.bin")


def test_a_torchrec_collection_on_meta_is_mapped(save: Callable[[dict[str, Tensor]], Path]) -> None:
    pytest.importorskip("torchrec")
    contents = {f"bags.embedding_bags.{name}.weight": torch.randn(rows, 4) for name, rows in (("user", 40), ("item", 30))}
    path = save({**contents, "layer.weight": torch.randn(1, 8), "layer.bias": torch.randn(1)})
    loaded = load("tests.load.jagged:on_meta", weights=path)
    assert loaded.example is not None
    compare(loaded, dict(loaded.example))
    tables = [value.const_value for name, value in loaded.model.graph.initializers.items() if "embedding_bags" in name]
    assert len(tables) == 2 and all(isinstance(table, ir.ExternalTensor) for table in tables)


def _prefixed(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors().items()}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.", "model.module._orig_mod."])
def test_what_wrappers_put_before_names_is_dropped_and_told(prefix: str, save: Callable[[dict[str, Tensor]], Path]) -> None:
    loaded = load(f"{__name__}:ranker", weights=save(_prefixed(prefix)))
    assert isinstance(loaded.model.graph.initializers["bag.weight"].const_value, ir.ExternalTensor)
    (note,) = loaded.notes
    assert f"calls '{prefix}again.weight' what the module calls 'again.weight'" in note


def test_a_submodule_that_was_compiled_is_found(save: Callable[[dict[str, Tensor]], Path]) -> None:
    contents = {name.replace("layer.", "layer._orig_mod."): tensor for name, tensor in tensors().items()}
    (note,) = load(f"{__name__}:ranker", weights=save(contents)).notes
    assert "calls 'layer._orig_mod." in note


def test_names_that_fit_as_they_are_are_not_touched(save: Callable[[dict[str, Tensor]], Path]) -> None:
    assert not load(f"{__name__}:ranker", weights=save(tensors())).notes


def test_a_prefix_that_leaves_a_name_over_is_not_dropped(save: Callable[[dict[str, Tensor]], Path]) -> None:
    with pytest.raises(InputError, match=r"module\.loss is in the file and not in the module|is missing in the file"):
        load(f"{__name__}:ranker", weights=save({**_prefixed("module."), "module.loss": torch.zeros(1)}))


def test_a_file_with_hard_links_is_read(save: Callable[[dict[str, Tensor]], Path], tmp_path: Path) -> None:
    path = save(tensors())
    (tmp_path / "again.safetensors").hardlink_to(path)
    table = load(f"{__name__}:ranker", weights=path).model.graph.initializers["bag.weight"].const_value
    assert table is not None and table.numpy().shape == (ROWS, DIM)


def drawn() -> Any:
    """Random parameters, others at each call."""
    return nn.Sequential(nn.Embedding(ROWS, DIM), nn.Linear(DIM, 1)), (ids(3),)


def seeded() -> Any:
    """The same parameters at each call."""
    torch.manual_seed(0)
    return drawn()


def test_a_factory_that_draws_its_parameters_is_warned_of(save: Callable[[dict[str, Tensor]], Path]) -> None:
    (warning,) = load(f"{__name__}:drawn").warnings
    assert "no --weights" in warning and "'0.weight'" in warning
    assert not load(f"{__name__}:seeded").warnings
    module, _ = drawn()
    assert not load(f"{__name__}:drawn", weights=save(dict(module.state_dict()))).warnings


def test_a_second_call_leaves_the_random_state_as_it_was() -> None:
    torch.manual_seed(1)
    drawn()
    expected = torch.rand(1)
    torch.manual_seed(1)
    load(f"{__name__}:drawn")
    assert torch.rand(1) == expected


def test_the_warning_is_no_part_of_the_answer(run_here: Run, tmp_path: Path) -> None:
    done = run_here("build", f"{__name__}:drawn", "-o", tmp_path / "models", "--name", "m")
    assert done.returncode == 0
    assert "Warning: no --weights" in done.stderr and "Warning" not in done.stdout
