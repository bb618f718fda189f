"""What this host does again and again: each duty at its own pace, none of them able to stop the others."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.dockerd import EngineUnavailable
from driver.errors import DriverError
from store.interface import Contended, StoreUnavailable

log = logging.getLogger(__name__)

LONGEST = 300.0  # seconds one duty may take: each of its questions to the store or to Docker has its own end
SOON = 1.0  # seconds until a duty that failed is tried again, doubled with each failure up to its period


@dataclass(frozen=True, slots=True)
class Duty:
    name: str
    act: Callable[[], object]
    period: float  # seconds


class Upkeep:
    def __init__(self, duties: Sequence[Duty]) -> None:
        self._duties = duties
        self._failing: dict[str, str] = {}
        self._failures: Counter[str] = Counter()  # one after the other
        self._under_way = "", 0.0  # the duty, and since when
        self._stopping, self._woken = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._woken.set()

    def failing(self) -> dict[str, str]:
        """The duties that did not succeed the last time, and why."""
        return dict(self._failing)

    def stalled(self) -> str:
        """The duty that does not end, in a sentence; empty if there is none."""
        duty, began = self._under_way
        took = time.monotonic() - began
        return f"the duty `{duty}` has been under way for {took:.0f} s" if duty and took > LONGEST else ""

    def hurry(self) -> None:
        """Do all duties now: something made them urgent."""
        self._woken.set()

    def _run(self) -> None:
        due: dict[str, float] = {}
        while not self._stopping.is_set():
            if self._woken.is_set():
                self._woken.clear()
                due.clear()
            for duty in self._duties:
                if time.monotonic() >= due.get(duty.name, 0.0) and not self._stopping.is_set():
                    self._attempt(duty)
                    due[duty.name] = time.monotonic() + self._pause(duty)
            self._woken.wait(max(min(due.values(), default=0.0) - time.monotonic(), 0.05))

    def _pause(self, duty: Duty) -> float:
        failures = self._failures[duty.name]
        return min(duty.period, SOON * 2 ** min(failures - 1, 16)) if failures else duty.period

    def _attempt(self, duty: Duty) -> None:
        self._under_way = duty.name, time.monotonic()
        try:
            duty.act()
        except (StoreUnavailable, Contended, DriverError, EngineUnavailable) as error:
            if duty.name not in self._failing:
                # That the store is away is told, loudly and once, by store/breaker.py.
                level = logging.INFO if type(error) is StoreUnavailable else logging.WARNING
                log.log(level, "tried again later", extra={"duty": duty.name, "why": error})
            self._fail(duty, str(error))
        except Exception as error:  # the loop must live: the next round tries again
            log.exception("upkeep failed", extra={"duty": duty.name})
            self._fail(duty, f"internal error: {error}")
        else:
            self._failing.pop(duty.name, None)
            del self._failures[duty.name]
        finally:
            self._under_way = "", 0.0

    def _fail(self, duty: Duty, why: str) -> None:
        self._failing[duty.name] = why
        self._failures[duty.name] += 1
