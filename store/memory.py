"""The store of the unit tests: one dictionary, one lock, the same rules as the real ones."""

import threading
import time
from collections import deque

from store.interface import Change, Entry, Put, Snapshot, StoreUnavailable
from store.rules import check_changes, check_key, check_prefix, differs, holds

LOG_KEPT = 1024  # changes; whoever waits from further back is answered at once


class MemoryStore:
    """Holds everything in this process and forgets it at its end. Safe for many threads."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._version = 1
        self._log: deque[tuple[int, str]] = deque([(self._version, "")], maxlen=LOG_KEPT)  # (version, key changed)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._closed = False

    def get(self, key: str) -> Entry | None:
        check_key(key)
        with self._lock:
            self._insist_open()
            return self._entries.get(key)

    def read(self, prefix: str) -> Snapshot:
        check_prefix(prefix)
        with self._lock:
            return self._snapshot(prefix)

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        check_prefix(prefix)
        deadline = time.monotonic() + timeout
        with self._lock:
            while not self._is_news(prefix, after) and (left := deadline - time.monotonic()) > 0:
                after = self._version
                self._changed.wait(left)
            return self._snapshot(prefix)

    def commit(self, *changes: Change) -> bool:
        check_changes(changes)
        with self._lock:
            self._insist_open()
            if not all(holds(change, self._entries.get(change.key)) for change in changes):
                return False
            touched = [change for change in changes if differs(change, self._entries.get(change.key))]
            self._version += bool(touched)
            for change in touched:
                self._apply(change)
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """End every wait under way; any later call raises StoreUnavailable."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def _insist_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

    def _snapshot(self, prefix: str) -> Snapshot:
        self._insist_open()
        keys = sorted(key for key in self._entries if key.startswith(prefix))
        return Snapshot({key: self._entries[key] for key in keys}, self._version)

    def _is_news(self, prefix: str, after: int) -> bool:
        if self._closed or after > self._version or after < self._log[0][0]:
            return True
        return any(version > after and key.startswith(prefix) for version, key in self._log)

    def _apply(self, change: Change) -> None:
        if isinstance(change, Put):
            self._entries[change.key] = Entry(change.value, self._version)
        else:
            del self._entries[change.key]
        self._log.append((self._version, change.key))
