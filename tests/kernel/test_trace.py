"""Trace and doctor on real kernels, without Docker: what is broken there is named.

The rest of flannelpy is replaced by what its records would say."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.engine import Attached, EngineNetwork
from cluster.garbage import Ours
from driver.goal import LocalNetwork, goal, mtu_of
from driver.model import Network
from driver.plan import plan
from operations.doctor import Doctor
from operations.model import Finding, Hop
from operations.observer import Sources
from operations.trace import Tracer
from operations.visit import Doors, Visits, visit
from store import records
from store.codec import decode, encode
from store.interface import Entry, Snapshot
from tests.kernel.conftest import NamespaceHost, inside, ip
from tests.kernel.containers import Net, block, connected, endpoint, network, remote
from tests.lab.commands import wait_until

Hosts = tuple[NamespaceHost, NamespaceHost]
HERE, THERE = endpoint(0, 0).addresses[0], endpoint(1, 0).addresses[0]
OTHER = endpoint(1, 1).addresses[0]
OUTSIDE = "192.0.2.2"  # the other host itself
WAY_OUT = ["network", "container", "gateway", "route", "policy", "end to end"]


@contextmanager
def process_in(namespace: str) -> Iterator[int]:
    """Where it is by its id, as a container's first process is."""
    with subprocess.Popen(["ip", "netns", "exec", namespace, "sleep", "60"]) as sleeper:
        try:
            place = Path("/run/netns", namespace).stat().st_ino
            wait_until("the process to be there", lambda: inode_of(sleeper.pid) == place, timeout=30)
            yield sleeper.pid
        finally:
            sleeper.kill()


def inode_of(pid: int) -> int:
    """Of the network namespace the process is in."""
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def sources(net: Net, pids: dict[str, int], state_dir: Path) -> Sources:
    """Those of the first host."""
    networks = addressed(0, net)
    endpoints = [endpoint(0, number) for number in (0, 1)]
    pool = networks[0].pools[0]
    names = [
        EngineNetwork(n.id, n.id, (), {e.id: Attached(f"c{n.id}", e.addresses)}, frozenset())
        for n, e in zip(networks, endpoints, strict=True)
    ]
    leases = {
        records.leases_key(pool, remote(1, 0).blocks[0]): Entry(encode(records.BlockLeases("h1", (THERE,))), 1),
    }
    here = inside(net.hosts[0].name, lambda: net.hosts[0].kernel.underlay(None, ()))
    by_id = {n.id: (remote(1, number),) for number, n in enumerate(networks)}
    found: Any = SimpleNamespace(
        host="h0",
        store_address="sqlite",
        ttl=600.0,
        store=SimpleNamespace(read=lambda prefix: Snapshot(leases, 1)),
        away=lambda: None,
        ours=lambda: Ours(networks, endpoints, {}, {("", pool): {}}, {("", pool): (remote(0, 0).blocks[0],)}),
        watch=SimpleNamespace(view=lambda: SimpleNamespace(remotes=lambda n, host: by_id[n.id], entries={})),
        tenancy=SimpleNamespace(
            silence=lambda: 1.0, refuse_if_fenced=lambda: None, period=50.0, retelling=False, is_new=False
        ),
        reclaimer=SimpleNamespace(silences=dict),
        reconciler=SimpleNamespace(faults=list, underlay_seen=here, underlay_fault=""),
        conflicts=None,
        collector=SimpleNamespace(suspected=list),
        engine=SimpleNamespace(networks=lambda _: names, pids_of=lambda asked: pids),
        upkeeps=(),
        skew=lambda: None,
        state_dir=state_dir,
        unwritten=str,
        attached=dict,
        resolvers=(),
        checksums=SimpleNamespace(many=0),
    )
    return cast(Sources, found)


