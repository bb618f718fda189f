"""Moves what a host keeps in its own SQLite store to the cluster's Consul, so that its networks go on there."""

from collections.abc import Iterable, Mapping

from ipam.epoch import read_epoch
from store import records
from store.codec import decode, encode
from store.feed import FEED
from store.interface import ABSENT, Check, Contended, Put, Store
from store.ip import overlap
from store.update import ATTEMPTS


class Collision(Exception):
    """The cluster has something that this host's networks would clash with, or may have and not show it."""


NOT_MOVED = (FEED, records.EPOCH)  # the cluster has its own


def migrate(source: Store, target: Store) -> int:
    """Copy every key; returns how many. Running it again after a failure is fine.

    Collision, before anything is written, if a pool overlaps one of the cluster's, a network there has one of ours, or
    a key stands there otherwise, or while the hosts tell again a store that has forgotten. The epoch goes into each
    write, so that none does."""
    epoch = _settled(target)
    ours = {key: entry.value for key, entry in source.read("").entries.items() if not key.startswith(NOT_MOVED)}
    pools = {key: decode(records.Index, ours.pop(key)) for key in [*filter(records.is_index, ours)]}
    theirs = {key: entry.value for key, entry in target.read("").entries.items()}
    _refuse_collisions(pools, ours, theirs)
    for key, index in pools.items():
        _make_known(key, index, target, epoch)
    for key, value in ours.items():
        if key not in theirs and not target.commit(epoch, Put(key, value, ABSENT)):
            raise Contended(f"{key}: another host wrote it meanwhile; run the command again")
    return len(ours)


def _settled(target: Store) -> Check:
    epoch, version = read_epoch(target)
    if epoch is not None and not epoch.settled:
        raise Collision(
            "the store has lost what it knew, and the hosts are telling it again; run the command again in some minutes"
        )
    return Check(records.EPOCH, version)


def _make_known(key: str, index: records.Index, target: Store, epoch: Check) -> None:
    for _ in range(ATTEMPTS):
        entry = target.get(key)
        merged = _merged(index, entry.value if entry else None)
        if target.commit(epoch, Put(key, merged, entry.version if entry else ABSENT)):
            return
    raise Contended("other hosts kept changing the list of pools; run the command again")


def _refuse_collisions(
    pools: Mapping[str, records.Index], ours: Mapping[str, bytes], theirs: Mapping[str, bytes]
) -> None:
    for key, value in ours.items():
        if not _is_same(key, value, theirs.get(key, value)):
            raise Collision(f"{key} stands in the cluster already, and otherwise than here")
    _refuse_other_networks(ours, theirs)
    for key, index in pools.items():
        _merged(index, theirs.get(key))


def _refuse_other_networks(ours: Iterable[str], theirs: Iterable[str]) -> None:
    """The first network of each host alone has the same pool, and so the same record: nobody meant them to be one."""
    there = set(records.peers(theirs))
    for pool, host in records.peers(ours):
        hosts = sorted(other for known, other in there if known == pool)
        if hosts and host not in hosts:
            raise Collision(
                f"network {pool} is in the cluster already, on {' and '.join(hosts[:3])}, and would become one with "
                "this host's: remove it here, and create it again once this host is in the cluster"
            )


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
