"""The plugin's socket. One has it at a time: a flannelpy, or its stand-in, which gives way to one that starts."""

import fcntl
import os
import socket
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plugin import client
from plugin.handshake import GIVE_WAY

PATIENCE = 3.0  # seconds: a worker outlives its killed master by about one
SOCKET_UMASK = 0o117  # mode 0660 from the moment of bind()
BACKLOG = 1024


class Busy(Exception):
    """Another flannelpy is running; the message is a sentence."""


class Taken(Busy):
    """Somebody else has the socket."""


class Place:
    """The file of a socket that one listens on, for as long as it is that socket's."""

    def __init__(self, path: Path) -> None:
        self.path, self._file = path, _file(path)

    def is_lost(self) -> bool:
        """Nobody finds the socket any more: somebody removed its file, and another may have one there."""
        return _file(self.path) != self._file

    def remove(self) -> None:
        if not self.is_lost():
            self.path.unlink(missing_ok=True)


def listen(path: Path, patience: float = PATIENCE) -> socket.socket:
    """A listening socket at `path`, in place of a dead one's file. The directory is locked meanwhile, or two starts
    at the same time would both find the file dead. Without patience, nobody is asked to give way."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent):
            _remove_dead(path, patience)
            return _bound(path)
    except OSError as error:
        raise Busy(f"FLANNELPY_SOCKET is {str(path)!r}: it cannot be used ({error})") from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_dead(path: Path, patience: float) -> None:
    if not path.exists():
        path.unlink(missing_ok=True)  # a dangling link
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise Busy(f"FLANNELPY_SOCKET is {str(path)!r}: there is a file that is not a socket")
    _await_end(path, patience)
    path.unlink(missing_ok=True)


def _await_end(path: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    if patience and _listener(path) is not None:
        client.grants(path, GIVE_WAY, timeout=patience / 3)
    while (pid := _listener(path)) is not None:
        if time.monotonic() > deadline:
            who = f" (process {pid})" if pid else ""
            raise Taken(f"Another flannelpy answers on {path}{who}: stop it first")
        time.sleep(0.1)


def _listener(path: Path) -> int | None:
    """The process that listens at `path`, 0 if it cannot be told (too busy, or in another container), None if none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except BlockingIOError:
            return 0
        pid, _, _ = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)


def _file(path: Path) -> tuple[int, int] | None:
    """What tells a file from any other that has its name; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(SOCKET_UMASK)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener
