"""Follows who is where on all hosts, and keeps the last of it, over an outage of the store and over a restart."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence, Set
from types import MappingProxyType

from cluster.following import Following
from store import records
from store.codec import BadRecord, decode
from store.copy import Changes
from store.interface import ABSENT, Entry, Put, Store

log = logging.getLogger(__name__)

KEPT = "endpoints-seen"
SHARE = 100  # keeping a large cluster's endpoints may take a hundredth of a processor


class Directory:
    def __init__(self, store: Store, kept: Store, host: str, listeners: Sequence[Callable[[Set[str]], object]]) -> None:
        """`kept` is a file of this host's. A listener is told on which hosts something changed."""
        self._store, self._kept, self._host, self._listeners = store, kept, host, listeners
        if kept.get(KEPT) is None:
            kept.commit(Put(KEPT, b"{}", ABSENT))
        self._odd: set[str] = set()  # keys that are none of an endpoint, and were told of
        self._endpoints: Mapping[str, records.Endpoint] = MappingProxyType(self._decoded(_read(kept)))
        self._unconfirmed: Set[str] = self._endpoints.keys()  # known from before a restart alone
        self._saved: Mapping[str, Entry] | None = None
        self._save_at = 0.0
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
        """To be called now and then: what stands in the store is kept on this host's disk, if it has changed."""
        entries = self._following.entries()
        if entries is None or entries is self._saved or time.monotonic() < self._save_at:
            return
        began, old = time.thread_time(), self._kept.get(KEPT)
        text = json.dumps({key: entry.value.decode(errors="replace") for key, entry in entries.items()})
        self._kept.commit(Put(KEPT, text.encode(), old.version if old else ABSENT))
        self._saved, self._save_at = entries, time.monotonic() + SHARE * (time.thread_time() - began)

    def _believes(self, entries: Mapping[str, Entry]) -> bool:
        """Nothing at all may mean that the store hides its keys from this token: then our own record is hidden, too."""
        return bool(entries or not self._endpoints or self._store.get(records.host_key(self._host)))

    def _take(self, changes: Changes) -> None:
        standing = self._following.entries() or {}
        touched = changes.keys() | (self._unconfirmed - standing.keys())  # of the latter no change tells
        endpoints = dict(self._endpoints)
        for key in touched:
            endpoints.pop(key, None)
        endpoints |= self._decoded({key: entry for key, entry in changes.items() if entry is not None})
        self._endpoints, self._unconfirmed = MappingProxyType(endpoints), frozenset()
        hosts = {records.host_of_endpoint(key) for key in touched}
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


def _read(kept: Store) -> dict[str, Entry]:
    entry = kept.get(KEPT)
    shape = json.loads(entry.value) if entry else {}
    return {key: Entry(value.encode(), ABSENT) for key, value in shape.items()}
