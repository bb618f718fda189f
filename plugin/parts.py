"""The composition root: the one place where implementations are chosen and put together. Nothing starts here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cluster.agent import Agent, Worker
from cluster.auxiliary import Auxiliaries
from cluster.conflicts import Conflicts
from cluster.dockerd import Dockerd
from cluster.events import Follower
from cluster.garbage import Collector, Ours
from cluster.lender import Lender
from cluster.listing import Listing
from cluster.reclaim import Reclaimer
from cluster.revive import Reviver
from cluster.subnets import Subnets
from cluster.upkeep import Duty, Upkeep
from cluster.watch import Watch
from driver import sysctl
from driver.checksums import Checksums
from driver.journal import Journal as Networks
from driver.network_driver import NetworkDriver
from ipam.spaces import Spaces
from ipam.tenancy import SystemClock, Tenancy
from operations.metrics import Metrics
from operations.observer import Sources
from plugin.addressing import assemble_addressing
from plugin.forwarding import assemble_forwarding
from plugin.naming import assemble_naming, forget_services
from plugin.operating import Operating, assemble_operating
from plugin.settings import Settings
from plugin.spreading import assemble_spreading
from plugin.stores import open_stores
from store.interface import Store, reconnect
from store.sqlite import SqliteStore

PERIOD = 10.0  # seconds between two rounds of the duties that have no pace of their own
GARBAGE_PERIOD = 30.0
NAMES_PERIOD = 2.0


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
    host, clock, engine, metrics = settings.host, SystemClock(), Dockerd(settings.docker), Metrics()
    local, kept = (SqliteStore(settings.state_dir / name) for name in ("host.db", "names.db"))
    store, catalog, exchanged, away, skew = open_stores(settings, metrics.store_call, lambda: reviver.poke())
    alone = settings.store.scheme == "sqlite"
    tenancy = Tenancy(store, local, host, settings.lease_ttl, clock, alone=alone, away=away)
    networks = Networks(local, lambda: naming.endpoints.poke())
    watch = Watch(store, host, [lambda: reconciler.view_changed(), lambda: lender.poke()], tenancy.may_lose)
    subnets = Subnets(lambda: ipam.pools())
    addressing = assemble_addressing(settings, store, local, networks, tenancy, subnets.others)
    ipam = addressing.spaces
    lender = Lender(watch.view, ipam.answer_wishes)
    forwarding = assemble_forwarding(settings, store, networks, watch, addressing, lambda: move())
    driver, reconciler = forwarding.driver, forwarding.reconciler

    def move() -> None:
        reconnect(store)
        upkeep.hurry()  # the others must hear of it

    def verify() -> None:
        ipam.verify()
        addressing.mirror.forget()
        upkeep.hurry()  # the others took this host for gone, and must hear where it is

    def forget(other: str) -> None:
        forget_services(catalog, settings.cluster, other)

    def ours() -> Ours:
        return Ours(networks.networks(), networks.all_endpoints(), ipam.held(), ipam.leases(), ipam.blocks())

    tenancy.on_loss(verify)
    reclaimer = Reclaimer(store, host, settings.lease_ttl, tenancy.period, clock, forget)
    collector, conflicts = Collector(engine.networks, ours, driver, ipam), Conflicts(engine.networks, ours)
    naming = assemble_naming(settings, store, catalog, kept, networks, engine, tenancy.check, reconciler.underlay)
    spreading = assemble_spreading(settings, engine, store, local, networks)
    heart = Upkeep([Duty("beat", tenancy.keep, tenancy.period)])  # a Docker that hangs must not cost the lease
    checksums = Checksums(lambda: any(network.backend == "vxlan" for network in networks.networks()))
    upkeep = Upkeep(
        [
            *_network_duties(host, driver, watch, tenancy),
            Duty("count wrong checksums", checksums.look, PERIOD),
            Duty("settle addresses", lambda: ipam.settle(watch.pools_of(host), watch.pools_with_loans()), PERIOD),
            Duty("keep addresses in hand", ipam.keep_in_hand, PERIOD),
            Duty("reclaim", reclaimer.look, tenancy.period),
            Duty("garbage", collector.collect, GARBAGE_PERIOD),
            Duty("conflicts", conflicts.look, GARBAGE_PERIOD),
            Duty("keep names", naming.directory.save, NAMES_PERIOD),
        ]
    )
    attached = naming.directory.endpoints
    kernel, upkeeps = (reconciler, forwarding.listeners), (heart, upkeep)
    seen = (watch, tenancy, reclaimer, *kernel, conflicts, collector, engine, upkeeps, spreading.outcomes)
    address, ttl, state_dir, dns = str(settings.store), settings.lease_ttl, settings.state_dir, settings.dns
    sources = Sources(
        host, address, ttl, state_dir, dns, store, away, skew, exchanged, attached, ours, *seen, checksums
    )
    operating = assemble_operating(sources, metrics, settings.http)
    reviver = Reviver(engine, lambda: [network.id for network in networks.networks()])
    listing = Listing(engine, [subnets, Auxiliaries(ipam)])
    events = Follower(engine, [reviver, listing, naming.endpoints, *spreading.listeners])
    own: list[Worker] = [*forwarding.workers, watch, lender, addressing.mirror, heart, upkeep, operating.web]
    agent = Agent([*own, *naming.workers, reviver, listing, *spreading.workers, events], [store, local, kept])
    return Parts(host, store, local, kept, ipam, driver, tenancy, collector, operating, metrics, agent, forget)


def _network_duties(host: str, driver: NetworkDriver, watch: Watch, tenancy: Tenancy) -> Sequence[Duty]:
    def leave_unused() -> None:
        if peered := watch.peers_of(host):
            tenancy.check()  # what stands under this host's name may be another machine's
            driver.leave_unused(peered)

    return [
        Duty("drop released networks", driver.drop_released, PERIOD),
        Duty("renew host addresses", driver.renew_host_addresses, PERIOD),
        Duty("publish", driver.publish, PERIOD),
        Duty("leave unused networks", leave_unused, PERIOD),
    ]
