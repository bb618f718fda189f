"""What thousands of other hosts cost one host, and what one change costs each of thousands.

The other hosts are records in a real Consul; flannelpy, Consul and the kernel are real (see tests/scale.py)."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from store.records import block_of_key
from tests.bench.bench import Bench
from tests.bench.samples import Lines, Note, Row
from tests.lab.cluster import FLANNELPY, Written, side_by_side
from tests.lab.commands import wait_until
from tests.lab.docker_host import DockerHost
from tests.lab.lab import Lab
from tests.scale import POOL, Figures, populate, populate_endpoints, simulate

PEERS = (3, 300, 5000)
CHANGES, IDLE = 40, 60.0  # seconds
HOSTS, HTTP = 3, "127.0.0.1:9100"
RUNS, SETTLED = 15, 1.5  # containers, and seconds that each of them has for itself
PATIENCE = 30.0  # seconds for a host's metrics
CONTAINERS, STARTED = 20, 40  # on each of the other hosts; and then
FROM_NOTHING, KNOWN_MEDIAN, KNOWN_P99 = 5000.0, 50.0, 200.0  # ms
MEMORY, CPU = 150.0, 1.0  # MB, per cent


def many_hosts(_: Bench) -> Lines:
    """One real host beside many that are records: from nothing to the last route, then one change after the other; the
    most of them with other backends, too."""
    for peers in PEERS:
        yield from rows(simulate(peers, CHANGES, IDLE), f"{peers} other hosts")
    for backend in ("wireguard", "udp"):
        yield from rows(simulate(PEERS[-1], CHANGES, IDLE, backend=backend), f"{PEERS[-1]} other hosts, {backend}")


def traffic(_: Bench) -> Lines:
    """What the store is asked and answers when one container starts, and when it stops: on three real hosts, alone and
    beside 297 that are records, and for one real host when it happens elsewhere. Each record of a host has 20
    containers. Bytes are those of the connections to Consul, HTTP headers included, beyond what passes anyway."""
    for more in (0, PEERS[1] - HOSTS):
        yield from real_traffic(more)
    for peers in PEERS[:2]:
        figures, beside = simulate(peers, STARTED, 20.0, CONTAINERS), f"{peers} other hosts of {CONTAINERS} containers"
        for what, read, sent in (
            ("start", figures.bytes_per_start, figures.sent_per_start),
            ("stop", figures.bytes_per_stop, figures.sent_per_stop),
        ):
            yield Row(f"{beside}: read by each for a {what} elsewhere", "bytes", [read])
            yield Row(f"{beside}: sent by each for a {what} elsewhere", "bytes", [sent])
        yield Row(f"{beside}: read by each, nothing changing", "bytes/s", [figures.bytes_idle])
        yield Row(f"{beside}: sent by each, nothing changing", "bytes/s", [figures.sent_idle])
        whole = figures.whole_endpoints
        yield Note(f"{beside}: all below endpoints/, which each would cost without a feed: {whole} bytes")


def real_traffic(more: int) -> Lines:
    """Containers start and stop on one of three hosts, beside so many more that are records."""
    with Lab(hosts=HOSTS) as lab:
        env = {"FLANNELPY_STORE": lab.consul.url, "FLANNELPY_PROPAGATE": "true", "FLANNELPY_HTTP": HTTP}
        side_by_side(lambda host: host.start_flannelpy(env), lab.hosts)
        here, *others = lab.hosts
        here.docker("network", "create", *FLANNELPY, "--subnet", str(POOL), "bench")
        for host in lab.hosts:
            wait_until("the network", partial(host.docker_ok, "network", "inspect", "bench"), timeout=20)
            host.run_container("first", "--network", "bench")
        if more:
            join(lab, more, env)
        time.sleep(SETTLED)
        idle = traffic_of(lab.hosts, lambda: time.sleep(RUNS * SETTLED))
        starts = traffic_of(lab.hosts, lambda: paced(lambda n: here.run_container(f"c{n}", "--network", "bench")))
        stops = traffic_of(lab.hosts, lambda: paced(lambda n: here.docker("rm", "-f", f"c{n}")))
    hosts = f"{HOSTS + more} hosts"
    for what, seen in (("start", starts), ("stop", stops)):
        each = {host: seen[host].less(idle[host]).shared(RUNS) for host in lab.hosts}
        yield Row(f"{hosts}: writes to the store for a {what}", "writes", [sum(e.writes for e in each.values())])
        yield Row(f"{hosts}: read for a {what} here", "bytes", [each[here].received])
        yield Row(f"{hosts}: sent for a {what} here", "bytes", [each[here].sent])
        yield Row(f"{hosts}: read for a {what} elsewhere", "bytes", [each[host].received for host in others])
        yield Row(f"{hosts}: sent for a {what} elsewhere", "bytes", [each[host].sent for host in others])


def join(lab: Lab, count: int, env: Mapping[str, str]) -> None:
    """So many more hosts, each with its containers, as if they had been there before flannelpy was started."""
    side_by_side(DockerHost.stop_flannelpy, lab.hosts)
    keys = lab.consul.keys()
    taken = {block_of_key(key) for key in keys if "/blocks/" in key}
    free = (str(block) for block in POOL.subnets(new_prefix=26) if block not in taken)
    store: Any = Written(lab.consul)
    populate(store, count, list(islice(free, count)))
    populate_endpoints(store, count, CONTAINERS)
    side_by_side(lambda host: host.start_flannelpy(env), lab.hosts)
    for host in lab.hosts:
        wait_until("the others to be known", lambda: peers_of(host) == HOSTS - 1 + count, timeout=60)  # noqa: B023


def peers_of(host: DockerHost) -> float:
    """None as long as a flannelpy that was just started does not serve its metrics yet."""
    if not host.attempt("ss", "-tlnH", "sport", "=", f":{HTTP.rpartition(':')[2]}").stdout:
        return 0
    found = re.findall(r"^flannelpy_peers\{.*\} (\S+)$", metrics_of(host), re.MULTILINE)
    return sum(map(float, found))


def metrics_of(host: DockerHost) -> str:
    """However long it takes: on a machine with much else to do, a host that reads all that is new may let wait."""
    return host.http(f"http://{HTTP}/metrics", timeout=PATIENCE)[1]


def paced(act: Callable[[int], object]) -> None:
    for number in range(RUNS):
        began = time.monotonic()
        act(number)
        time.sleep(max(SETTLED - (time.monotonic() - began), 0))


@dataclass(frozen=True, slots=True)
class Traffic:
    """Of one host with the store."""

    writes: float  # commits
    received: float  # bytes, of connections that are still open
    sent: float

    def less(self, other: "Traffic") -> "Traffic":
        return Traffic(self.writes - other.writes, self.received - other.received, self.sent - other.sent)

    def shared(self, number: int) -> "Traffic":
        return Traffic(self.writes / number, self.received / number, self.sent / number)


def traffic_of(hosts: Sequence[DockerHost], act: Callable[[], object]) -> dict[DockerHost, Traffic]:
    """Each host's traffic with the store while that happens; it lasts about equally long each time."""
    before = {host: traffic_so_far(host) for host in hosts}
    act()
    return {host: traffic_so_far(host).less(before[host]) for host in hosts}


