"""Workloads and a trace that come with recsplit (perf/scenarios), by their names."""

from importlib import resources
from pathlib import Path


def shipped(path: Path) -> Path:
    """The file that a bare name stands for ("elasticrec", "half-hourly-bursts"), unless a file has that name; else `path` as it is."""
    if path.parent != Path() or path.exists():
        return path
    folder = _folder()
    candidates = [folder / path.name, *(folder / f"{path.name}{suffix}" for suffix in (".toml", ".txt"))]
    return next((each for each in candidates if each.is_file()), path)


def names(suffix: str) -> list[str]:
    """The names of the shipped files with this suffix (".toml": workloads, ".txt": traces)."""
    return sorted(path.stem for path in _folder().glob(f"*{suffix}"))


def _folder() -> Path:
    return Path(str(resources.files("recsplit"))) / "scenarios"
