"""A front as one model of the engine, and shards that answer rightly, wrongly, late or not at all: a score is right, or there is none."""

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsplit.configs.engine import engine_config
from recsplit.configs.fleet import Asking
from recsplit.engine.compilation import unavailable
from recsplit.engine.library import Model, Refused
from recsplit.engine.runtime import onnxruntime_library
from recsplit.repository.find import find
from recsplit.serving.fleet.placement import Address, write_front
from tests.engine.models import library
from tests.engine.shard_server import ShardServer, head
from tests.remote import engine_fleet, sharded
from tests.waiting import until

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

Behaviour = Callable[[bytes, bytes], Iterable[bytes | None]]
TIMEOUT_MS = 300


def well(start: bytes, body: bytes) -> list[bytes | None]:
    return [start + body]


def of_json(body: bytes, change: Callable[[dict[str, Any]], None], data: bytes | None = None) -> list[bytes | None]:
    """The answer with another JSON."""
    text, _, rest = body.partition(b"}]}")
    said = json.loads(text + b"}]}")
    change(said)
    changed = json.dumps(said).encode()
    rest = rest if data is None else data
    return [head(len(changed) + len(rest), len(changed)) + changed + rest]


def other(**values: Any) -> Behaviour:
    return lambda _, body: of_json(body, lambda said: said["outputs"][0].update(values))


