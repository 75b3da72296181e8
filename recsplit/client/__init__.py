"""Ask a served model, sync or asyncio, over gRPC or HTTP, with the inputs that the model itself takes.

    from recsplit.client import Client

    with Client("127.0.0.1:8001", "shop") as client:
        answer = client.infer({"dense": dense, "ids": ids})          # a query of any number of rows
        answer = client.infer({"values": values, "offsets": offsets})  # a ragged model's own inputs

`Client` may be shared by threads, `AsyncClient` belongs to one event loop. Both read the model's inputs from the server
once, check a query against them before anything is sent, turn ragged inputs into rows that Triton can batch
(recsplit.plan.ragged), split a query that is larger than max_batch_size, and join the answers in order. Any Triton model
can be asked; ragged inputs need an ensemble that `recsplit build` wrote. `Answer` is a dict with the model's `version`.

Errors: `InputError` for a query that doesn't fit the model, `UnknownIds` for ids outside their tables, `ServerError`
for everything that happens on the way or on the server. What to retry is the caller's business; only a query that was split, and whose
parts were answered by two builds, is asked again, so that no answer is made of both.
"""

from recsplit.client.aio import AsyncClient
from recsplit.client.answer import Answer
from recsplit.client.blocking import Client
from recsplit.client.failures import ServerError
from recsplit.client.unknown import UnknownId, UnknownIds

__all__ = ["Client", "AsyncClient", "Answer", "ServerError", "UnknownId", "UnknownIds"]
