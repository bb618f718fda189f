"""This host's WireGuard key: made here, kept in the state directory, and never anywhere else."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from driver import wireguard_tool
from driver.command import NoAnswer
from driver.errors import KernelError
from driver.wireguard_tool import WG

log = logging.getLogger(__name__)

Stamp = tuple[int, int, int]


class HostKey:
    """A file that holds the private key, mode 0600. A host that lost it makes another, and the others follow."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[Stamp, str] | None = None

    def public(self) -> str:
        """The public key, in base64. The private one is made now if there is none."""
        with self._lock, _explained(self.path):
            if not self.path.exists():
                self._create()
            stamp = _stamp(self.path)
            if self._seen is None or self._seen[0] != stamp:
                self._seen = (stamp, self._derive())
            return self._seen[1]

    def _derive(self) -> str:
        try:
            return wireguard_tool.run(WG, "pubkey", stdin=self.path.read_text(errors="replace")).strip()
        except NoAnswer:
            raise
        except KernelError:
            # Not in wg's own words: they might repeat what is in the file.
            raise KernelError(
                f"{self.path} holds no WireGuard key; remove it, and this host makes itself another"
            ) from None

    def _create(self) -> None:
        """Whole or not at all, and on the disk before the public key is told to anybody."""
        text = wireguard_tool.run(WG, "genkey")
        draft = self.path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        log.info("WireGuard key made", extra={"path": self.path})


def _stamp(path: Path) -> Stamp:
    about = path.stat()
    return about.st_ino, about.st_mtime_ns, about.st_size


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KernelError(f"the WireGuard key {path} cannot be used: {error.strerror}") from error