def traffic_so_far(host: DockerHost) -> Traffic:
    commits = re.findall(r'^flannelpy_store_seconds_count{verb="commit"} (\S+)$', metrics_of(host), re.MULTILINE)
    sockets = host.attempt("ss", "-tinH", "dport", "=", ":8500").stdout
    received, sent = (sum(map(int, re.findall(rf"bytes_{way}:(\d+)", sockets))) for way in ("received", "acked"))
    return Traffic(sum(map(float, commits)), received, sent)


def rows(figures: Figures, beside: str) -> Iterator[Row | Note]:
    yield Row(f"{beside}: from the start to the last route", "ms", [figures.from_nothing * 1000], most=FROM_NOTHING)
    yield Row(f"{beside}: of which from the first route on", "ms", [figures.programming * 1000])
    known = [took * 1000 for took in figures.known]
    yield Row(f"{beside}: another's commit to its route here", "ms", known, most=KNOWN_MEDIAN, p99_most=KNOWN_P99)
    yield Row(f"{beside}: memory", "MB", [figures.memory / 1e6], most=MEMORY)
    yield Row(f"{beside}: idle CPU", "%", [figures.idle_cpu * 100], most=CPU)
    yield Row(f"{beside}: read from Consul for one change", "bytes", [figures.bytes_per_change])
    yield Row(f"{beside}: read from Consul, nothing changing", "bytes/s", [figures.bytes_idle])
    yield Note(f"{beside}: all below pools/, which each change would cost without a feed: {figures.whole} bytes")
