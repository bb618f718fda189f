"""Hosts with flannelpy on one Consul, and what tests do with them and ask of them all the time."""

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from ipaddress import ip_address, ip_network
from types import TracebackType
from typing import Protocol, Self, TypeVar

from operations.trial import KEY as TRIAL
from store.codec import encode
from store.feed import Announcing
from store.interface import ABSENT, Delete, Put
from store.records import Block, Peer, block_key, peer_key
from store.sqlite import SqliteStore
from tests.lab.commands import CommandFailed, NotInTime, wait_until
from tests.lab.consul import Consul, ConsulRefused
from tests.lab.docker_host import DockerHost
from tests.lab.lab import Lab
from tests.lab.machine import Machine
from tests.lab.processes import Daemon
from tests.lab.snapshot import Snapshot, differences

POOL, POOL6 = "10.240.0.0/18", "fd77::/64"
INTERVAL = 0.01  # seconds from ping to ping
DOCKERS_OWN = {"bridge", "host", "none", "docker_gwbridge"}
FLANNELPY = ("-d", "flannelpy", "--ipam-driver", "flannelpy")
SOMEBODYS_KEY = base64.b64encode(bytes(range(32))).decode()  # of WireGuard

# A web server that answers with the address its caller has here.
TELL_THE_CALLER = r"""
mkdir -p /www/cgi-bin
printf '#!/bin/sh\necho; echo $REMOTE_ADDR\n' >/www/cgi-bin/caller
chmod +x /www/cgi-bin/caller
exec httpd -f -p 80 -h /www
"""
ASK = r"printf 'GET /cgi-bin/caller HTTP/1.0\r\n\r\n' | busybox nc -w 2 $0 $1"
PING = 'ping -c 1 -W 2 "$a" >/dev/null'
PING_ALL = f'for a; do {PING} || {PING} || echo "$a"; done'

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(task: Callable[[T], R], things: Iterable[T]) -> list[R]:
    """`task` for each at the same moment; the first failure is raised when all have ended."""
    todo = list(things)
    with ThreadPoolExecutor(max(1, len(todo))) as pool:
        futures = [pool.submit(task, thing) for thing in todo]
    return [future.result() for future in futures]


class Container:
    """A container in one of our networks, which serves on port 80 and can look around."""

    def __init__(self, host: DockerHost, name: str, network: str) -> None:
        self.host, self.name, self.network = host, name, network
        self.address = self.address6 = self.pid = ""
        self.look_again()

    def __str__(self) -> str:
        return f"{self.name} on {self.host.name}"

    def look_again(self) -> None:
        """After it was started anew."""
        seen = self.host.docker_json("inspect", self.name)[0]
        mine = seen["NetworkSettings"]["Networks"][self.network]
        self.address, self.address6 = mine["IPAddress"], mine["GlobalIPv6Address"]
        self.pid = str(seen["State"]["Pid"])

    @property
    def addresses(self) -> list[str]:
        return [address for address in (self.address, self.address6) if address]

    def run(self, *command: str) -> str:
        """A command inside, as `docker exec` has it."""
        return self.host.container_exec(self.name, *command)

    def tool(self, *command: str, timeout: float = 30) -> tuple[int, str]:
        """A program of this machine in the container's network: exit status and all it wrote."""
        done = self.host.attempt("nsenter", "-t", self.pid, "-n", *command, timeout=timeout)
        return done.returncode, done.stdout + done.stderr

    def unreached(self, addresses: Iterable[str]) -> list[str]:
        """Those of the addresses, or names, that answer neither of two pings."""
        return self.run("sh", "-c", PING_ALL, "sh", *addresses).split()

    def ask(self, address: str, port: int = 80) -> str:
        """Who this container is for the one that serves there; empty when nobody answers."""
        return caller_in(self.run("sh", "-c", f"{ASK}; true", address, str(port)))

    def answered(self, address: str, wait: float) -> bool:
        """Whether a single ping is, within so many seconds: to be asked again and again while time is taken."""
        return self.tool("ping", "-n", "-c", "1", "-W", str(wait), address)[0] == 0

    def await_server(self) -> None:
        """Docker says that a container has started before its web server listens."""

        def listens() -> bool:
            return bool(self.tool("ss", "-Hltn", "sport", "=", "80")[1].strip())

        wait_until(f"the web server of {self}", listens, timeout=30)

    def passes_unfragmented(self, address: str, size: int) -> bool:
        """Whether an IP packet of so many bytes arrives whole, and so does its answer."""
        headers = 48 if ":" in address else 28
        return self.tool("ping", "-c", "1", "-W", "0.5", "-M", "do", "-s", str(size - headers), address)[0] == 0


def ask_from(host: DockerHost, address: str, port: int = 80) -> str:
    """Like `Container.ask`, from a host itself."""
    return caller_in(host.attempt("sh", "-c", ASK, address, str(port)).stdout)


def caller_in(answer: str) -> str:
    found = re.search(r"^\[?(?:::ffff:)?([0-9a-f.:]+?)\]?$", answer, re.MULTILINE)
    return found[1] if found else ""


