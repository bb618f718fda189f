"""How soon a network that is made, or removed, on one host is so on all: until the last host's Docker answers so."""

import time
from collections.abc import Callable

from tests.bench.bench import Bench
from tests.bench.samples import Lines, Row
from tests.lab import unix_http
from tests.lab.cluster import FLANNELPY, side_by_side
from tests.lab.docker_host import DockerHost
from tests.lab.lab import Lab

HOSTS, NETWORKS, P99 = 3, 50, 1000.0  # ms
PATIENCE = 30.0  # seconds


def spread(_: Bench) -> Lines:
    """Fifty networks, one after the other, each made on one of three hosts and removed on the next."""
    with Lab(hosts=HOSTS) as lab:
        env = {"FLANNELPY_STORE": lab.consul.url, "FLANNELPY_PROPAGATE": "true"}
        side_by_side(lambda host: host.start_flannelpy(env), lab.hosts)
        made, removed = [], []
        for number in range(NETWORKS):
            lab.hosts[number % HOSTS].docker("network", "create", *FLANNELPY, f"bench{number}")
            made.append(_until(lambda name=f"bench{number}": all(_has(host, name) for host in lab.hosts)))  # type: ignore[misc]
        for number in range(NETWORKS):
            lab.hosts[(number + 1) % HOSTS].docker("network", "rm", f"bench{number}")
            removed.append(_until(lambda name=f"bench{number}": not any(_has(host, name) for host in lab.hosts)))  # type: ignore[misc]
    yield Row(f"made, until {HOSTS} hosts have it", "ms", made, p99_most=P99)
    yield Row("removed, until no host has it", "ms", removed, p99_most=P99)


def _has(host: DockerHost, name: str) -> bool:
    return unix_http.request(host.docker_socket, "GET", f"/networks/{name}", timeout=10)[0] == 200


def _until(reached: Callable[[], bool]) -> float:
    """Milliseconds from now."""
    began = time.perf_counter()
    while not reached():
        if time.perf_counter() - began > PATIENCE:
            raise TimeoutError(f"not within {PATIENCE:g} s")
        time.sleep(0.02)
    return (time.perf_counter() - began) * 1000
