""".pt2 files: programs of torch.export.save become the same IR, and nothing stored in one is executed."""

import io
import pickle
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from recsplit.errors import InputError
from recsplit.load import load
from recsplit.load.pt2 import SIZE, TARGET
from recsplit.zoo import bags
from tests.load import models
from tests.load.agreement import compare, inputs_of, names, ops

AUTO = torch.export.Dim.AUTO
ONE_DICT = ({"user id": {0: AUTO}, "item": {0: AUTO}, "dense": {0: AUTO}},)


def saved(path: Path, factory: Callable[..., Any], dynamic_shapes: Any) -> Path:
    """Export and save the factory's module."""
    module, inputs, *_ = factory()
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
    program = torch.export.export(module.eval(), args, kwargs, dynamic_shapes=dynamic_shapes)
    torch.export.save(program, path)
    return path


@pytest.mark.parametrize(
    ("factory", "dynamic_shapes", "inputs", "outputs"),
    [
        (models.ragged_bags, ({0: AUTO},) * 4, ["values", "starts", "bounds", "weights"], models.OFFSETS),
        (models.fixed_bags, ({0: torch.export.Dim("batch")},) * 2, ["ids", "weights"], models.FIXED),
        (
            models.one_dict,
            ({"user id": {0: AUTO}, "item": {0: AUTO}, "dense": {0: AUTO}},),
            ["user_id", "item", "dense"],
            ["click_through", "item_2"],
        ),
        (models.two_dicts, ({"id": {0: AUTO}}, {"id": {0: AUTO}}), ["user_id", "item_id"], ["output_0", "output_2_0", "output_2_1"]),
        (models.passed_through, ({0: AUTO}, {0: AUTO}), ["user", "dense"], ["score", "again", "user_2", "dense_2"]),
    ],
)
def test_a_program_becomes_the_ir(
    factory: Callable[..., Any], dynamic_shapes: Any, inputs: list[str], outputs: list[str], tmp_path: Path
) -> None:
    loaded = load(str(saved(tmp_path / "model.pt2", factory, dynamic_shapes)))
    assert names(loaded.model.graph.inputs) == inputs == list(loaded.example or {})
    assert names(loaded.model.graph.outputs) == outputs
    spec = f"{factory.__module__}:{factory.__name__}"
    compare(loaded, *(inputs_of(spec, batch=batch, seed=batch) for batch in (1, 2, 5)))
    assert loaded.source.kind == "pt2"
    if "bags" in factory.__name__:
        assert set(ops(loaded)) == {"recsplit::EmbeddingBag"}


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's own
def test_a_decomposed_program_keeps_its_bags(tmp_path: Path) -> None:
    module, inputs = models.fixed_bags()
    program = torch.export.export(module.eval(), inputs, dynamic_shapes=({0: AUTO},) * 2).run_decompositions()
    torch.export.save(program, tmp_path / "model.pt2")
    loaded = load(str(tmp_path / "model.pt2"))
    compare(loaded, inputs_of("tests.load.models:fixed_bags", batch=5))
    assert ops(loaded) == ["recsplit::EmbeddingBag"] * len(models.FIXED)


def test_offsets_may_have_one_entry_more_than_the_batch_has_rows(tmp_path: Path) -> None:
    """Their size is an expression of the batch's, which torch reads back in a form that it can't use itself."""
    module, inputs, shapes = bags.sum_last_offset()  # type: ignore[misc]
    program = torch.export.export(module, inputs, dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "model.pt2")
    loaded = load(str(tmp_path / "model.pt2"))
    compare(loaded, *(inputs_of("recsplit.zoo.bags:sum_last_offset", batch=batch, seed=batch) for batch in (1, 2, 5)))
    assert "recsplit::EmbeddingBag" in ops(loaded)


def test_a_fixed_batch_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the batch dimension of input 'ids' came out fixed at 3"):
        load(str(saved(tmp_path / "model.pt2", models.fixed_bags, None)))


def test_a_program_that_writes_to_its_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the model changes 'calls' while it runs"):
        load(str(saved(tmp_path / "model.pt2", models.counts_calls, ({0: AUTO},))))


def touch(path: str) -> None:
    Path(path).touch()


