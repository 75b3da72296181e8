"""Nested inputs and outputs, flattened under readable names.

Pure Python over any leaves; what a leaf holds is the caller's business.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

#: Keys and indices from the root of a nested value to one of its leaves.
Path: TypeAlias = tuple[str | int, ...]


def children(tree: Any) -> list[tuple[str | int, Any]] | None:
    """The (key, value) pairs of a mapping, named tuple, dataclass, list or tuple; None for a leaf."""
    if isinstance(tree, Mapping):
        return [(str(key), value) for key, value in tree.items()]
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return [(name, getattr(tree, name)) for name in tree._fields]
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    if isinstance(tree, list | tuple):
        return list(enumerate(tree))
    return None


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The leaves of `tree` with their paths, depth first, in order."""
    below = children(tree)
    if below is None:
        yield path, tree
        return
    for key, value in below:
        yield from leaves(value, (*path, key))


def rebuild(tree: Any, replace: Callable[[Path, Any], Any], path: Path = ()) -> Any:
    """`tree` with every leaf replaced, its containers of the same types."""
    below = children(tree)
    if below is None:
        return replace(path, tree)
    values = [rebuild(value, replace, (*path, key)) for key, value in below]
    if type(tree) in (list, tuple):
        return type(tree)(values)
    if isinstance(tree, Mapping):
        kind: Any = type(tree)
        return kind(dict(zip(tree.keys(), values, strict=True)))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return dataclasses.replace(tree, **{str(key): value for (key, _), value in zip(below, values, strict=True)})
    return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)


def readable(paths: Sequence[Path], *, root: str, used_names: Sequence[str] = ()) -> list[str]:
    """One name per path, of the letters that ONNX and Triton take; all different, and none in `used_names`.

    1. A path's parts joined by underscores: ("ids",) -> ids, ("ids", 0) -> ids_0, ("batch", "user") -> batch_user.
    2. Keys alone where one container holds all that is nested: ("batch", "user"), ("batch", "item") -> user, item.
    3. `root` stands before a number and for the empty path: (0,) -> output_0, () -> output.
    """
    containers = {path[0] for path in paths if len(path) > 1}
    short = [path[1:] if len(path) > 1 else path for path in paths]
    if len(containers) == 1 and len(set(short)) == len(short) and all(isinstance(path[0], str) for path in short):
        paths = short
    names: list[str] = []
    for path in paths:
        parts = path if path and isinstance(path[0], str) else (root, *path)
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", "_".join(map(str, parts)))
        unique, n = name, 2
        while unique in names or unique in used_names:
            unique, n = f"{name}_{n}", n + 1
        names.append(unique)
    return names
