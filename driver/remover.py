"""Takes down the links of containers that are gone.

dockerd does not wait for it: the kernel takes down one link after the other for all that run on it, each in some
milliseconds, and a hundred containers that end at once would have dockerd wait for seconds. What is not done when this
process ends, the reconciler does at the next start: it keeps no link without an endpoint."""

import logging
import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from driver.errors import KernelError
from driver.kernel import Kernel

log = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds for the link at hand, when the process ends


class Remover:
    def __init__(self, open_kernel: Callable[[], AbstractContextManager[Kernel]], failed: Callable[[], object]) -> None:
        """`failed` hears that a link may still be there."""
        self._open_kernel, self._failed = open_kernel, failed
        self._links = queue.SimpleQueue[str | None]()  # None ends it
        self._thread = threading.Thread(target=self._run, name="remover", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._links.put(None)
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def remove(self, link: str) -> None:
        """Soon; one that is gone by then is fine."""
        self._links.put(link)

    def _run(self) -> None:
        while (link := self._links.get()) is not None:
            try:
                with self._open_kernel() as kernel:
                    kernel.delete_link(link)
            except KernelError as error:
                log.warning("link not removed yet", extra={"why": error})
                self._failed()
            except Exception:  # the loop must live: the reconciler removes this one
                log.exception("removing a link failed")
                self._failed()