class Touch:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return touch, (str(self.path),)


def changed(path: Path, replace: Callable[[str, bytes], bytes], extra: Sequence[tuple[str, bytes]] = ()) -> Path:
    """The archive with some members rewritten, and more added."""
    out = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name.replace("model/", "changed/", 1), replace(name, old.read(name)))
        for name, contents in extra:
            new.writestr(f"changed/{name}", contents)
    return out


def test_nothing_in_the_file_is_unpickled_or_evaluated(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pt2", models.fixed_bags, ({0: AUTO},) * 2)
    trace = tmp_path / "it ran"
    buffer = io.BytesIO()
    torch.save(((torch.zeros(3, 6), Touch(trace)), {}), buffer)

    def samples(name: str, contents: bytes) -> bytes:
        return buffer.getvalue() if "sample_inputs" in name else contents

    def program(old: str, new: str) -> Callable[[str, bytes], bytes]:
        def replace(name: str, contents: bytes) -> bytes:
            return contents.replace(old.encode(), new.encode()) if name.endswith("model.json") else contents

        return replace

    def same(_: str, contents: bytes) -> bytes:
        return contents

    cases = [
        (samples, (), "hold a [^ ]*test_pt2.touch, which only unpickling could read"),
        (same, [("data/constants/opaque_obj_0", pickle.dumps(Touch(trace)))], "a pickled object"),
        (same, [("data/aotinductor/model/x.so", b"")], "compiled code"),
        (program("torch.ops.aten.embedding_bag.padding_idx", "torch.serialization.os.system"), (), "no operator or size"),
        (program("Symbol('s", "exec('s"), (), "no operator or size"),
    ]
    for replace, extra, words in cases:
        with pytest.raises(InputError, match=words):
            load(str(changed(path, replace, extra)))
        assert not trace.exists()


@pytest.mark.parametrize(
    "target",
    [
        *("torch.ops.aten.add.Tensor", "_operator.floordiv", "math.ceil", "torch.sym_max", "torch.ops.higher_order.cond"),
        *("torch.ops.aten.__and__.Tensor", "torch.ops.aten.__ixor__.Scalar", "torch.ops.aten.__lshift__.Scalar"),
    ],
)
def test_operators_of_tensor_programs_are_known(target: str) -> None:
    assert TARGET.fullmatch(target)


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "torch.load", "_operator.call", "torch.ops.load_library", "builtins.eval"),
        *("torch.ops.aten.__class__", "torch.ops.aten.__and__.__globals__", "torch.ops.aten.add.__call__", "math.__loader__"),
    ],
)
def test_other_callables_are_not(target: str) -> None:
    assert not TARGET.fullmatch(target)


@pytest.mark.parametrize("size", ["Symbol('s10', positive=True, integer=True)", "FloorDiv(s1*4, 2) - 1", "Max(1, u0)", "1.5*s3"])
def test_sizes_are_known(size: str) -> None:
    assert SIZE.fullmatch(size)


@pytest.mark.parametrize(
    "size", ["eval('x')", "s0.bit_length()", "exec(chr(1))", 'f("x")', "[x for x in y]", "a;b", "lambda: 0", "A__b__(1)"]
)
def test_other_expressions_are_not(size: str) -> None:
    assert not SIZE.fullmatch(size)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_files_of_another_kind_are_told_apart(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "pickle.pt2")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt2")
    (tmp_path / "text.pt2").write_text("text")
    with zipfile.ZipFile(tmp_path / "zip.pt2", "w") as archive:
        archive.writestr("a", "b")
    whole = saved(tmp_path / "whole.pt2", models.one_dict, ONE_DICT).read_bytes()
    (tmp_path / "short.pt2").write_bytes(whole[: len(whole) // 2])
    for name, words in {
        "absent": "is not a file",
        "pickle": "is a pickle file",
        "script": "is a TorchScript file",
        "text": "is not a torch.export program",
        "zip": "is not a torch.export program",
        "short": "is not a torch.export program, or is cut short",
    }.items():
        with pytest.raises(InputError, match=words) as caught:
            load(str(tmp_path / f"{name}.pt2"))
        assert caught.value.hint
