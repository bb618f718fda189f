"""The store: four verbs over versioned keys. Consul for a cluster, SQLite for one host, memory for tests.

A key's version is a number that grows with every write of the key and is never 0; `ABSENT` (0) stands for
"there is no such key". Everything that must not race is one `commit`, whose changes happen all or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

ABSENT = 0
MOST_OPERATIONS = 64  # Consul's limit in one transaction, in the older releases


@dataclass(frozen=True, slots=True)
class Entry:
    value: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys under a prefix at one moment; `version` is what to give `wait` to hear of the next change."""

    entries: Mapping[str, Entry]
    version: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write `key` if it is at version `expect` (ABSENT: if it does not exist)."""

    key: str
    value: bytes
    expect: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove `key` if it is at version `expect`; a key already gone is fine."""

    key: str
    expect: int


@dataclass(frozen=True, slots=True)
class Check:
    """Change nothing, but insist that `key` is at version `expect` (ABSENT: does not exist)."""

    key: str
    expect: int


Change = Put | Delete | Check


class Store(Protocol):
    def get(self, key: str) -> Entry | None:
        """As every commit has left it that was acknowledged before this call; so has `read`, but not `wait`."""

    def read(self, prefix: str) -> Snapshot:
        """Every key that starts with `prefix`."""

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        """Block until something under `prefix` has changed since version `after`, or `timeout` seconds passed.

        May return early with nothing changed. `after=0` returns at once."""

    def commit(self, *changes: Change) -> bool:
        """Apply all changes, or none and return False because a key was not at its expected version.

        At most MOST_OPERATIONS. After StoreUnavailable it is unknown whether the changes happened."""

    def close(self) -> None: ...


@runtime_checkable
class Remote(Protocol):
    """A store on another host."""

    def reconnect(self) -> None:
        """This host has other addresses now: nobody answers on connections from the old ones, so they are given up."""


def reconnect(store: object) -> None:
    """Where the store is on another host."""
    if isinstance(store, Remote):
        store.reconnect()


class StoreUnavailable(Exception):
    """The store did not answer, or not sensibly. Says nothing about what the store holds."""


class StoreForbidden(StoreUnavailable):
    """The store answered that this token may not do that."""


class Contended(Exception):
    """Others kept changing the key between our read and our write."""
