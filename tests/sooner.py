"""What lets the tests end sooner, and changes nothing of what they show."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from recsplit.cli import collect_less
from recsplit.proof import search

#: Batches that a build's search tries at the most, the systematic ones among them. By default it tries more for as long as two seconds
#: last: as many as the machine is quick. Tests of the search itself take this back.
FEW_BATCHES = 10


@pytest.fixture(scope="session", autouse=True)
def few_objects_are_gone_through() -> None:
    """As the command line does: torch's millions of objects all stay."""
    collect_less()


@pytest.fixture(scope="session", autouse=True)
def searches_are_short() -> Iterator[None]:
    """The same batches on any machine, and few of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_MOST_BATCHES", FEW_BATCHES)
        yield


@pytest.fixture(autouse=True)
def torchs_operators_are_read_once() -> None:
    """torch.onnx.export reads the source of its five hundred operators at each call, which takes longer than a small model does."""
    registration = sys.modules.get("torch.onnx._internal.exporter._registration")
    if registration is None or hasattr(registration.ONNXRegistry, "read"):
        return
    registry, read = registration.ONNXRegistry, registration.ONNXRegistry.from_torchlib
    registries: dict[int, Any] = {}

    def from_torchlib(opset_version: int = registration._constants.TORCHLIB_OPSET) -> Any:
        if opset_version not in registries:
            registries[opset_version] = read(opset_version=opset_version)
        copy = registry()
        copy._opset_version = opset_version
        copy.functions = {name: list(metas) for name, metas in registries[opset_version].functions.items()}
        return copy

    registry.read = read
    registry.from_torchlib = staticmethod(from_torchlib)
