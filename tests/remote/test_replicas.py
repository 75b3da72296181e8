"""The choice among replicas, against real gRPC servers in this process whose answers, delays and faults the tests decide."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from grpc_link import GrpcLink  # type: ignore[import-not-found]
from replicas import NoReplicaError, RefusedError, Replicas, Settings  # type: ignore[import-not-found]
from tritonclient.grpc import service_pb2, service_pb2_grpc

#: An answer in time for whoever is well, beside other load too.
SETTINGS = Settings(timeout_s=60, hedge_s=None, attempts=3, probe_s=0.05, resolve_s=0.1)


@dataclass
class Shard(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers ModelInfer with its own name as the request id, after `delay_s`, or fails with `code`."""

    name: str
    delay_s: float = 0.0
    code: Any = None
    asked: int = 0
    cancelled: int = 0
    port: int = 0
    server: Any = field(default=None, repr=False)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 (gRPC's name)
        self.asked += 1
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.code is not None:
            await context.abort(self.code, f"{self.name} fails")
        return service_pb2.ModelInferResponse(id=self.name)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=self.code is None)

    async def start(self) -> "Shard":
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()
        return self

    async def stop(self) -> None:
        server, self.server = self.server, None
        if server is not None:  # a second stop never returns
            await server.stop(0)


async def ask(link: Any) -> str:
    answer = await link.client.infer("shard", [])
    return str(answer.get_response().id)


async def until(condition: Callable[[], bool]) -> None:
    """Return once it holds."""

    async def look() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), 60)


Test = Callable[[Any, Shard, Shard], Awaitable[None]]


def run(test: Test, settings: Settings = SETTINGS, *, host: str = "127.0.0.1") -> list[str]:
    """Run `test` with two shards and the replicas that ask them; returns what was noticed."""
    noticed: list[str] = []

    async def main() -> None:
        shards = [await Shard("a").start(), await Shard("b").start()]
        addresses = [f"{host}:{shard.port}" for shard in shards]
        replicas = Replicas(addresses, settings, lambda address: GrpcLink(address, "shard", 1), GrpcLink.ready, noticed.append)
        await replicas.open()
        try:
            await test(replicas, *shards)
        finally:
            await replicas.close()
            for shard in shards:
                await shard.stop()

    asyncio.run(main())
    return noticed


def test_calls_are_shared_out_over_the_replicas() -> None:
    async def test(replicas: Any, a: Shard, b: Shard) -> None:
        a.delay_s = b.delay_s = 0.01
        answers = await asyncio.gather(*(replicas.call(ask) for _ in range(20)))
        assert answers.count("a") == answers.count("b") == 10

    run(test)


def test_a_slow_replica_gets_fewer_calls() -> None:
    async def test(replicas: Any, a: Shard, b: Shard) -> None:
        a.delay_s, b.delay_s = 0.2, 0.01

        async def client() -> None:
            for _ in range(10):
                await replicas.call(ask)

        await asyncio.gather(client(), client())
        assert a.asked < b.asked

    run(test)


def test_a_call_that_fails_is_answered_by_the_other_replica_and_the_first_is_avoided_until_it_is_well() -> None:
    async def test(replicas: Any, a: Shard, b: Shard) -> None:
        a.code = grpc.StatusCode.INTERNAL
        assert [await replicas.call(ask) for _ in range(6)] == ["b"] * 6
        assert a.asked == 1 and replicas.counts.retries == 1
        a.code = None
        await until(lambda: all(replica.well for replica in replicas.known.values()))
        assert {await replicas.call(ask) for _ in range(4)} == {"a", "b"}

    noticed = run(test)
    assert len(noticed) == 2 and "avoided" in noticed[0] and "a fails" in noticed[0] and "is back" in noticed[1]


def test_a_replica_that_went_away_comes_back_by_itself() -> None:
    async def test(replicas: Any, a: Shard, b: Shard) -> None:
        await b.stop()
        await a.stop()
        with pytest.raises(NoReplicaError, match=f"127.0.0.1:{a.port}"):
            await replicas.call(ask)
        asked = 0

        async def count(link: Any) -> str:
            nonlocal asked
            asked += 1
            return await ask(link)

        with pytest.raises(NoReplicaError):
            await replicas.call(count)
        assert asked == 0  # hence at once
        await a.start()
        await until(lambda: bool(replicas.known[f"127.0.0.1:{a.port}"].well))
        assert await replicas.call(ask) == "a"

    run(test)


