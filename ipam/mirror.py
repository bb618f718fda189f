"""Tells everybody which addresses this host has given out: one record a block, written a moment after a change.

Nothing depends on it but what people see, and where a host looks for an address to borrow. So it may be late, and
many changes are one write."""

import logging
import threading
from collections.abc import Callable, Collection, Mapping

from ipam.spaces import SpacedPool
from store import records
from store.codec import decode, encode
from store.interface import ABSENT, Check, Put, Store, StoreUnavailable
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
        pools: Callable[[], Collection[SpacedPool]] = list,
        pause: float = PAUSE,
    ) -> None:
        """`store` is the store as a space sees it; `given` tells the addresses in use in a pool, by block of this
        host; `pools` are all that it has."""
        self._store, self._host, self._given, self._pools, self._pause = store, host, given, pools, pause
        self._lock = threading.Lock()
        self._changed_pools: set[SpacedPool] = set()
        self._told: dict[tuple[str, IPNetwork, IPNetwork], tuple[IPAddress, ...]] = {}
        self._wanted, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def start(self) -> None:
        """The last process may have ended before all was told."""
        self._all_changed()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(self._pause)

    def forget(self) -> None:
        """After a lost lease others may have removed what was told, and a store may have lost it."""
        self._told = {}
        self._all_changed()

    def _all_changed(self) -> None:
        for pool in self._pools():
            self.changed(pool)

    def changed(self, pool: SpacedPool) -> None:
        with self._lock:
            self._changed_pools.add(pool)
        self._wanted.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.wait()
            self._stopping.wait(COALESCE)
            self._wanted.clear()
            untold = [pool for pool in self._take() if not self._attempt(pool)]
            for pool in untold:
                self.changed(pool)
            if untold:
                self._stopping.wait(self._pause)

    def _take(self) -> set[SpacedPool]:
        with self._lock:
            taken, self._changed_pools = self._changed_pools, set()
        return taken

    def _attempt(self, pool: SpacedPool) -> bool:
        """False if it is to be tried again after a while."""
        try:
            return self.write(pool)
        except StoreUnavailable as error:
            log.debug("who has which address is told later", extra={"pool": pool[1], "why": error})
            return False
        except Exception:  # the loop must live: the next change tries again
            log.exception("the mirror failed", extra={"pool": pool})
            return True

    def write(self, pool: SpacedPool) -> bool:
        """False if not all of it could be told now."""
        store, told = self._store(pool[0]), self._told  # another one after `forget`
        news = {block: given for block, given in self._given(pool).items() if told.get((*pool, block)) is not given}
        written = {block: given for block, given in news.items() if self._write_block(store, pool[1], block, given)}
        told.update({(*pool, block): given for block, given in written.items()})
        return len(written) == len(news)

    def _write_block(self, store: Store, pool: IPNetwork, block: IPNetwork, given: tuple[IPAddress, ...]) -> bool:
        """False if the block was given back or lost a moment ago, or somebody else wrote meanwhile."""
        key, value = records.leases_key(pool, block), encode(records.BlockLeases(self._host, given))
        ours, entry = store.get(records.block_key(pool, block)), store.get(key)
        if ours is None or decode(records.Block, ours.value).host != self._host:
            return False
        holds = Check(records.block_key(pool, block), ours.version)
        stands = entry is not None and entry.value == value
        return stands or store.commit(holds, Put(key, value, entry.version if entry else ABSENT))
