"""Hosts for the tests of the address manager: each with a journal, a clock and a line to the store that can be cut."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from itertools import count

from cluster.reclaim import Reclaimer
from ipam.commons import Commons
from ipam.epoch import Place
from ipam.ipam import Ipam
from ipam.journal import Journal
from ipam.lending import Lending
from ipam.mirror import Mirror
from ipam.model import AddressRequest, PoolId, PoolRequest
from ipam.pools import Plan, Pools
from ipam.tenancy import Tenancy
from store.interface import (
    ABSENT,
    MOST_OPERATIONS,
    Change,
    Contended,
    Delete,
    Put,
    Snapshot,
    Store,
    StoreUnavailable,
)
from store.ip import IPInterface, IPNetwork
from store.memory import MemoryStore
from store.records import pools_of, pools_with_holder
from tests.unit.ipam_faults import LIVE, Dead, Fragile

PLAN = Plan(((ip_network("10.224.0.0/11"), 18), (ip_network("fd42::/48"), 64)), 6)
WEB = ip_network("10.240.0.0/18")
HERE = Place("flannelpy", "here")
TTL = 1000.0
PATIENCE, TICK = 0.4, 0.1  # so a host looks three times whether the others have answered, however slow the machine is


class Line(Fragile):
    """A host's line to the store, which can be cut. While the host waits for an answer from others, they answer."""

    def __init__(self, cluster: "Cluster", host: str) -> None:
        super().__init__(cluster.store, lambda: LIVE)
        self.cluster, self.host, self.cut = cluster, host, False

    def way(self) -> Store:
        if self.cut:
            raise StoreUnavailable("the line is cut")
        return self.cluster.ways.get(self.host, self.cluster.store)

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        self.cluster.answer_wishes(besides=self.host)
        return self.read(prefix)

    def close(self) -> None:
        pass


class Hanging(Line):
    """One at which whoever waits beside the test waits until that is `over`; the test's own calls fail at once."""

    def __init__(self, cluster: "Cluster", host: str) -> None:
        super().__init__(cluster, host)
        self.asked, self.over = threading.Event(), threading.Event()

    def way(self) -> Store:
        if threading.current_thread() is not threading.main_thread():
            self.asked.set()
            self.over.wait(10)
        raise StoreUnavailable("no answer")


def restore(store: Store, values: Mapping[str, bytes]) -> None:
    """Make it hold these and nothing else, as a restored backup does; nothing at all is a store that was emptied."""
    standing = store.read("").entries
    gone: list[Change] = [Delete(key, entry.version) for key, entry in standing.items() if key not in values]
    differs = [key for key, value in values.items() if key not in standing or standing[key].value != value]
    back = [Put(key, values[key], standing[key].version if key in standing else ABSENT) for key in differs]
    changes = [*gone, *back]
    for start in range(0, len(changes), MOST_OPERATIONS):
        assert store.commit(*changes[start : start + MOST_OPERATIONS])


def backup(store: Store) -> dict[str, bytes]:
    return {key: entry.value for key, entry in store.read("").entries.items()}


class HandClock:
    """Both clocks of a machine, moved by hand."""

    def __init__(self) -> None:
        self.booted, self.now, self.off = "first", 10_000.0, 0.0

    def boot(self) -> float:
        return self.now

    def boot_id(self) -> str:
        return self.booted

    def wall(self) -> float:
        return self.now + self.off


class Cluster:
    def __init__(self, store: Store | None = None) -> None:
        self.store: Store = store or MemoryStore()
        self.ways: dict[str, Store] = {}  # to the store, of hosts that have one of their own
        self.hosts: list[Host] = []

    def host(self, name: str, plan: Plan = PLAN, disk: Store | None = None) -> "Host":
        self.hosts.append(Host(name, self, disk or MemoryStore(), plan=plan))
        return self.hosts[-1]

    def answer_wishes(self, besides: str) -> None:
        for host in self.hosts:
            if host.name != besides and not host.asleep:
                try:
                    for pool in host.journal.pools():
                        host.ipam.answer_wishes(pool)
                except Dead:
                    host.restart()
                except (StoreUnavailable, Contended):
                    continue

    def held_keys(self) -> list[str]:
        """All that anybody holds: what says that a host lives, and that the store does, is there for good."""
        return sorted(key for key in self.store.read("").entries if not key.startswith(("hosts/", "epoch")))


