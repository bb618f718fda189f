"""A name space inside the store: pools of the same prefix in two spaces know nothing of each other.

Hosts are everybody's. Whatever belongs to a pool, and the list of pools, is the space's own."""

from dataclasses import replace

from store.interface import Change, Entry, Snapshot, Store
from store.records import INDEX, LEASES, POOLS

SPACED = (POOLS, LEASES)


class Space:
    """A store as one space sees it. Prefixes must name a pool: nobody reads all pools of a space."""

    def __init__(self, inner: Store, name: str) -> None:
        self._inner, self._mark = inner, f"{name}@"

    def get(self, key: str) -> Entry | None:
        return self._inner.get(self._outside(key))

    def read(self, prefix: str) -> Snapshot:
        return self._inside(self._inner.read(self._outside(prefix)))

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        return self._inside(self._inner.wait(self._outside(prefix), after, timeout))

    def commit(self, *changes: Change) -> bool:
        return self._inner.commit(*(replace(change, key=self._outside(change.key)) for change in changes))

    def close(self) -> None:
        """The store behind belongs to somebody else."""

    def _outside(self, key: str) -> str:
        if key == INDEX:
            return f"{INDEX}@{self._mark[:-1]}"
        for prefix in SPACED:
            if key.startswith(prefix):
                return f"{prefix}{self._mark}{key.removeprefix(prefix)}"
        return key

    def _inside(self, snapshot: Snapshot) -> Snapshot:
        entries = {key.replace(f"/{self._mark}", "/", 1): entry for key, entry in snapshot.entries.items()}
        return Snapshot(entries, snapshot.version)


class Prefixed:
    """A part of a host's own store, all of whose keys begin alike."""

    def __init__(self, inner: Store, prefix: str) -> None:
        self._inner, self._prefix = inner, prefix

    def get(self, key: str) -> Entry | None:
        return self._inner.get(self._prefix + key)

    def read(self, prefix: str) -> Snapshot:
        snapshot = self._inner.read(self._prefix + prefix)
        return Snapshot({key.removeprefix(self._prefix): e for key, e in snapshot.entries.items()}, snapshot.version)

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        snapshot = self._inner.wait(self._prefix + prefix, after, timeout)
        return Snapshot({key.removeprefix(self._prefix): e for key, e in snapshot.entries.items()}, snapshot.version)

    def commit(self, *changes: Change) -> bool:
        return self._inner.commit(*(replace(change, key=self._prefix + change.key) for change in changes))

    def close(self) -> None:
        """The store behind belongs to somebody else."""
