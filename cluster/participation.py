"""Which of the cluster's networks this host has, durable: what tells a network that the user removed here, whenever
that was, from one that was never here."""

from collections.abc import Iterator
from dataclasses import dataclass

from cluster.spread import Had
from store.interface import Store
from store.local import LocalRecords
from store.records import NETWORKS, docker_network_key

PREFIX, DOCKER = "spread/networks/", "spread/docker/"
THIS = "this"


@dataclass(frozen=True, slots=True)
class DockerStore:
    """Tells one Docker data directory from another: the id of the network `host`, which nobody can remove."""

    host_network: str


class Participation:
    """Not locked: one thread uses it."""

    def __init__(self, local: Store) -> None:
        self._had = LocalRecords(local, PREFIX, Had, str)
        self._docker = LocalRecords(local, DOCKER, DockerStore, str)

    def __iter__(self) -> Iterator[Had]:
        return iter(list(self._had.records.values()))

    def get(self, name: str) -> Had | None:
        return self._had.records.get(_key(name))

    def put(self, had: Had) -> None:
        if had != self.get(had.name):
            self._had.put(_key(had.name), had)

    def forget(self, name: str) -> None:
        self._had.remove(_key(name))

    def clear(self) -> None:
        self._had.remove(*self._had.records)

    def confirm_docker(self, host_network: str) -> bool:
        """False if Docker's data directory is another than before: then nobody removed what is missing in it."""
        known = self._docker.records.get(THIS)
        if known is not None and known.host_network == host_network:
            return True
        self.clear()
        self._docker.put(THIS, DockerStore(host_network))
        return known is None


def _key(name: str) -> str:
    return docker_network_key(name).removeprefix(NETWORKS)
