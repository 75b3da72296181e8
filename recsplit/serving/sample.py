"""A request that a served model answers, as a curl command to try."""

import http.client
import json
import shlex
from contextlib import closing
from typing import Any

#: Longer ones are no help at a terminal.
LONGEST = 2000


def curl(http_url: str, model: str) -> str:
    """A curl command that asks `model` for one row of zeros; where that would fill the screen, one that asks for its inputs."""
    with closing(http.client.HTTPConnection(http_url, timeout=10)) as connection:
        connection.request("GET", f"/v2/models/{model}")
        metadata = json.loads(connection.getresponse().read())
    body = json.dumps({"inputs": [_zeros(tensor) for tensor in metadata["inputs"]]}, separators=(",", ":"))
    url = f"http://{http_url}/v2/models/{model}"
    return f"curl {url}" if len(body) > LONGEST else f"curl {url}/infer -d {shlex.quote(body)}"


def _zeros(tensor: dict[str, Any]) -> dict[str, Any]:
    """One input with every free dimension, the batch's too, at 1. JSON has false for BOOL."""
    shape = [max(int(dim), 1) for dim in tensor["shape"]]
    data: Any = tensor["datatype"] != "BOOL" and 0
    for dim in reversed(shape):
        data = [data] * dim
    return {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape, "data": data}
