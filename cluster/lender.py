"""Answers other hosts' wishes for single addresses, as soon as the watch shows one."""

import logging
from collections.abc import Callable

from cluster.agent import Persistent
from driver.view import View
from ipam.spaces import SpacedPool
from store.interface import Contended, StoreUnavailable
from store.records import pools_of

log = logging.getLogger(__name__)

AGAIN = 0.5  # seconds until a wish is looked at again that the store was in the way of: who asks waits some seconds


class Lender(Persistent):
    def __init__(self, view: Callable[[], View | None], answer: Callable[[SpacedPool], None]) -> None:
        self._view, self._answer = view, answer
        super().__init__("lender", AGAIN)

    def _attempt(self) -> bool:
        try:
            view = self._view()
            unanswered = [pool for pool in pools_of(view.keys("wanted") if view else ()) if not self._answered(pool)]
        except Exception:  # the loop must live: the next change is another view
            log.exception("wishes for addresses were not read")
            return True
        return not unanswered

    def _answered(self, pool: SpacedPool) -> bool:
        """False if it is to be tried again."""
        try:
            self._answer(pool)
        except (StoreUnavailable, Contended) as error:
            log.debug("a wish for an address is answered later", extra={"pool": pool, "why": error})
            return False
        except Exception:  # the loop must live: the asking host tries again
            log.exception("answering a wish failed", extra={"pool": pool})
        return True
