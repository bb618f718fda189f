"""Hosts that have given no sign of life for some time: names lead to their containers only where no other has the name.

That takes nothing from anybody, so that it can come minutes after a host's last beat, and not after a day as
cluster/reclaim.py. A fault of this host or of the store makes nobody silent: what counts is time in which the store
was read again and again, and this host's own record was seen to move in it."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ipam.clock import Clock
from ipam.tenancy import period_of
from store import records
from store.codec import BadRecord, decode
from store.interface import Snapshot

QUIET = 2  # periods of the host's without a beat, of which there is one in each
MISSED = 1.5  # periods: after such a time without a look, what was seen before does not count


@dataclass(frozen=True, slots=True)
class Sign:
    version: int  # of the host's record
    at: float  # seconds of this machine's own clock
    patience: float  # seconds until the host is silent


class Silence:
    def __init__(self, host: str, period: float, clock: Clock) -> None:
        """`period` is that of the looks."""
        self._host, self._period, self._clock = host, period, clock
        self._lock = threading.Lock()
        self._signs: dict[str, Sign] = {}
        self._silent: frozenset[str] = frozenset()
        self._looked = float("-inf")

    def looked(self, hosts: Snapshot) -> None:
        """All hosts' records, as they stand now."""
        with self._lock:
            now = self._clock.boot()
            before = self._signs if now - self._looked <= MISSED * self._period else {}
            self._looked, self._signs = now, {}
            for key, entry in hosts.entries.items():
                host = key.removeprefix(records.HOSTS)
                known = before.get(host)
                if known is None or known.version != entry.version:
                    known = Sign(entry.version, now, self._patience(entry.value))
                self._signs[host] = known
            self._silent = self._judged()

    def heard_of(self, hosts: Iterable[str]) -> None:
        """They have told of a container: one that returns does so before its next beat is seen."""
        with self._lock:
            heard = self._signs.keys() & hosts
            self._signs |= {host: replace(self._signs[host], at=self._clock.boot()) for host in heard}
            self._silent -= heard

    def hosts(self) -> frozenset[str]:
        """Those that are silent, as of the last look."""
        return self._silent

    def _judged(self) -> frozenset[str]:
        silent = {host for host, sign in self._signs.items() if self._looked - sign.at > sign.patience}
        return frozenset() if self._host in silent or self._host not in self._signs else frozenset(silent)

    def _patience(self, record: bytes) -> float:
        """A host with another lease time beats at another pace. Of one whose record cannot be read nothing is known."""
        try:
            return QUIET * max(self._period, period_of(decode(records.Host, record).ttl))
        except BadRecord:
            return float("inf")
