"""Stands where the spreader would on a host that takes no part in what the others make: it makes and removes nothing,
and says what the cluster has that this host has not, and how to make it here."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace

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
        names: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """`entries` are the cluster's networks as last heard of; `pools` the first ones of this host's networks,
        `names` those of all that Docker has here, as far as it can be asked."""
        self._had, self._entries, self._pools, self._names = had, entries, pools, names

    def start(self) -> None:
        self._had.clear()

    def stop(self) -> None:
        """It does nothing."""

    def heard(self, changes: Changes) -> None:
        for record in self._absent(entry for entry in changes.values() if entry is not None):
            log.info("network of the cluster not made here", extra={"network": record.name, "why": reason(record)})

    def outcomes(self) -> Mapping[str, Outcome]:
        """The cluster's networks that this host has not, by name."""
        absent = list(self._absent((self._entries() or {}).values()))
        names = self._names() if absent else ()
        return {record.name: Outcome(State.ABSENT, f"{reason(record)}; {advice(record, names)}") for record in absent}

    def _absent(self, entries: Iterable[Entry]) -> Iterator[DockerNetwork]:
        """A network is the one with the same pool, whatever it is called here."""
        here = set(self._pools())
        for record in map(read, entries):
            if record is not None and not record.removed and here.isdisjoint(record.pools[:1]):
                yield record


def advice(record: DockerNetwork, names: Collection[str]) -> str:
    """What to type: by its pool it is the cluster's network, under any name."""
    if record.name not in names:
        return f"type: {command(record)}"
    return f"another network has that name here, so give it one of its own: {command(replace(record, name='NAME'))}"


def reason(record: DockerNetwork) -> str:
    return f"made on host {record.host}, and FLANNELPY_PROPAGATE is false on this one"
