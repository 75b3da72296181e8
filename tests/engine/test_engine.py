"""A model in the engine: requests of one batch don't touch each other, and files that are damaged are told, not crashed on."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsplit.engine.compilation import unavailable
from recsplit.engine.library import Refused
from recsplit.errors import RecsplitError
from recsplit.plan.files import LOOKUPS_PARAMETER, TABLES_FILE
from recsplit.plan.plan import Tensor
from tests.engine.models import Array, answered, config_of, opened, written
from tests.engine.two_tables import DIM, ROWS
from tests.graph.ragged_models import Bag
from tests.graph.small import proto, small, table

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

#: In the order of their positions: those that aren't pooled come first.
LOOKUPS = [
    {"input": "one", "columns": None, "table": "u", "rows": ROWS, "shift": 0, "direct": True, "width": 1},
    {"input": "ids", "columns": [0, 3], "table": "t", "rows": ROWS, "shift": 0, "direct": True, "width": 3},
]


def rows(count: int, seed: int = 0) -> dict[str, Array]:
    random_numbers = np.random.default_rng(seed)
    return {"ids": random_numbers.integers(0, ROWS, (count, 3)), "one": random_numbers.integers(0, ROWS, count)}


def refusing(config: dict[str, Any]) -> dict[str, Any]:
    """The config of a model that refuses requests with unknown ids, as one that recsplit renders."""
    return {**config, "parameters": {LOOKUPS_PARAMETER: {"string_value": json.dumps(LOOKUPS)}}}


def test_a_bad_request_is_refused_with_its_reason_and_its_neighbours_are_answered(model: tuple[Path, dict[str, Any]]) -> None:
    folder, config = model
    requests = [rows(count, seed=count) for count in (3, 1, 400, 2)]
    requests[1]["one"][0] = ROWS
    requests[2]["ids"][[37, 390], 2] = -7
    with opened(folder, config) as plain, opened(folder, refusing(config)) as refuses:
        whole = answered(plain, requests)
        answers = refuses.run(requests)
    reasons = [str(answer) if isinstance(answer, Refused) else "" for answer in answers]
    assert reasons[0] == reasons[3] == ""
    assert reasons[1] == (
        'input \'one\': id 50 is outside table \'u\' (0..49), row 0 of the request {"unknown_id": {"row": 0, "position": 0, "id": 50}}'
    )
    assert reasons[2] == (
        "input 'ids' column 2: id -7 is outside table 't' (0..49), row 37 of the request (and 1 more rows with unknown ids) "
        '{"unknown_id": {"row": 37, "position": 3, "id": -7}}'
    )
    for place in (0, 3):
        answer = answers[place]
        assert not isinstance(answer, Refused)
        for name, data in answer.items():
            np.testing.assert_array_equal(data, whole[place][name])


def test_the_words_are_those_of_the_python_backend(model: tuple[Path, dict[str, Any]]) -> None:
    folder, config = model
    sys.path.insert(0, str(Path(__file__).parents[2] / "recsplit/backends/onnxruntime"))
    try:
        from ort_lookups import Lookups  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    request = rows(5)
    request["ids"][3, 1] = 2**62
    with opened(folder, config) as plain, opened(folder, refusing(config)) as refuses:
        marks = answered(plain, [request])[0]["unknown_ids"]
        (answer,) = refuses.run([request])
    assert str(answer) == Lookups(json.dumps(LOOKUPS)).refusal(marks)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ids": np.zeros((2, 4), np.int64)}, "has 4 in dimension 1"),
        ({"ids": np.zeros((2, 3), np.int32)}, "is INT32, and the model takes INT64"),
        ({"ids": np.zeros(3, np.int64)}, "has 1 dimensions"),
        ({"one": np.zeros(3, np.int64)}, "has 3 rows, and others have 2"),
        ({"ids": np.zeros((0, 3), np.int64), "one": np.zeros(0, np.int64)}, "has a dimension of 0"),
    ],
)
def test_a_request_of_another_shape_is_refused(model: tuple[Path, dict[str, Any]], changes: dict[str, Array], reason: str) -> None:
    folder, config = model
    with opened(folder, config) as engine:
        good, answer = engine.run([rows(2), {**rows(2), **changes}])
    assert isinstance(answer, Refused) and reason in str(answer)
    assert not isinstance(good, Refused)


def test_bags_of_other_lengths_share_a_batch(tmp_path: Path) -> None:
    cut = Bag(mode="mean", padding=3).cut("padded").cut
    config = written(cut, tmp_path)
    random_numbers = np.random.default_rng(0)
    requests = []
    for slots in (1, 7, 0, 40, 3):
        lengths = random_numbers.integers(0, slots + 1, (4, 1))
        requests.append({"values": random_numbers.integers(0, ROWS, (4, slots)), "lengths": lengths})
    with opened(tmp_path, config) as engine:
        together = answered(engine, requests)
        for request, answer in zip(requests, together, strict=True):
            for name, data in answered(engine, [request])[0].items():
                np.testing.assert_array_equal(answer[name], data)


@pytest.mark.parametrize("tables", ["mapped", "populated", "huge"])
def test_a_file_that_was_cut_short_is_refused(model: tuple[Path, dict[str, Any]], tables: str, tmp_path: Path) -> None:
    folder, config = model
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with opened(tmp_path, config, tables=tables) as engine:
        answered(engine, [rows(3)])
    with (tmp_path / TABLES_FILE).open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(RecsplitError, match="ends before its last table does"):
        opened(tmp_path, config, tables=tables)
    (tmp_path / TABLES_FILE).unlink()
    with pytest.raises(RecsplitError, match="can't be read: No such file"):
        opened(tmp_path, config, tables=tables)


def test_a_file_that_is_cut_short_while_it_is_mapped_fails_requests_and_not_the_process(tmp_path: Path) -> None:
    cut = small("(int64[N] ids) => (float[N,8] y) { y=Gather(t,ids) }", {"t": table(20_000, DIM)}).cut
    config = written(cut, tmp_path)
    with opened(tmp_path, config, tables="mapped") as mapped, opened(tmp_path, config, tables="huge") as copied:
        os.truncate(tmp_path / TABLES_FILE, 8192)
        for _ in range(2):
            (answer,) = mapped.run([{"ids": np.arange(19_000, 19_100)}])
            assert isinstance(answer, Refused) and "lost some of its pages" in str(answer)
        answered(copied, [{"ids": np.arange(19_000, 19_100)}])


def test_a_file_that_is_replaced_is_read_as_it_was(tmp_path: Path) -> None:
    cut = small("(int64[N] ids) => (float[N,8] y) { y=Gather(t,ids) }", {"t": table(20_000, DIM)}).cut
    config = written(cut, tmp_path)
    with opened(tmp_path, config, tables="mapped") as engine:
        before = answered(engine, [{"ids": np.arange(100)}])
        (tmp_path / "new.bin").write_bytes(bytes((tmp_path / TABLES_FILE).stat().st_size))
        (tmp_path / "new.bin").replace(tmp_path / TABLES_FILE)
        after = answered(engine, [{"ids": np.arange(100)}])
    np.testing.assert_array_equal(before[0]["embeddings_8"], after[0]["embeddings_8"])


def test_a_run_that_fails_is_tried_request_by_request_and_answers_once(tmp_path: Path) -> None:
    """A model that isn't guarded, as ONNX Runtime runs it; the good requests span blocks that succeed and blocks that fail."""
    model = proto("(int64[N,3] ids) => (float[N,3,8] y) { y=Gather(t,ids) }", {"t": table(ROWS, DIM)})
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    config = config_of((Tensor("ids", "INT64", (3,)),), (Tensor("y", "FP32", (3, DIM)),))
    requests = [{"ids": rows(count, seed=count)["ids"]} for count in (300, 1, 280, 700)]
    requests[1]["ids"][0, 0] = ROWS
    with opened(tmp_path, config) as engine:
        answers = engine.run(requests)
        alone = [engine.run([request])[0] for request in requests]
    assert isinstance(answers[1], Refused) and "out of data bounds" in str(answers[1])
    for place in (0, 2, 3):
        answer, expected = answers[place], alone[place]
        assert not isinstance(answer, Refused) and not isinstance(expected, Refused)
        np.testing.assert_array_equal(answer["y"], expected["y"])


