"""One at a time loads a model: `recsplit update`, the watch over dead instances, and the controller.

A load says all of what is to be served, versions and instances. Who looked before another's load and loads after it would undo that.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from recsplit.errors import RecsplitError
from recsplit.serving import notes


@contextmanager
def alone(grpc_url: str, model: str, wait_s: float) -> Iterator[None]:
    """No other of recsplit's loads this model on the server at `grpc_url` meanwhile.

    The lock lies in the private folder of a server that recsplit serve started on this machine; for others there is none. Raises
    RecsplitError where another has it for longer than `wait_s`.
    """
    folder = notes.folder_of(grpc_url)
    if folder is None:
        yield
        return
    # Of no use once its holder is dead: the kernel lets go of it then.
    lock = FileLock(folder / f"{model}.lock", timeout=wait_s, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise RecsplitError(
            f"{model!r} of {grpc_url} is being changed already", hint="recsplit update or a controller is at work on it: try again"
        ) from error
    try:
        yield
    finally:
        lock.release()
