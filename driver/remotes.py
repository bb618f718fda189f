"""The other hosts of a network, joined from what they publish of themselves and from who holds which block: pure.

A join is never changed: `after` makes the next one, which shares with it whatever is still so. Of thousands of hosts
only those are joined anew that a change is about."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import ip_network
from typing import TypeVar

from driver.backends.interface import Remote
from store import records
from store.codec import BadRecord, decode
from store.ip import IPNetwork

log = logging.getLogger(__name__)
V = TypeVar("V")

Changes = Mapping[str, bytes | None]  # the values that keys have now, None where a key is gone
NO_KEYS = frozenset[str]()


def prefixes_of(pools: tuple[IPNetwork, ...]) -> tuple[str, tuple[str, ...]]:
    """Below which keys the hosts of a network publish themselves, and below which ones its blocks are. A borrowed
    address is a block of its own: a route to it alone, as long as it is used."""
    held = (prefix(pool) for pool in pools for prefix in (records.blocks_prefix, records.borrowed_prefix))
    return records.peers_prefix(pools[0]), tuple(held)


@dataclass(frozen=True)
class Remotes:
    pools: tuple[IPNetwork, ...]
    host: str  # this one, which is no other
    _published: dict[str, bytes] = field(default_factory=dict)  # by host
    _holders: dict[str, str] = field(default_factory=dict)  # hosts, by the key of a block
    _keys: dict[str, frozenset[str]] = field(default_factory=dict)  # the same by host
    _found: dict[str, Remote] = field(default_factory=dict)  # by host

    @cached_property
    def all(self) -> tuple[Remote, ...]:
        return tuple(self._found.values())

    def after(self, changes: Changes) -> "Remotes":
        """The join when these changes have come. Keys of anything else say nothing."""
        peers, held = prefixes_of(self.pools)
        published = {key.removeprefix(peers): value for key, value in changes.items() if key.startswith(peers)}
        moved = {key: value for key, value in changes.items() if key.startswith(held)}
        if not published and not moved:
            return self
        next_one = replace(
            self,
            _published=dict(self._published),
            _holders=dict(self._holders),
            _keys=dict(self._keys),
            _found=dict(self._found),
        )
        for host, record in published.items():
            _put(next_one._published, host, record)
        for host in {*published, *next_one._hand_over(moved)} - {self.host}:
            next_one._join(host)
        return next_one

    def _hand_over(self, moved: Changes) -> Collection[str]:
        """Take over who holds these blocks now; the hosts that have other ones than before."""
        touched: dict[str, set[str]] = defaultdict(set)  # keys, by host
        for key, value in moved.items():
            before, now = self._holders.get(key), _holder(key, value)
            _put(self._holders, key, now)
            for host in filter(None, (before, now)):
                touched[host].add(key)
        for host, keys in touched.items():
            kept = self._keys.get(host, NO_KEYS) - keys
            _put(self._keys, host, kept.union(key for key in keys if self._holders.get(key) == host) or None)
        return touched

    def _join(self, host: str) -> None:
        record, keys = self._published.get(host), self._keys.get(host)
        peer = _peer(records.peer_key(self.pools[0], host), record) if record is not None and keys else None
        _put(self._found, host, _remote(peer, keys) if peer and keys and peer.addresses else None)


def _put(table: dict[str, V], key: str, value: V | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _holder(key: str, value: bytes | None) -> str | None:
    """The host to which the block leads: nobody if the key or the record is damaged, or the loan unused."""
    if value is None:
        return None
    if not records.is_sound(key):
        log.error("key left out, it names no block or address of its pool", extra={"key": key})
        return None
    try:
        if "/blocks/" in key:
            return decode(records.Block, value).host
        borrowed = decode(records.Borrowed, value)
    except BadRecord as error:
        log.error("record left out", extra={"key": key, "why": error})
        return None
    return None if borrowed.idle else borrowed.host


def _peer(key: str, record: bytes) -> records.Peer | None:
    try:
        return decode(records.Peer, record)
    except BadRecord as error:
        log.error("record left out", extra={"key": key, "why": error})
        return None


def _remote(peer: records.Peer, keys: Collection[str]) -> Remote:
    return Remote(peer.host, peer.addresses, tuple(_blocks(keys)), peer.public_key, peer.sources, peer.link)


def _blocks(keys: Collection[str]) -> Iterator[IPNetwork]:
    """Always in the same order."""
    for key in sorted(keys):
        name = key.rpartition("/")[2]
        yield records.block_of_key(key) if "-" in name else ip_network(name)