VARYING = {
    "weights": '(int64[N,L] ids, float[N,M] w) => (float[N,8] y) { y=recsplit.EmbeddingBag<mode="sum",padding_idx=-1>(t,ids,,w) }',
    "two inputs": "(int64[N,L] ids, int64[N,M] w) => (float[N,8] y) { s=Add(ids,w) v=Gather(t,s) y=ReduceSum<keepdims=0>(v,axis) }",
}


@pytest.mark.parametrize("kind", VARYING)
def test_inputs_of_any_length_that_are_read_together_are_equally_long(kind: str, tmp_path: Path) -> None:
    cut = small(VARYING[kind], {"t": table(ROWS, DIM), "axis": np.array([1])}).cut
    config = written(cut, tmp_path)
    dtype = np.float32 if kind == "weights" else np.int64
    good = {"ids": np.zeros((2, 5), np.int64), "w": np.ones((2, 5), dtype)}
    with opened(tmp_path, config) as engine:
        answers = engine.run([good, {**good, "w": np.ones((2, 2), dtype)}, {**good, "ids": np.zeros((2, 4000), np.int64)}])
    assert not isinstance(answers[0], Refused)
    for answer in answers[1:]:
        assert isinstance(answer, Refused) and (("ids" in str(answer) and "read together" in str(answer)) or "weights a row" in str(answer))


