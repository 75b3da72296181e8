"""Work for another core while one is measured: `python -m recsplit_perf.profile.neighbour MODEL.onnx INPUTS.npz CORE SECONDS`.

Runs the model on the inputs over and over, pinned to CORE: on the stdin "+" means run, "-" means wait. It answers "ready" once,
and ends with its stdin, or after SECONDS: nothing keeps a core busy that nobody measures.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsplit.errors import RecsplitError
from recsplit.proof.parts import session
from recsplit.serving.own_group import OWN_GROUP


class Neighbour:
    """The process, from the side of who starts it; it waits at first."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Run meanwhile."""
        self._say(b"+")
        try:
            yield
        finally:
            self._say(b"-")

    def _say(self, word: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(word)
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise RecsplitError("the process that keeps another core busy has ended", hint="measure for a shorter time") from error


@contextmanager
def neighbour(model: Path, inputs: Mapping[str, NDArray[Any]], core: int, seconds: float, folder: Path) -> Iterator[Neighbour]:
    """A neighbour on `core` that runs `model`; `folder` is a temporary one. Raises RecsplitError where it can't."""
    path = folder / f"{core}-{model.parent.parent.name}.npz"
    np.savez(path, **dict(inputs))
    command = [sys.executable, "-m", "recsplit_perf.profile.neighbour", str(model), str(path), str(core), str(seconds)]
    # A session of its own: a Ctrl-C at the terminal is for the one who measures, and the end of the pipe ends this one.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **OWN_GROUP) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != b"ready":
                raise RecsplitError(f"another process can't run {model}", hint="its own words are above")
            yield Neighbour(process)
        finally:
            process.terminate()


def main(arguments: list[str]) -> None:
    """Run as the module's docstring says."""
    model, inputs, core, seconds = arguments
    os.sched_setaffinity(0, {int(core)})
    with np.load(inputs) as arrays:
        feed = dict(arrays)
    run = session(Path(model))
    run(feed)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    deadline = time.monotonic() + float(seconds)
    running = False
    while (left_s := deadline - time.monotonic()) > 0:
        if select.select([0], [], [], 0 if running else left_s)[0]:
            words = os.read(0, 16)
            if not words:
                return
            running = words.endswith(b"+")
        elif running:
            run(feed)


if __name__ == "__main__":
    main(sys.argv[1:])
