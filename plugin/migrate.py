"""Moves what a host keeps in its own SQLite store to the cluster's Consul, so that its networks go on there."""

from store import records
from store.codec import decode, encode
from store.feed import FEED
from store.interface import ABSENT, Contended, Put, Store
from store.ip import overlap
from store.update import update


class Collision(Exception):
    """The cluster has something that this host's networks would clash with."""


NOT_MOVED = (FEED, records.EPOCH)  # the cluster has its own


def migrate(source: Store, target: Store) -> int:
    """Copy every key; returns how many. Running it again after a failure is fine.

    Collision, before anything is written, if a pool overlaps one of the cluster's or a key stands there otherwise."""
    ours = {key: entry.value for key, entry in source.read("").entries.items() if not key.startswith(NOT_MOVED)}
    index = decode(records.Index, ours.pop(records.INDEX)) if records.INDEX in ours else records.Index()
    theirs = {key: entry.value for key, entry in target.read("").entries.items()}
    _refuse_collisions(index, ours, theirs)
    update(target, records.INDEX, lambda value: _merged(index, value))
    for key, value in ours.items():
        if key not in theirs and not target.commit(Put(key, value, ABSENT)):
            raise Contended(f"{key}: another host wrote it meanwhile; run the command again")
    return len(ours)


def _refuse_collisions(index: records.Index, ours: dict[str, bytes], theirs: dict[str, bytes]) -> None:
    for key, value in ours.items():
        if not _is_same(key, value, theirs.get(key, value)):
            raise Collision(f"{key} stands in the cluster already, and otherwise than here")
    _merged(index, theirs.get(records.INDEX))


def _is_same(key: str, ours: bytes, theirs: bytes) -> bool:
    """This host's own record may be there from before, with another beat."""
    if key.startswith(records.HOSTS):
        return decode(records.Host, ours).instance == decode(records.Host, theirs).instance
    return ours == theirs


def _merged(index: records.Index, value: bytes | None) -> bytes:
    known = decode(records.Index, value) if value else records.Index()
    for pool in index.pools:
        for other in known.pools:
            if pool != other and overlap(pool, other):
                raise Collision(f"pool {pool} overlaps {other}, which the cluster already uses")
    order = sorted({*known.pools, *index.pools}, key=lambda pool: (pool.version, int(pool.network_address)))
    return encode(records.Index(tuple(order)))
