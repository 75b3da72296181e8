"""The stand-in backend beyond the shop: other dtypes and shapes, settings, auto-complete, and runs that fail."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tritonclient import grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from recsplit.serving import Server, serve
from tests.serving import handmade
from tests.serving.conftest import stubs
from tests.serving.handmade import config, one_node, tensor

F32, I64, F16, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.FLOAT16, TensorProto.BOOL
TABLE = np.arange(20, dtype=np.float32).reshape(10, 2)


def write_models(repository: Path) -> None:
    """One small model a subject; the name says which."""

    def add(name: str, node: Any, inputs: Any, outputs: Any, text: str, file: str = "model.onnx", **constants: NDArray[Any]) -> None:
        one_node(repository / name / "1" / file, node, inputs, outputs, constants)
        (repository / name / "config.pbtxt").write_text(text)

    ids, vectors = ("ids", I64, ["batch"]), ("vectors", F32, ["batch", 2])
    gather = helper.make_node("Gather", ["table", "ids"], ["vectors"])
    scalar_ids = '{ name: "ids" data_type: TYPE_INT64 dims: [1] reshape: { shape: [] } }'
    add(
        "unguarded", gather, [ids], [vectors],
        config("unguarded", [scalar_ids], [tensor("vectors", "FP32", [2])], delay_us=30_000), table=TABLE,
    )  # fmt: skip
    add(
        "renamed", gather, [ids], [vectors],
        config("renamed", [scalar_ids], [tensor("vectors", "FP32", [2])], extra='default_model_filename: "other.onnx"'),
        file="other.onnx", table=TABLE,
    )  # fmt: skip
    add(
        "whole", helper.make_node("MatMul", ["x", "x"], ["y"]), [("x", F32, ["n", "n"])], [("y", F32, ["n", "n"])],
        config("whole", [tensor("x", "FP32", [-1, -1])], [tensor("y", "FP32", [-1, -1])], batch=0),
    )  # fmt: skip
    add(
        "flags", helper.make_node("Not", ["x"], ["y"]), [("x", BOOL, ["b", 3])], [("y", BOOL, ["b", 3])],
        config("flags", [tensor("x", "BOOL", [3])], [tensor("y", "BOOL", [3])]),
    )  # fmt: skip
    add(
        "halves", helper.make_node("Neg", ["x"], ["y"]), [("x", F16, ["b", "n"])], [("y", F16, ["b", "n"])],
        config("halves", [tensor("x", "FP16", [-1])], [tensor("y", "FP16", [-1])], delay_us=20_000),
    )  # fmt: skip
    add(
        "shrinking", helper.make_node("Compress", ["x", "keep"], ["y"], axis=0), [("x", F32, ["b", 2])], [("y", F32, ["c", 2])],
        config("shrinking", [tensor("x", "FP32", [2])], [tensor("y", "FP32", [2])]), keep=np.array([True]),
    )  # fmt: skip
    settings = {
        "intra_op_thread_count": "3", "inter_op_thread_count": "2", "execution_mode": "1", "enable_mem_arena": "0",
        "enable_mem_pattern": "false", "session.use_device_allocator_for_initializers": "1",
        "memory.enable_memory_arena_shrinkage": "cpu:0", "a_key_that_no_backend_knows": "is ignored",
    }  # fmt: skip
    add(
        "settings", gather, [ids], [vectors],
        config("settings", [scalar_ids], [tensor("vectors", "FP32", [2])], parameters=settings, extra="optimization {graph {level: 1}}"),
        table=TABLE,
    )  # fmt: skip
    marks = helper.make_node("Identity", ["marks"], ["unknown_ids"])
    lookups = [
        {"input": "hashed", "columns": None, "table": "big", "rows": 50, "shift": 7, "direct": False, "width": 2},
        {"input": "user", "columns": None, "table": "users", "rows": 10, "shift": -1, "direct": True, "width": 1},
    ]
    add(
        "marks", marks, [("marks", I64, ["b", 2])], [("unknown_ids", I64, ["b", 2])],
        config("marks", [tensor("marks", "INT64", [2])], [handmade.UNKNOWN], parameters={"recsplit.lookups": json.dumps(lookups)}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Every model above, on one server."""
    repository = tmp_path_factory.mktemp("models")
    write_models(repository)
    with serve(repository) as server:
        yield server


