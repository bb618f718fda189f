"""What time it is for a lease: on this machine alone, since no clock is ever compared with another."""

import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    def boot(self) -> float:
        """Seconds since the machine started, sleep included."""

    def boot_id(self) -> str:
        """Another one after each start of the machine."""

    def wall(self) -> float:
        """Seconds since the epoch, as far as this machine knows."""


class SystemClock:
    def __init__(self) -> None:
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot_id(self) -> str:
        return self._boot_id

    def wall(self) -> float:
        return time.time()
