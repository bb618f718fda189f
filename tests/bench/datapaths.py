"""The ways from one container to another that are compared: two ends each, with the servers of all tools behind one."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from driver.backends import BACKENDS
from tests.bench import flannel_layout, flannel_udp
from tests.lab.cluster import FLANNELPY, Cluster, side_by_side
from tests.lab.commands import CommandFailed, wait_until
from tests.lab.docker_host import DockerHost
from tests.lab.processes import Daemon

HOST, BRIDGE, OVERLAY = "the hosts' own", "Docker bridge", "Docker overlay"
FLANNEL, FLANNEL_UDP = "flannel's layout", "flannel's udp"
FAST = {backend: f"{backend}, fast path" for backend in ("vxlan", "host-gw")}
IPERF, SOCKPERF, CONNECTIONS = 5201, 11111, 5202
CONNECTIONS_PROGRAM = str(Path(__file__).with_name("connections.py"))
SERVERS = {
    "iperf3": ("iperf3", "-s", "-p", str(IPERF)),
    "sockperf-udp": ("sockperf", "server", "-p", str(SOCKPERF)),
    "sockperf-tcp": ("sockperf", "server", "--tcp", "-p", str(SOCKPERF)),
    "connections": (sys.executable, "-I", CONNECTIONS_PROGRAM, "serve", str(CONNECTIONS)),
}
LISTENERS = {f"tcp {IPERF}", f"udp {SOCKPERF}", f"tcp {SOCKPERF}", f"tcp {CONNECTIONS}"}


@dataclass(frozen=True, slots=True)
class End:
    """A host itself, or with `pid` the network of a container on it."""

    host: DockerHost
    address: str
    pid: str = ""

    @property
    def enter(self) -> tuple[str, ...]:
        return ("nsenter", "-t", self.pid, "-n") if self.pid else ()

    def run(self, *command: str, timeout: float = 60) -> str:
        return self.host.run(*self.enter, *command, timeout=timeout)

    def daemon(self, name: str, *command: str) -> Daemon:
        return self.host.daemon(name, *self.enter, *command, log=f"{name}.log")

    def listeners(self) -> set[str]:
        found = (line.split() for line in self.run("ss", "-Hlntu").splitlines())
        return {f"{fields[0]} {fields[4].rpartition(':')[2]}" for fields in found}


@dataclass
class DataPath:
    name: str
    client: End
    server: End
    _daemons: list[Daemon] = field(default_factory=list)

    def serve(self) -> None:
        """They wait without using the processor until a client comes."""
        self._daemons = [self.server.daemon(f"{name} of {self.name}", *command) for name, command in SERVERS.items()]
        wait_until(f"the servers of {self.name}", lambda: self.server.listeners() >= LISTENERS, timeout=20)

    def close(self) -> None:
        for daemon in self._daemons:
            daemon.kill()


class Ways:
    """The paths that this machine can make, and why it cannot make the others."""

    def __init__(self) -> None:
        self.paths: list[DataPath] = []
        self.missing: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path in self.paths:
            path.close()

    def add(self, name: str, make: Callable[[], tuple[End, End]]) -> None:
        try:
            path = DataPath(name, *make())
        except CommandFailed as error:
            self.missing.append(f"no {name}: {error.stderr.strip().splitlines()[0]}")
            return
        except flannel_udp.Unavailable as error:
            self.missing.append(f"no {name}: {error}")
            return
        path.client.run("ping", "-c", "1", "-W", "5", path.server.address)
        self.paths.append(path)
        path.serve()

    @classmethod
    def all(cls, cluster: Cluster) -> Self:
        ways = cls()
        one, other = cluster.hosts
        ways.add(HOST, lambda: (End(one, one.address), End(other, other.address)))
        ways.add(BRIDGE, lambda: bridge(one))
        ways.add(OVERLAY, lambda: overlay(one, other))
        ways.add(FLANNEL, lambda: flannel(one, other, "path-flannel", flannel_layout.lay_out))
        ways.add(FLANNEL_UDP, lambda: flannel(one, other, "path-flannel-udp", flannel_udp.lay_out))
        options: dict[str, tuple[str, ...]] = {backend: ("-o", f"backend={backend}") for backend in BACKENDS}
        options |= {name: (*options[backend], "-o", "fast-path=true") for backend, name in FAST.items()}
        for number, (name, given) in enumerate(options.items()):
            ways.add(name, lambda: ours(cluster, f"path-{number}", given, f"10.{230 + number}.0.0/18"))  # noqa: B023 (called at once)
        return ways


# --- the networks


def container(host: DockerHost, name: str, network: str) -> End:
    host.run_container(name, "--network", network)
    pid = host.docker("inspect", "--format", "{{.State.Pid}}", name)
    return End(host, host.address_of(name, network), pid)


def bridge(host: DockerHost) -> tuple[End, End]:
    """Both on one host: Docker's bridge goes no further."""
    host.docker("network", "create", "-d", "bridge", "path-bridge")
    client, server = (container(host, f"bridge-{end}", "path-bridge") for end in ("client", "server"))
    return client, server


def overlay(one: DockerHost, other: DockerHost) -> tuple[End, End]:
    """Swarm's, which is the only overlay that Docker still has."""
    one.docker("swarm", "init", "--advertise-addr", one.address)
    token = one.docker("swarm", "join-token", "-q", "worker")
    other.docker("swarm", "join", "--token", token, f"{one.address}:2377")
    subnet = ("--subnet", "10.250.0.0/24")
    one.docker("network", "create", "-d", "overlay", "--attachable", *subnet, "path-overlay")
    return container(one, "overlay", "path-overlay"), container(other, "overlay", "path-overlay")


def flannel(
    one: DockerHost, other: DockerHost, name: str, lay_out: Callable[[DockerHost, DockerHost, str], None]
) -> tuple[End, End]:
    lay_out(one, other, name)
    return container(one, name, name), container(other, name, name)


def ours(cluster: Cluster, name: str, options: Sequence[str], pool: str) -> tuple[End, End]:
    for host in cluster.hosts:
        host.docker("network", "create", *FLANNELPY, *options, "--subnet", pool, name)
    client, server = side_by_side(lambda host: container(host, name, name), cluster.hosts)
    return client, server
