"""Addresses that rest in pools that this host has left: the network may be made anew at once, and flannelpy be
started anew in between."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from ipam.book import REST
from store.interface import Store
from store.ip import IPAddress, IPNetwork
from store.local import LocalRecords


@dataclass(frozen=True, slots=True)
class Released:
    address: IPAddress
    moment: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Left:
    """What had not rested yet when this host left a pool."""

    resting: tuple[Released, ...]


class Rests:
    """Safe for many threads."""

    def __init__(self, store: Store) -> None:
        self._lock = threading.Lock()
        self._left = LocalRecords(store, "left/", Left, ip_network)

    def of(self, pool: IPNetwork) -> dict[IPAddress, float]:
        """The moments of their releases."""
        with self._lock:
            left = self._left.records.get(pool)
        return {one.address: one.moment for one in left.resting} if left else {}

    def note(self, pool: IPNetwork, resting: Mapping[IPAddress, float], now: float) -> None:
        """Durable when it returns. What has rested by now, in any pool, is forgotten."""
        with self._lock:
            if resting:
                self._left.put(pool, Left(tuple(Released(address, moment) for address, moment in resting.items())))
            over = [
                pool for pool, left in self._left.copy().items() if not any(_rests(one, now) for one in left.resting)
            ]
            self._left.remove(*over)


def _rests(one: Released, now: float) -> bool:
    return 0 <= now - one.moment < REST
