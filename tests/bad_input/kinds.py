"""One kind of bad input: how to make it, the command line, and what has to be said about it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

#: What a command may write to stderr before its error: its steps, and how long they took.
STEPS = re.compile(
    r"(loading|writing|asking|proving|searching|publishing|verifying|Triton loads"
    r"|Starting|Loading|Writing|Making|Reading|Counting|Training) "
)


def nothing(folder: Path) -> None:
    """For a kind that is bad by its command line alone."""


@dataclass(frozen=True)
class Kind:
    """Bad input. `make` puts it into the folder in which `recsplit ARGUMENTS` then runs; `error` and `hint` are words of the answer.

    Exit code 2: the input can't be used; 1: the work failed.
    """

    id: str
    arguments: str
    error: str
    hint: str
    code: int = 2
    make: Callable[[Path], object] = nothing

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True)
class Answer:
    """How a command ended: its exit code, the text after "Error: " with any detail, and the one after "Hint: "."""

    code: int
    error: str
    hint: str


def read(code: int, stderr: str) -> Answer:
    """The answer in what a command wrote. Fails where it is not steps, then one error, then one hint, and nothing else."""
    steps, *rest = re.split(r"^Error: ", stderr, flags=re.MULTILINE)
    assert len(rest) == 1, f"not one error:\n{stderr}"
    strange = [line for line in steps.splitlines() if not STEPS.match(line)]
    assert not strange, f"chatter before the error: {strange}"
    error, *hints = re.split(r"^Hint: ", rest[0], flags=re.MULTILINE)
    assert len(hints) == 1, f"not one hint:\n{stderr}"
    assert len(hints[0].splitlines()) == 1, f"something follows the hint:\n{stderr}"
    assert "Traceback" not in stderr
    assert "a bug in recsplit" not in stderr
    assert "report this" not in stderr and "please report" not in stderr
    return Answer(code, error.strip(), hints[0].strip())


def contents(folder: Path) -> Mapping[str, bytes | None]:
    """Every file under `folder` with its bytes, every other thing with None."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(folder.rglob("*"))
    }