@pytest.fixture
def client(models: Server) -> Iterator[grpc.InferenceServerClient]:
    with grpc.InferenceServerClient(models.grpc_url) as opened:
        yield opened


def ask(client: grpc.InferenceServerClient, model: str, output: str, **inputs: NDArray[Any]) -> NDArray[Any]:
    tensors = []
    for name, array in inputs.items():
        tensors.append(grpc.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)))
        tensors[-1].set_data_from_numpy(array)
    answer = client.infer(model, tensors).as_numpy(output)
    assert answer is not None
    return np.asarray(answer)


def test_every_model_loads_where_recsplit_wrote_none_of_them(models: Server) -> None:
    assert set(models.states().values()) == {"READY"}
    assert models.ready()


def test_a_run_that_fails_fails_only_the_guilty_request(client: grpc.InferenceServerClient) -> None:
    def answer_or_error(ids: list[int]) -> Any:
        try:
            return ask(client, "unguarded", "vectors", ids=np.asarray(ids).reshape(-1, 1))
        except InferenceServerException as error:
            return error

    before = client.get_inference_statistics("unguarded").model_stats[0].execution_count
    asked = [[1], [2, 3], [4, 99], [5], [0]]
    with ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(answer_or_error, asked))
    assert client.get_inference_statistics("unguarded").model_stats[0].execution_count - before < 5, "they were to meet in a batch"
    assert isinstance(answers[2], InferenceServerException)
    assert "idx=99 must be within the inclusive range [-10,9]" in str(answers[2])
    assert answers[2].status() == "StatusCode.INVALID_ARGUMENT"
    for n in (0, 1, 3, 4):
        np.testing.assert_array_equal(answers[n], TABLE[asked[n]])


def test_without_its_retry_a_failed_run_fails_the_whole_batch_as_with_nvidias_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSPLIT_STAND_IN_RETRY", "0")
    write_models(tmp_path)
    with serve(tmp_path, models=("unguarded",)) as server, grpc.InferenceServerClient(server.grpc_url) as client:

        def fails(ids: list[int]) -> bool:
            try:
                ask(client, "unguarded", "vectors", ids=np.asarray(ids).reshape(-1, 1))
            except InferenceServerException:
                return True
            return False

        with ThreadPoolExecutor(5) as threads:
            assert sum(threads.map(fails, [[1], [2, 3], [4, 99], [5], [0]])) > 1
        assert not fails([1])


def test_inputs_outputs_and_batching_are_filled_in_when_none_are_given(tmp_path: Path) -> None:
    gather = helper.make_node("Gather", ["table", "ids"], ["vectors"])
    one_node(tmp_path / "bare/1/model.onnx", gather, [("ids", I64, ["batch"])], [("vectors", F32, ["batch", 2])], {"table": TABLE})
    (tmp_path / "bare/config.pbtxt").write_text('backend: "onnxruntime"\nmax_batch_size: 8\n')
    with serve(tmp_path) as server, grpc.InferenceServerClient(server.grpc_url) as client:
        filled = client.get_model_config("bare", as_json=True)["config"]
        np.testing.assert_array_equal(ask(client, "bare", "vectors", ids=np.array([[3], [4]])), TABLE[[3, 4]])
    assert [(one["name"], one["data_type"], one["dims"]) for one in filled["input"]] == [("ids", "TYPE_INT64", ["1"])]
    assert [(one["name"], one["data_type"], one["dims"]) for one in filled["output"]] == [("vectors", "TYPE_FP32", ["2"])]
    assert "dynamic_batching" in filled