#: Unusual, and right.
RIGHT: dict[str, Behaviour] = {
    "as Triton": well,
    "in pieces": lambda start, body: [(start + body)[at : at + 7] for at in range(0, len(start + body), 7)],
    "fields in small letters": lambda start, body: [start.replace(b"Content-Length", b"content-length") + body],
    "the connection closed behind it": lambda start, body: [start.replace(b"Content-Type", b"Connection: close\r\nContent-Type") + body],
}
#: No answer, or another one than was asked for. Each is the replica's fault, and the next one is asked.
WRONG: dict[str, Behaviour] = {
    "nothing at all": lambda *_: [None],
    "the head only": lambda start, _: [start, None],
    "half of it, and closed": lambda start, body: [start + body[: len(body) // 2], b"", None],
    "no HTTP": lambda *_: [b"SSH-2.0-OpenSSH_9.2\r\n\r\n"],
    "HTTP of another version": lambda start, body: [start.replace(b"1.1", b"1.0") + body],
    "in chunks": lambda start, body: [start.replace(b"Content-Type", b"Transfer-Encoding: chunked\r\nContent-Type") + body],
    "no length": lambda *_: [b"HTTP/1.1 200 OK\r\n\r\n"],
    "a length that is none": lambda *_: [b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"],
    "a length that nothing has": lambda *_: [b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"],
    "more than its length": lambda start, body: [start + body + b"x"],
    "a JSON longer than all": lambda _, body: [head(len(body), len(body) + 1) + body],
    "a JSON that is cut": lambda _, body: [head(len(body), 20) + body],
    "no JSON": lambda _, body: [head(len(body), 4) + b"\0" * len(body)],
    "a head without an end": lambda *_: [b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000],
    "an error of the server's": lambda *_: [head(19, None, "500 Internal") + b'{"error":"no luck"}'],
    "a model that isn't there": lambda *_: [head(39, None, "400 Bad") + b'{"error":"Request for unknown model s"}'],
    "vectors of another dtype": other(datatype="FP16"),
    "vectors of another name": other(name="pooled_9"),
    "a size that is another": other(parameters={"binary_data_size": 4}),
    "a size that is too long": other(parameters={"binary_data_size": 1 << 40}),
    "a size below 0": other(parameters={"binary_data_size": -4}),
    "vectors twice": lambda _, body: of_json(body, lambda said: said.update(outputs=2 * said["outputs"]), 2 * body.partition(b"}]}")[2]),
    "no outputs": lambda _, body: of_json(body, lambda said: said.update(outputs=[])),
    "a vector less": lambda _, body: of_json(
        body, lambda said: said["outputs"][0]["parameters"].update(binary_data_size=len(body.partition(b"}]}")[2]) - 32), body[-32:]
    ),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engine_fleet.write(tmp_path_factory.mktemp("front"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as running:
        yield running


def shards(stack: ExitStack, cold: list[Behaviour], hot: Behaviour = well) -> tuple[list[ShardServer], ShardServer]:
    """Replicas of the cold shard that behave so, and one of the hot shard."""
    table, (first, bound, last) = sharded.table(), sharded.BOUNDS
    replicas = [stack.enter_context(ShardServer(table[bound:last], behave)) for behave in cold]
    return replicas, stack.enter_context(ShardServer(table[first:bound], hot))


def opened(stack: ExitStack, repository: Path, folder: Path, cold: list[ShardServer], hot: ShardServer, **asking: int) -> Model:
    """The front in the engine."""
    plan = find(repository).plan
    at = {"0": [Address(hot.address, "-")], "1": [Address(server.address, "-") for server in cold]}
    write_front(repository, plan, at, folder, Asking(**{"timeout_ms": TIMEOUT_MS, "probe_ms": 50, **asking}))
    return loaded(stack, repository, folder)


def loaded(stack: ExitStack, repository: Path, folder: Path) -> Model:
    plan = find(repository).plan
    config = engine_config(plan.inputs, plan.outputs, plan.max_batch_size)
    settings = {"workers": 2, "onnxruntime": str(onnxruntime_library())}
    return stack.enter_context(Model(library(), folder / plan.name / "1", config, settings))


def queries(rows: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, sharded.ROWS, (rows, 4))


def scored(model: Model, ids: NDArray[np.int64]) -> Refused | None:
    """None: the scores are right. An AssertionError where they are wrong."""
    (answer,) = model.run([{"ids": ids}])
    if isinstance(answer, Refused):
        return answer
    np.testing.assert_allclose(answer["score"], sharded.expected(ids), rtol=1e-4, atol=1e-4)
    return None


@pytest.mark.parametrize("behave", RIGHT.values(), ids=RIGHT)
def test_answers_in_any_form_of_http_are_read(behave: Behaviour, repository: Path, tmp_path: Path, stack: ExitStack) -> None:
    cold, hot = shards(stack, [behave])
    model = opened(stack, repository, tmp_path / "front", cold, hot)
    for rows in (1, 3, sharded.BATCH):
        assert scored(model, queries(rows, rows)) is None
    several = [queries(rows, rows) for rows in (1, 5, 2)]
    for ids, answer in zip(several, model.run([{"ids": ids} for ids in several]), strict=True):
        assert not isinstance(answer, Refused), answer
        np.testing.assert_allclose(answer["score"], sharded.expected(ids), rtol=1e-4, atol=1e-4)
    assert cold[0].asked == 4


@pytest.mark.parametrize("behave", WRONG.values(), ids=WRONG)
def test_what_is_no_answer_is_the_replica_s_fault_and_no_score(
    behave: Behaviour, repository: Path, tmp_path: Path, stack: ExitStack
) -> None:
    """The hot shard answers, and ids of it alone have their scores; whoever needs the cold one is told."""
    cold, hot = shards(stack, [behave])
    model = opened(stack, repository, tmp_path / "front", cold, hot)
    refused = scored(model, queries(5, 0))
    assert refused is not None and "shop_embedding_1" in str(refused) and cold[0].address in str(refused), refused
    assert scored(model, queries(5, 0) % sharded.BOUNDS[1]) is None
    # Another replica makes up for it.
    cold, hot = shards(stack, [behave, well])
    model = opened(stack, repository, tmp_path / "second", cold, hot)
    until(lambda: scored(model, queries(5, 0)) is None, "both replicas to be known")
    for seed in range(4):
        assert scored(model, queries(5, seed)) is None


def test_a_question_that_a_server_refuses_is_asked_once(repository: Path, tmp_path: Path, stack: ExitStack) -> None:
    text = b'{"error":"rows_0 has an id that is none"}'
    refusing: Behaviour = lambda *_: [head(len(text), None, "400 Bad Request") + text]  # noqa: E731
    cold, hot = shards(stack, [refusing, refusing])
    model = opened(stack, repository, tmp_path / "front", cold, hot)
    assert "refused: rows_0 has an id that is none" in str(scored(model, queries(5, 0)))
    assert sum(server.asked for server in cold) == 1


def test_an_answer_that_comes_again_is_not_the_next_one_s(repository: Path, tmp_path: Path, stack: ExitStack) -> None:
    def twice(start: bytes, body: bytes) -> Iterator[bytes | None]:
        yield start + body
        threading.Event().wait(0.02)
        yield start + body

    cold, hot = shards(stack, [twice])
    model = opened(stack, repository, tmp_path / "front", cold, hot)
    for seed in range(4):
        assert scored(model, queries(5, seed)) is None
        threading.Event().wait(0.1)


def test_a_replica_that_hangs_does_not_keep_another_one_out(repository: Path, tmp_path: Path, stack: ExitStack) -> None:
    """Probes of one wait for nobody: the other fails a single call, and is back long before the first one's time is over."""
    hangs = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    fails = iter([WRONG["an error of the server's"]])

    def once(start: bytes, body: bytes) -> Iterable[bytes | None]:
        return next(fails, well)(start, body)

    cold, hot = shards(stack, [once])
    plan = find(repository).plan
    at = {"0": [Address(hot.address, "-")], "1": [Address(f"127.0.0.1:{hangs.getsockname()[1]}", "-"), Address(cold[0].address, "-")]}
    write_front(repository, plan, at, tmp_path / "front", Asking(timeout_ms=600_000, probe_ms=50))
    model = loaded(stack, repository, tmp_path / "front")
    assert "no luck" in str(scored(model, queries(5, 0)))
    until(lambda: scored(model, queries(5, 1)) is None, "an answer of the replica that is back")


def test_a_slow_replica_is_hedged(repository: Path, tmp_path: Path, stack: ExitStack) -> None:
    cold, hot = shards(stack, [lambda *_: [None], well])
    model = opened(stack, repository, tmp_path / "front", cold, hot, hedge_ms=20, timeout_ms=20_000)
    for seed in range(6):
        assert scored(model, queries(5, seed)) is None


def test_connections_that_a_server_closed_meanwhile_are_no_failure(repository: Path, tmp_path: Path, stack: ExitStack) -> None:
    """A server may close what has been idle; the only replica isn't avoided for it."""
    cold, hot = shards(stack, [well])
    model = opened(stack, repository, tmp_path / "front", cold, hot, probe_ms=60_000)
    for seed in range(5):
        assert scored(model, queries(5, seed)) is None
        cold[0].end_connections()
        hot.end_connections()


def test_both_shards_gone_is_an_error_each_time(repository: Path, tmp_path: Path, stack: ExitStack) -> None:
    cold, hot = shards(stack, [WRONG["no HTTP"]], WRONG["no HTTP"])
    model = opened(stack, repository, tmp_path / "front", cold, hot)
    for seed in range(50):
        refused = scored(model, queries(5, seed))
        assert refused is not None and "no replica answers" in str(refused)
