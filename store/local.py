"""What this host must not forget, as a dictionary of records: each change is durable when the call returns."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from store.codec import decode, encode
from store.interface import ABSENT, MOST_OPERATIONS, Change, Delete, Put, Store

K = TypeVar("K")
R = TypeVar("R")


class LocalRecords(Generic[K, R]):
    """The records below one prefix of this host's own store, kept in memory too.

    One process writes them. Callers let one thread at a time write a key, and go through a copy of `records`, a live
    view: where keys hash in Python, one by `copy`. A key's text is `str(key)`; `parse` undoes it."""

    def __init__(self, store: Store, prefix: str, kind: type[R], parse: Callable[[str], K]) -> None:
        self._store, self._prefix = store, prefix
        entries = store.read(prefix).entries
        self._records = {parse(key.removeprefix(prefix)): decode(kind, entry.value) for key, entry in entries.items()}
        self.records: Mapping[K, R] = MappingProxyType(self._records)

    def copy(self) -> dict[K, R]:
        """As of one moment, whatever other threads do: neither keys nor values run any Python."""
        return self._records.copy()

    def put(self, key: K, record: R) -> None:
        name = self._name(key)
        self._commit(Put(name, encode(record), self._version(name)))
        self._records[key] = record

    def remove(self, *keys: K) -> None:
        """Forget these; unknown ones are fine."""
        for some in _batches([key for key in keys if key in self._records]):
            self._commit(*(Delete(name, self._version(name)) for name in map(self._name, some)))
            for key in some:
                del self._records[key]

    def _name(self, key: K) -> str:
        return f"{self._prefix}{key}"

    def _version(self, name: str) -> int:
        entry = self._store.get(name)
        return entry.version if entry else ABSENT

    def _commit(self, *changes: Change) -> None:
        if not self._store.commit(*changes):
            raise RuntimeError(f"another process writes {self._prefix} in this host's state directory")


def _batches(keys: list[K]) -> Iterator[list[K]]:
    for start in range(0, len(keys), MOST_OPERATIONS):
        yield keys[start : start + MOST_OPERATIONS]
