"""The client against a real server: sync and asyncio, gRPC and HTTP."""

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from recsplit.client import AsyncClient, Client, ServerError, UnknownIds
from recsplit.client.wire import Protocol
from recsplit.errors import InputError
from recsplit.serving import Server
from tests.client import served

Arrays = dict[str, Any]
Ask = Callable[..., Arrays]


def ask_blocking(url: str, model: str, protocol: Protocol, inputs: Arrays, **settings: Any) -> Arrays:
    with Client(url, model, protocol, **settings) as client:
        return client.infer(inputs)


def ask_async(url: str, model: str, protocol: Protocol, inputs: Arrays, **settings: Any) -> Arrays:
    async def main() -> Arrays:
        async with AsyncClient(url, model, protocol, **settings) as client:
            return await client.infer(inputs)

    return asyncio.run(main())


@pytest.fixture(params=[ask_blocking, ask_async], ids=["sync", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param


def plain(batch: int) -> Arrays:
    rng = np.random.default_rng(batch)
    return {"x": rng.standard_normal((batch, 3)).astype(np.float32), "ids": rng.integers(0, 100, (batch, 2))}


@pytest.mark.parametrize("batch", [1, served.LIMIT, served.LIMIT + 1, 100])
def test_a_query_of_any_size_is_answered_in_order(ask: Ask, url: str, protocol: Protocol, batch: int) -> None:
    query = plain(batch)
    answer = ask(url, "plain", protocol, query)
    assert np.array_equal(answer["same_ids"], query["ids"])
    assert np.allclose(answer["score"][:, 0], 2 * query["x"].sum(axis=1), atol=1e-5)


def test_ragged_inputs_are_answered_from_their_own_form(ask: Ask, url: str, protocol: Protocol) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 30, 2 * 21)  # 21 rows: three parts
    values = rng.integers(0, 1000, lengths.sum())
    answer = ask(url, "ragged", protocol, {"flat_items": values, "bag_lengths": lengths})
    assert np.array_equal(answer["sums"], served.sums(values, lengths))


def test_ragged_inputs_are_answered_as_rows_too(ask: Ask, url: str, protocol: Protocol) -> None:
    rows = {"items": np.array([[3, 4, 5, 0], [1, 0, 0, 0]]), "items_lengths": np.array([[2, 1], [0, 1]])}
    assert ask(url, "ragged", protocol, rows)["sums"].tolist() == [[7, 5], [0, 1]]


def test_ids_are_sent_as_the_dtype_the_model_was_built_with(ask: Ask, url: str, protocol: Protocol) -> None:
    answer = ask(url, "int32", protocol, {"ids": np.arange(20)[:, np.newaxis]})
    assert answer["same_ids"].dtype == np.int32
    assert answer["same_ids"][:, 0].tolist() == list(range(20))


def test_one_value_a_row_is_served(ask: Ask, url: str, protocol: Protocol) -> None:
    assert ask(url, "scalar", protocol, {"user": np.arange(3)})["same_user"].tolist() == [[0], [1], [2]]


def test_a_model_without_batching_takes_its_shapes_as_they_are(ask: Ask, url: str, protocol: Protocol) -> None:
    whole = np.arange(40, dtype=np.float32).reshape(2, 20)
    assert np.array_equal(ask(url, "whole", protocol, {"x": whole})["y"], whole)
    with pytest.raises(InputError, match=r"input 'x': expected FP32 \[2, any\], found FP32 \[3, 20\]"):
        ask(url, "whole", protocol, {"x": np.zeros((3, 20), dtype=np.float32)})


def test_marked_rows_become_one_error_that_numbers_them_by_the_query(ask: Ask, url: str, protocol: Protocol) -> None:
    ids = np.zeros((20, 3), dtype=np.int64)
    ids[3, 1], ids[17, 0], ids[17, 2] = 100, -1, 555
    with pytest.raises(UnknownIds, match=r"id 100 at position 1 is outside its table, row 3 of the query \(and 1 more") as caught:
        ask(url, "marking", protocol, {"ids": ids})
    assert [(one.row, one.position, one.id) for one in caught.value.unknown_ids] == [(3, 1, 100), (17, 0, -1)]


def test_marks_stay_in_the_answer_on_demand(ask: Ask, url: str, protocol: Protocol) -> None:
    ids = np.zeros((10, 3), dtype=np.int64)
    ids[9, 2] = 100
    answer = ask(url, "marking", protocol, {"ids": ids}, on_unknown="mark")
    assert answer["unknown_ids"][:, 0].tolist() == [-1] * 9 + [2]
    assert answer["unknown_ids"][9, 1] == 100


def test_an_answer_without_marked_rows_has_no_marks(ask: Ask, url: str, protocol: Protocol) -> None:
    assert set(ask(url, "marking", protocol, {"ids": np.ones((3, 3), dtype=np.int64)})) == {"score"}


def test_a_backend_that_refuses_unknown_ids_gives_the_same_error(ask: Ask, url: str, protocol: Protocol) -> None:
    ids = np.zeros((20, 3), dtype=np.int64)
    ids[17, 1] = 100
    with pytest.raises(
        UnknownIds, match=r"input 'ids' column 1: id 100 is outside table 'users' \(0\.\.99\), row 17 of the query"
    ) as caught:
        ask(url, "refusing", protocol, {"ids": ids})
    assert [(one.row, one.position, one.id) for one in caught.value.unknown_ids] == [(17, 1, 100)]


def test_a_computed_row_outside_its_table_is_the_same_error_too(ask: Ask, url: str, protocol: Protocol) -> None:
    with pytest.raises(UnknownIds, match=r"input 'ids': row 100, computed from the input, is outside table 'hashed' \(0\.\.9\), row 1 of"):
        ask(url, "refusing", protocol, {"ids": np.array([[0, 0, 0], [0, 0, 100]])})


def test_nothing_is_sent_where_the_query_does_not_fit(ask: Ask, url: str, protocol: Protocol) -> None:
    with pytest.raises(InputError, match="input 'ids' is missing"):
        ask(url, "plain", protocol, {"x": np.zeros((1, 3), dtype=np.float32)})


@pytest.mark.parametrize(
    ("model", "kind", "message", "hint"),
    [
        ("nobody", "unknown model", "unknown model: 'nobody'", "recsplit serve"),
        ("slow", "timeout", "no answer from", "timeout_s=0.3"),
        ("hasty", "unavailable", "timeout expired", "more instances"),
    ],
)
def test_a_failure_says_of_which_kind_it_is(ask: Ask, url: str, protocol: Protocol, model: str, kind: str, message: str, hint: str) -> None:
    timeout_s = 0.3 if kind == "timeout" else 10.0
    with pytest.raises(ServerError, match=message) as caught:
        ask(url, model, protocol, {"ids": np.zeros((1, 1), dtype=np.int64)}, timeout_s=timeout_s)
    assert caught.value.kind == kind
    assert hint in caught.value.hint


def test_what_the_model_refuses_is_told_in_its_words(ask: Ask, url: str, protocol: Protocol) -> None:
    with pytest.raises(ServerError, match="out of data bounds, idx=3") as caught:
        ask(url, "bare", protocol, {"ids": np.array([[3]])})
    assert caught.value.kind == "invalid"


def test_nobody_at_the_address(ask: Ask, protocol: Protocol) -> None:
    with socket.socket() as listener:  # bound and not listening: the port is nobody else's
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ServerError, match=f"can't reach {address}") as caught:
            ask(address, "plain", protocol, plain(1))
    assert caught.value.kind == "unreachable"
    assert address in caught.value.hint


