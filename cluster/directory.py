"""Follows who is where on all hosts, and keeps the last of it, over an outage of the store and over a restart."""

import logging
from collections.abc import Callable, Mapping, Sequence, Set
from types import MappingProxyType

from cluster.following import Following
from store import records
from store.codec import BadRecord, decode, encode
from store.copy import Changes
from store.interface import ABSENT, MOST_OPERATIONS, Change, Delete, Entry, Put, Store
from store.space import Prefixed

log = logging.getLogger(__name__)

SEEN = "seen/"


class Directory:
    def __init__(
        self,
        store: Store,
        kept: Store,
        host: str,
        may_hide: Callable[[], bool],
        listeners: Sequence[Callable[[Set[str]], object]],
    ) -> None:
        """`kept` is a file of this host's. `may_hide` tells whether others may have what the store does not show. A
        listener is told which keys changed, once `endpoints` gives what they are now."""
        self._store, self._kept, self._host = store, Prefixed(kept, SEEN), host
        self._may_hide, self._listeners = may_hide, listeners
        self._odd: set[str] = set()  # keys that are none of an endpoint, and were told of
        before = self._decoded(self._kept.read(records.ENDPOINTS).entries)
        self._endpoints = self._saved = MappingProxyType(before)
        self._doubted: Set[str] = frozenset()  # known, and not shown by a store that has forgotten
        self._following = Following(store, host, records.ENDPOINTS, self._take, self._believes)
        self.start, self.stop, self.hurry = self._following.start, self._following.stop, self._following.hurry

    def endpoints(self) -> Mapping[str, records.Endpoint]:
        """All of them by key, as the store last had them, be it before a restart."""
        return self._endpoints

    def entries_of(self, host: str) -> dict[str, Entry] | None:
        """A host's records as they stand in the store, None if it has not answered since the start."""
        entries = self._following.entries()
        if entries is None:
            return None
        return {k: entry for k, entry in entries.items() if records.host_of_endpoint(k) == host}

    def save(self) -> None:
        """To be called now and then: what changed since is written to this host's disk, each endpoint by itself, so
        that a change in a large cluster costs no more than in a small one."""
        known, saved = self._endpoints, self._saved
        if known is saved:
            return
        changed = [key for key, it in known.items() if (was := saved.get(key)) is not it and was != it]
        keys = [*changed, *(saved.keys() - known.keys())]
        for start in range(0, len(keys), MOST_OPERATIONS):
            self._kept.commit(*(self._kept_as(key, known.get(key)) for key in keys[start : start + MOST_OPERATIONS]))
        self._saved = known

    def _kept_as(self, key: str, endpoint: records.Endpoint | None) -> Change:
        standing = self._kept.get(key)
        version = standing.version if standing else ABSENT
        return Put(key, encode(endpoint), version) if endpoint else Delete(key, version)

    def _believes(self, entries: Mapping[str, Entry]) -> bool:
        """Nothing at all may mean that the store hides its keys from this token: then our own record is hidden, too.

        What is missing in it goes, unless the store has forgotten: there each host tells again what it has."""
        if not entries and self._endpoints and not self._store.get(records.host_key(self._host)):
            return False
        missing = self._endpoints.keys() - entries.keys()
        self._doubted = missing if missing and self._may_hide() else frozenset()
        if gone := missing - self._doubted:
            self._replace(gone, {})
        return True

    def _take(self, changes: Changes) -> None:
        there = {key: entry for key, entry in changes.items() if entry is not None}
        self._doubted -= there.keys()
        self._replace(changes.keys() - self._doubted, there)

    def _replace(self, keys: Set[str], entries: Mapping[str, Entry]) -> None:
        """What is known of these keys by what stands there now."""
        endpoints = self._endpoints.copy()  # `dict` of a proxy takes many times as long
        for key in keys:
            endpoints.pop(key, None)
        endpoints |= self._decoded(entries)
        self._endpoints = MappingProxyType(endpoints)
        for listener in self._listeners:
            listener(keys)

    def _decoded(self, entries: Mapping[str, Entry]) -> dict[str, records.Endpoint]:
        found = {}
        for key, entry in entries.items():
            try:
                if self._is_of_endpoint(key):
                    found[key] = decode(records.Endpoint, entry.value)
            except BadRecord as error:
                log.error("record left out", extra={"key": key, "why": error})
        return found

    def _is_of_endpoint(self, key: str) -> bool:
        if records.host_of_endpoint(key):
            return True
        if key not in self._odd:
            self._odd.add(key)
            log.error("key left out, it is none of an endpoint", extra={"key": key})
        return False
