"""The state directory: one flannelpy at a time, and the host's name, which is its identity in the cluster."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from plugin.listening import PATIENCE, Busy
from plugin.settings import Settings, SettingsError, parse_host

_LOCK = "lock"
_ANYBODY = ("localhost", "localhost.localdomain", "(none)")


def claim(path: Path, patience: float = PATIENCE) -> BinaryIO:
    """Make the directory and lock it for as long as the answer stays open, here or in a forked worker."""
    with _explained(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(path)
        lock = (path / _LOCK).open("ab")
    deadline = time.monotonic() + patience
    while not _locked(lock):
        if time.monotonic() > deadline:
            lock.close()
            raise Busy(f"Another flannelpy is using the state directory {path}: stop it first")
        time.sleep(0.1)
    return lock


def with_host(settings: Settings) -> Settings:
    """The settings with the host's name, which is kept from the first start on: leases belong to it."""
    kept = settings.state_dir / "host"
    with _explained(settings.state_dir):
        name = _read(kept)
        if name is None:
            name = settings.host or _default_name(settings)
            _write(kept, name)
    if settings.host not in ("", name):
        raise SettingsError(
            f"FLANNELPY_HOST is {settings.host!r}: it must be {name!r}, whose leases this host holds, as {kept} says"
        )
    return replace(settings, host=name)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SettingsError(f"FLANNELPY_STATE_DIR is {str(path)!r}: it cannot be used ({error})") from None


def _make_private(path: Path) -> None:
    """Close a directory that was made for us beforehand, but never one that is somebody else's, like /tmp."""
    if not path.stat().st_mode & 0o077:
        return
    if any(path.iterdir()) and not (path / _LOCK).exists():
        raise SettingsError(f"FLANNELPY_STATE_DIR is {str(path)!r}: it must be a directory for flannelpy alone")
    path.chmod(0o700)


def _locked(lock: BinaryIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _default_name(settings: Settings) -> str:
    name = socket.gethostname()
    try:
        parse_host(name)
    except ValueError as error:
        raise SettingsError(f"FLANNELPY_HOST is not set, and the host name is {name!r}: {error}") from None
    if name in _ANYBODY and settings.store.scheme != "sqlite":
        raise SettingsError(f"FLANNELPY_HOST is not set, and the host name is {name!r}: it must be this host's alone")
    return name


def _read(kept: Path) -> str | None:
    try:
        name = kept.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None
    try:
        return parse_host(name) or None
    except ValueError as error:
        raise SettingsError(f"{kept} holds {name[:80]!r} as this host's name: {error}") from None


def _write(kept: Path, name: str) -> None:
    """Whole or not at all, and on the disk before anything is leased in this name."""
    draft = kept.with_suffix(".new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(f"{name}\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(kept)
    directory = os.open(kept.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
