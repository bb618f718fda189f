"""What the store says about the other hosts: pure functions over what it holds.

A view is never changed: `after` makes the next one, which shares with it whatever is still so, so that one change among
thousands costs little more than itself."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TypeVar

from driver.backends.interface import Remote
from driver.model import Network
from driver.remotes import Remotes, prefixes_of
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
        self._remotes: dict[tuple[tuple[IPNetwork, ...], str], Remotes] = {}

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
            asked: remotes.after(changes)
            for asked, remotes in list(self._remotes.items())
            if next_one._has_network(remotes.pools)
        }
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
        if not self._has_network(network.pools):
            return None
        asked = network.pools, host
        if asked not in self._remotes:
            peers, held = prefixes_of(network.pools)
            tables = map(self._table, (peers, *held))
            self._remotes[asked] = Remotes(*asked).after({key: value for t in tables for key, value in t.items()})
        return self._remotes[asked].all

    def _has_network(self, pools: tuple[IPNetwork, ...]) -> bool:
        key = records.network_key(pools[0])
        return key in self._table(key)

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

    def _table(self, key: str) -> Table:
        """The table of the key, or of the keys below a prefix."""
        return self._tables.get(_table(key), {})


def _readable(table: Table, kind: type[R]) -> Iterator[tuple[str, R]]:
    for key, value in table.items():
        try:
            yield key, decode(kind, value)
        except BadRecord as error:
            log.error("record left out", extra={"key": key, "why": error})


def _filled(tables: Mapping[str, Table]) -> dict[str, Table]:
    return {name: table for name, table in tables.items() if table}


def _table(key: str) -> str:
    """Of `pools/<pool>/blocks/<block>` it is `pools/<pool>/blocks`."""
    return key.rpartition("/")[0]
