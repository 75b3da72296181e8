"""Triton backend "remote": a shard that lives on servers of its own, in the place of the model that holds it.

Runs in Triton's stub process, so nothing of recsplit is imported here. Inputs and outputs are those of the shard's model: the
ensemble can't tell. Of a batch only the places in the shard's own range go out, as CSR bags; what comes back is put in
the shape of the partial tensor. Where no replica answers, the requests that have rows in this shard get an error, and the others
their zeros: a sum that lacks a part never leaves.

Triton's execute() returns when the batch is on its way; answers are sent as they come (response senders, in the default mode since
24.07), so that one process keeps several replicas busy.
"""

import asyncio
import concurrent.futures
import json
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # exists in the stub process only
from bucketise import bag_offsets, bucketise, nothing, partial  # type: ignore[import-not-found]  # beside this file, which is no package
from grpc_link import GrpcLink, tensors  # type: ignore[import-not-found]
from remote_metrics import Meters  # type: ignore[import-not-found]
from remote_settings import Bags, Remote  # type: ignore[import-not-found]
from replicas import NoReplicaError, RefusedError, Replicas, Settings  # type: ignore[import-not-found]

Arrays = dict[str, np.ndarray[Any, Any]]
#: How often counts are shown; each takes a message to Triton.
SHOW_S = 1.0


@dataclass(frozen=True)
class Question:
    """A batch as it goes out: tensors for the shard, and for each request whether it has rows there."""

    inputs: list[Any]
    outputs: list[str]
    sizes: tuple[int, ...]
    concerned: tuple[bool, ...]
    rows: int


