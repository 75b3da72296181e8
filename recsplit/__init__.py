"""recsplit cuts a trained recommender into embedding and dense sub-models and serves them on Triton.

    import recsplit

    built = recsplit.build(module, (dense, ids), out="models", name="shop")   # cut, proved equal, written
    with recsplit.serve(built) as server, recsplit.Client(server.grpc_url, "shop") as client:
        answer = client.infer({"dense": rows, "ids": ids})

The names below are the public API (docs/python.md); each is imported when it is first used, so that `import recsplit` costs nothing
and needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsplit.building.api import build, inspect
    from recsplit.building.build import Built
    from recsplit.building.inspection import Inspection
    from recsplit.client import Answer, AsyncClient, Client, ServerError, UnknownIds
    from recsplit.errors import InputError, MissingExtra, RecsplitError
    from recsplit.proof.published import Proof, verify
    from recsplit.serving import Server, serve
    from recsplit.serving.switching.switch import Switched
    from recsplit.serving.switching.update import rollback, update

__all__ = [
    "build", "inspect", "verify", "serve", "update", "rollback", "Client", "AsyncClient",
    "Answer", "Built", "Inspection", "Proof", "Server", "Switched",
    "RecsplitError", "InputError", "MissingExtra", "ServerError", "UnknownIds",
]  # fmt: skip

_HOMES = {
    "recsplit.building.api": ("build", "inspect"),
    "recsplit.building.build": ("Built",),
    "recsplit.building.inspection": ("Inspection",),
    "recsplit.client": ("Answer", "AsyncClient", "Client", "ServerError", "UnknownIds"),
    "recsplit.errors": ("InputError", "MissingExtra", "RecsplitError"),
    "recsplit.proof.published": ("Proof", "verify"),
    "recsplit.serving": ("Server", "serve"),
    "recsplit.serving.switching.switch": ("Switched",),
    "recsplit.serving.switching.update": ("update", "rollback"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(home), name)
            return value
    raise AttributeError(f"module 'recsplit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
