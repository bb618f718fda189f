"""Whether this host's own records can be written, found out by writing one: a disk may be full, be mounted read-only or
hang, and nobody else would know before the next address is asked for."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate

from store.interface import ABSENT, Put, Store, StoreUnavailable

KEY = "trial"
PATIENCE = 1.0  # seconds for the disk


class Trial:
    def __init__(self, local: Store, patience: float = PATIENCE) -> None:
        self._local, self._patience = local, patience
        self._lock = threading.Lock()
        self._under_way: Future[str] | None = None

    def fault(self) -> str:
        """That and why they cannot be written, empty if they can. Those who ask at the same time share one attempt."""
        try:
            why = self._attempt().result(self._patience)
        except TooLate:
            why = f"the disk of the state directory has not taken a record within {self._patience:g} s"
        return f"nothing can be written down, so no address is given out: {why}" if why else ""

    def _attempt(self) -> Future[str]:
        with self._lock:
            if self._under_way is None or self._under_way.done():
                pool = ThreadPoolExecutor(1)
                self._under_way = pool.submit(self._write)
                pool.shutdown(wait=False)
            return self._under_way

    def _write(self) -> str:
        try:
            before = self._local.get(KEY)
            # another value each time: what stands there already is not written
            self._local.commit(Put(KEY, str(time.time_ns()).encode(), before.version if before else ABSENT))
        except StoreUnavailable as error:
            return str(error)
        return ""
