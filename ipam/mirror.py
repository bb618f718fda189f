"""Tells everybody which addresses this host has given out: one record a block, written a moment after a change.

Nothing depends on it but what people see, and where a host looks for an address to borrow. So it may be late, and
many changes are one write."""

import logging
import threading
from collections.abc import Callable, Mapping

from ipam.spaces import SpacedPool
from store import records
from store.codec import decode, encode
from store.interface import ABSENT, Check, Contended, Put, Store, StoreUnavailable
from store.ip import IPAddress, IPNetwork

log = logging.getLogger(__name__)

COALESCE = 0.1  # seconds in which changes become one write
PAUSE = 5.0  # seconds before a store that was away is tried again


class Mirror:
    def __init__(
        self,
        store: Callable[[str], Store],
        host: str,
        given: Callable[[SpacedPool], Mapping[IPNetwork, tuple[IPAddress, ...]]],
    ) -> None:
        """`store` is the store as a space sees it; `given` tells the addresses in use in a pool, by block of this
        host."""
        self._store, self._host, self._given = store, host, given
        self._lock = threading.Lock()
        self._changed_pools: set[SpacedPool] = set()
        self._told: dict[tuple[str, IPNetwork, IPNetwork], tuple[IPAddress, ...]] = {}
        self._wanted, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(PAUSE)

    def forget(self) -> None:
        """After a lost lease: others may have removed what was told."""
        self._told.clear()

    def changed(self, pool: SpacedPool) -> None:
        with self._lock:
            self._changed_pools.add(pool)
        self._wanted.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.wait()
            self._stopping.wait(COALESCE)
            self._wanted.clear()
            for pool in self._take():
                self._attempt(pool)

    def _take(self) -> set[SpacedPool]:
        with self._lock:
            taken, self._changed_pools = self._changed_pools, set()
        return taken

    def _attempt(self, pool: SpacedPool) -> None:
        try:
            self.write(pool)
        except (StoreUnavailable, Contended) as error:
            log.debug("who has which address is told later", extra={"pool": pool[1], "why": error})
            self.changed(pool)
            self._stopping.wait(PAUSE)
        except Exception:  # the loop must live: the next change tries again
            log.exception("the mirror failed", extra={"pool": pool})

    def write(self, pool: SpacedPool) -> None:
        store = self._store(pool[0])
        for block, given in self._given(pool).items():
            if self._told.get((*pool, block)) is given:
                continue
            key, value = records.leases_key(pool[1], block), encode(records.BlockLeases(self._host, given))
            ours, entry = store.get(records.block_key(pool[1], block)), store.get(key)
            if ours is None or decode(records.Block, ours.value).host != self._host:
                continue  # given back, or lost, a moment ago
            holds = Check(records.block_key(pool[1], block), ours.version)
            stands = entry is not None and entry.value == value
            if stands or store.commit(holds, Put(key, value, entry.version if entry else ABSENT)):
                self._told[(*pool, block)] = given
