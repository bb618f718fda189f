"""Clusters that never were, for the page to show."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_network
from itertools import islice
from typing import cast

from flask import Flask

from operations.metrics import Metrics
from operations.model import (
    Container,
    HeldBlock,
    Host,
    LeaseState,
    Network,
    NetworkMap,
    Picture,
    PoolMap,
    Status,
    StoreState,
    UnderlayState,
)
from operations.observer import Observer
from operations.web import WebServer, build_app
from store.interface import StoreUnavailable
from tests.consul_agent import free_ports

EVIL = "<img src=x onerror=\"document.title='owned'\">"


def status(*problems: str, away: float | None = None, silent: Sequence[str] = ()) -> Status:
    return Status(
        host="h0",
        version="0.1.0",
        store=StoreState("consul://127.0.0.1:8500", away, "" if away is None else "refused"),
        lease=LeaseState(86400, 2, ""),
        underlay=UnderlayState("eth0", 1500, ("192.0.2.1",)),
        networks=2,
        endpoints=2,
        blocks=2,
        addresses=2,
        hosts=3,
        silent_hosts=tuple(silent),
        apart=(),
        problems=problems,
    )


def picture(hosts: int = 3, blocks: int = 2, prefix: int = 20, name: str = "web") -> Picture:
    """A network whose pool is cut into /26, each host holding so many blocks."""
    pool, names = ip_network(f"10.0.0.0/{prefix}"), [f"h{number}" for number in range(hosts)]
    cut = islice(pool.subnets(new_prefix=26), hosts * blocks)
    held = tuple(HeldBlock(str(block), names[i % hosts], i * 7 % 65) for i, block in enumerate(cut))
    network = Network(
        pool=str(pool),
        more_pools=(),
        space="",
        name=name,
        backend="vxlan",
        vni=7,
        port=8479,
        mtu=None,
        internal=False,
        here=True,
        hosts=tuple(names),
        size=pool.num_addresses,
        block_size=64,
        blocks=len(held),
        given=sum(block.given for block in held),
        spread=None,
    )
    found = [
        Host(each, each == "h0", ("192.0.2.1",), (str(pool),), blocks, 3, None if each == "h0" else 2.0, False)
        for each in names
    ]
    maps = NetworkMap(network, False, (PoolMap(str(pool), 1 << 26 - prefix, 64, held),))
    return Picture(tuple(found), (maps,), 1)


class Cluster:
    """Stands for the observer. What is `None` cannot be seen: the store is away."""

    def __init__(
        self, picture: Picture | None, status: Status, *names: str, vanishes: int | None = None, dies: int | None = None
    ) -> None:
        """`names` are its containers'. After so many questions the store vanishes, or nothing is answered any more."""
        self.containers = [
            Container(name, "h1", "web", "10.0.0.0/20", (f"10.0.0.{i}",)) for i, name in enumerate(names)
        ]
        self.seen, self.told, self.looks, self.asked = picture, status, 0, 0
        self._vanishes, self._dies = vanishes, dies

    def status(self) -> Status:
        self.asked += 1
        if self._dies is not None and self.asked > self._dies:
            raise StoreUnavailable("dead")
        if self._vanishes is not None and self.asked > self._vanishes:
            self.vanish()
        return self.told

    def picture(self) -> tuple[Picture, list[Container]]:
        self.looks += 1
        if self.seen is None:
            raise StoreUnavailable("refused")
        return self.seen, self.containers

    def vanish(self) -> None:
        """The store is away from now on."""
        self.seen, self.told = None, replace(self.told, store=StoreState("consul://127.0.0.1:8500", 3.0, "refused"))


@contextmanager
def served(cluster: Cluster) -> Iterator[str]:
    with listening(build_app(cast(Observer, cluster), Metrics())) as url:
        yield url


@contextmanager
def listening(app: Flask) -> Iterator[str]:
    [port] = free_ports(1)
    server = WebServer(app, ("127.0.0.1", port))
    server.start()
    assert not server.fault
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.stop()
