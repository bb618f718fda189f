"""What Prometheus scrapes: the only file that uses its client. Names begin with `flannelpy_`.

What happens is counted as it happens; what is so is computed when somebody scrapes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from ipam.spaces import SpacedPool

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[str, ...]
BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)  # seconds


@dataclass(frozen=True, slots=True)
class Counts:
    """The state of this host, in numbers."""

    networks: int
    endpoints: int
    addresses: Mapping[SpacedPool, int]  # in use, of this host's
    blocks: Mapping[SpacedPool, int]
    peers: Mapping[SpacedPool, int]
    lease_silence: float  # seconds since the last beat that reached the store
    lease_ttl: float
    store_away: float  # seconds, 0 while it answers
    store_traffic: tuple[int, int]  # bytes to the store, and from it
    watch_age: float  # seconds since the store last answered the watch
    problems: int
    conflicts: int
    silent_hosts: int
    garbage_freed: int
    passes: int
    pass_seconds: float
    repairs: int
    listener_failures: int
    traffic: Mapping[str, tuple[int, int]]  # by pool: bytes from the containers of this host, and to them


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "flannelpy_request_seconds", "calls on the socket", ["call"], registry=self.registry, buckets=BUCKETS
        )
        self._refused = Counter("flannelpy_requests_refused", "those refused", ["call"], registry=self.registry)
        self._store = Histogram(
            "flannelpy_store_seconds", "calls of the store", ["verb"], registry=self.registry, buckets=BUCKETS
        )
        self._unanswered = Counter(
            "flannelpy_store_unanswered", "calls the store did not answer", ["verb"], registry=self.registry
        )
        ProcessCollector(namespace="flannelpy", registry=self.registry)

    def watch(self, counts: Callable[[], Counts]) -> None:
        self.registry.register(_Now(counts))

    def request(self, call: str, seconds: float, refused: bool) -> None:
        self._requests.labels(call).observe(seconds)
        if refused:
            self._refused.labels(call).inc()

    def store_call(self, verb: str, seconds: float, answered: bool) -> None:
        self._store.labels(verb).observe(seconds)
        if not answered:
            self._unanswered.labels(verb).inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Now(Collector):
    def __init__(self, counts: Callable[[], Counts]) -> None:
        self._counts = counts

    def describe(self) -> list[Metric]:
        return []  # so that registering it asks nobody

    def collect(self) -> Iterator[Metric]:
        now = self._counts()
        yield _gauge("networks", "networks of ours on this host", now.networks)
        yield _gauge("endpoints", "containers attached to them", now.endpoints)
        yield _by_pool("addresses_in_use", "addresses this host has given out", now.addresses)
        yield _by_pool("blocks", "blocks this host holds", now.blocks)
        yield _by_pool("peers", "other hosts of a network", now.peers)
        yield _gauge("lease_silence_seconds", "since the last beat that reached the store", now.lease_silence)
        yield _gauge("lease_ttl_seconds", "how long a silent host keeps what it holds", now.lease_ttl)
        yield _gauge("store_away_seconds", "for how long the store has not answered, 0 if it does", now.store_away)
        yield _gauge("watch_age_seconds", "since the store last answered the watch", now.watch_age)
        yield _gauge("problems", "what `flannelpy status` lists as problems", now.problems)
        yield _gauge("conflicts", "containers whose address this host no longer holds", now.conflicts)
        yield _gauge("silent_hosts", "hosts that miss their beats", now.silent_hosts)
        yield _counter("garbage_freed", "leaked things found and freed", now.garbage_freed)
        yield _counter("reconcile_passes", "looks at the kernel", now.passes)
        yield _counter("reconcile_seconds", "time spent with them", now.pass_seconds)
        yield _counter("repairs", "changes made to the kernel", now.repairs)
        yield _counter("listener_failures", "times that listening to the kernel broke off", now.listener_failures)
        yield _both_ways("store_bytes", "bytes exchanged with the store", (), [((), now.store_traffic)])
        pools = (((pool,), both) for pool, both in now.traffic.items())
        yield _both_ways("network_bytes", "bytes of this host's containers", ("pool",), pools)


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"flannelpy_{name}", about, value=value)


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(f"flannelpy_{name}", about, value=value)


def _by_pool(name: str, about: str, values: Mapping[SpacedPool, int]) -> Metric:
    family = GaugeMetricFamily(f"flannelpy_{name}", about, labels=["pool", "space"])
    for (space, pool), value in values.items():
        family.add_metric([str(pool), space], value)
    return family


def _both_ways(name: str, about: str, labels: Labels, values: Iterable[tuple[Labels, tuple[int, int]]]) -> Metric:
    family = CounterMetricFamily(f"flannelpy_{name}", about, labels=[*labels, "direction"])
    for where, (sent, received) in values:
        family.add_metric([*where, "sent"], sent)
        family.add_metric([*where, "received"], received)
    return family
