"""Hosts joined by the udp backend, and what they send each other.

Each door acts in its host's namespace, and so do the forwarders it starts."""

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TypeVar

from driver.backends.interface import Remote, Underlay
from driver.doors import Doors
from driver.errors import KernelError
from driver.forwarder import control
from driver.forwarders import Forwarders, ask
from driver.goal import LocalNetwork, goal
from driver.model import Endpoint, Network
from driver.plan import Operation, plan
from driver.state import Object, State
from tests.kernel.conftest import NamespaceHost, ip

CLONE_NEWNET = 0x40000000
POOL, POOL6 = ip_network("10.240.0.0/18"), ip_network("fd77::/64")
BLOCKS = [
    (ip_network("10.240.1.0/26"), ip_network("fd77::100/122")),
    (ip_network("10.240.2.0/26"), ip_network("10.240.1.60/32"), ip_network("fd77::200/122")),  # one address borrowed
    (ip_network("10.240.3.0/26"), ip_network("fd77::300/122")),
]
OWN = [(ip_address(f"10.240.{number}.1"), ip_address(f"fd77::{number}01")) for number in (1, 2, 3)]
PORT = 8478
NETWORK = Network("n", (POOL, POOL6), (POOL[1], POOL6[1]), "udp", 7, PORT, None, False, ())
SECOND = Network("m", (ip_network("10.250.0.0/18"),), (ip_address("10.250.0.1"),), "udp", 8, PORT, None, False, ())

T = TypeVar("T")

SERVE = """
import hashlib, socket, sys
listener = socket.create_server((sys.argv[1], 7), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print("ready", flush=True)
peer, digest = listener.accept()[0], hashlib.sha256()
while some := peer.recv(1 << 16):
    digest.update(some)
print(digest.hexdigest(), peer.getpeername()[0])
"""
SEND = """
import hashlib, random, socket, sys
content = random.Random(1).randbytes(int(sys.argv[2]))
with socket.create_connection((sys.argv[1], 7), timeout=15) as peer:
    peer.sendall(content)
print(hashlib.sha256(content).hexdigest())
"""


class InNamespace:
    """A door that acts in another network namespace: a thread may be in one of its own."""

    kinds = Forwarders.kinds

    def __init__(self, name: str, door: Forwarders) -> None:
        self._door, self._thread = door, ThreadPoolExecutor(1, initializer=_enter, initargs=(name,))

    def read(self) -> Iterable[Object]:
        return self.run(lambda: list(self._door.read()))

    def apply_all(self, operations: Iterable[Operation]) -> dict[Operation, str]:
        return self.run(lambda: self._door.apply_all(operations))

    def run(self, what: Callable[[], T]) -> T:
        return self._thread.submit(what).result()

    def close(self) -> None:
        self._thread.shutdown()


def _enter(name: str) -> None:
    descriptor = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {name}")
    finally:
        os.close(descriptor)


class UdpHost:
    def __init__(self, host: NamespaceHost, number: int, directory: Path) -> None:
        self.host, self.number, self.directory = host, number, directory
        self.door = InNamespace(host.name, Forwarders(directory))
        self.address, self.address6 = OWN[number]
        self.endpoints: tuple[Endpoint, ...] = ()

    def underlay(self) -> Underlay:
        return self.host.kernel.underlay(None, ())

    def desired(self, underlay: Underlay, others: Sequence[Remote] | None = None, *, second: bool = False) -> State:
        network = replace(NETWORK, host_addresses=OWN[self.number])
        remotes = (remote(1 - self.number),) if others is None else tuple(others)
        networks = [LocalNetwork(network, self.endpoints, remotes)]
        if second:
            networks.append(LocalNetwork(SECOND, (), ()))
        return goal(f"h{self.number}", underlay, networks, self.doors().read())

    def doors(self) -> Doors:
        return Doors(self.host.kernel, [self.door])

    def settle(self, goal_state: State) -> list[str]:
        operations = plan(self.doors().read(), goal_state)
        failed = self.doors().apply_all(operations)
        if failed:
            raise KernelError(next(iter(failed.values())))
        return [str(operation) for operation in operations]

    @property
    def socket(self) -> Path:
        return self.directory / f"forwarder-{PORT}.sock"

    def counters(self) -> dict[str, int]:
        answer = ask(self.socket, control.Count())
        assert answer is not None
        return answer.counters

    def forwarders(self) -> list[int]:
        """The processes that live in the host's namespace, for tests that have nothing else there."""
        return [int(pid) for pid in ip("netns", "pids", self.host.name).split()]


def remote(number: int) -> Remote:
    """One of the two, as others know it."""
    addresses = (ip_address(f"192.0.2.{number + 1}"), ip_address(f"fd00:1::{number + 1}"))
    return Remote(f"h{number}", addresses, BLOCKS[number])


@contextmanager
def joined(hosts: tuple[NamespaceHost, NamespaceHost], directory: Path, *, v6: bool = False) -> Iterator[list[UdpHost]]:
    with apart(hosts, directory) as made:
        for each in made:
            underlay = each.underlay()
            each.settle(each.desired(without_v4(underlay) if v6 else underlay))
        yield made


@contextmanager
def apart(hosts: Sequence[NamespaceHost], directory: Path) -> Iterator[list[UdpHost]]:
    """Hosts that have nothing yet."""
    made = []
    for number, host in enumerate(hosts):
        own = directory / str(number)
        own.mkdir()
        made.append(UdpHost(host, number, own))
    try:
        yield made
    finally:
        for each in made:
            with suppress(KernelError):  # a link goes with its container meanwhile
                each.settle({})
            each.settle({})
            each.door.close()


def without_v4(underlay: Underlay) -> Underlay:
    return Underlay(underlay.dev, underlay.mtu, underlay.addresses[1:], underlay.advertised, underlay.on_link)


def python(host: UdpHost, script: str, *arguments: object) -> subprocess.Popen[str]:
    command = ["ip", "netns", "exec", host.host.name, sys.executable, "-I", "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def said(host: UdpHost, script: str, *arguments: object) -> str:
    with python(host, script, *arguments) as process:
        return process.communicate(timeout=30)[0].strip()


def sends(source: UdpHost, target: UdpHost, address: object, size: int) -> None:
    """A stream of TCP arrives as it was sent, and from the source's own address."""
    with python(target, SERVE, address) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        digest = said(source, SEND, address, size)
        got, sender = server.communicate(timeout=30)[0].split()
    assert got == digest
    assert sender in map(str, (source.address, source.address6))


def eventually(what: Callable[[], object], timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)