class Bed:
    def __init__(self, net: Net, see: Sources) -> None:
        self.net, self._see = net, see
        self.one, self.two = net.hosts

    def trace(self, to: object = THERE) -> Sequence[Hop]:
        """As the command does it: the visits pass the socket as bytes."""

        def traced() -> Sequence[Hop]:
            tracer = Tracer(self._see)
            doors = decode(Doors, encode(tracer.doors("cn0", str(to))))
            visits = Visits(tuple(visit(door) for door in doors.doors), doors.dropped)
            return tracer.trace("cn0", str(to), decode(Visits, encode(visits))).hops

        return inside(self.one.name, traced)

    def doctor(self) -> Sequence[Finding]:
        def diagnose() -> Sequence[Finding]:
            return Doctor(self._see).diagnose().findings

        return [finding for finding in inside(self.one.name, diagnose) if finding.check != "disk"]

    def lose_own_addresses(self) -> None:
        """As where a pool is full."""
        ours = self._see.ours()
        bare = replace(ours, networks=[replace(each, host_addresses=()) for each in ours.networks])
        settle(self.net, 0, bare.networks)
        cast(Any, self._see).ours = lambda: bare

    @property
    def container(self) -> str:
        return self.net.places[0][0].namespace


def addressed(host: int, net: Net) -> list[Network]:
    """The networks as a host has them, with its own addresses."""
    own = [tuple(block[1] for block in remote(host, number).blocks) for number in (0, 1)]
    made = [network(number, net.backend, direct=net.direct) for number in (0, 1)]
    return [replace(each, host_addresses=own[number]) for number, each in enumerate(made)]


def settle(net: Net, host: int, networks: Sequence[Network]) -> None:
    """As the reconciler does."""
    kernel = net.hosts[host].kernel
    local = [LocalNetwork(n, (endpoint(host, at),), (remote(1 - host, at),)) for at, n in enumerate(networks)]
    for _ in range(2):
        actual = kernel.read()
        for operation in plan(actual, goal(f"h{host}", kernel.underlay(None, ()), local, actual)):
            kernel.apply(operation)


def set_mtu(net: Net, host: int, number: int, mtu: int) -> None:
    """Of both ends of a container's link."""
    net.hosts[host].ip("link", "set", endpoint(host, number).host_link, "mtu", str(mtu))
    ip("link", "set", "eth0", "mtu", str(mtu), netns=net.places[host][number].namespace)


@pytest.fixture
def backend() -> str:
    return "vxlan"


@pytest.fixture
def direct() -> bool:
    """Whether containers reach the world by their one interface."""
    return False


@pytest.fixture
def bed(two_hosts: Hosts, tmp_path: Path, backend: str, direct: bool) -> Iterator[Bed]:
    with ExitStack() as stack:
        net = stack.enter_context(connected(two_hosts, backend, direct=direct))
        for number, host in enumerate(net.hosts):
            for each in (0, 1):
                set_mtu(net, number, each, mtu_of(network(each, backend), host.kernel.underlay(None, ())))
            settle(net, number, addressed(number, net))
            links = [endpoint(number, each).host_link for each in (0, 1)]
            host.run("sysctl", "-qw", *(f"net.ipv4.conf.{link}.rp_filter=1" for link in links))
        pid = stack.enter_context(process_in(net.places[0][0].namespace))
        yield Bed(net, sources(net, {"cn0": pid}, tmp_path))


def nft(host: NamespaceHost, chain: str) -> None:
    host.run("nft", f"table inet foreign {{ chain c {{ {chain} }}; }}")


def foreign_route(bed: Bed) -> None:
    bed.one.ip("route", "add", str(THERE), "dev", "eth0")


def foreign_drop(bed: Bed) -> None:
    nft(bed.one, f"type filter hook forward priority 10; ip daddr {THERE} drop;")


def foreign_policy(bed: Bed) -> None:
    nft(bed.one, "type filter hook forward priority 10; policy drop;")


def input_drop(bed: Bed) -> None:
    nft(bed.one, "type filter hook input priority 0; udp dport 8479 drop;")