def test_the_model_file_may_have_another_name(client: grpc.InferenceServerClient) -> None:
    np.testing.assert_array_equal(ask(client, "renamed", "vectors", ids=np.array([[9]])), TABLE[[9]])


def test_a_model_without_a_batch_dimension_runs_as_it_is(client: grpc.InferenceServerClient) -> None:
    x = np.arange(9, dtype=np.float32).reshape(3, 3)
    np.testing.assert_array_equal(ask(client, "whole", "y", x=x), x @ x)
    with pytest.raises(InferenceServerException, match="MatMul"):
        ask(client, "whole", "y", x=x[:2])


def test_bool_tensors_go_both_ways(client: grpc.InferenceServerClient) -> None:
    x = np.array([[True, False, True]])
    np.testing.assert_array_equal(ask(client, "flags", "y", x=x), ~x)


def test_requests_of_different_lengths_at_once_all_get_their_answers(client: grpc.InferenceServerClient) -> None:
    arrays = [np.full((2, length), length, dtype=np.float16) for length in (1, 3, 3, 5, 1)]
    with ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(lambda x: ask(client, "halves", "y", x=x), arrays))
    for x, answer in zip(arrays, answers, strict=True):
        np.testing.assert_array_equal(answer, -x)


def test_an_output_that_loses_rows_is_an_error_and_not_a_wrong_answer(client: grpc.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=re.escape("output 'y' has shape [1, 2] for a batch of 3 rows")):
        ask(client, "shrinking", "y", x=np.ones((3, 2), np.float32))


def test_thread_counts_reach_onnxruntime(models: Server) -> None:
    def threads(model: str) -> int:
        (pid,) = stubs(models, model)
        return len(list(Path(f"/proc/{pid}/task").iterdir()))

    assert threads("settings") - threads("renamed") == 3, "two more within operators, one between them (the caller is the other)"


def test_memory_settings_reach_onnxruntime(client: grpc.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="Did not find an arena based allocator"):  # to shrink, for the arena is off
        ask(client, "settings", "vectors", ids=np.array([[1]]))


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ([1, 50], "input 'hashed': row 50, computed from the input, is outside table 'big' (0..49), row 1 of the request"),
        ([2, 0], "input 'user': id 0 is outside table 'users' (1..10), row 1 of the request"),
        ([3, 8], "id 8 at position 3 is outside its table, row 1 of the request"),
    ],
)
def test_a_mark_is_explained_as_its_lookup_tells(client: grpc.InferenceServerClient, mark: list[int], message: str) -> None:
    with pytest.raises(InferenceServerException, match=re.escape(message)):
        ask(client, "marks", "unknown_ids", marks=np.array([[-1, 0], mark]))


def test_instances_share_one_copy_of_the_tables(tmp_path: Path) -> None:
    rows, size_kb = 200_000, 102_400
    values = np.ones((rows, 128), np.float32)
    handmade.embedding_model(tmp_path / "big/1/model.onnx", rows=rows, dim=128, values=values)
    vectors = tensor("vectors", "FP32", [handmade.COLUMNS * 128])
    (tmp_path / "big/config.pbtxt").write_text(config("big", [handmade.SPARSE], [vectors, handmade.UNKNOWN], batch=4096, instances=3))
    with serve(tmp_path) as server, grpc.InferenceServerClient(server.grpc_url) as client, ThreadPoolExecutor(6) as threads:
        ids = np.arange(rows).reshape(-1, handmade.COLUMNS)
        list(threads.map(lambda part: ask(client, "big", "vectors", sparse=part), np.array_split(ids, 48)))
        memory = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in stubs(server, "big")]
    assert len(memory) == 3
    proportional = sum(int(match[1]) for text in memory if (match := re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)))
    private_kb = [int(match[1]) for text in memory if (match := re.search(r"^Pss_Anon:\s+(\d+)", text, re.MULTILINE))]
    assert max(private_kb) < size_kb, "a private copy of the table would be larger"
    assert proportional < 3 * size_kb, "three copies would be more"
