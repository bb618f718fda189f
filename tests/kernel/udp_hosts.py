"""Two hosts joined by the udp backend. Each door acts in its host's namespace, and so do the forwarders it starts."""

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
from driver.model import Network
from driver.plan import Operation, plan
from driver.state import Object, State
from tests.kernel.conftest import NamespaceHost, ip

CLONE_NEWNET = 0x40000000
POOL, POOL6 = ip_network("10.240.0.0/18"), ip_network("fd77::/64")
BLOCKS = [
    (ip_network("10.240.1.0/26"), ip_network("fd77::100/122")),
    (ip_network("10.240.2.0/26"), ip_network("10.240.1.60/32"), ip_network("fd77::200/122")),  # one address borrowed
]
OWN = [(ip_address("10.240.1.1"), ip_address("fd77::101")), (ip_address("10.240.2.1"), ip_address("fd77::201"))]
PORT = 8478
NETWORK = Network("n", (POOL, POOL6), (POOL[1], POOL6[1]), "udp", 7, PORT, None, False, ())
SECOND = Network("m", (ip_network("10.250.0.0/18"),), (ip_address("10.250.0.1"),), "udp", 8, PORT, None, False, ())

T = TypeVar("T")


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

    def underlay(self) -> Underlay:
        return self.host.kernel.underlay(None, ())

    def desired(self, underlay: Underlay, *, second: bool = False) -> State:
        other = 1 - self.number
        addresses = (ip_address(f"192.0.2.{other + 1}"), ip_address(f"fd00:1::{other + 1}"))
        remote = Remote(f"h{other}", addresses, BLOCKS[other])
        networks = [LocalNetwork(replace(NETWORK, host_addresses=OWN[self.number]), (), (remote,))]
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


@contextmanager
def joined(hosts: tuple[NamespaceHost, NamespaceHost], directory: Path, *, v6: bool = False) -> Iterator[list[UdpHost]]:
    made = []
    for number, host in enumerate(hosts):
        own = directory / str(number)
        own.mkdir()
        made.append(UdpHost(host, number, own))
    try:
        for each in made:
            underlay = each.underlay()
            each.settle(each.desired(without_v4(underlay) if v6 else underlay))
        yield made
    finally:
        for each in made:
            each.settle({})
            each.door.close()


def without_v4(underlay: Underlay) -> Underlay:
    return Underlay(underlay.dev, underlay.mtu, underlay.addresses[1:], underlay.advertised, underlay.on_link)
