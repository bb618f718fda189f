"""This host's own record of all pools, and of how many Docker networks use them."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_network

from ipam.model import PoolId
from ipam.pool_journal import PoolJournal
from ipam.rests import Rests
from store.interface import Store
from store.ip import IPNetwork
from store.local import LocalRecords


@dataclass(frozen=True, slots=True)
class Held:
    """How many Docker networks of this host use a pool id."""

    uses: int
    since: float = 0.0  # when the last of them was added, in seconds since the epoch
    shared: bool = False  # by several at the same time, now or before


class Journal:
    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock
        self._opening = threading.Lock()
        self._held = LocalRecords(store, "held/", Held, PoolId.parse)
        self._holders = Counter[IPNetwork]()  # what `_held` says, by pool: asked for every pool again and again
        for pool_id, held in self._held.records.items():
            self._holders[pool_id.pool] += held.uses
        known = {
            *_pools_below(store, "blocks/"),
            *_pools_below(store, "addresses/"),
            *_pools_below(store, "gateways/"),
            *(h.pool for h in self.pool_ids()),
        }
        self._rests = Rests(store)
        self._pools = {pool: self._open(pool) for pool in known}

    def pools(self) -> list[IPNetwork]:
        return list(self._pools)

    def pool(self, pool: IPNetwork) -> PoolJournal:
        with self._opening:  # of a pool that two threads open at once there is one journal, not two
            if pool not in self._pools:
                self._pools[pool] = self._open(pool)
            return self._pools[pool]

    def _open(self, pool: IPNetwork) -> PoolJournal:
        return PoolJournal(self._store, pool, self._clock, self._rests.of(pool))

    def drop_pool(self, pool: IPNetwork) -> None:
        """Forget all of it, but that what was just in use must rest: the network may be made anew at once."""
        now, journal = self._clock(), self.pool(pool)
        self._rests.note(pool, journal.resting(now), now)
        journal.drop_all()
        self._pools.pop(pool, None)

    def uses(self, pool_id: PoolId) -> int:
        held = self._held.records.get(pool_id)
        return held.uses if held else 0

    def held(self) -> dict[PoolId, Held]:
        return self._held.copy()

    def pool_ids(self) -> list[PoolId]:
        return list(self._held.records)

    def is_held(self, pool: IPNetwork) -> bool:
        return self.holders(pool) > 0

    def holders(self, pool: IPNetwork) -> int:
        return self._holders[pool]

    def hold(self, pool_id: PoolId) -> None:
        uses = self.uses(pool_id)
        self._held.put(pool_id, Held(uses + 1, self._clock(), shared=uses > 0))
        self._holders[pool_id.pool] += 1

    def let_go(self, pool_id: PoolId) -> bool:
        """One network less on this pool id; the last one takes its addresses along.

        False if it is kept. Nothing tells a repeated release from that of another network: a dockerd that died in the
        middle of `network rm` sends it once more when it starts. So the last release of what several networks had
        frees no address that a container may have; what none has is garbage (cluster/garbage.py)."""
        held, journal = self._held.records.get(pool_id), self.pool(pool_id.pool)
        if held is not None and held.uses > 1:
            self._held.put(pool_id, replace(held, uses=held.uses - 1))
            self._holders[pool_id.pool] -= 1
        elif held is not None and held.shared and journal.worn_of(pool_id):
            return False
        else:
            journal.release_all_of(pool_id)
            self._held.remove(pool_id)
            self._holders[pool_id.pool] -= held.uses if held else 0
        return True


def _pools_below(store: Store, prefix: str) -> set[IPNetwork]:
    return {ip_network(key.removeprefix(prefix).split(" ")[0]) for key in store.read(prefix).entries}
