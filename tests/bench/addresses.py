"""What addresses cost: durable allocations on one host, and many hosts on one pool of one Consul.

Everything below the plugin's socket, so these figures are the address manager's own. Plain functions, which
`make bench` and tests call."""

import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from itertools import chain
from pathlib import Path

from ipam.commons import Commons
from ipam.ipam import Ipam
from ipam.journal import Journal
from ipam.lending import Lending
from ipam.mirror import Mirror
from ipam.model import AddressRequest, PoolId, PoolRequest
from ipam.pools import Plan, Pools
from ipam.tenancy import Tenancy
from store import records
from store.consul import ConsulStore
from store.interface import Change, Check, Entry, Snapshot, Store
from store.ip import IPAddress, IPNetwork
from store.memory import MemoryStore
from store.sqlite import SqliteStore
from tests.bench.bench import Bench
from tests.bench.samples import Lines, Row
from tests.consul_agent import ConsulAgent

POOL = ip_network("10.64.0.0/12")
PLAN = Plan((), 6)
TTL = 24 * 3600.0
PER_SECOND = 1000


@dataclass(frozen=True, slots=True)
class Allocations:
    """How fast one host gives addresses out, each in its journal when the answer is there."""

    threads: int
    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Crowd:
    """Many hosts on one pool at once."""

    hosts: int
    addresses: int
    duplicates: int
    seconds: float
    writes_per_address: float
    left_over: int  # keys in the store when all hosts had let go


@dataclass
class Counting:
    """A store that counts the commits that change something, and takes its time for each."""

    inner: Store
    write_seconds: float = 0.0
    writes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: str) -> Entry | None:
        return self.inner.get(key)

    def read(self, prefix: str) -> Snapshot:
        return self.inner.read(prefix)

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        return self.inner.wait(prefix, after, timeout)

    def commit(self, *changes: Change) -> bool:
        if not all(isinstance(change, Check) for change in changes):
            with self._lock:
                self.writes += 1
            time.sleep(self.write_seconds)
        return self.inner.commit(*changes)

    def close(self) -> None:
        self.inner.close()


class Host:
    """A host with an identity, a journal and a mirror of its own, but without a network."""

    def __init__(self, name: str, store: Store, directory: Path) -> None:
        self.name, self.store = name, store
        self.journal = SqliteStore(directory / f"{name}.db")
        self.tenancy = Tenancy(store, self.journal, name, TTL)
        pools = Pools(store, name, PLAN, self.tenancy, tuple)
        self.ipam = Ipam(
            Journal(self.journal, time.time),
            pools,
            Commons(store, pools, self.tenancy),
            Lending(store, name, self.tenancy),
            self.tenancy,
            lambda _: True,
            lambda pool: self.mirror.changed(("", pool)),
        )
        self.tenancy.on_loss(self.ipam.verify)
        self.mirror = Mirror(lambda _: store, name, lambda where: self.ipam.given(where[1]))
        self.mirror.start()

    def join(self, pool: IPNetwork) -> PoolId:
        pool_id, _ = self.ipam.request_pool(PoolRequest(pool, None))
        self.ipam.request_address(AddressRequest(pool_id, None, gateway=True))
        return pool_id

    def give(self, pool_id: PoolId) -> IPAddress:
        return self.ipam.request_address(AddressRequest(pool_id)).ip

    def close(self) -> None:
        self.mirror.stop()
        self.journal.close()


@contextmanager
def hosts_on(store: Callable[[], Store], count: int, directory: Path) -> Iterator[list[Host]]:
    """Each with a client of its own, as hosts have."""
    stores = [store() for _ in range(count)]
    hosts = [Host(f"host-{number}", one, directory) for number, one in enumerate(stores)]
    try:
        yield hosts
    finally:
        for host in hosts:
            host.close()
        for one in stores:
            one.close()


def allocations(directory: Path, *, threads: int, count: int, store: Store | None = None) -> Allocations:
    """`count` addresses in all, the blocks they come from taken on the way."""
    with hosts_on(lambda: store or MemoryStore(), 1, directory) as (host,):
        pool_id = host.join(POOL)
        latencies: list[float] = []

        def work(_: int) -> None:
            for _ in range(count // threads):
                began = time.perf_counter()
                host.give(pool_id)
                latencies.append((time.perf_counter() - began) * 1000)

        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads)))
        took = time.perf_counter() - began
    return Allocations(threads, len(latencies) / took, statistics.median(latencies), percentile(latencies, 99))


def percentile(samples: list[float], part: int) -> float:
    return sorted(samples)[-(-len(samples) * part // 100) - 1]


def crowd(store: Callable[[], Store], directory: Path, *, hosts: int, each: int, write_seconds: float = 0.0) -> Crowd:
    """All join the pool at the same moment, take `each` addresses, give half back and let go of all in the end."""
    counted: list[Counting] = []

    def counting() -> Store:
        counted.append(Counting(store(), write_seconds))
        return counted[-1]

    with hosts_on(counting, hosts, directory) as all_hosts, ThreadPoolExecutor(hosts) as pool:
        start = threading.Barrier(hosts + 1)

        def work(host: Host) -> list[IPAddress]:
            start.wait(60)
            pool_id = host.join(POOL)
            return [host.give(pool_id) for _ in range(each)]

        working = [pool.submit(work, host) for host in all_hosts]
        start.wait(60)
        began = time.perf_counter()
        given = list(chain.from_iterable(future.result() for future in working))
        took = time.perf_counter() - began
        writes = sum(one.writes for one in counted)
        for host in all_hosts:
            host.mirror.stop()

        def let_go(host: Host) -> None:
            host.ipam.release_pool(PoolId(POOL))
            host.ipam.settle([POOL])
            host.tenancy.end()

        list(pool.map(let_go, all_hosts))
        left = len(counted[0].read("").entries.keys() - {records.EPOCH})
    return Crowd(hosts, len(given), len(given) - len(set(given)), took, writes / len(given), left)


def in_a_cluster_of_its_own(agent: ConsulAgent) -> Callable[[], Store]:
    root = f"bench-{uuid.uuid4().hex[:12]}"
    return lambda: ConsulStore(agent.url, root)


def giving(_: Bench) -> Lines:
    """Addresses given by one host, each durable before the answer; then 100 hosts on one pool of one Consul."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        agent = ConsulAgent(directory / "consul")
        agent.start()
        try:
            for threads in (1, 8):
                store = in_a_cluster_of_its_own(agent)()
                found = allocations(directory / str(threads), threads=threads, count=4000, store=store)
                yield Row(f"addresses given, {threads} at once", "1/s", [found.per_second], least=PER_SECOND)
                yield Row(f"one of them, {threads} at once", "ms", [found.p50_ms])
                yield Row(f"one of them, {threads} at once: 99th percentile", "ms", [found.p99_ms])
            for seconds in (0.0, 0.005):
                all_of_them = in_a_cluster_of_its_own(agent)
                own = directory / f"crowd-{seconds}"
                hosts = crowd(all_of_them, own, hosts=100, each=50, write_seconds=seconds)
                how = f"100 hosts at once, {seconds * 1000:.0f} ms more for each write"
                yield Row(f"{how}: addresses given", "1/s", [hosts.addresses / hosts.seconds])
                yield Row(f"{how}: time", "s", [hosts.seconds])
                yield Row(f"{how}: writes to Consul for each address", "", [hosts.writes_per_address], most=1)
                yield Row(f"{how}: given twice", "", [hosts.duplicates], most=0)
                yield Row(f"{how}: records left in the end", "", [hosts.left_over], most=0)
        finally:
            agent.stop()
