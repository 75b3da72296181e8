"""How many files and connections Triton may have open: it starts with a handful, and then answers some clients and not others."""

import resource

from recsplit.errors import RecsplitError

#: A server's own files and threads take some forty; the rest are connections.
LEAST, ENOUGH = 256, 4096


def allow_enough() -> None:
    """Raise this process's soft limit, which what it starts inherits, where it is low. Raises RecsplitError where it may not be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= LEAST:
        return
    allowed = ENOUGH if hard == resource.RLIM_INFINITY else min(ENOUGH, hard)
    if allowed < LEAST:
        raise RecsplitError(f"Triton can't start: no more than {hard} files may be open here", hint=f"ulimit -n {ENOUGH}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
