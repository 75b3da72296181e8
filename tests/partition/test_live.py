import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsplit.errors import InputError
from recsplit.partition.access import live, traces
from recsplit.partition.access.counting import Counter
from tests.partition.test_access import plain


def tensor(name: str, values: Any) -> dict[str, Any]:
    array = np.asarray(values)
    shape = ",".join(map(str, array.shape))
    return {"name": name, "data": ",".join(map(str, array.reshape(-1).tolist())), "shape": shape, "dtype": "INT64"}


def asked(number: int, user: list[int], items: list[list[int]], lengths: list[list[int]], *, model: str = "shop_embedding") -> list[Any]:
    """The events of one request, as Triton 2.51 writes them."""
    inputs = {"user": user, "items": items, "items_lengths": lengths}
    return [
        {"id": number, "timestamps": [{"name": "HTTP_RECV_START", "ns": 1}]},
        {"id": number, "model_name": model, "model_version": 1, "parent_id": 7},
        *({"id": number, "activity": "TENSOR_QUEUE_INPUT", "tensor": tensor(name, values)} for name, values in inputs.items()),
        {"id": number, "activity": "TENSOR_BACKEND_OUTPUT", "tensor": tensor("user", [999])},
        {"id": number, "timestamps": [{"name": "REQUEST_END", "ns": 2}]},
    ]


TWO = [
    *asked(1, [5], [[1, 2, 0]], [[1, 1]]),
    *asked(2, [9], [[3, 4]], [[1, 1]], model="shop_dense"),
    *asked(3, [6, 7], [[8], [8]], [[1, 0], [0, 1]]),
]


@pytest.mark.parametrize("block", [1, 7, 50, 1 << 20])
def test_requests_to_the_embedding_model_are_counted(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_BLOCK", block)
    (tmp_path / "t.json.0").write_text(json.dumps(TWO))
    chunks = list(traces.chunks(tmp_path / "t.json.0", plain()))
    assert len(chunks) == 2
    counter = Counter(plain())
    for chunk in chunks:
        counter.add(chunk)
    users = counter.profile(1, ()).tables["users"]
    assert np.flatnonzero(users).tolist() == [5, 6, 7] and counter.rows == 3


def test_a_trace_that_is_still_being_written_counts_as_far_as_it_goes(tmp_path: Path) -> None:
    text = json.dumps(TWO)
    (tmp_path / "t.json").write_text(text[: text.rindex("items_lengths")])
    assert len(list(traces.chunks(tmp_path / "t.json", plain()))) == 1


@pytest.mark.parametrize("change", [{"shape": "9"}, {"data": "x"}, {"data": None}, {"dtype": None, "shape": None}])
def test_a_tensor_that_cannot_be_read_is_told(change: dict[str, Any], tmp_path: Path) -> None:
    events = asked(1, [5], [[1]], [[1, 0]])
    events[2]["tensor"] |= change
    (tmp_path / "t.json").write_text(json.dumps(events))
    with pytest.raises(InputError, match="can't be read"):
        list(traces.chunks(tmp_path / "t.json", plain()))
