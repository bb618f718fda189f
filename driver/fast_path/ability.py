"""Whether this host has a fast path now: its kernel can, this process may, and nothing of the host forbids it."""

import logging

from driver.kernel import Kernel

log = logging.getLogger(__name__)

IPSEC = "this host has IPsec policies, which packets on the fast path would not meet"


class Ability:
    """For one thread, but `works`."""

    def __init__(self) -> None:
        self.works = False
        self._lasting: str | None = None  # why it will not work until the next start; empty: tried, and it does
        self._told = ""

    def look(self, kernel: Kernel) -> None:
        if self._lasting is None:
            self._lasting = kernel.fast_path_refusal() or ""
        self._settle(self._lasting or (IPSEC if kernel.has_ipsec() else ""))

    def give_up(self, why: str) -> None:
        """It worked when it was tried, and does not on some link: then nothing of this host has one, for all of a
        network's links must be alike."""
        self._lasting = why
        self._settle(why)

    def _settle(self, why: str) -> None:
        self.works = not why
        if why != self._told:
            log.warning("no fast path" if why else "there is a fast path again", extra={"why": why} if why else {})
        self._told = why
