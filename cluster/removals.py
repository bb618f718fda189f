"""Forgets the removals of networks, when nobody is left who must hear of them."""

from collections.abc import Callable, Mapping
from functools import cache, lru_cache

from store import records
from store.codec import BadRecord, decode
from store.interface import Delete, Entry, Store
from store.ip import IPNetwork
from store.records import DockerNetwork

REST = 600.0  # seconds a removal stays known after the last host has left: longer than any `docker network create`
REMEMBERED = 4096  # records: each look reads all of them, and few have changed


def read(entry: Entry) -> DockerNetwork | None:
    """None for a record of another version's making: that is told when it is about to be acted on."""
    return _decoded(entry.value)


@lru_cache(REMEMBERED)
def _decoded(value: bytes) -> DockerNetwork | None:
    try:
        return decode(DockerNetwork, value)
    except BadRecord:
        return None


class Removals:
    """A removal is remembered until no host is left in the network, those that are away included. Another network may
    have its pool by then, and peers there: but a host that is silent for the whole lease time is no longer one of them,
    so that whoever is has heard of a removal as old as that."""

    def __init__(self, store: Store, host: str, lease: float, clock: Callable[[], float]) -> None:
        """`lease` in seconds; `clock` is this host's own, likewise."""
        self._store, self._host, self._lease, self._clock = store, host, lease, clock
        self._seen: dict[str, tuple[int, float]] = {}  # version, and since when it stands so

    def forget(self, entries: Mapping[str, Entry]) -> None:
        """One look at the cluster's networks."""
        now, before, self._seen = self._clock(), self._seen, {}
        has_peers = cache(self._has_peers)  # asked once for each pool: the first that is free is taken again and again
        for key, entry in entries.items():
            record = read(entry)
            if record is None or not record.removed:
                continue
            version, since = before.get(key, (entry.version, now))
            self._seen[key] = (version, since) if version == entry.version else (entry.version, now)
            # All hosts would come at once; the one that wrote it comes first.
            rest = REST if record.host == self._host else 2 * REST
            age = now - self._seen[key][1]
            if age > rest + self._lease or (age > rest and not has_peers(record.pools[0])):
                self._store.commit(Delete(key, entry.version))

    def _has_peers(self, pool: IPNetwork) -> bool:
        return bool(self._store.read(records.peers_prefix(pool)).entries)
