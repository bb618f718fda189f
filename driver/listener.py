"""Hears from the kernel that something of ours may have changed, and asks for a pass of the reconciler."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from driver.errors import KernelError

log = logging.getLogger(__name__)

COALESCE = 0.2  # seconds: a burst of changes is one pass
COALESCE_RULES = 0.5  # of rules, where dockerd makes many changes one after the other
PAUSE = 1.0  # seconds before the kernel is listened to again


class Notices(Protocol):
    """Of something that may concern us."""

    def wait(self) -> bool: ...

    def close(self) -> None: ...


class Listener:
    def __init__(
        self, poke: Callable[[], object], open_notices: Callable[[], Notices], coalesce: float = COALESCE
    ) -> None:
        self._poke, self._open_notices, self._coalesce = poke, open_notices, coalesce
        self._stopping = threading.Event()
        self.failures = 0  # since the start
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Does not wait for the next notice: the thread ends with the process."""
        self._stopping.set()

    @property
    def runs(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen(self._open_notices())
            except KernelError as error:
                log.warning("listening to the kernel again", extra={"why": error})
            except Exception:  # the loop must live: a notice that cannot be read, or not passed on, is one of many
                log.exception("listening to the kernel failed")
            else:
                return
            self.failures += 1
            self._stopping.wait(PAUSE)

    def _listen(self, notices: Notices) -> None:
        try:
            if self.failures:
                self._poke()  # nobody heard what the kernel told meanwhile
            while not self._stopping.is_set():
                if notices.wait():
                    self._stopping.wait(self._coalesce)
                    self._poke()
        finally:
            notices.close()
