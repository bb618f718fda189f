"""This host's journal with what guards it: a lock for each pool, and the fence of the lease."""

import threading
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from ipam.errors import IpamError, NoSuchPool
from ipam.journal import Journal
from ipam.model import PoolId
from ipam.pool_journal import PoolJournal
from ipam.tenancy import LeaseLapsed, Tenancy
from store.codec import BadRecord
from store.interface import Contended, StoreUnavailable
from store.ip import IPAddress, IPNetwork

T = TypeVar("T")


def each_by_itself(things: Iterable[T], act: Callable[[T], object]) -> None:
    """One whose records are damaged, or contradict ours, hinders no other; the first failure is told in the end."""
    failures: list[Exception] = []
    for thing in things:
        try:
            act(thing)
        except (BadRecord, IpamError, Contended) as error:
            failures.append(error)
    if failures:
        raise failures[0]


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
        if (why := self.of(pool_id.pool).doubt) is not None:
            raise StoreUnavailable(
                f"this host gives out no address of pool {pool_id.pool}: it lost its lease, or the store its data, and "
                f"what the store has of the pool cannot be compared with what this host holds ({why})"
            )

    def give(self, pool_id: PoolId, address: IPAddress, kind: str) -> None:
        """Durable when it returns. The fence is looked at again: writing may have taken long."""
        journal = self.of(pool_id.pool)
        journal.give(pool_id, address, kind)
        try:
            self._tenancy.refuse_if_fenced()
        except LeaseLapsed:
            journal.free(address)
            raise
