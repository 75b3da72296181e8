"""Live traffic as a trace: the requests that Triton itself recorded of the embedding model, with their tensors.

The file is one JSON array of events: {"id": request, "model_name": ...} (level TIMESTAMPS), and then for each of the request's inputs
{"id": request, "activity": "TENSOR_QUEUE_INPUT", "tensor": {"name", "data": "1,2,3", "shape": "3,1", "dtype"}} (level TENSORS). So Triton
2.51 writes it; with log-frequency it comes in several files, FILE.json.0 and so on.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from recsplit.disk import bounded
from recsplit.disk.files import size_text
from recsplit.errors import InputError
from recsplit.partition.access.counting import needed
from recsplit.plan.plan import Plan

Array = NDArray[np.generic]

_NAME = re.compile(r"\.json(\.[0-9]+)?$")
_BLOCK = 1 << 20
#: Of one event: some times the text of a large batch's ids.
_LONGEST = 1 << 24
HINT = "start tritonserver with --trace-config for each of: triton,file=FILE.json level=TIMESTAMPS level=TENSORS rate=100"


def is_live(path: Path) -> bool:
    """Whether a file is named as a trace of Triton's."""
    return _NAME.search(path.name) is not None


def requests(path: Path, plan: Plan, advance: Callable[[int], None]) -> Iterator[dict[str, Array]]:
    """The inputs of every request to the plan's embedding model, one request at a time; `advance` is called with how many bytes were read.

    A request that was still under way when the file ends is left out. Raises InputError where the file is no trace of tensors, or holds
    no such request.
    """
    input_names = set(needed(plan, {tensor.name for tensor in plan.embedding.inputs}))
    open_requests: dict[int, dict[str, Array]] = {}
    complete = 0
    with bounded.text_file(path, hint=HINT) as file:
        for event in _events(path, file, advance):
            number = event.get("id")
            if event.get("model_name") == plan.embedding.name and isinstance(number, int):
                open_requests[number] = {}
            elif number in open_requests and event.get("activity") == "TENSOR_QUEUE_INPUT":
                name, array = _tensor(path, event.get("tensor"))
                inputs = open_requests[number]
                if name in input_names:
                    inputs[name] = array
                if len(inputs) == len(input_names):
                    complete += 1
                    yield open_requests.pop(number)
    if not complete:
        raise InputError(f"{path} holds no request to {plan.embedding.name!r} with its tensors", hint=HINT)


def _events(path: Path, file: TextIO, advance: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    """The objects of a JSON array, with a block of the file, or one object of it, in memory; an array that is cut off ends early."""
    decoder, text, place, started = json.JSONDecoder(), "", 0, False
    while block := file.read(max(_BLOCK, len(text) - place)):  # as much again: an object is looked at a few times, however long it is
        advance(len(block))
        text, place = text[place:] + block, 0
        while True:
            while place < len(text) and text[place] in "[,] \n\r\t":
                started = started or text[place] == "["
                place += 1
            if place < len(text) and not (started and text[place] == "{"):
                raise InputError(f"{path} is no trace of Triton's", hint=HINT)
            try:
                event, place = decoder.raw_decode(text, place)
            except json.JSONDecodeError:
                break  # the rest of it is in the next block, or nowhere
            except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
                raise InputError(f"{path} has an event that can't be read", hint=HINT) from error
            yield event
        if len(text) - place > _LONGEST:
            raise InputError(f"{path} has an event of more than {size_text(_LONGEST)}, the most that is read", hint=HINT)


def _tensor(path: Path, tensor: object) -> tuple[str, Array]:
    try:
        if not isinstance(tensor, dict):
            raise ValueError("no object")
        shape = [int(size) for size in tensor["shape"].split(",")]
        kind = np.float64 if str(tensor["dtype"]).startswith("FP") else np.int64
        return str(tensor["name"]), np.array(tensor["data"].split(",") if tensor["data"] else [], dtype=kind).reshape(shape)
    except (KeyError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(f"{path} has a tensor that can't be read", hint=HINT) from error
