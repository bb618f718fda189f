"""Stands where the spreader would on a host that takes no part in what the others make: it makes and removes nothing,
and says what the cluster has that this host has not, and how to make it here."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from cluster.participation import Participation
from cluster.removals import read
from cluster.spread import Outcome, State, command
from store.copy import Changes
from store.interface import Entry
from store.ip import IPNetwork
from store.records import DockerNetwork

log = logging.getLogger(__name__)


class Abstainer:
    """What this host had of the cluster is forgotten: should it take part again, what it has then is its own, and what
    it removed meanwhile is removed nowhere else."""

    def __init__(
        self,
        had: Participation,
        entries: Callable[[], Mapping[str, Entry] | None],
        pools: Callable[[], Collection[IPNetwork]],
    ) -> None:
        """`entries` are the cluster's networks as last heard of; `pools` the first ones of this host's networks."""
        self._had, self._entries, self._pools = had, entries, pools

    def start(self) -> None:
        self._had.clear()

    def stop(self) -> None:
        """It does nothing."""

    def heard(self, changes: Changes) -> None:
        for record in self._absent(entry for entry in changes.values() if entry is not None):
            log.info("network of the cluster not made here", extra={"network": record.name, "why": reason(record)})

    def outcomes(self) -> Mapping[str, Outcome]:
        """The cluster's networks that this host has not, by name."""
        absent = self._absent((self._entries() or {}).values())
        return {record.name: Outcome(State.ABSENT, f"{reason(record)}; type: {command(record)}") for record in absent}

    def _absent(self, entries: Iterable[Entry]) -> Iterator[DockerNetwork]:
        """A network is the one with the same pool, whatever it is called here."""
        here = set(self._pools())
        for record in map(read, entries):
            if record is not None and not record.removed and here.isdisjoint(record.pools[:1]):
                yield record


def reason(record: DockerNetwork) -> str:
    return f"made on host {record.host}, and FLANNELPY_PROPAGATE is false on this one"
