"""A server that is kept up: started again where it ends by itself, its dead instances replaced."""

import time
from collections.abc import Callable
from pathlib import Path

from recsplit.errors import RecsplitError
from recsplit.serving.server import Server
from recsplit.serving.upkeep.watch import Watch

#: A server that ends so soon after it was ready is most likely broken; after so many of these in a row nobody starts it again.
_SOON_S = 30.0
_MOST_SOON = 3


def keep_up(server: Server, again: Callable[[Server], Server] | None, repository: Path, tell: Callable[[str], None]) -> None:
    """Wait until the server is stopped, and see to it meanwhile; it is stopped on the way out, whatever happens.

    `again` starts another one in its place, on the same ports; None: the end of the server is the end. Raises RecsplitError where it
    ended by itself and isn't started again, or ended three times within half a minute of being ready, or its instances can't be replaced.
    """
    soon = 0
    while True:
        ready_s = time.monotonic()
        watch = Watch.over(server, repository, tell)
        with server:
            try:
                server.wait(watch.look)
                return
            except RecsplitError as error:
                soon = soon + 1 if time.monotonic() - ready_s < _SOON_S else 1
                if again is None or server.running.process.poll() is None or soon > _MOST_SOON:
                    raise
                tell(f"{error}. It is started again; its log is {server.log}.")
        begun = time.monotonic()
        server = again(server)
        tell(f"The server is ready again after {time.monotonic() - begun:.1f} s.")
