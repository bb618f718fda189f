"""The composition root: the one place where implementations are chosen and put together. Nothing starts here."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import inf

from cluster.agent import Agent, Worker
from cluster.auxiliary import Auxiliaries
from cluster.dockerd import Dockerd
from cluster.events import Follower
from cluster.garbage import Collector
from cluster.lender import Lender
from cluster.listing import Listing
from cluster.lookout import Lookout
from cluster.revive import Reviver
from cluster.silence import Silence
from cluster.subnets import Subnets
from cluster.watch import Watch
from driver import sysctl
from driver.journal import Journal as Networks
from driver.network_driver import NetworkDriver
from ipam.clock import SystemClock
from ipam.epoch import Place
from ipam.spaces import Spaces
from ipam.tenancy import Tenancy
from operations.metrics import Metrics
from operations.observer import Sources
from operations.trial import Trial
from plugin.addressing import assemble_addressing
from plugin.forwarding import Forwarding, assemble_forwarding
from plugin.keeping import Keeping, assemble_keeping
from plugin.naming import Naming, assemble_naming, forget_services
from plugin.operating import Operating, assemble_operating
from plugin.settings import Settings
from plugin.spreading import Spreading, assemble_spreading
from plugin.stores import Opened, open_stores
from store.interface import Store, reconnect
from store.records import host_key
from store.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Parts:
    """This host's flannelpy, put together and at rest."""

    host: str
    store: Store  # the cluster's
    local: Store  # this host's
    kept: Store  # what this host last heard of others, which is large and written without anybody waiting for it
    ipam: Spaces
    driver: NetworkDriver
    tenancy: Tenancy
    collector: Collector
    operating: Operating
    metrics: Metrics
    agent: Agent
    forget: Callable[[str], None]  # what a host has outside of the store

    def close(self) -> None:
        self.store.close()
        self.local.close()
        self.kept.close()


def assemble(settings: Settings) -> Parts:
    """Everything in its place: this host's own records, the cluster's store, and who works on them."""
    settings = replace(settings, dns=tuple(each for each in settings.dns if sysctl.speaks(each.version)))
    host, engine, metrics = settings.host, Dockerd(settings.docker), Metrics()
    local, kept = (SqliteStore(settings.state_dir / name, most_bytes=inf) for name in ("host.db", "names.db"))
    shared = open_stores(settings, metrics.store_call, lambda: go_on())
    store, alone = shared.store, settings.store.scheme == "sqlite"
    place = Place(settings.cluster, str(settings.store))
    tenancy = Tenancy(store, local, host, settings.lease_ttl, SystemClock(), alone=alone, away=shared.away, place=place)
    networks = Networks(local, lambda: naming.endpoints.poke())
    watch = Watch(
        store,
        host,
        [lambda: forwarding.reconciler.view_changed(), lambda: lender.poke()],
        tenancy.may_lose,
        lambda: keeping.heart.hurry(),
    )
    subnets = Subnets(lambda: ipam.pools())
    addressing = assemble_addressing(settings, store, local, networks, tenancy, subnets.others)
    ipam = addressing.spaces
    lender = Lender(watch.view, ipam.answer_wishes)
    forwarding = assemble_forwarding(settings, store, networks, watch, addressing, tenancy.check, lambda: move())
    driver, underlay = forwarding.driver, forwarding.reconciler.underlay

    def move() -> None:
        reconnect(store)
        keeping.upkeep.hurry()  # the others must hear of it

    def go_on() -> None:
        for hurry in (watch.hurry, naming.directory.hurry, spreading.hurry, reviver.poke):
            hurry()

    def verify() -> None:
        ipam.verify()
        addressing.mirror.forget()
        driver.forget_published()
        keeping.upkeep.hurry()  # the others took this host for gone, and must hear where it is

    tenancy.on_loss(verify)
    silence = Silence(host, tenancy.period, SystemClock())
    naming = assemble_naming(settings, store, shared.catalog, kept, networks, engine, tenancy, underlay, silence)
    spreading = assemble_spreading(settings, engine, store, local, networks, tenancy.check)
    forget = partial(forget_services, shared.catalog, settings.cluster)
    keeping = assemble_keeping(
        settings, store, networks, watch, tenancy, ipam, driver, engine, forget, naming.looked, naming.directory.save
    )
    sources = _sources(settings, shared, watch, tenancy, forwarding, naming, spreading, keeping, engine, Trial(local))
    operating = assemble_operating(sources, metrics, settings.http)
    reviver = Reviver(engine, lambda: [network.id for network in networks.networks()], ipam.held)
    listing = Listing(engine, [subnets, Auxiliaries(ipam)])
    events = Follower(engine, [reviver, listing, naming.endpoints, *spreading.listeners])
    lookout = Lookout(store, shared.away, host_key(host))
    own: list[Worker] = [*forwarding.workers, watch, lender, addressing.mirror, keeping.heart, keeping.upkeep, lookout]
    told: list[Worker] = [*naming.workers, reviver, listing, *spreading.workers, events]
    agent = Agent([*own, operating.web, *told], [store, local, kept])
    return Parts(host, store, local, kept, ipam, driver, tenancy, keeping.collector, operating, metrics, agent, forget)


def _sources(
    settings: Settings,
    shared: Opened,
    watch: Watch,
    tenancy: Tenancy,
    forwarding: Forwarding,
    naming: Naming,
    spreading: Spreading,
    keeping: Keeping,
    engine: Dockerd,
    trial: Trial,
) -> Sources:
    return Sources(
        host=settings.host,
        store_address=str(settings.store),
        ttl=settings.lease_ttl,
        state_dir=settings.state_dir,
        unwritten=trial.fault,
        resolvers=settings.dns,
        store=shared.store,
        away=shared.away,
        skew=shared.skew,
        exchanged=shared.exchanged,
        attached=naming.directory.endpoints,
        ours=keeping.ours,
        watch=watch,
        tenancy=tenancy,
        reclaimer=keeping.reclaimer,
        reconciler=forwarding.reconciler,
        listeners=forwarding.listeners,
        conflicts=keeping.conflicts,
        collector=keeping.collector,
        engine=engine,
        upkeeps=(keeping.heart, keeping.upkeep),
        outcomes=spreading.outcomes,
        checksums=keeping.checksums,
    )