def test_a_replica_that_answers_nothing_is_given_up_after_the_timeout() -> None:
    async def test(replicas: Any, a: Shard, b: Shard) -> None:
        a.delay_s = 600
        assert {await replicas.call(ask) for _ in range(4)} == {"b"}
        await until(lambda: a.cancelled == a.asked >= 1)  # the server was told that nobody waits any more

    run(test, dataclasses.replace(SETTINGS, timeout_s=2))


def test_a_request_that_the_server_finds_fault_with_is_not_tried_elsewhere() -> None:
    async def test(replicas: Any, a: Shard, b: Shard) -> None:
        a.code = b.code = grpc.StatusCode.INVALID_ARGUMENT

        async def infer(link: Any) -> Any:
            return await link.infer([], [])

        with pytest.raises(RefusedError, match="fails"):
            await replicas.call(infer)
        assert a.asked + b.asked == 1
        assert all(replica.well for replica in replicas.known.values())

    run(test)


def test_a_hedge_takes_the_faster_answer_and_calls_the_other_off() -> None:
    async def test(replicas: Any, a: Shard, b: Shard) -> None:
        a.delay_s = 600
        assert [await replicas.call(ask) for _ in range(4)] == ["b"] * 4
        assert replicas.counts.hedges >= 1 and replicas.counts.retries == 0
        await until(lambda: a.cancelled == a.asked >= 1)
        assert all(replica.well for replica in replicas.known.values())  # slow once is no fault

    run(test, dataclasses.replace(SETTINGS, hedge_s=0.05))


def test_a_name_stands_for_the_addresses_it_resolves_to() -> None:
    async def test(replicas: Any, a: Shard, b: Shard) -> None:
        assert set(replicas.known) == {f"127.0.0.1:{a.port}", f"127.0.0.1:{b.port}"}
        assert {await replicas.call(ask) for _ in range(4)} == {"a", "b"}

    run(test, host="localhost")


def test_without_any_address_that_resolves_the_error_says_so() -> None:
    async def main() -> None:
        replicas = Replicas(["no.such.host.invalid:1"], SETTINGS, lambda address: GrpcLink(address, "shard", 1), GrpcLink.ready, print)
        await replicas.open()
        with pytest.raises(NoReplicaError, match="no replica found at"):
            await replicas.call(ask)
        await replicas.close()

    asyncio.run(main())


def test_a_call_asks_no_more_replicas_than_it_may() -> None:
    async def test(replicas: Any, a: Shard, b: Shard) -> None:
        a.code = b.code = grpc.StatusCode.INTERNAL
        with pytest.raises(NoReplicaError) as lost:
            await replicas.call(ask)
        assert a.asked + b.asked == 1 and replicas.counts.retries == 0 and replicas.counts.lost == 1
        failed = a if a.asked else b
        assert f"127.0.0.1:{failed.port}: " in str(lost.value)

    run(test, dataclasses.replace(SETTINGS, attempts=1))


def test_answers_are_counted_with_how_long_they_took() -> None:
    async def test(replicas: Any, a: Shard, b: Shard) -> None:
        start_s = asyncio.get_running_loop().time()
        for _ in range(4):
            await replicas.call(ask)
        took_s = asyncio.get_running_loop().time() - start_s
        assert [replica.answered for replica in replicas.known.values()] == [2, 2]
        assert 0 < sum(replica.answered_s for replica in replicas.known.values()) <= took_s
        assert [replica.under_way for replica in replicas.known.values()] == [0, 0]

    run(test)


def test_an_error_without_words_is_told_by_its_name() -> None:
    async def test(replicas: Any, a: Shard, b: Shard) -> None:
        async def breaks(link: Any) -> str:
            raise ConnectionResetError

        with pytest.raises(NoReplicaError) as lost:
            await replicas.call(breaks)
        assert str(lost.value).count(": ConnectionResetError") == 2

    run(test)


def test_a_front_waits_for_the_first_answer_and_says_why_none_came() -> None:
    async def test(replicas: Any, a: Shard, b: Shard) -> None:
        assert await replicas.answering(60) is None
        a.code = b.code = grpc.StatusCode.UNAVAILABLE
        for replica in replicas.known.values():
            replicas._avoid(replica, "gone")
        lacking = await replicas.answering(0.3)
        assert lacking is not None and "no replica answers" in lacking and str(a.port) in lacking
        waiting = asyncio.create_task(replicas.answering(60))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        b.code = None
        assert await waiting is None

    run(test)