def test_the_other_protocols_port(ask: Ask, server: Server, protocol: Protocol) -> None:
    with pytest.raises(ServerError) as caught:
        ask(server.http_url if protocol == "grpc" else server.grpc_url, "plain", protocol, plain(1), timeout_s=5)
    assert caught.value.kind == "unreachable"
    assert f"its {protocol} address" in caught.value.hint


@pytest.mark.parametrize("url", ["grpcs://host:8000", "ftp://host"])
def test_an_address_with_a_foreign_scheme_is_refused(url: str) -> None:
    with pytest.raises(InputError, match=url):
        Client(url, "plain", "http")


def test_an_address_may_carry_its_protocol(server: Server) -> None:
    with Client(f"http://{server.http_url}/", "plain", "http") as client:
        assert client.infer(plain(2))["score"].shape == (2, 1)


def test_another_protocol_is_refused() -> None:
    with pytest.raises(InputError, match="'rest'"):
        Client("host:1", "plain", "rest")  # type: ignore[arg-type]


def test_threads_share_a_client(url: str, protocol: Protocol) -> None:
    wrong: list[int] = []
    with Client(url, "plain", protocol) as client:

        def work(seed: int) -> None:
            for batch in (1, 3, 20):
                query = plain(batch + seed)
                if not np.array_equal(client.infer(query)["same_ids"], query["ids"]):
                    wrong.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_tasks_share_a_client(url: str, protocol: Protocol) -> None:
    async def main() -> None:
        async with AsyncClient(url, "plain", protocol) as client:
            queries = [plain(batch) for batch in (1, 3, 20, 30)]
            answers = await asyncio.gather(*(client.infer(query) for query in queries))
        assert all(np.array_equal(answer["same_ids"], query["ids"]) for answer, query in zip(answers, queries, strict=True))

    asyncio.run(main())


def test_a_cancelled_query_leaves_no_task_behind(url: str, protocol: Protocol) -> None:
    async def main() -> int:
        async with AsyncClient(url, "plain", protocol) as client:
            before = len(asyncio.all_tasks())
            query = asyncio.create_task(client.infer(plain(1000)))
            while len(asyncio.all_tasks()) <= before + 2:  # until its parts are on their way
                await asyncio.sleep(0)
            query.cancel()
            with pytest.raises(asyncio.CancelledError):
                await query
            return len(asyncio.all_tasks()) - before

    assert asyncio.run(main()) == 0


def test_one_failing_part_fails_the_query_and_the_client_goes_on(url: str, protocol: Protocol) -> None:
    with Client(url, "refusing", protocol) as client:
        ids = np.zeros((30, 3), dtype=np.int64)
        ids[29, 0] = 100
        with pytest.raises(UnknownIds):
            client.infer({"ids": ids})
        assert client.infer({"ids": ids[:29]})["score"].shape == (29, 1)