def tunnel_port(bed: Bed) -> None:
    nft(bed.two, "type filter hook input priority 0; udp dport 8479 drop;")


def small_path(bed: Bed) -> None:
    nft(bed.two, "type filter hook prerouting priority -400; meta length > 1400 drop;")


def cut(bed: Bed) -> None:
    bed.two.ip("link", "set", "eth0", "down")


def route_inside(bed: Bed) -> None:
    ip("route", "del", "default", netns=bed.container)


def link_inside(bed: Bed) -> None:
    ip("link", "set", "eth0", "down", netns=bed.container)


def address_inside(bed: Bed) -> None:
    ip("addr", "del", f"{HERE}/32", "dev", "eth0", netns=bed.container)


def forwarding(bed: Bed) -> None:
    bed.one.run("sysctl", "-qw", f"net.ipv4.conf.{endpoint(0, 0).host_link}.forwarding=0")


def source_check(bed: Bed) -> None:
    bed.one.run("sysctl", "-qw", f"net.ipv4.conf.{endpoint(0, 0).host_link}.rp_filter=0")


def neighbour(bed: Bed) -> None:
    link = endpoint(0, 0).host_link
    bed.one.ip("neigh", "replace", str(HERE), "lladdr", "02:00:00:00:00:99", "dev", link, "nud", "permanent")


def entry(bed: Bed) -> None:
    device = network(0, "vxlan").device
    bed.one.ip("neigh", "del", block(1, 0, 4).partition("/")[0], "dev", device)


def overlap(bed: Bed) -> None:
    bed.one.ip("addr", "add", "10.240.63.1/24", "dev", "eth0")


def no_way_out(bed: Bed) -> None:
    bed.one.ip("route", "del", "default")


def outward_drop(bed: Bed) -> None:
    nft(bed.one, f"type filter hook forward priority 10; ip daddr {OUTSIDE} drop;")


def lost_reply(bed: Bed) -> None:
    """As where nobody masquerades, and the far end knows no way back."""
    nft(bed.two, f"type filter hook output priority 10; ip daddr {HERE} drop;")


FAULTS: list[tuple[Callable[[Bed], None], Callable[[Bed], Any], str, str]] = [
    (foreign_route, Bed.trace, "route", "not of flannelpy takes packets"),
    (foreign_route, Bed.doctor, "overlap", "takes packets for the pool"),
    (foreign_drop, Bed.trace, "policy", "inet foreign c"),
    (foreign_policy, Bed.doctor, "forward", "the policy drop in chain inet foreign c"),
    (input_drop, Bed.doctor, "tunnel port", "UDP port 8479"),
    (tunnel_port, Bed.trace, "tunnel", "but not through the tunnel"),
    (tunnel_port, Bed.doctor, "tunnel", "but not through the tunnel"),
    (small_path, Bed.trace, "mtu", "loses packets of 1500 bytes"),
    (cut, Bed.trace, "underlay", "does not answer at 192.0.2.2"),
    (route_inside, Bed.trace, "container", "has no route"),
    (link_inside, Bed.trace, "container", "is down"),
    (address_inside, Bed.trace, "container", "does not have the address"),
    (forwarding, Bed.trace, "host link", "forwarding is 0"),
    (forwarding, Bed.doctor, "forwarding", "is 0"),
    (source_check, Bed.doctor, "rp_filter", "is not 1"),
    (neighbour, Bed.trace, "host link", "02:00:00:00:00:99"),
    (entry, Bed.trace, "entries", "the kernel lacks: neigh"),
    (overlap, Bed.doctor, "overlap", "10.240.63.0/24 on eth0"),
    (route_inside, lambda bed: bed.trace(OUTSIDE), "container", f"no route to {OUTSIDE}"),
    (forwarding, lambda bed: bed.trace(OUTSIDE), "gateway", "forwarding is 0"),
    (no_way_out, lambda bed: bed.trace("203.0.113.9"), "route", "this host has no route to 203.0.113.9"),
    (outward_drop, lambda bed: bed.trace(OUTSIDE), "policy", "inet foreign c"),
    (lost_reply, lambda bed: bed.trace(OUTSIDE), "end to end", f"{OUTSIDE} answers this host, but not cn0"),
    (lambda bed: None, lambda bed: bed.trace("10.240.60.9"), "holder", "no host holds a block"),
    (lambda bed: None, lambda bed: bed.trace("10.240.2.40"), "holder", "has not given the address"),
    (lambda bed: None, lambda bed: bed.trace(OTHER), "network", "networks do not reach each other"),
]