class TritonPythonModel:
    """One instance: one event loop in a thread of its own, one gRPC channel a replica."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the config, and look for the replicas; whether one must be there yet, the config says."""
        config = json.loads(args["model_config"])
        try:
            self.remote = Remote.from_config(config)
        except ValueError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        self.name = config["name"]
        self.dtypes = {tensor["name"]: pb_utils.triton_string_to_numpy(tensor["data_type"]) for tensor in config["output"]}
        self.dims = {tensor["name"]: [int(dim) for dim in tensor["dims"]] for tensor in config["output"]}
        self.meters = Meters(self.name)
        self.skipped = self.rows = 0
        settings = Settings(
            timeout_s=self.remote.timeout_ms / 1e3,
            hedge_s=self.remote.hedge_ms / 1e3 or None,
            attempts=self.remote.attempts,
            probe_s=self.remote.probe_ms / 1e3,
            resolve_s=self.remote.resolve_ms / 1e3,
        )
        self.replicas = Replicas(self.remote.replicas, settings, self._connect, self._probe, self._notice)
        self.under_way: set[concurrent.futures.Future[None]] = set()
        self.failing: set[concurrent.futures.Future[None]] = set()
        self.ended = threading.Condition(threading.RLock())
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="remote", daemon=True)
        self.thread.start()
        self._run(self.replicas.open()).result()
        if self.remote.await_ms:
            self._await_answer()
        self.showing = self._run(self._show())

    def _await_answer(self) -> None:
        """Triton is ready when all its models are: clients are sent to a front that could answer nobody yet otherwise."""
        lacking = self._run(self.replicas.answering(self.remote.await_ms / 1e3)).result()
        if lacking is not None:
            raise pb_utils.TritonModelException(f"shard '{self.remote.model}' for {self.remote.await_ms / 1e3:g} s: {lacking}")

    def execute(self, requests: list[Any]) -> None:
        """Send the batch to the shard; the answers are sent when they arrive. Waits while too many batches are under way."""
        senders = [request.get_response_sender() for request in requests]
        try:
            feeds: list[Arrays] = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
            names_by_request = [set(request.requested_output_names()) for request in requests]
            question = self._bags(feeds) if self.remote.bags else self._as_they_are(feeds)
        except Exception as error:
            for sender in senders:
                _send(sender, _failure(error, pb_utils.TritonError.INTERNAL))
            return
        with self.ended:  # without a bound, every request would be a batch of its own
            self.ended.wait_for(lambda: len(self.under_way) < self.remote.calls_at_once * max(len(self.replicas.known), 1))
            self._track(self._answer(question, senders, names_by_request), self.under_way)

    def finalize(self) -> None:
        """Wait for the answers that are under way, for they are sent from here, and close the channels."""
        for left in (self.under_way, self.failing):  # the first may lead to some of the second
            concurrent.futures.wait(list(left), timeout=self.remote.attempts * self.remote.timeout_ms / 1e3)
        self.showing.cancel()
        self._run(self.replicas.close()).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    def _bags(self, feeds: Sequence[Arrays]) -> Question:
        """The rows of the shard, as CSR bags of the whole batch."""
        sizes = tuple(len(feed[self.remote.bags[0].places]) for feed in feeds)
        batch = sum(sizes)
        arrays: Arrays = {}
        row_counts = np.zeros(batch, np.int64)
        for bags in self.remote.bags:
            parts = [feed[bags.places] for feed in feeds]
            places = parts[0] if len(parts) == 1 else np.concatenate(parts)
            offsets = bag_offsets(batch, bags.widths)
            rows, ends = bucketise(places.reshape(-1), offsets, bags.first, bags.last)
            arrays[f"rows_{bags.number}"], arrays[f"offsets_{bags.number}"] = rows, ends
            row_counts += np.diff(ends[:: len(bags.widths)])
        concerned = tuple(bool(part.any()) for part in np.split(row_counts, np.cumsum(sizes)[:-1]))
        outputs = [f"pooled_{bags.number}" for bags in self.remote.bags]
        return Question(tensors(arrays), outputs, sizes, concerned, int(row_counts.sum()))

    def _as_they_are(self, feeds: Sequence[Arrays]) -> Question:
        """The inputs of the whole batch, for a shard that has no CSR form."""
        arrays = feeds[0] if len(feeds) == 1 else {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
        sizes = tuple(len(next(iter(feed.values()))) for feed in feeds)
        return Question(tensors(arrays), list(self.dtypes), sizes, (True,) * len(sizes), sum(sizes))

    async def _answer(self, question: Question, senders: Sequence[Any], names_by_request: Sequence[set[str]]) -> None:
        """Ask the shard and send each request its answer, or the error: always one of the two."""
        failure: Any = None
        partials: Arrays = {}
        try:
            if any(question.concerned):
                self.rows += question.rows
                answer = await self.replicas.call(lambda link: link.infer(question.inputs, question.outputs))
                partials = self._partials(answer, sum(question.sizes))
            else:
                self.skipped += 1
                partials = self._zeros(sum(question.sizes))
        except NoReplicaError as error:
            failure = _failure(f"shard '{self.remote.model}': {error}", pb_utils.TritonError.UNAVAILABLE)
        except RefusedError as error:
            failure = _failure(f"shard '{self.remote.model}' refused: {error}", pb_utils.TritonError.INTERNAL)
        except Exception as error:
            failure = _failure(f"shard '{self.remote.model}': {type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)
        if failure is not None:
            partials = {} if all(question.concerned) else self._zeros(sum(question.sizes))
        start, failed = 0, []
        for sender, names, size, concerned in zip(senders, names_by_request, question.sizes, question.concerned, strict=True):
            if failure is not None and concerned:
                failed.append(sender)
            else:
                response_tensors = [pb_utils.Tensor(name, array[start : start + size]) for name, array in partials.items() if name in names]
                _send(sender, pb_utils.InferenceResponse(response_tensors))
            start += size
        if failed:
            self._track(self._fail(failed, failure), self.failing)

    async def _fail(self, senders: Sequence[Any], failure: Any) -> None:
        """Send the error, after a moment in which the other shards can answer.

        Triton before 26.02 never lets go of an ensemble's request when a step fails while another one is under way (core #466, #483):
        its tensors stay in memory, and the ensemble can't be unloaded.
        """
        await asyncio.sleep(self.remote.hold_error_ms / 1e3)
        for sender in senders:
            _send(sender, failure)

    def _partials(self, answer: Arrays, batch: int) -> Arrays:
        """The partial tensors. Raises ValueError where the answer has another shape than the question asked for."""
        if self.remote.bags:
            partials = {bags.output: self._shaped(bags, answer[f"pooled_{bags.number}"], batch) for bags in self.remote.bags}
        else:
            partials = answer
        for name, array in partials.items():
            if len(array) != batch:
                raise ValueError(f"'{name}' has {len(array)} rows for a batch of {batch}")
        return {name: np.ascontiguousarray(array, self.dtypes[name]) for name, array in partials.items()}

    def _zeros(self, batch: int) -> Arrays:
        """The partial tensors of a batch without a row in the shard."""
        partials = {}
        for bags in self.remote.bags:
            pooled = nothing(batch * len(bags.widths), bags.dim, self.dtypes[bags.output], bags.poolings)
            partials[bags.output] = self._shaped(bags, pooled, batch)
        return partials

    def _shaped(self, bags: Bags, pooled: np.ndarray[Any, Any], batch: int) -> np.ndarray[Any, Any]:
        flat: np.ndarray[Any, Any] = partial(pooled, batch, bags.widths, bags.poolings)
        return flat.reshape(batch, *self.dims[bags.output])

    def _connect(self, address: str) -> GrpcLink:
        return GrpcLink(address, self.remote.model, self.remote.version)

    async def _probe(self, link: GrpcLink) -> None:
        """A real question where one can be made up: a server whose worker has died still says that it is ready."""
        if not self.remote.bags:
            await link.ready()
            return
        arrays: Arrays = {}
        for bags in self.remote.bags:
            arrays[f"rows_{bags.number}"] = np.zeros(0, np.int32)
            arrays[f"offsets_{bags.number}"] = np.zeros(len(bags.widths) + 1, np.int32)
        await link.infer(tensors(arrays), [f"pooled_{bags.number}" for bags in self.remote.bags])

    def _notice(self, text: str) -> None:
        pb_utils.Logger.log_warn(f"{self.name}: {text}")

    def _track(self, work: Coroutine[Any, Any, None], under_way: "set[concurrent.futures.Future[None]]") -> None:
        """Run it, and keep it among those under way until it has ended."""
        future = self._run(work)

        def end(_: object) -> None:
            with self.ended:
                under_way.discard(future)
                self.ended.notify()

        under_way.add(future)
        future.add_done_callback(end)

    async def _show(self) -> None:
        """Bring the metrics up to date, now and then."""
        while True:
            self.meters.keep(set(self.replicas.known))
            for replica in list(self.replicas.known.values()):
                for key in ("answered", "failed", "well"):
                    self.meters.show(key, float(getattr(replica, key)), replica=replica.address)
                self.meters.show("answered_us", replica.answered_s * 1e6, replica=replica.address)
            for key in ("retries", "hedges", "lost"):
                self.meters.show(key, float(getattr(self.replicas.counts, key)))
            self.meters.show("skipped", float(self.skipped))
            self.meters.show("rows", float(self.rows))
            await asyncio.sleep(SHOW_S)

    def _run(self, work: Coroutine[Any, Any, Any]) -> "concurrent.futures.Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self.loop)


def _send(sender: Any, response: Any) -> None:
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _failure(error: Exception | str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))
