"""Takes back what silent hosts hold. Nobody's clock is compared with anybody's: a host is given up when this host has
itself seen the record stand still for the whole lease time, while the store was readable all along."""

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from driver.membership import close_network
from ipam.clock import Clock
from ipam.epoch import one_more_gone
from ipam.pools import close_pool
from store import records
from store.codec import BadRecord, decode, encode
from store.feed import MAX_CHANGES
from store.interface import Check, Contended, Delete, Put, Snapshot, Store
from store.space import Space
from store.update import ATTEMPTS

log = logging.getLogger(__name__)

GAP = 3  # periods: after such a time without a look, what was seen before does not count
BATCH = MAX_CHANGES - 1  # deletions beside the check of the mark
SWEEP = 12  # looks


@dataclass(frozen=True, slots=True)
class Seen:
    version: int
    since: float  # seconds of this machine's own clock


class Reclaimer:
    def __init__(
        self,
        store: Store,
        host: str,
        ttl: float,
        period: float,
        clock: Clock,
        forget: Callable[[str], None] = lambda host: None,
        looked: Callable[[Snapshot], object] = lambda snapshot: None,
    ) -> None:
        """`forget` removes what a host has outside of the store; one that lives puts it there again. `looked` hears of
        each look."""
        self._forget, self._told = forget, looked
        self._store, self._host, self._ttl, self._period, self._clock = store, host, ttl, period, clock
        self._seen: dict[str, Seen] = {}
        self._looked = float("-inf")
        self._looks = 0

    def look(self) -> None:
        """One look at all hosts' records; to be called every period. What silent hosts hold is taken back."""
        snapshot = self._store.read(records.HOSTS)
        self._told(snapshot)
        now = self._clock.boot()
        if now - self._looked > GAP * self._period or records.host_key(self._host) not in snapshot.entries:
            # A pause, or a store that hides even our own record: time that nobody watched does not count.
            self._seen.clear()
        self._looked = now
        for host in self._stood_still(snapshot, now):
            self.reclaim(host)
        self._looks += 1
        if self._looks % SWEEP == 0:
            close_empty(self._store)  # what hosts left that died in the middle of closing it

    def silences(self) -> dict[str, float]:
        """How long this host has watched each other one without a sign of life, in seconds, as of the last look."""
        now = self._clock.boot()
        return {host: now - seen.since for host, seen in list(self._seen.items())}

    def _stood_still(self, snapshot: Snapshot, now: float) -> list[str]:
        versions = {key.removeprefix(records.HOSTS): entry.version for key, entry in snapshot.entries.items()}
        self._seen = {
            host: known if (known := self._seen.get(host)) and known.version == version else Seen(version, now)
            for host, version in versions.items()
            if host != self._host
        }
        still = [host for host, seen in self._seen.items() if now - seen.since > self._ttl]
        return [host for host in still if now - self._seen[host].since > self._lease_of(host, snapshot)]

    def _lease_of(self, host: str, snapshot: Snapshot) -> float:
        """As the host itself has it: while a setting is rolled out, a host with a longer one still gives out."""
        try:
            return decode(records.Host, snapshot.entries[records.host_key(host)].value).ttl
        except BadRecord:
            return float("inf")

    def reclaim(self, host: str) -> bool:
        """Take back all that the host holds, if its record still stands as seen. False if it has moved."""
        seen = self._seen.pop(host, None)
        entry = self._store.get(records.host_key(host))
        if entry is None or seen is None or entry.version != seen.version:
            return False
        self._forget(host)
        return give_up(self._store, host, entry.version)


def give_up(store: Store, host: str, version: int) -> bool:
    """Free everything of a host whose record is at `version`; False if it moves meanwhile, for then the host lives.

    First the record is marked, so that the host's next beat finds that it lost everything. Each further step checks
    that the mark still stands. A crash between two steps leaves a marked record, which stands still, too."""
    entry = store.get(records.host_key(host))
    if entry is None or entry.version != version:
        return False
    record = decode(records.Host, entry.value)
    if not record.reclaimed:
        marked = encode(replace(record, reclaimed=True))
        if not store.commit(Put(records.host_key(host), marked, version)):
            return False
        entry = store.get(records.host_key(host))
        if entry is None or entry.value != marked:
            return False
    freed = _free_all(store, host, Check(records.host_key(host), entry.version))
    if freed is None:
        return False
    close_empty(store)  # before the record goes: a crash in between leaves it, and all of this is done again
    if not _remove_record(store, host, entry.version):
        return False
    log.warning("host given up: what it held is free", extra={"host": host, "keys": freed})
    return True


def _remove_record(store: Store, host: str, version: int) -> bool:
    """False if it is not at `version` any more."""
    for _ in range(ATTEMPTS):
        if store.commit(Delete(records.host_key(host), version), *one_more_gone(store)):
            return True
        entry = store.get(records.host_key(host))
        if entry is None or entry.version != version:
            return False
    raise Contended(f"host {host} is not given up: other hosts kept changing {records.EPOCH}; try again")


def _free_all(store: Store, host: str, mark: Check) -> int | None:
    """How many keys the host held; None if the mark is gone, or somebody else just changed one of them."""
    held = list(_held_by(store, host))
    for start in range(0, len(held), BATCH):
        if not store.commit(mark, *(Delete(key, version) for key, version in held[start : start + BATCH])):
            return None
    return len(held)


def close_empty(store: Store) -> None:
    """Forget pools that no host uses and networks that have no peer. Safe at any time. A damaged record stays."""
    keys = store.read(records.POOLS).entries
    used = {key.rpartition("/")[0] for key in keys}
    for key in filter(records.names_pool, keys):
        try:
            _close(store, key, used)
        except BadRecord as error:
            log.error("record left as it is", extra={"key": key, "why": error})


def _close(store: Store, key: str, used: Collection[str]) -> None:
    where, _, what = key.rpartition("/")
    space, pool = records.space_of_key(key), records.pool_of_key(key)
    if what == "network" and f"{where}/peers" not in used:
        close_network(store, pool)
    elif what == "pool" and f"{where}/holders" not in used:
        close_pool(Space(store, space) if space else store, pool)


def _held_by(store: Store, host: str) -> Iterator[tuple[str, int]]:
    for prefix in (records.POOLS, records.LEASES, records.ENDPOINTS):
        for key, entry in store.read(prefix).entries.items():
            if _owner(key, entry.value) == host:
                yield key, entry.version


def _owner(key: str, value: bytes) -> str | None:
    """The host whose key this is, None if it is the cluster's."""
    if key.startswith(records.ENDPOINTS):
        return records.host_of_endpoint(key)
    part, _, last = "/".join(key.split("/")[2:]).partition("/")
    kinds: dict[str, type[records.Block] | type[records.Borrowed] | type[records.Wanted]] = {
        "blocks": records.Block,
        "borrowed": records.Borrowed,
        "wanted": records.Wanted,
    }
    if part in ("peers", "holders"):
        return last
    try:
        if key.startswith(records.LEASES):
            return decode(records.BlockLeases, value).host
        return decode(kinds[part], value).host if part in kinds else None
    except BadRecord:
        return None
