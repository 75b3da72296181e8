"""The engine in this process, by its C interface, for the proof, tests and benchmarks; what it says is what Triton's clients are told."""

import ctypes
import json
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsplit.engine.compilation import Engine
from recsplit.errors import RecsplitError
from recsplit.plan.dtypes import NUMPY, TRITON_OF_NUMPY

Arrays = dict[str, NDArray[Any]]

_TEXT, _HANDLE, _NUMBER, _INT = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int32
_DIMS = ctypes.POINTER(ctypes.c_int64)
#: As c_api.h declares them: what comes back, and the arguments.
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "recsplit_error": (_TEXT, []),
    "recsplit_open": (_HANDLE, [_TEXT, _TEXT, _TEXT]),
    "recsplit_close": (None, [_HANDLE]),
    "recsplit_loaded": (_TEXT, [_HANDLE]),
    "recsplit_set_workers": (None, [_HANDLE, ctypes.c_int]),
    "recsplit_busy_ns": (ctypes.c_uint64, [_HANDLE]),
    "recsplit_batch": (_HANDLE, [_HANDLE, _NUMBER]),
    "recsplit_input": (ctypes.c_int, [_HANDLE, _NUMBER, _TEXT, _TEXT, _DIMS, _NUMBER, _HANDLE]),
    "recsplit_run": (None, [_HANDLE]),
    "recsplit_failure": (_TEXT, [_HANDLE, _NUMBER]),
    "recsplit_output": (_HANDLE, [_HANDLE, _NUMBER, _TEXT, ctypes.POINTER(_DIMS), ctypes.POINTER(_NUMBER)]),
    "recsplit_free": (None, [_HANDLE]),
    "recsplit_probe_random": (ctypes.c_double, [_HANDLE, ctypes.c_uint64, ctypes.c_uint64]),
    "recsplit_probe_sequential": (ctypes.c_double, [_HANDLE, ctypes.c_uint64]),
    "recsplit_route": (
        ctypes.c_int32,
        [
            ctypes.c_int64,
            ctypes.c_int32,
            _HANDLE,
            ctypes.c_int32,
            _HANDLE,
            ctypes.c_int32,
            ctypes.c_int64,
            ctypes.c_double,
            _HANDLE,
            ctypes.c_int32,
        ],
    ),
    "recsplit_pool": (
        ctypes.c_int,
        [_TEXT, _HANDLE, ctypes.c_uint64, _NUMBER, _TEXT, _TEXT, _TEXT, _HANDLE, ctypes.c_uint64, _NUMBER, _HANDLE],
    ),
}


class Refused(RecsplitError):
    """A request that the engine refused, or failed at."""