def test_weights_of_ragged_bags_are_as_many_as_their_ids(tmp_path: Path) -> None:
    config = written(Bag(weighted=True).cut("padded").cut, tmp_path)
    ids, lengths = np.zeros((2, 9), np.int64), np.full((2, 1), 9)
    with opened(tmp_path, config) as engine:
        good, bad = engine.run(
            [{"values": ids, "lengths": lengths, "weights": np.ones((2, count), np.float32)} for count in (9, 2)]
        )  # fmt: skip
    assert not isinstance(good, Refused)
    assert isinstance(bad, Refused) and "'weights' has 2 weights a row, and there are 9 ids" in str(bad)


@pytest.mark.parametrize(
    "text",
    [
        "(int64[N,L] h) => (float[N,L,8] y) { s=Sub(k,h) y=Gather(t,s) }",
        "(int64[N,1] u, int64[N,L] h) => (float[N,L,8] y) { m=Mul(u,k) s=Add(m,h) y=Gather(t,s) }",
        "(int64[N,L] h, int64[N,1] u) => (float[N,L,8] y) { m=Mul(u,k) s=Add(m,h) y=Gather(t,s) }",
    ],
)
def test_a_history_that_is_computed_is_as_long_as_its_input(text: str) -> None:
    parts = small(text, {"t": table(5000, DIM), "k": np.array(99)})
    assert parts.engine is not None, parts.cut.no_recipe
    random_numbers = np.random.default_rng(0)
    for length in (1, 7, 0, 300):
        parts({"h": random_numbers.integers(0, 90, (4, length)), "u": random_numbers.integers(0, 9, (4, 1))})


def test_histories_of_several_lengths_don_t_share_a_batch(tmp_path: Path) -> None:
    config = written(small("(int64[N,L] h) => (float[N,L,8] y) { y=Gather(t,h) }", {"t": table(ROWS, DIM)}).cut, tmp_path)
    requests = [{"h": np.ones((2, length), np.int64)} for length in (1, 4000, 3)]
    with opened(tmp_path, config) as engine:
        for request, answer in zip(requests, answered(engine, requests), strict=True):  # each is tried alone
            assert answer["vectors_0"].shape == (*request["h"].shape, DIM)


@pytest.mark.parametrize("kind", ["int64", "int32"])
@pytest.mark.parametrize("mode", ["Sum", "Mean", "Max"])
def test_long_bags_beside_each_other_are_read_by_their_ids(kind: str, mode: str) -> None:
    """Bags long enough for the kernels that need no addresses: columns of one input, shifted ids, a second table."""
    text = (
        f"({kind}[N,80] ids) => (float[N,24] y) "
        "{ a,b,c=Split<axis=1>(ids,sizes) b2=Add(b,shift) v=Gather(t,a) w=Gather(u,b2) x=Gather(t,c) "
        f"p=Reduce{mode}<axes=[1],keepdims=0>(v) q=Reduce{mode}<axes=[1],keepdims=0>(w) r=Reduce{mode}<axes=[1],keepdims=0>(x) "
        "y=Concat<axis=1>(p,q,r) }"
    )
    if mode == "Sum":
        for name in "vwx":
            text = text.replace(f"<axes=[1],keepdims=0>({name})", f"<keepdims=0>({name},one)")
    dtype = np.dtype(kind)
    constants = {"sizes": np.array([20, 20, 40]), "one": np.array([1]), "shift": np.array(7, dtype)}
    parts = small(text, {**constants, "t": table(ROWS, DIM), "u": table(ROWS, DIM, seed=1)})
    assert parts.engine is not None, parts.cut.no_recipe
    random_numbers = np.random.default_rng(0)
    for rows_count in (1, 5, 300):
        ids = random_numbers.integers(0, ROWS - 7, (rows_count, 80)).astype(dtype)
        parts({"ids": ids})
        ids[rows_count // 2, [3, 25, 50]] = [ROWS, -8, np.iinfo(dtype).max]
        parts({"ids": ids})
