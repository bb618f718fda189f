"""Gives up root: whoever could make the resolver do his will has the names, and nothing else of the host."""

import ctypes
import os

NOBODY = 65534  # user and group, which own nothing
NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS, linux/prctl.h


def give_up_root() -> None:
    """For good, with all capabilities and groups. OSError if this process may not: then it stays as it was."""
    if os.geteuid() != 0:
        return
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS is refused")