class Source(Protocol):
    """Where pings come from: a container, by a process of it that its machine knows."""

    @property
    def host(self) -> Machine: ...
    @property
    def name(self) -> str: ...
    @property
    def pid(self) -> str: ...


class PingStream:
    """A ping every 10 ms while the block runs; what went wrong is asked for afterwards."""

    def __init__(self, source: Source, address: str) -> None:
        self._source, self._address = source, address
        self._log = source.host.directory / f"ping-{source.name}-{address}.log"

    def __enter__(self) -> Self:
        self._log.unlink(missing_ok=True)
        command = ("nsenter", "-t", self._source.pid, "-n", "ping", "-n", "-i", str(INTERVAL), self._address)
        self._ping: Daemon = self._source.host.daemon("ping", *command, log=self._log.name)
        self._await("the first answer", 1, timeout=10)
        self.await_more(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.await_more(10)
        finally:
            self._ping.kill()

    def await_more(self, count: int) -> None:
        """Until so many more answers have come."""
        self._await("answers", len(self.answered()) + count, timeout=30)

    def _await(self, what: str, enough: int, timeout: float) -> None:
        wait_until(
            f"{what} to {self._source.name}'s pings of {self._address}",
            lambda: len(self.answered()) >= enough,
            timeout=timeout,
            tail=self._ping.tail,
        )

    def answered(self) -> set[int]:
        with suppress(FileNotFoundError):
            return {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", self._log.read_text())}
        return set()

    def lost(self) -> list[int]:
        """The numbers of the packets without an answer, from the first answer up to the last."""
        answered = self.answered()
        return sorted(set(range(min(answered), max(answered) + 1)) - answered)

    def silence(self) -> float:
        """Seconds that the lost packets stand for."""
        return len(self.lost()) * INTERVAL


class Written:
    """Consul's transactions, from outside of the lab's network; whatever stood there goes."""

    def __init__(self, consul: Consul) -> None:
        self._consul = consul

    def commit(self, *changes: Put | Delete) -> bool:
        self._consul.api("PUT", "/v1/txn", [{"KV": _operation(change)} for change in changes])
        return True


def _operation(change: Put | Delete) -> dict[str, str]:
    key = f"flannelpy/{change.key}"
    if isinstance(change, Delete):
        return {"Verb": "delete", "Key": key}
    return {"Verb": "set", "Key": key, "Value": base64.b64encode(change.value).decode()}


class Cluster:
    def __init__(self, lab: Lab) -> None:
        self.lab, self.hosts, self.consul = lab, lab.hosts, lab.consul
        self.before: Snapshot = {}

    def start(self, **settings: str) -> None:
        """flannelpy everywhere, and once all that stays after the first network and container: docker_gwbridge, and
        that the host forwards, but nothing without a rule."""
        env = {"FLANNELPY_STORE": self.consul.url, **settings}
        side_by_side(lambda host: host.start_flannelpy(env), self.hosts)
        self.create("first", "--ipv6", "--subnet", POOL, "--subnet", POOL6)
        side_by_side(lambda host: host.docker("run", "--rm", "--network", "first", "lab/busybox", "true"), self.hosts)
        side_by_side(lambda host: host.docker("network", "rm", "first"), self.hosts)
        self.before = self.steady_traces()

    # --- doing

    def create(self, name: str, *options: str) -> None:
        """`docker network create` on one host after the other."""
        for host in self.hosts:
            host.docker("network", "create", *FLANNELPY, *options, name)

    def run(self, host: DockerHost, name: str, network: str, *options: str) -> Container:
        host.run_container(name, "--network", network, *options, command=("sh", "-c", TELL_THE_CALLER))
        return Container(host, name, network)

    def run_everywhere(self, count: int, network: str, *options: str, first: int = 1) -> list[Container]:
        """So many containers on each host, all at once: `h1-1`, `h1-2`, ..., `h2-1`, ..."""
        wanted = [
            (host, f"h{number}-{index}")
            for number, host in enumerate(self.hosts, start=1)
            for index in range(first, first + count)
        ]
        return side_by_side(lambda one: self.run(*one, network, *options), wanted)

    @contextmanager
    def peer(self, pool: str, address: str, block: str | None = None) -> Iterator[None]:
        """One more host in a network, as far as the others can tell: its records."""
        of = ip_network(pool)
        link = (ip_network(f"{address}/24", strict=False),)
        peer = Peer("third", (ip_address(address),), SOMEBODYS_KEY, link=link)
        written = {peer_key(of, "third"): encode(peer)}
        if block is not None:
            written[block_key(of, ip_network(block))] = encode(Block("third"))
        store = Announcing(Written(self.consul), "third")  # type: ignore[arg-type]

        def commit() -> bool:
            with suppress(ConsulRefused):  # a Consul just started has no leader yet
                return store.commit(*(Put(key, value, ABSENT) for key, value in written.items()))
            return False

        wait_until("Consul to take the records", commit, timeout=30)
        try:
            yield
        finally:
            store.commit(*(Delete(key, ABSENT) for key in written))

    # --- asking

    def unreached(self, containers: Sequence[Container]) -> list[str]:
        """Every pair, in both directions and both families, of which two pings are not answered."""
        everybody = [address for container in containers for address in container.addresses]

        def failures(container: Container) -> list[str]:
            return [f"{container} -> {address}" for address in container.unreached(everybody)]

        return [failure for some in side_by_side(failures, containers) for failure in some]

    def traces(self) -> Snapshot:
        """All that flannelpy could leave behind: in the kernels, in the hosts' own records, in Consul."""
        # The feed is what happened, and stays short by itself (tests/unit/test_feed.py).
        found = {"Consul": set(filter(lambda key: "/feed/" not in key, self.consul.keys()))}
        for host, snapshot in zip(self.hosts, side_by_side(DockerHost.snapshot, self.hosts), strict=True):
            found[f"{host.name} records"] = records_of(host)
            # Docker gives its bridges another MAC with each restart.
            snapshot["fdb"] = {line for line in snapshot["fdb"] if " dev docker" not in line}
            found |= {f"{host.name} {kind}": lines for kind, lines in snapshot.items()}
        return found

    def steady_traces(self) -> Snapshot:
        """What is there when nothing comes or goes any more: twice the same, a second apart."""
        seen: list[Snapshot] = []

        def steady() -> bool:
            seen.append(self.traces())
            return len(seen) > 1 and seen[-1] == seen[-2]

        wait_until("all to be quiet", steady, timeout=45, tail=lambda: differences(*seen[-2:]), every=1)
        return seen[-1]

    def left_over(self) -> str:
        """What is there now and was not at the start, or the other way round."""
        return differences(self.before, self.traces())

    def expect_nothing_left(self, timeout: float = 45) -> None:
        """The last of it may go a moment after Docker's prompt is back."""
        wait_until("nothing to be left", lambda: not self.left_over(), timeout=timeout, tail=self.left_over, every=0.2)

    def errors(self) -> list[str]:
        """What flannelpy logged as an error, over all its life."""
        return [
            f"{host.name}: {line}"
            for host in self.hosts
            for line in host.flannelpy_log().splitlines()
            if " error " in line[:40] or line.startswith("Traceback")
        ]

    def clean(self) -> None:
        """Remove every container and network of every host, as a user would."""

        def clean(host: DockerHost) -> None:
            host.remove_containers()
            names = set(host.docker("network", "ls", "--format", "{{.Name}}").split()) - DOCKERS_OWN
            for name in names:
                remove_network(host, name)

        side_by_side(clean, self.hosts)


def remove_network(host: DockerHost, name: str) -> None:
    """Under load dockerd counts an endpoint for a moment longer than it answers that the container is gone, and seldom
    for good: threads that start containers at once count on one object (moby#42119).
    It counts anew when it starts."""
    said = ""

    def gone() -> bool:
        nonlocal said
        try:
            host.docker("network", "rm", name)
        except CommandFailed as refused:
            said = str(refused)
            return not host.docker_ok("network", "inspect", name)
        return True

    try:
        wait_until(f"{name} to go", gone, timeout=30, every=1, tail=lambda: said)
    except NotInTime:
        if "has active endpoints" not in said or host.docker_json("network", "inspect", name)[0]["Containers"]:
            raise
        host.stop_dockerd()
        host.start_dockerd()
        wait_until(f"{name} to go", gone, timeout=45, every=1, tail=lambda: said)


def records_of(host: DockerHost) -> set[str]:
    """The keys of what flannelpy of this host remembers, but for what rests, and is forgotten by itself, and the one by
    which it tries whether the disk takes anything."""
    path = host.directory / "flannelpy/host.db"
    if not path.exists():
        return set()
    store = SqliteStore(path)
    try:
        return {key for key in store.read("").entries if "left/" not in key and key != TRIAL}
    finally:
        store.close()


class Keeper:
    """Lends one cluster to test after test; one that does not come back clean is thrown away."""

    def __init__(self, *, calm: bool = True) -> None:
        """`calm` says that nothing happens to it which would make flannelpy log an error."""
        self._calm = calm
        self._idle: list[Cluster] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for cluster in self._idle:
            cluster.lab.__exit__(None, None, None)

    @contextmanager
    def lend(self) -> Iterator[Cluster]:
        cluster = self._idle.pop() if self._idle else self._new()
        try:
            yield cluster
            cluster.clean()
            cluster.expect_nothing_left()  # what could not be given back is tried every 10 s
            if self._calm and (errors := cluster.errors()):
                raise AssertionError("\n".join(["flannelpy logged errors:", *errors]))
        except BaseException as error:
            cluster.lab.__exit__(type(error), error, error.__traceback__)
            raise
        self._idle.append(cluster)

    def _new(self) -> Cluster:
        lab = Lab(hosts=2).__enter__()
        try:
            cluster = Cluster(lab)
            cluster.start()
        except BaseException as error:
            lab.__exit__(type(error), error, error.__traceback__)
            raise
        return cluster


def fast_links(host: DockerHost) -> list[str]:
    """The links of the host whose packets can take the fast path."""
    links = host.run("sh", "-c", "ls /sys/class/net").split()
    return [link for link in links if "flannelpy" in host.run("tc", "filter", "show", "dev", link, "ingress")]
