"""Calls go down: what the import contract says of imports holds of the calls of a real build too, callbacks aside."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

import recsplit
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "recsplit"


def layers() -> dict[str, int]:
    """The line of each folder, from the contract in pyproject.toml: 0 is the topmost."""
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    contracts = toml.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (stack,) = [contract for contract in contracts if contract["name"] == "recsplit is a stack"]
    return {name.strip(): number for number, line in enumerate(stack["layers"]) for name in line.split("|")}


@contextmanager
def calls(edges: dict[tuple[str, str], str]) -> Iterator[None]:
    """Record every call from one folder of recsplit into another: (caller's folder, callee's folder), with an example."""
    folders: dict[str, str | None] = {}

    def folder_of(frame: FrameType) -> str | None:
        name = frame.f_code.co_filename
        if name not in folders:
            path = Path(name)
            inside = path.relative_to(PACKAGE).parts if path.is_relative_to(PACKAGE) else ()
            folders[name] = inside[0].removesuffix(".py") if inside and inside[0] != "templates" else None
        return folders[name]

    def note(frame: FrameType, event: str, _argument: object) -> None:
        handed_down = "<" in getattr(frame.f_code, "co_qualname", "")  # lambdas and inner functions
        if event != "call" or frame.f_back is None or handed_down:
            return
        callee, caller = folder_of(frame), folder_of(frame.f_back)
        if callee is not None and caller is not None and callee != caller:
            edges.setdefault((caller, callee), f"{frame.f_back.f_code.co_name} calls {frame.f_code.co_name}")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not tell inner functions, which are handed down, from others")
def test_no_step_of_a_build_calls_back_up(tmp_path: Path) -> None:
    edges: dict[tuple[str, str], str] = {}
    with calls(edges):
        recsplit.build("recsplit.zoo.tiny:dlrm", out=tmp_path / "models", max_batch_size=16, progress=lambda text, done, total: None)
    line = layers()
    steps = {"load", "graph", "write", "configs", "proof", "repository", "plan", "disk"}
    assert steps <= {callee for _, callee in edges}, "the walk went another way than docs/architecture.md says"
    assert not {edge: example for edge, example in edges.items() if line[edge[1]] <= line[edge[0]]}