@dataclass
class Host:
    name: str
    cluster: Cluster
    disk: Store = field(default_factory=MemoryStore)
    clock: HandClock = field(default_factory=HandClock)
    routed: set[IPNetwork] = field(default_factory=set)
    occupied: list[IPNetwork] = field(default_factory=list)
    plan: Plan = PLAN
    asleep: bool = False  # as if the process were not running
    verify: Callable[[Ipam], None] = Ipam.verify  # after a lost lease
    ttl: float = TTL
    alone: bool = False  # the store is its own
    away: tuple[float, str] | None = None  # what its breaker says
    pause: Callable[[float], None] = lambda _: None  # while a request waits for another host
    place: Place = HERE
    patience: float = PATIENCE  # seconds, of a clock that goes on by a TICK with each look at it

    def __post_init__(self) -> None:
        self.line = Line(self.cluster, self.name)
        self.restart()

    def restart(self) -> None:
        """The process dies and starts again: what is not on disk is gone."""
        parts = (self.line, self.disk, self.name, self.ttl, self.clock)
        self.tenancy = Tenancy(*parts, alone=self.alone, away=lambda: self.away, place=self.place)
        pools = Pools(self.line, self.name, self.plan, self.tenancy, lambda: self.occupied)
        lending = Lending(self.line, self.name, self.tenancy, self.patience, count(step=TICK).__next__, 0.0)
        self.commons = Commons(self.line, pools, self.tenancy)
        self.journal = Journal(self.disk, self.clock.wall)
        routed, clock = self.routed.__contains__, self.clock.wall

        def pause(seconds: float) -> None:
            self.pause(seconds)

        own = (self.journal, pools, self.commons, lending, self.tenancy)
        self.ipam = Ipam(*own, routed, clock=clock, pause=pause)
        self.tenancy.on_loss(lambda: self.verify(self.ipam))
        self.reclaimer = Reclaimer(self.line, self.name, self.ttl, self.tenancy.period, self.clock)

    def settle(self) -> None:
        keys = self.cluster.store.read("pools/").entries
        loans = pools_of(key for key in keys if "/wanted/" in key or "/borrowed/" in key)
        self.ipam.settle([pool for _, pool in pools_with_holder(keys, self.name)], [pool for _, pool in loans])

    def tell(self, pool: IPNetwork) -> None:
        """Everybody hears which addresses this host has given out."""
        Mirror(lambda _: self.line, self.name, lambda where: self.ipam.given(where[1])).write(("", pool))

    def create(
        self,
        pool: IPNetwork | None = WEB,
        range_: str | None = None,
        gateway: str | None = None,
        v6: bool = False,
        options: Mapping[str, str] = {},
        routed: bool = True,
    ) -> PoolId:
        """The IPAM half of `docker network create`."""
        request = PoolRequest(pool, ip_network(range_) if range_ else None, options, v6)
        pool_id, got = self.ipam.request_pool(request)
        self.ipam.request_address(AddressRequest(pool_id, ip_address(gateway) if gateway else None, gateway=True))
        if routed:
            self.routed.add(got)
        return pool_id

    def remove(self, pool_id: PoolId) -> None:
        self.routed.discard(pool_id.pool)
        self.ipam.release_pool(pool_id)

    def give(self, pool_id: PoolId, wanted: str | None = None) -> IPInterface:
        return self.ipam.request_address(AddressRequest(pool_id, ip_address(wanted) if wanted else None))

    def reserve(self, pool: IPNetwork, *addresses: str) -> bool:
        """What makes an --aux-address of an address that was given."""
        self.ipam.reserve({pool: [ip_address(address) for address in addresses]}, self.clock.wall())
        return True

    def release(self, pool_id: PoolId, address: IPInterface | str) -> None:
        ip = ip_address(address) if isinstance(address, str) else address.ip
        self.ipam.release_address(pool_id, ip)
