"""One real host in a cluster of thousands that are only records: `flannelpy serve`, a real kernel, a real Consul.

`simulate(peers)` runs this file in a network namespace of its own, where it starts Consul and flannelpy, writes the
records of the others, changes some of them, and watches flannelpy's kernel and what Consul sends to it."""

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, ip_network
from itertools import islice
from pathlib import Path

from cluster.following import Following
from driver.kernel import wire
from driver.kernel.rawsocket import BUFFER, enlarge, open_socket
from driver.wireguard import SOCKETS
from store import records
from store.codec import encode
from store.consul import ConsulStore
from store.feed import TOPICS, Announcing
from store.interface import ABSENT, Delete, Put, Store
from tests.consul_agent import ConsulAgent, free_ports
from tests.lab import unix_http
from tests.memory import cpu_seconds, family, held_by

HERE = Path(__file__).parent.parent
POOL = ip_network("10.240.0.0/13")
FIRST_ADDRESS = IPv4Address("172.20.1.0")  # of the others, behind a router, who drops all that is sent to them
ROUTE_GROUPS = 0x40  # RTMGRP_IPV4_ROUTE
PATIENCE = 60.0
GAP = 0.3  # seconds between two changes


@dataclass(frozen=True, slots=True)
class Figures:
    peers: int
    from_nothing: float  # seconds from the start of the process until the last peer's route stands
    programming: float  # seconds of that between the first of them and the last
    known: list[float]  # seconds from another host's commit until its block's route stands
    idle_cpu: float  # share of one CPU; 0 if nobody waited for it
    memory: int  # bytes, all processes
    bytes_per_change: float  # from Consul
    bytes_idle: float  # from Consul, a second, while nothing changes
    whole: int  # bytes of everything below pools/, which each change would cost without a feed
    bytes_per_start: float  # from Consul, when another host starts a container
    bytes_per_stop: float
    sent_per_start: float  # to Consul, to hear of it
    sent_per_stop: float
    sent_idle: float  # to Consul, a second, while nothing changes
    whole_endpoints: int  # bytes of everything below endpoints/


def simulate(peers: int, changes: int, idle: float, containers: int = 0, backend: str = "vxlan") -> Figures:
    """`containers` run on each of the others; then as many as `changes` are started and stopped there."""
    words = map(str, (peers, changes, idle, containers, backend))
    command = ["unshare", "--net", "--mount", sys.executable, "-m", "tests.scale", *words]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-4000:]}")
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


class Daemon:
    """flannelpy, as an operator starts it."""

    def __init__(self, directory: Path, store: str) -> None:
        self._directory, self.socket = directory, directory / "flannelpy.sock"
        self._environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith("FLANNELPY_")},
            "FLANNELPY_STORE": store,
            "FLANNELPY_HOST": "me",
            "FLANNELPY_STATE_DIR": str(directory / "state"),
            "FLANNELPY_SOCKET": str(self.socket),
            "FLANNELPY_DOCKER": f"unix://{directory}/no-docker.sock",
        }

    def __enter__(self) -> "Daemon":
        with (self._directory / "flannelpy.log").open("ab") as log:
            command = [sys.executable, "-m", "plugin.cli", "serve"]
            self._process = subprocess.Popen(command, env=self._environ, stdout=log, stderr=log, cwd=HERE)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)

    def call(self, method: str, body: object) -> object:
        _await(lambda: self.socket.exists() and unix_http.accepts(self.socket), "the plugin's socket")
        status, answer = unix_http.request(
            self.socket, "POST", f"/{method}", body=json.dumps(body).encode(), timeout=30
        )
        assert status == 200, answer
        return json.loads(answer)

    def create_network(self, backend: str) -> None:
        """As Docker does for `docker network create -d flannelpy --ipam-driver flannelpy --subnet POOL`."""
        pool = {"AddressSpace": "flannelpy", "Pool": str(POOL), "SubPool": "", "Options": None, "V6": False}
        self.call("IpamDriver.RequestPool", pool)
        ask = {"PoolID": str(POOL), "Address": "", "Options": {"RequestAddressType": "com.docker.network.gateway"}}
        gateway = self.call("IpamDriver.RequestAddress", ask)
        assert isinstance(gateway, dict)
        data = {"AddressSpace": "flannelpy", "Pool": str(POOL), "Gateway": gateway["Address"]}
        options = {"com.docker.network.generic": {"backend": backend}}
        network = {"NetworkID": secrets.token_hex(32), "Options": options, "IPv4Data": [data], "IPv6Data": []}
        self.call("NetworkDriver.CreateNetwork", network)

    def family(self) -> list[int]:
        return family(self._process.pid)

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.family())

    def memory(self) -> int:
        return held_by(self.family())


