"""Follows who is where on all hosts, and keeps the last of it, over an outage of the store and over a restart."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence, Set
from types import MappingProxyType

from cluster.following import Following
from store import records
from store.codec import BadRecord, decode
from store.copy import Changes
from store.interface import ABSENT, Entry, Put, Store

log = logging.getLogger(__name__)

KEPT = "endpoints-seen"  # in this host's own store


class Directory:
    def __init__(
        self, store: Store, local: Store, host: str, listeners: Sequence[Callable[[Set[str]], object]]
    ) -> None:
        """A listener is told on which hosts something changed."""
        self._store, self._local, self._host, self._listeners = store, local, host, listeners
        if local.get(KEPT) is None:
            local.commit(Put(KEPT, b"{}", ABSENT))
        self._odd: set[str] = set()  # keys that are none of an endpoint, and were told of
        self._endpoints: Mapping[str, records.Endpoint] = MappingProxyType(self._decoded(_kept(local)))
        self._saved: Mapping[str, Entry] | None = None
        self._following = Following(store, host, records.ENDPOINTS, self._take, self._believes)
        self.start, self.stop = self._following.start, self._following.stop

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
        """To be called now and then: what stands in the store is kept on this host's disk, if it has changed."""
        entries = self._following.entries()
        if entries is None or entries is self._saved:
            return
        old = self._local.get(KEPT)
        text = json.dumps({key: entry.value.decode(errors="replace") for key, entry in entries.items()})
        self._local.commit(Put(KEPT, text.encode(), old.version if old else ABSENT))
        self._saved = entries

    def _believes(self, entries: Mapping[str, Entry]) -> bool:
        """Nothing at all may mean that the store hides its keys from this token: then our own record is hidden, too."""
        return bool(entries or not self._endpoints or self._store.get(records.host_key(self._host)))

    def _take(self, changes: Changes) -> None:
        standing = self._following.entries() or {}
        gone = self._endpoints.keys() - standing.keys()  # also what was kept over a restart, of which no change tells
        kept = {key: record for key, record in self._endpoints.items() if key not in gone and key not in changes}
        fresh = {key: entry for key, entry in changes.items() if entry is not None}
        self._endpoints = MappingProxyType(kept | self._decoded(fresh))
        hosts = {records.host_of_endpoint(key) for key in gone | changes.keys()}
        for listener in self._listeners:
            listener(hosts)

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


def _kept(local: Store) -> dict[str, Entry]:
    entry = local.get(KEPT)
    shape = json.loads(entry.value) if entry else {}
    return {key: Entry(value.encode(), ABSENT) for key, value in shape.items()}
