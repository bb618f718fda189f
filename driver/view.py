"""What the store says about the other hosts, joined from its records: pure functions over what the store holds.

A view is never changed: `after` makes the next one, which shares with it whatever is still so. What was computed from
a record is remembered by the record's bytes, so that one change among thousands costs little more than itself."""

import logging
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from functools import lru_cache
from ipaddress import ip_network
from typing import Any, TypeVar, cast

from driver.backends.interface import REMEMBERED, Remote
from driver.model import Network
from store import records
from store.codec import BadRecord, decode, encode
from store.interface import Snapshot
from store.ip import IPNetwork

log = logging.getLogger(__name__)
R = TypeVar("R")

Table = dict[str, bytes]  # the records of one kind in one pool, by their whole key


class View:
    """The records below `pools/`."""

    def __init__(self, entries: Mapping[str, bytes]) -> None:
        self._tables: dict[str, Table] = defaultdict(dict)
        for key, value in entries.items():
            self._tables[_table(key)][key] = value
        self._remotes: dict[tuple[tuple[IPNetwork, ...], str], tuple[Remote, ...] | None] = {}
        self._peers: dict[str, list[tuple[bytes, records.Peer]]] = {}  # by table, with the records

    @classmethod
    def of(cls, snapshot: Snapshot) -> "View":
        return cls({key: entry.value for key, entry in snapshot.entries.items()})

    def after(self, changes: Mapping[str, bytes | None]) -> "View":
        """The view when these keys have these values, None where a key is gone."""
        touched = {_table(key) for key in changes}
        next_one = View({})
        next_one._tables.update({name: dict(t) if name in touched else t for name, t in self._tables.items()})
        for key, value in changes.items():
            if value is None:
                next_one._tables[_table(key)].pop(key, None)
            else:
                next_one._tables[_table(key)][key] = value
        next_one._remotes = {
            (pools, host): remotes
            for (pools, host), remotes in list(self._remotes.items())
            if touched.isdisjoint(name for pool in pools for name in _tables_of(pool))
        }
        next_one._peers = {name: peers for name, peers in list(self._peers.items()) if name not in touched}
        return next_one

    @property
    def entries(self) -> dict[str, bytes]:
        return {key: value for table in self._tables.values() for key, value in table.items()}

    def keys(self, kind: str) -> Iterator[str]:
        """The keys `pools/<pool>/<kind>/...` of all pools."""
        return (key for name, table in self._tables.items() if name.endswith(f"/{kind}") for key in table)

    def keys_of(self, kind: str, host: str) -> Iterator[str]:
        """The keys `pools/<pool>/<kind>/<host>` of all pools."""
        named = ((f"{name}/{host}", table) for name, table in self._tables.items() if name.endswith(f"/{kind}"))
        return (key for key, table in named if key in table)

    def peers(self) -> dict[IPNetwork, set[str]]:
        """The hosts of each network."""
        return {
            records.pool_of_key(name): {key.rpartition("/")[2] for key in table}
            for name, table in self._tables.items()
            if name.endswith("/peers") and records.names_pool(name)
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and _filled(self._tables) == _filled(other._tables)

    __hash__ = None  # type: ignore[assignment]

    def remotes(self, network: Network, host: str) -> tuple[Remote, ...] | None:
        """The other hosts of a network that hold blocks of it, or None if the view cannot tell.

        The network's own record must be there: where it is missing, the store was emptied, or it hides its keys from
        this token, and neither means that the other hosts are gone. A network with Docker's own IPAM is on one host:
        whoever else has its pool has another network."""
        if network.adopted:
            return ()
        asked = network.pools, host
        if asked not in self._remotes:
            self._remotes[asked] = self._joined(network.pools, host)
        return self._remotes[asked]

    def _joined(self, pools: tuple[IPNetwork, ...], host: str) -> tuple[Remote, ...] | None:
        if records.network_key(pools[0]) not in self._table(records.network_key(pools[0])):
            return None
        blocks = defaultdict(list)
        for pool in pools:
            for key, owner in self._blocks(pool):
                blocks[owner].append(key)
        found = (
            _remote(value, tuple(blocks[peer.host]))
            for value, peer in self._peers_of(pools[0])
            if peer.host in blocks and peer.host != host and peer.addresses
        )
        return tuple(remote for remote in found if remote.blocks)

    def _peers_of(self, pool: IPNetwork) -> list[tuple[bytes, records.Peer]]:
        """They change less often than the blocks that they have."""
        name = _table(records.peers_prefix(pool))
        if name not in self._peers:
            table = self._tables.get(name, {})
            self._peers[name] = [(table[key], peer) for key, peer in _readable(table, records.Peer)]
        return self._peers[name]

    def peer(self, network: Network, host: str) -> records.Peer | None:
        key = records.peer_key(network.pools[0], host)
        value = self._table(key).get(key)
        return next((peer for _, peer in _readable({key: value} if value else {}, records.Peer)), None)

    def shows(self, spec: records.NetworkSpec, peer: records.Peer) -> bool:
        """Whether the cluster has the network, and in it the peer, exactly so."""
        network, own = records.network_key(spec.pools[0]), records.peer_key(spec.pools[0], peer.host)
        standing = self._table(network).get(network)
        known = next(
            (found for _, found in _readable({network: standing} if standing else {}, records.NetworkSpec)), None
        )
        return known == spec and self._table(own).get(own) == encode(peer)

    def _blocks(self, pool: IPNetwork) -> Iterator[tuple[str, str]]:
        """The keys of the pool's blocks, and their hosts. A borrowed address is a block of its own: a route to it
        alone, as long as it is used."""
        for key, block in _readable(self._table(records.blocks_prefix(pool)), records.Block):
            yield key, block.host
        for key, borrowed in _readable(self._table(records.borrowed_prefix(pool)), records.Borrowed):
            if not borrowed.idle:
                yield key, borrowed.host

    def _table(self, key: str) -> Table:
        """The table of the key, or of the keys below a prefix."""
        return self._tables.get(_table(key), {})


def _readable(table: Table, kind: type[R]) -> Iterator[tuple[str, R]]:
    for key, value in table.items():
        try:
            yield key, _decoded(cast(Hashable, kind), value)
        except BadRecord as error:
            log.error("record left out", extra={"key": key, "why": error})


def _tables_of(pool: IPNetwork) -> set[str]:
    """What a network's remotes are read from."""
    names = records.network_key(pool), records.peers_prefix(pool), records.blocks_prefix(pool)
    return {_table(name) for name in (*names, records.borrowed_prefix(pool))}


def _filled(tables: Mapping[str, Table]) -> dict[str, Table]:
    return {name: table for name, table in tables.items() if table}


def _table(key: str) -> str:
    """Of `pools/<pool>/blocks/<block>` it is `pools/<pool>/blocks`."""
    return key.rpartition("/")[0]


@lru_cache(4 * REMEMBERED)
def _decoded(kind: Any, value: bytes) -> Any:
    return decode(kind, value)


@lru_cache(2 * REMEMBERED)
def _remote(peer_record: bytes, block_keys: tuple[str, ...]) -> Remote:
    peer: records.Peer = _decoded(records.Peer, peer_record)
    blocks = tuple(_block(key) for key in block_keys if _is_sound(key))
    return Remote(peer.host, peer.addresses, blocks, peer.public_key, peer.sources, peer.link)


def _is_sound(key: str) -> bool:
    sound = records.is_sound(key)
    if not sound:
        log.error("key left out, it names no block or address of its pool", extra={"key": key})
    return sound


def _block(key: str) -> IPNetwork:
    name = key.rpartition("/")[2]
    return records.block_of_key(key) if "-" in name else ip_network(name)