@dataclass(frozen=True, slots=True)
class Bytes:
    """From Consul and to it."""

    received: float
    sent: float

    def less(self, other: "Bytes") -> "Bytes":
        return Bytes(self.received - other.received, self.sent - other.sent)

    def times(self, factor: float) -> "Bytes":
        return Bytes(self.received * factor, self.sent * factor)


class Counter:
    """A wire between flannelpy and Consul that counts the bytes in both directions."""

    def __init__(self, port: int) -> None:
        (self.port,), self._to, self.received, self.sent = free_ports(1), port, 0, 0
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            here, _ = self._listener.accept()
            there = socket.create_connection(("127.0.0.1", self._to))
            threading.Thread(target=self._pump, args=(here, there, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(there, here, True), daemon=True).start()

    def total(self) -> Bytes:
        return Bytes(self.received, self.sent)

    def _pump(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if answers:
                    self.received += len(data)
                else:
                    self.sent += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            target.close()


class Routes:
    """What the kernel tells of new routes, and when."""

    def __init__(self) -> None:
        self._socket = open_socket(None, ROUTE_GROUPS)
        enlarge(self._socket, 64 << 20)
        self._socket.settimeout(PATIENCE)

    def until(self, wanted: set[str]) -> tuple[float, float]:
        """When the first and the last of these came."""
        first = 0.0
        while wanted:
            for kind, _, _, payload in wire.messages(self._socket.recv(BUFFER)):
                if kind == wire.NEW_ROUTE and wire.is_ours(payload):
                    first = first or time.monotonic()
                    wanted.discard(str(wire.read_route(payload, "").destination))
        return first, time.monotonic()


def free_blocks(store: Store) -> Iterator[str]:
    ours = {records.block_of_key(key) for key in store.read(records.blocks_prefix(POOL)).entries}
    return (str(block) for block in POOL.subnets(new_prefix=26) if block not in ours)


def populate(store: Store, peers: int, taken: list[str]) -> None:
    """The records of the others, untold: as if they had all been there before this host came."""
    puts = []
    for number, block in enumerate(taken[:peers]):
        host = f"host{number}"
        peer = records.Peer(host, (FIRST_ADDRESS + number,), b64encode(secrets.token_bytes(31) + b"\0").decode())
        puts += [
            Put(records.block_key(POOL, ip_network(block)), encode(records.Block(host)), ABSENT),
            Put(records.holder_key(POOL, host), b"{}", ABSENT),
            Put(records.peer_key(POOL, host), encode(peer), ABSENT),
            Put(records.host_key(host), encode(records.Host(secrets.token_hex(16), 1)), ABSENT),
        ]
    write(store, puts)


def populate_endpoints(store: Store, peers: int, containers: int) -> None:
    write(store, [endpoint(f"host{number}") for number in range(peers) for _ in range(containers)])


def write(store: Store, puts: list[Put]) -> None:
    for start in range(0, len(puts), 60):
        assert store.commit(*puts[start : start + 60])


def endpoint(host: str) -> Put:
    """A container that another host has started."""
    container, address = secrets.token_hex(6), POOL[secrets.randbelow(POOL.num_addresses)]
    name, mac = f"shop-web-{container[:4]}", f"02:{container[:2]}:00:00:00:05"
    names = (name, container, "web")
    record = records.Endpoint(container, name, names, "shop_default", (address,), mac, "nginx:1.27-alpine")
    return Put(records.endpoint_key(POOL, host, secrets.token_hex(32)), encode(record), ABSENT)


def measure(peers: int, changes: int, idle: float, containers: int, backend: str, directory: Path) -> Figures:
    for words in (
        "link set lo up",
        "link add eth0 type veth peer name cable",
        "addr add 172.20.0.1/24 dev eth0",
        "link set eth0 up",
        "link set cable up",
        "neigh add 172.20.0.254 lladdr 02:00:00:00:00:fe dev eth0",
        "route add default via 172.20.0.254",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    SOCKETS.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(SOCKETS)], check=True)  # nobody else's wireguard-go is met
    consul = ConsulAgent(directory / "consul")
    consul.start()
    store = ConsulStore(consul.url, "flannelpy")
    try:
        counter = Counter(consul.ports["http"])
        daemon = Daemon(directory, f"consul://127.0.0.1:{counter.port}")
        with daemon:
            daemon.create_network(backend)
        delete_links()
        taken = list(islice(free_blocks(store), peers + changes))
        populate(store, peers, taken)
        populate_endpoints(store, peers, containers)
        return observe(peers, changes, idle, daemon, store, counter, taken)
    finally:
        delete_links()
        store.close()
        consul.stop()


def delete_links() -> None:
    """And with them the wireguard-go of one."""
    for _, name in socket.if_nameindex():
        if name.startswith("fl."):
            subprocess.run(["ip", "link", "del", name], check=True)


def observe(
    peers: int, changes: int, idle: float, daemon: Daemon, store: Store, counter: Counter, taken: list[str]
) -> Figures:
    routes, began = Routes(), time.monotonic()
    with daemon:
        first, last = routes.until(set(taken[:peers]))
        await_quiet(daemon)
        others = Announcing(store, "host7")
        for topic in TOPICS:  # who writes also keeps the log short
            Following(store, "host7", topic, lambda _: None).start()
        known, before = [], counter.total()
        for number, block in enumerate(taken[peers : peers + changes]):
            time.sleep(GAP)
            committed = time.monotonic()
            key = records.block_key(POOL, ip_network(block))
            assert others.commit(Put(key, encode(records.Block(f"host{number % peers}")), ABSENT))
            known.append(routes.until({block})[1] - committed)
        changed = counter.total().less(before)
        share, silence = at_rest(daemon, counter, idle) if idle else (0.0, Bytes(0, 0))
        memory = daemon.memory()
        started, stopped = containers_come_and_go(others, counter, changes)
        whole, whole_endpoints = (size_of(counter, prefix) for prefix in (records.POOLS, records.ENDPOINTS))
    # What a host asks for anyway, change or not, is no cost of the changes.
    each, start, stop = (
        total.less(silence.times(GAP * changes)).times(1 / changes) for total in (changed, started, stopped)
    )
    return Figures(
        peers,
        from_nothing=last - began,
        programming=last - first,
        known=known,
        idle_cpu=share,
        memory=memory,
        bytes_per_change=each.received,
        bytes_idle=silence.received,
        whole=whole,
        bytes_per_start=start.received,
        bytes_per_stop=stop.received,
        sent_per_start=start.sent,
        sent_per_stop=stop.sent,
        sent_idle=silence.sent,
        whole_endpoints=whole_endpoints,
    )


def containers_come_and_go(others: Store, counter: Counter, changes: int) -> tuple[Bytes, Bytes]:
    """What passes while other hosts start so many containers, and while they stop them."""
    puts, before = [endpoint("host1") for _ in range(changes)], counter.total()
    for put in puts:
        assert others.commit(put)
        time.sleep(GAP)
    between = counter.total()
    for put in puts:
        entry = others.get(put.key)
        assert entry
        assert others.commit(Delete(put.key, entry.version))
        time.sleep(GAP)
    return between.less(before), counter.total().less(between)


def size_of(counter: Counter, prefix: str) -> int:
    """Bytes that Consul sends for all below the prefix."""
    before = counter.received
    store = ConsulStore(f"consul://127.0.0.1:{counter.port}", "flannelpy")
    store.read(prefix)
    store.close()
    return counter.received - before


def at_rest(daemon: Daemon, counter: Counter, seconds: float) -> tuple[float, Bytes]:
    """The share of a CPU, and the bytes a second, while nothing happens."""
    await_quiet(daemon)
    cpu, began, before = daemon.cpu_seconds(), time.monotonic(), counter.total()
    time.sleep(seconds)
    took = time.monotonic() - began
    return (daemon.cpu_seconds() - cpu) / took, counter.total().less(before).times(1 / took)


def await_quiet(daemon: Daemon) -> None:
    """Until the passes that follow upon much change are over."""
    before, deadline = -1.0, time.monotonic() + PATIENCE
    while (now := daemon.cpu_seconds()) - before > 0.05 and time.monotonic() < deadline:
        before = now
        time.sleep(1)


def _await(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come in {PATIENCE:.0f} s")
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("peers", type=int)
    parser.add_argument("changes", type=int)
    parser.add_argument("idle", type=float)
    parser.add_argument("containers", type=int)
    parser.add_argument("backend")
    wanted = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="scale-"))
    try:
        asked = wanted.peers, wanted.changes, wanted.idle, wanted.containers, wanted.backend
        print(json.dumps(asdict(measure(*asked, directory))))
    except BaseException:
        log = directory / "flannelpy.log"
        print(log.read_text()[-4000:] if log.exists() else "no log", file=sys.stderr)
        raise
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
