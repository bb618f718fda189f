"""Tells systemd's watchdog (`man sd_watchdog_enabled`) that all is well: only while the loops run, so that a flannelpy
that answers and does nothing is started anew."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plugin.notify import notify

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Systemd:
    """How this process was started."""

    socket: str | None = None  # where to tell
    watchdog: float | None = None  # seconds within which it must hear of us

    @classmethod
    def take(cls) -> "Systemd":
        """From the environment, which children then do not inherit."""
        socket, microseconds = os.environ.pop("NOTIFY_SOCKET", None), os.environ.pop("WATCHDOG_USEC", "")
        os.environ.pop("WATCHDOG_PID", None)
        return cls(socket, int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) else None)


class Watchdog:
    def __init__(self, systemd: Systemd, stalled: Callable[[], Sequence[str]]) -> None:
        """`stalled` gives the loops that stand still, in sentences."""
        self._systemd, self._stalled = systemd, stalled
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        if self._systemd.watchdog is not None:
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        period = (self._systemd.watchdog or 0) / 3
        while not self._stopping.wait(period):
            if why := self._stalled():
                log.error("systemd's watchdog is not told", extra={"why": "; ".join(why)})
            else:
                notify(self._systemd.socket, "WATCHDOG=1")
