"""What is left to do in the kernel when a container comes or goes, and dockerd need not wait for.

The kernel changes one link after the other for all that run on it, each in some milliseconds, and a hundred containers
that start or end at once would have dockerd wait for seconds. What is not done when this process ends, the reconciler
does at the next start."""

import logging
import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from driver.errors import KernelError
from driver.kernel import Kernel

log = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds for the errand at hand, when the process ends
Errand = Callable[[Kernel], object]


class Errands:
    def __init__(self, open_kernel: Callable[[], AbstractContextManager[Kernel]], failed: Callable[[], object]) -> None:
        """`failed` hears that the reconciler must look."""
        self._open_kernel, self._failed = open_kernel, failed
        self._errands = queue.SimpleQueue[Errand | None]()  # None ends it
        self._thread = threading.Thread(target=self._run, name="errands", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._errands.put(None)
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def later(self, errand: Errand) -> None:
        """Soon, and one after the other."""
        self._errands.put(errand)

    def _run(self) -> None:
        while (errand := self._errands.get()) is not None:
            try:
                with self._open_kernel() as kernel:
                    errand(kernel)
            except KernelError as error:
                log.info("left to the reconciler", extra={"why": error})
                self._failed()
            except Exception:  # the loop must live: the reconciler does this one
                log.exception("an errand failed")
                self._failed()
