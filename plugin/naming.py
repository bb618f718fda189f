"""The part of the composition root that is about names: who is where, and the resolver that tells containers."""

from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass

from cluster.agent import Worker
from cluster.directory import Directory
from cluster.dockerd import Dockerd
from cluster.endpoints import Endpoints
from cluster.names import Names
from cluster.services import Services, node_of
from cluster.silence import Silence
from driver.backends.interface import Underlay
from driver.journal import Journal
from ipam.tenancy import Tenancy
from names.process import Resolver
from plugin.settings import Settings
from store.catalog import Catalog
from store.interface import Snapshot, Store, StoreForbidden
from store.records import host_of_endpoint


@dataclass(frozen=True, slots=True)
class Naming:
    directory: Directory
    endpoints: Endpoints  # listens to Docker's events
    resolvers: Sequence[Resolver]  # one, or none where names are switched off
    services: Sequence[Services]  # one, or none without Consul
    looked: Callable[[Snapshot], None]  # to be told of each look at all hosts' records

    @property
    def workers(self) -> list[Worker]:
        return [self.directory, self.endpoints, *self.resolvers, *self.services]


def assemble_naming(
    settings: Settings,
    store: Store,
    catalog: Catalog | None,
    kept: Store,
    journal: Journal,
    engine: Dockerd,
    tenancy: Tenancy,
    underlay: Callable[[], Underlay],
    silence: Silence,
) -> Naming:
    host = settings.host

    def tell() -> None:
        for resolver in resolvers:
            resolver.poke()
        for one in services:
            one.poke()

    def looked(hosts: Snapshot) -> None:
        before = silence.hosts()
        silence.looked(hosts)
        if silence.hosts() != before:
            tell()

    def seen(keys: Set[str]) -> None:
        hosts = {host_of_endpoint(key) for key in keys}
        silence.heard_of(hosts)
        if host in hosts:
            endpoints.poke()
        if resolvers:
            names.heard_of(keys)
        tell()

    directory = Directory(store, kept, host, tenancy.may_hide, [seen])
    endpoints = Endpoints(engine, journal, store, host, lambda: directory.entries_of(host), tenancy.check, tell)
    names = Names(journal, host, directory.endpoints, endpoints.own, silence.hosts)
    resolvers = [Resolver(settings.dns, names.untold)] if settings.dns else []
    node, address = node_of(settings.cluster, host), lambda: underlay().advertised[0]
    services = [Services(catalog, node, address, endpoints.attachments, tenancy.check)] if catalog else []
    return Naming(directory, endpoints, resolvers, services, looked)


def forget_services(catalog: Catalog | None, cluster: str, host: str) -> None:
    """Take away the services of a host that is given up. A token that may not do so could register none."""
    if catalog is not None:
        with suppress(StoreForbidden):
            catalog.deregister(node_of(cluster, host))
