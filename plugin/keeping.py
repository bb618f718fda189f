"""The part of the composition root that is about what is done again and again: for leases, records and garbage."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.conflicts import Conflicts
from cluster.dockerd import Dockerd
from cluster.garbage import Collector, Ours
from cluster.reclaim import Reclaimer
from cluster.upkeep import Duty, Upkeep
from cluster.watch import Watch
from driver.checksums import Checksums
from driver.journal import Journal as Networks
from driver.network_driver import NetworkDriver
from ipam.clock import SystemClock
from ipam.spaces import Spaces
from ipam.tenancy import Tenancy
from plugin.settings import Settings
from store.interface import Snapshot, Store

PERIOD = 10.0  # seconds between two rounds of the duties that have no pace of their own
GARBAGE_PERIOD = 30.0
NAMES_PERIOD = 2.0


@dataclass(frozen=True, slots=True)
class Keeping:
    ours: Callable[[], Ours]  # this host's records
    reclaimer: Reclaimer
    collector: Collector
    conflicts: Conflicts
    checksums: Checksums
    heart: Upkeep  # of the lease alone: a Docker that hangs must not cost it
    upkeep: Upkeep  # of all else


def assemble_keeping(
    settings: Settings,
    store: Store,
    networks: Networks,
    watch: Watch,
    tenancy: Tenancy,
    ipam: Spaces,
    driver: NetworkDriver,
    engine: Dockerd,
    forget: Callable[[str], None],
    looked: Callable[[Snapshot], None],
    save_names: Callable[[], None],
) -> Keeping:
    """`forget` removes what a host that is given up has outside of the store; `looked` hears of each look at all
    hosts' records."""

    def ours() -> Ours:
        return Ours(networks.networks(), networks.all_endpoints(), ipam.held(), ipam.leases(), ipam.blocks())

    host, period = settings.host, tenancy.period
    reclaimer = Reclaimer(store, host, settings.lease_ttl, period, SystemClock(), forget, looked)
    collector, conflicts = Collector(engine.networks, ours, driver, ipam), Conflicts(engine.networks, ours)
    checksums = Checksums(lambda: any(network.backend == "vxlan" for network in networks.networks()))
    heart = Upkeep([Duty("beat", tenancy.keep, period)])
    upkeep = Upkeep(
        [
            *_network_duties(host, driver, watch, tenancy),
            Duty("count wrong checksums", checksums.look, PERIOD),
            Duty("settle addresses", lambda: ipam.settle(watch.pools_of(host), watch.pools_with_loans()), PERIOD),
            Duty("keep addresses in hand", ipam.keep_in_hand, PERIOD),
            Duty("reclaim", reclaimer.look, period),
            Duty("garbage", collector.collect, GARBAGE_PERIOD),
            Duty("conflicts", conflicts.look, GARBAGE_PERIOD),
            Duty("keep names", save_names, NAMES_PERIOD),
        ]
    )
    return Keeping(ours, reclaimer, collector, conflicts, checksums, heart, upkeep)


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
