"""Acts on one Triton, in place and over gRPC: instances of its models come and go, and no request is lost.

How Triton takes an update, and what was tried: docs/decisions/0011-instances-in-place.md. Never over HTTP: there a load holds up the
connections that share its thread (1.6 to 3.1 s, measured on 2.51).
"""

import dataclasses
import itertools
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from recsplit.configs import override
from recsplit.configs.check import versions
from recsplit.disk import bounded
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.files import CONFIG_FILE
from recsplit.serving import notes
from recsplit.serving.control_key import GRPC_HEADER
from recsplit.serving.switching.alone import alone
from recsplit_controller.actuate import probe
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Target

#: Asking takes milliseconds; a server that is away must not hold up the loop.
_READ_S = 1.5
#: How long a change waits for one of another's (recsplit update, a dead instance) to end.
_WAIT_S = 60.0
#: So many configs are read at a tick.
_AT_ONCE = 50
#: An instance that is dead answers after 1 s; behind a backlog a probe waits as users do. Where that takes longer than this, and
#: meanwhile requests failed and none was answered, all instances are taken for dead: nobody else would tell.
_PROBE_S = 5.0
#: A probe meets any one of n instances: so many times n probes find a dead one 98 times of 100, and later ones find it then.
_PROBES = 4
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A server that comes back is seen at the next tick: gRPC's own pauses grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class TritonActuator:
    """An Actuator for the models of one server at `grpc_url` ("127.0.0.1:8001"); a target's name is its model's.

    `repository` is the folder that the server serves; each action reads config.pbtxt anew. `key` opens a model control that is
    closed to others; None: what recsplit serve left for this user, if it started the server, read anew for each action. A load that
    Triton doesn't end within `timeout_s` is an error; it may be carried out all the same, for under a backlog Triton ends a load when
    that is gone, though instances come at once.

    Raises InputError where a target is none of the repository's models, or its config has several instance groups.
    """

    def __init__(
        self, grpc_url: str, repository: Path, targets: Sequence[Target], *, key: str | None = None, timeout_s: float = 300.0
    ) -> None:
        self._models = {target.name: target.model for target in targets if target.unit == "instance"}
        self._repository = repository
        # Threads of each instance as they were rendered, when a config was last read.
        self._threads: dict[str, int | None] = {}
        for name in self._models:
            self._rendered(name)
        self._grpc_url, self._key = grpc_url, key
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(grpc_url, options=_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._lock = threading.Lock()
        # Under the lock. Failures: requests of a model that failed so far. Changes: how often a target was acted on, so that what a probe
        # saw before is not held against the instances that came after.
        self._failures: dict[str, int] = {}
        self._ill: dict[str, str] = {}
        self._busy: set[str] = set()
        self._changes = dict.fromkeys(self._models, 0)
        # What `counts` said last, whose turn it is next, and targets that were acted on since.
        self._counts = dict.fromkeys(self._models, Count())
        self._asked: dict[str, int] = {}  # by loads under way
        self._turn = itertools.cycle(self._models)
        self._touched: set[str] = set()

    def counts(self) -> dict[str, Count]:
        """Instances by target as the server's configs have them: those before a change until it has ended, which is what they are asked
        to be by then.

        Of more than 50 targets, 50 are asked in turn, and those that were acted on or aren't known: a call takes 0.3 ms of CPU.
        """
        with self._lock:
            ask = {name: self._config(self._models[name]) for name in self._to_ask()}
            self._touched &= self._busy
        for name, call in ask.items():
            try:
                self._counts[name] = self._count(name, call.result().config)
            except grpc.RpcError:
                self._counts[name] = Count()
        if all(self._counts[name] == Count() for name in ask):  # the server is away, for those that weren't asked too
            self._counts = dict.fromkeys(self._models, Count())
        return dict(self._counts)

    def _count(self, name: str, config: Any) -> Count:
        served = override.served(config, ())
        threads = None if served.threads == self._threads[name] else served.threads
        return Count(served.count, self._asked.get(name, served.count), threads=threads)

    def _to_ask(self) -> set[str]:
        unknown = {name for name in self._models if self._counts[name] == Count()}
        turn = {next(self._turn) for _ in range(min(_AT_ONCE, len(self._models)))}
        return unknown | turn | self._touched

    def begin(self, action: Action) -> None:
        """Start the load beside the loop. Raises InputError for a target that isn't this server's."""
        if action.target not in self._models:
            raise InputError(f"{action.target!r} is no model of this server", hint=f"it has {', '.join(self._models)}")
        with self._lock:
            self._busy.add(action.target)
            self._touched.add(action.target)
            self._asked[action.target] = action.count
        threading.Thread(target=self._act, args=(action,), name=f"load {action.target}", daemon=True).start()

    def outcomes(self) -> list[Outcome]:
        """The actions that ended since the last call."""
        ended = []
        while not self._outcomes.empty():
            ended.append(self._outcomes.get())
        return ended

    def ill(self) -> dict[str, str]:
        """Targets of which an instance's process is dead, as the last probes saw it.

        Triton counts the instance on, is ready, and fails the requests that meet it. So a model is probed when requests of it have failed
        since the last call; beside the loop, so that a call finds what the probes before it found.
        """
        for target, failed in self._failed().items():
            with self._lock:
                before = self._failures.get(target, 0)
                if failed < before:  # the server was started again, with new instances
                    self._ill.pop(target, None)
                    before = self._failures[target] = 0
                if failed == before or target in self._busy or target in self._ill:
                    continue
                self._failures[target] = failed
                self._busy.add(target)
                changes = self._changes[target]
            threading.Thread(target=self._look, args=(target, changes), name=f"probe {target}", daemon=True).start()
        with self._lock:
            return dict(self._ill)

    def close(self) -> None:
        """Let go of the server. A load that it has begun it carries out."""
        self._channel.close()

    def _act(self, action: Action) -> None:
        start = time.monotonic()
        error = None
        try:
            self._load(action)
        except grpc.RpcError as failed:
            error = self._told(failed)
        except (RecsplitError, OSError, ValueError) as failed:  # ValueError: the channel was closed
            error = str(failed)
        with self._lock:
            self._busy.discard(action.target)
            self._asked.pop(action.target, None)
            self._changes[action.target] += 1
            if error is None and action.kind == "heal":
                self._ill.pop(action.target, None)
        self._outcomes.put(Outcome(action, error, time.monotonic() - start))

    def _load(self, action: Action) -> None:
        """Raises grpc.RpcError where the server refuses or is away, RecsplitError where the override would not be this server's."""
        with alone(self._grpc_url, self._models[action.target], _WAIT_S):
            self._load_alone(action)

    def _load_alone(self, action: Action) -> None:
        rendered = self._rendered(action.target)
        model = self._models[action.target]
        ready = sorted(map(int, self._stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=model), timeout=_READ_S).versions))
        if not set(versions(rendered)) <= set(ready):
            raise RecsplitError(
                f"the server serves version {_listing(ready)} of {model!r}, and {self._repository} holds {_listing(versions(rendered))}"
                ": recsplit update brings that one to the server"
            )
        present = override.served(self._config(model).result().config, ready)
        served = dataclasses.replace(present, count=action.count, threads=action.threads)
        if action.kind == "heal":
            served = dataclasses.replace(served, policy=override.next_policy(present.policy))
        request = service_pb2.RepositoryModelLoadRequest(model_name=model)
        request.parameters["config"].string_param = override.override(rendered, served)
        key = notes.key_of(self._grpc_url) if self._key is None else self._key
        self._stub.RepositoryModelLoad(request, metadata=() if key is None else ((GRPC_HEADER, key),), timeout=self._timeout_s)

    def _look(self, target: str, changes: int) -> None:
        """Probe a model until an instance turns out to be dead, or all seem to live."""
        illness = None
        before = self._ended().get(target)
        try:
            request = probe.request(self._rendered(target))
            for _ in range(_PROBES * override.count(self._config(self._models[target]).result().config) if request is not None else 0):
                illness = self._probe(request)
                if illness is not None:
                    break
        except grpc.RpcError as error:  # away, or too busy to tell: the next failure asks again
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                illness = _starved(before, self._ended().get(target))
        except (RecsplitError, OSError, ValueError):
            pass
        with self._lock:
            self._busy.discard(target)
            if illness is not None and self._changes[target] == changes:
                self._ill[target] = illness

    def _probe(self, request: Any) -> str | None:
        """What a dead instance says of itself; None from one that lives. Raises grpc.RpcError where no answer comes."""
        try:
            self._stub.ModelInfer(request, timeout=_PROBE_S)
        except grpc.RpcError as error:
            illness = probe.dead(error.details() or "")
            if illness is None and error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
                raise
            return illness
        return None

    def _failed(self) -> dict[str, int]:
        """Requests that failed so far, by target; those of which the server tells nothing are left out."""
        return {target: failed for target, (_, failed) in self._ended().items()}

    def _ended(self) -> dict[str, tuple[int, int]]:
        """Requests that were answered, and that failed, so far."""
        try:
            answer = self._stub.ModelStatistics(service_pb2.ModelStatisticsRequest(), timeout=_READ_S)
        except grpc.RpcError:
            return {}
        by_model: dict[str, tuple[int, int]] = {}
        for statistics in answer.model_stats:
            answered, failed = by_model.get(statistics.name, (0, 0))
            counts = statistics.inference_stats
            by_model[statistics.name] = answered + counts.success.count, failed + counts.fail.count
        return {target: by_model[model] for target, model in self._models.items() if model in by_model}

    def _config(self, model: str) -> Any:
        """The call that asks for a model's completed config."""
        return self._stub.ModelConfig.future(service_pb2.ModelConfigRequest(name=model), timeout=_READ_S)

    def _rendered(self, target: str) -> Any:
        path = self._repository / self._models[target] / CONFIG_FILE
        config = override.read(bounded.read_text(path, bounded.RECORD_BYTES, hint="give the repository that the server serves"), str(path))
        self._threads[target] = override.served(config, ()).threads
        return config

    def _told(self, error: Any) -> str:
        """An error of the server's in one line."""
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"Triton did not end the load within {self._timeout_s:g} s; it may carry it out still"
        return " ".join((error.details() or str(error.code())).split())[:500]


def _listing(numbers: Iterable[int]) -> str:
    return " and ".join(map(str, numbers)) or "none by number"


def _starved(before: tuple[int, int] | None, after: tuple[int, int] | None) -> str | None:
    """Whether requests failed between two looks and none was answered, in words."""
    if before is None or after is None or after[0] != before[0] or after[1] <= before[1]:
        return None
    return f"no request was answered for {_PROBE_S:g} s, and {after[1] - before[1]} failed"
