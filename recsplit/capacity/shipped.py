"""Workloads and a trace that come with recsplit (perf/scenarios), by their names."""

from importlib import resources
from pathlib import Path


def shipped(path: Path, suffix: str) -> Path:
    """The file of this suffix that a bare name stands for ("elasticrec"), unless there is a file of that name; else `path` as it is."""
    name = str(path).removesuffix(suffix)
    return _folder() / f"{name}{suffix}" if name in names(suffix) and not path.is_file() else path


def names(suffix: str) -> list[str]:
    """The names of the shipped files with this suffix (".toml": workloads, ".txt": traces)."""
    return sorted(path.stem for path in _folder().glob(f"*{suffix}"))


def _folder() -> Path:
    return Path(str(resources.files("recsplit"))) / "scenarios"
