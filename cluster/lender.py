"""Answers other hosts' wishes for single addresses, as soon as the watch shows one."""

import logging
from collections.abc import Callable

from cluster.agent import Poked
from driver.view import View
from ipam.spaces import SpacedPool
from store.interface import Contended, StoreUnavailable
from store.records import pools_of

log = logging.getLogger(__name__)


class Lender(Poked):
    def __init__(self, view: Callable[[], View | None], answer: Callable[[SpacedPool], None]) -> None:
        self._view, self._answer = view, answer
        super().__init__("lender")

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._news.wait()
            self._news.clear()
            try:
                self._look()
            except Exception:  # the loop must live: the next change is another view
                log.exception("wishes for addresses were not read")

    def _look(self) -> None:
        view = self._view()
        for pool in pools_of(view.keys("wanted") if view else ()):
            self._attempt(pool)

    def _attempt(self, pool: SpacedPool) -> None:
        try:
            self._answer(pool)
        except (StoreUnavailable, Contended) as error:
            log.warning("a wish for an address stays unanswered", extra={"pool": pool, "why": error})
        except Exception:  # the loop must live: the asking host tries again
            log.exception("answering a wish failed", extra={"pool": pool})