class Library:
    """The engine's library, loaded."""

    def __init__(self, engine: Engine) -> None:
        library = ctypes.CDLL(str(engine.library))
        for name, (answer, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = answer, arguments
        self.calls = library

    def error(self) -> RecsplitError:
        """The reason of the last failure."""
        return RecsplitError(self.calls.recsplit_error().decode(errors="replace"))

    def pool(
        self,
        table: NDArray[Any],
        dtype: str,
        ids: NDArray[np.int64],
        pooling: str,
        kernels: str = "",
        *,
        stored: str | None = None,
        dim: int | None = None,
    ) -> NDArray[Any]:
        """Pooled rows [bags, dim] of `table` [rows, dim], of Triton's `dtype`; ids INT64 [bags, length].

        `stored`: how the rows are stored, where that is otherwise (see RowFormat in kernels.h); of scaled ones `table` is UINT8
        [rows, row bytes], and `dim` says how many numbers they have. Raises RecsplitError where an id is outside, or this processor
        doesn't have the kernels.
        """
        ids = np.ascontiguousarray(ids)
        width = table.shape[1] if dim is None else dim
        # What NumPy has no type for goes in and out as its bits.
        pooled = np.empty((len(ids), width), table.dtype if stored is None else np.uint16 if dtype == "BF16" else NUMPY[dtype])
        code = self.calls.recsplit_pool(
            kernels.encode(), table.ctypes.data, len(table), width, dtype.encode(), (stored or dtype).encode(), pooling.encode(),
            ids.ctypes.data, *ids.shape, pooled.ctypes.data,
        )  # fmt: skip
        if code:
            raise self.error()
        return pooled

    def random_line_ns(self, memory: NDArray[Any], lines: int) -> float:
        """Nanoseconds a cache line of `memory`, read at random, so many of them, each asked for long before: the least there is."""
        return float(self.calls.recsplit_probe_random(memory.ctypes.data, memory.nbytes, lines))

    def sequential_bytes_per_s(self, memory: NDArray[Any]) -> float:
        """Bytes of `memory` a second, read one after the other."""
        return float(self.calls.recsplit_probe_sequential(memory.ctypes.data, memory.nbytes))


class Model:
    """A model that the engine has loaded out of its version folder, as Triton would with this config (as JSON's objects)."""

    def __init__(self, library: Library, folder: Path, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        self._library = library
        self._calls = library.calls
        self._outputs = {output["name"]: NUMPY[output["data_type"].removeprefix("TYPE_")] for output in config["output"]}
        self._handle = self._calls.recsplit_open(str(folder).encode(), json.dumps(config).encode(), json.dumps(dict(settings)).encode())
        if not self._handle:
            raise library.error()
        self._closing = weakref.finalize(self, self._calls.recsplit_close, self._handle)

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the model, as happens with the object itself. Safe to repeat."""
        self._handle = None
        self._closing()

    @property
    def loaded(self) -> str:
        """What was loaded, in words."""
        return str(self._calls.recsplit_loaded(self._handle).decode())

    def set_workers(self, count: int) -> None:
        """How many threads may compute at a time."""
        self._calls.recsplit_set_workers(self._handle, count)

    def run(self, requests: Sequence[Mapping[str, NDArray[Any]]]) -> list[Arrays | Refused]:
        """Each request's outputs, or why it was refused, out of one batch. Inputs have the batch first."""
        batch = self._calls.recsplit_batch(self._handle, len(requests))
        if not batch:
            raise self._library.error()
        try:
            kept = [{name: np.ascontiguousarray(data) for name, data in request.items()} for request in requests]
            refused: dict[int, Refused] = {}
            for number, request in enumerate(kept):
                for name, data in request.items():
                    dims = (ctypes.c_int64 * data.ndim)(*data.shape)
                    dtype = TRITON_OF_NUMPY[data.dtype.name]
                    if self._calls.recsplit_input(batch, number, name.encode(), dtype.encode(), dims, data.ndim, data.ctypes.data):
                        refused[number] = Refused(str(self._library.error()))
            if refused:  # as at the server, whose core refuses such a request before the others' batch is made
                answered = (
                    self.run([request for number, request in enumerate(kept) if number not in refused]) if len(refused) < len(kept) else []
                )
                rest = iter(answered)
                return [refused[number] if number in refused else next(rest) for number in range(len(kept))]
            self._calls.recsplit_run(batch)
            return [self._answer(batch, number) for number in range(len(kept))]
        finally:
            self._calls.recsplit_free(batch)

    def _answer(self, batch: Any, number: int) -> Arrays | Refused:
        failure = self._calls.recsplit_failure(batch, number)
        if failure is not None:
            return Refused(failure.decode(errors="replace"))
        arrays: Arrays = {}
        for name, dtype in self._outputs.items():
            dims, rank = ctypes.POINTER(ctypes.c_int64)(), ctypes.c_uint32()
            data = self._calls.recsplit_output(batch, number, name.encode(), ctypes.byref(dims), ctypes.byref(rank))
            shape = tuple(dims[axis] for axis in range(rank.value))
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            arrays[name] = np.frombuffer(ctypes.string_at(data, size), dtype=dtype).reshape(shape)
        return arrays
