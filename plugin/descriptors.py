"""File descriptors, of which this process or the machine may have none left."""

import errno
import os
import resource

ROOM = 16  # that a request may take: its connection, sockets to the kernel and to others, pipes to `nft`
NONE_LEFT = (errno.EMFILE, errno.ENFILE)


def raise_limit() -> None:
    """As far as this process may: a shell's is 1024, and each published port may be two descriptors."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def has_room(some: int) -> bool:
    """Whether there are enough for a request: found out by taking them, in some microseconds, as copies of `some`."""
    taken: list[int] = []
    try:
        while len(taken) < ROOM:
            taken.append(os.dup(some))
    except OSError as error:
        if not is_for_want(error):
            raise
        return False
    finally:
        for descriptor in taken:
            os.close(descriptor)
    return True


def is_for_want(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in NONE_LEFT


def sentence() -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"flannelpy on this host has no file descriptors left, of {limit}; `ls -l /proc/{os.getpid()}/fd` shows what "
        "has them: raise its limit (LimitNOFILE in flannelpy.service) and restart it"
    )
