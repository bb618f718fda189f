"""A shared record that lives exactly as long as it has members: a pool and its blocks, a network and its peers.

Consul can make one transaction depend on a key, but not on "there is nothing below this prefix". So the last one out
first marks the record as closing, then looks for members again, and removes it only if it still stands as marked.
Whoever wants in checks the record's version in the transaction that adds the member, and opens a closing record
first, which makes the closer's removal fail. A closer that dies halfway leaves a marked record without members,
which the next member opens and the next closer removes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from store.codec import decode, encode
from store.interface import ABSENT, Change, Check, Contended, Delete, Put, Store
from store.update import ATTEMPTS


class Closable(Protocol):
    @property
    def closing(self) -> bool: ...


R = TypeVar("R", bound=Closable)


@dataclass(frozen=True, slots=True)
class Shared(Generic[R]):
    kind: type[R]
    key: str
    members: str  # the prefix of their keys


@dataclass(frozen=True, slots=True)
class Opened(Generic[R]):
    record: R
    version: int

    def check(self, shared: Shared[R]) -> Check:
        """Goes into the transaction that adds a member."""
        return Check(shared.key, self.version)


def read_open(store: Store, shared: Shared[R]) -> Opened[R] | None:
    """The record, opened again if somebody was about to close it; None if there is none."""
    for _ in range(ATTEMPTS):
        entry = store.get(shared.key)
        if entry is None:
            return None
        record = decode(shared.kind, entry.value)
        if not record.closing:
            return Opened(record, entry.version)
        store.commit(Put(shared.key, _marked(record, False), entry.version))
    raise Contended(f"{shared.key}: other hosts kept closing it; try again")


def close_if_empty(store: Store, shared: Shared[R], also: Callable[[R], Sequence[Change]]) -> bool:
    """Remove the record, and with it what `also` says, if it has no members; say whether it is gone."""
    for _ in range(ATTEMPTS):
        entry = store.get(shared.key)
        if entry is None:
            return True
        if store.read(shared.members).entries:
            return False
        record = decode(shared.kind, entry.value)
        if not record.closing:
            store.commit(Put(shared.key, _marked(record, True), entry.version))
            continue  # look again: the mark must stand before the members are counted
        if store.commit(Delete(shared.key, entry.version), *also(record)):
            return True
    raise Contended(f"{shared.key}: other hosts kept changing it; try again")


def remove_member(store: Store, key: str, fence: Callable[[], Sequence[Check]] = tuple) -> None:
    """Take away a member that only the caller writes, if what `fence` gives still stands; one already gone is fine."""
    for _ in range(ATTEMPTS):
        entry = store.get(key)
        if entry is None or store.commit(*fence(), Delete(key, entry.version)):
            return
    raise Contended(f"{key}: somebody else kept writing it")


def create(shared: Shared[R], record: R) -> Put:
    return Put(shared.key, encode(record), ABSENT)


def _marked(record: Any, closing: bool) -> bytes:
    return encode(replace(record, closing=closing))
