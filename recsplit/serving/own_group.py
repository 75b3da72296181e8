"""A process group of its own for what is started: a Ctrl-C at the terminal reaches only us, who end it in order.

No session of its own: Linux gives processor time to sessions first (man 7 sched, autogroup), and one that starts many processes at once
on a busy machine then waits for more than a second. Triton's python backend (2.51) takes an instance that is silent for a second for dead,
and ends the whole server by that: TerminateStub takes a lock that the instance held. Measured: 8 instances started at once beside 8 busy
loops on two cores, 5 of 14 servers ended by themselves in a session of their own, none of 42 in a group.
"""

import os
import sys
from typing import Any

#: Arguments for subprocess.Popen.
OWN_GROUP: dict[str, Any] = {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}
