"""A served repository with a customer who asks it over and over, while others send it bad requests."""

import contextlib
import io
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray

from recsplit.cli import main
from recsplit.client import Client
from recsplit.errors import RecsplitError
from recsplit.serving import Server, serve
from tests.bad_input.models import models
from tests.serving.conftest import stubs

LIMIT = 8  # max_batch_size
#: Long enough that a bad request and good ones become one batch.
DELAY_US = 3000
FROM_FLOATS = models.saved(
    "ids = Cast<to = 7>(features) score = Gather(users, ids)", inputs="float[batch] features", outputs="float[batch, 8] score"
)

Arrays = Mapping[str, ArrayLike]
Protocol = Literal["grpc", "http"]


def query(rows: int = 2, **others: ArrayLike) -> dict[str, ArrayLike]:
    """A good query of `shop`, or one with some inputs exchanged."""
    return {"dense": np.ones((rows, 4), np.float32), "user": np.arange(rows), "tags": np.full((rows, 3), 7), **others}


def floats(*features: float) -> dict[str, ArrayLike]:
    """A query of `floats`."""
    return {"features": np.array(features, np.float32)}


def ragged(**others: ArrayLike) -> dict[str, ArrayLike]:
    """A good query of `bags`, as the model itself takes it, or one with some inputs exchanged."""
    return {"dense": np.ones((2, 4), np.float32), "values": np.array([1, 2, 3, 4]), "offsets": np.array([0, 2]), **others}


def in_rows(lengths: ArrayLike, values: ArrayLike = ((1, 2, 3), (4, 5, 6))) -> dict[str, Any]:
    """A query of `bags`, as its ensemble takes it."""
    return {"dense": np.ones((2, 4), np.float32), "values": np.asarray(values), "lengths": np.asarray(lengths)}


@dataclass
class Shop:
    """The server, the answer to a good query, and what the customer saw: how many answers, and what was wrong."""

    server: Server
    truth: NDArray[np.float32]
    processes: set[int]
    answered: int = 0
    wrong: list[str] = field(default_factory=list)

    def url(self, protocol: Protocol) -> str:
        """Where to ask."""
        return self.server.grpc_url if protocol == "grpc" else self.server.http_url

    def instances(self) -> set[int]:
        """The processes that serve `shop`."""
        return stubs(self.server, "shop_embedding") | stubs(self.server, "shop_dense")

    def ask(self, client: Client) -> None:
        """A good request; what is wrong with its answer is noted."""
        try:
            answer = client.infer(query())["score"]
        except RecsplitError as error:
            self.wrong.append(str(error))
            return
        self.answered += 1
        if not np.allclose(answer, self.truth, rtol=1e-5):
            self.wrong.append(f"answered {answer}")


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Shop]:
    """Build and serve `shop`, `floats` whose ids arrive as floats, and the ragged `bags`; the customer asks `shop` all the while."""
    models.saved()(folder / "shop.onnx")
    FROM_FLOATS(folder / "floats.onnx")
    for source, name in ((folder / "shop.onnx", "shop"), (folder / "floats.onnx", "floats"), ("recsplit.zoo.bags:mean_offsets", "bags")):
        settings = ["--name", name, "--max-batch-size", str(LIMIT), "--queue-delay-us", str(DELAY_US)]
        settings += ["--embedding-runtime", "onnxruntime"] if name == "bags" else []  # the engine answers bags without slots
        with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
            code = main(["build", str(source), "-o", str(folder / "models"), *settings])
        assert code == 0, said.getvalue()
    session = onnxruntime.InferenceSession(str(folder / "shop.onnx"), providers=["CPUExecutionProvider"])
    with serve(folder / "models") as server:
        shop = Shop(server, session.run(None, query())[0], set())
        shop.processes |= shop.instances()
        over = threading.Event()
        customer = threading.Thread(target=_ask_until, args=(shop, over))
        customer.start()
        try:
            yield shop
        finally:
            over.set()
            customer.join()


def _ask_until(shop: Shop, over: threading.Event) -> None:
    with Client(shop.server.grpc_url, "shop") as client:
        while not over.wait(0.002):
            shop.ask(client)
