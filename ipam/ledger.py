"""This host's journal with what guards it: a lock for each pool, and the fence of the lease."""

import threading
from collections.abc import Collection

from ipam.errors import NoSuchPool
from ipam.journal import Journal, PoolJournal
from ipam.model import PoolId
from ipam.tenancy import LeaseLapsed, Tenancy
from store.ip import IPAddress, IPNetwork


class Ledger:
    def __init__(self, journal: Journal, tenancy: Tenancy) -> None:
        self.journal, self._tenancy = journal, tenancy
        self._locks: dict[IPNetwork, threading.RLock] = {}

    def lock(self, pool: IPNetwork) -> threading.RLock:
        return self._locks.setdefault(pool, threading.RLock())

    def of(self, pool: IPNetwork) -> PoolJournal:
        return self.journal.pool(pool)

    def pools(self) -> Collection[IPNetwork]:
        return self.journal.pools()

    def refuse_if_not_ours(self, pool_id: PoolId) -> None:
        self._tenancy.refuse_if_fenced()
        if not self.journal.is_held(pool_id.pool):
            raise NoSuchPool(f"pool {pool_id} is no longer in use on this host")

    def give(self, pool_id: PoolId, address: IPAddress, kind: str) -> None:
        """Durable when it returns. The fence is looked at again: writing may have taken long."""
        journal = self.of(pool_id.pool)
        journal.give(pool_id, address, kind)
        try:
            self._tenancy.refuse_if_fenced()
        except LeaseLapsed:
            journal.take_back(address)
            raise