@pytest.mark.parametrize(("break_it", "ask", "where", "says"), FAULTS, ids=[f"{f[0].__name__}-{f[2]}" for f in FAULTS])
def test_the_cause_is_named(
    bed: Bed, break_it: Callable[[Bed], None], ask: Callable[[Bed], Any], where: str, says: str
) -> None:
    break_it(bed)
    found = [each for each in ask(bed) if getattr(each, "state", "wrong") == "wrong"]
    assert found, "nothing was found"
    named = [each for each in found if where == getattr(each, "hop", getattr(each, "check", ""))]
    assert any(says in each.says for each in named), found
    assert isinstance(found[0], Finding) or found[0].hop == where, f"the first hop that is wrong is the cause: {found}"


@pytest.mark.parametrize("backend", ["vxlan", "host-gw"])
def test_where_nothing_is_broken_nothing_is_found(bed: Bed) -> None:
    assert [hop for hop in bed.trace() if hop.state != "ok"] == []
    assert {hop.state for hop in bed.trace(endpoint(1, 0).addresses[1])} <= {"ok", "cannot tell"}
    assert list(bed.doctor()) == []


@pytest.mark.parametrize("direct", [True])
@pytest.mark.parametrize("to", [OUTSIDE, "fd00:1::2"])
def test_the_way_to_an_address_outside_is_followed_to_its_answer(bed: Bed, to: str) -> None:
    """There and back, with this host's own address: from a container's the other one takes nothing on that link."""
    told = bed.trace(to)
    assert [hop.hop for hop in told] == WAY_OUT
    assert {hop.state for hop in told} == {"ok"}, told
    assert f"comes to {endpoint(0, 0).host_link} of this host" in told[2].says
    assert told[-1].says == f"{to} answers cn0"


def test_an_answer_from_outside_that_does_not_come_is_told(bed: Bed) -> None:
    told = bed.trace(OUTSIDE)
    assert [hop.hop for hop in told] == WAY_OUT
    assert {hop.state for hop in told[:-1]} == {"ok"}, told
    assert (
        told[-1].says == f"{OUTSIDE} answers this host, but not cn0"
    )  # which has no way out, without -o gateway=direct
    silent = bed.trace("203.0.113.9")
    assert {hop.state for hop in silent[:-1]} == {"ok"}
    assert (silent[-1].state, "may not answer pings" in silent[-1].says) == ("cannot tell", True)


@pytest.mark.parametrize("mtu", [1400, 1500])
@pytest.mark.parametrize("host", [0, 1])
def test_a_container_may_have_another_mtu_than_the_network(bed: Bed, host: int, mtu: int) -> None:
    """As one that ran already when the underlay's changed: its host tells the senders, like a router."""
    set_mtu(bed.net, host, 0, mtu)
    assert [hop for hop in bed.trace() if hop.state != "ok"] == []
    assert list(bed.doctor()) == []


def test_a_host_without_an_address_in_the_network_blames_nobody(bed: Bed) -> None:
    bed.lose_own_addresses()
    assert [hop for hop in bed.trace() if hop.state == "wrong"] == []
    assert list(bed.doctor()) == []


def test_an_end_of_a_link_that_loses_what_is_large_is_named(bed: Bed) -> None:
    ip("link", "set", "eth0", "mtu", "9000", netns=bed.container)
    assert [hop.hop for hop in bed.trace() if hop.state == "wrong"] == ["container"]
