"""One path takes another's place at once, and gives it back: a kill or an interrupt leaves the old or the new, and loses neither.

Linux's renameat2 exchanges the two in one step. Where the kernel or the file system doesn't offer that, what is in the place is set aside
first: for a moment nothing is there, and `put_back` restores it, after an interrupt or by whoever comes after a killed process.
"""

import ctypes
import errno
import os
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

# Answers of kernels, C libraries and file systems that don't know the operation (NFS and some FUSE say EINVAL).
_NOT_OFFERED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}


class Swap:
    """`new` is to take `place`, where something may be or not. What was there lies at `new` or at `aside` afterwards.

    The three are on one file system, and nothing is at `aside`. Raises OSError where nothing is at `new`.
    """

    def __init__(self, new: Path, place: Path, aside: Path) -> None:
        self.new = new
        self.place = place
        self.aside = aside
        self._inode = new.lstat().st_ino  # by this `undo` knows the new one, wherever it lies

    def do(self) -> None:
        """Let `new` take the place.

        Raises OSError where the system refuses. Then, and after an interrupt, `undo` restores what was.
        """
        if not os.path.lexists(self.place):
            self.new.rename(self.place)
        elif not exchange(self.new, self.place):
            self.place.rename(self.aside)
            self.new.rename(self.place)

    def undo(self) -> None:
        """Undo `do`, however far it came: told from what lies where, since an interrupt may fall between any two steps. Safe to repeat.

        Raises OSError where the system refuses.
        """
        new_in_place = os.path.lexists(self.place) and self.place.lstat().st_ino == self._inode
        if new_in_place and not (os.path.lexists(self.new) and exchange(self.new, self.place)):
            self.place.rename(self.new)
        put_back(self.aside, self.place)


def put_back(aside: Path, place: Path) -> None:
    """What was set aside returns to its place, unless something is there now. Raises OSError where the system refuses."""
    if os.path.lexists(aside) and not os.path.lexists(place):
        aside.rename(place)


def exchange(one: Path, other: Path) -> bool:
    """Swap two existing paths atomically, with Linux's renameat2. False where that isn't offered: then nothing was done.

    Raises OSError where it is offered and fails.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_OFFERED:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))
