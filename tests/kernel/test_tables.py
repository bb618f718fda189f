"""Batches of routes, neighbours and forwarding entries against the real kernel, and pyroute2's reading of it."""

import socket
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyroute2 import IPRoute

from driver.entries import Fdb, Neighbour, Route, Unreachable
from driver.kernel import wire
from driver.plan import Drop, Put, plan
from driver.state import LinkState, Object, State, VxlanLink, state_of
from tests.kernel.conftest import NamespaceHost

DEV = "fl.7"
BASE: list[Object] = [
    VxlanLink(DEV, 7, ip_address("192.0.2.1"), 8479, "02:00:00:00:00:01"),
    LinkState(DEV, 1450),
]
OWN = {4: ip_address("192.0.2.1"), 6: ip_address("fd00:1::1")}
MACS = [f"02:00:00:00:01:{number:02x}" for number in range(12)]
HOPS4 = [IPv4Address(f"10.250.{number}.0") for number in range(8)]
HOPS6 = [IPv6Address(f"fd77::{number:x}00") for number in range(1, 9)]
POOLS4 = [IPv4Network((f"10.{250 + high}.{low}.0", 26)) for high in range(2) for low in range(6)]
POOLS6 = [IPv6Network((f"fd77::{number:x}00", 122)) for number in range(1, 12)]

neighbours = st.builds(Neighbour, st.just(DEV), st.sampled_from([*HOPS4, *HOPS6]), st.sampled_from(MACS))
fdb = st.builds(Fdb, st.just(DEV), st.sampled_from(MACS), st.sampled_from([ip_address(f"192.0.2.{n}") for n in (2, 9)]))
routes4 = st.builds(
    lambda to, via, own: Route(DEV, to, via, OWN[4] if own else None, onlink=via is not None),
    st.sampled_from(POOLS4),
    st.none() | st.sampled_from(HOPS4),
    st.booleans(),
)
routes6 = st.builds(
    lambda to, via, own: Route(DEV, to, via, OWN[6] if own else None, onlink=True),
    st.sampled_from(POOLS6),
    st.sampled_from(HOPS6),
    st.booleans(),
)
plain = st.builds(Route, st.just("eth0"), st.sampled_from(POOLS4), st.just(ip_address("192.0.2.2")))
dead = st.builds(Unreachable, st.sampled_from([ip_network("10.250.0.0/15"), ip_network("fd77::/64"), *POOLS4[:2]]))
states = st.lists(neighbours | fdb | routes4 | routes6 | plain | dead, max_size=40).map(state_of)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(states, min_size=1, max_size=3))
def test_what_was_put_is_read_back_here_and_by_pyroute2(
    two_hosts: tuple[NamespaceHost, NamespaceHost], goals: list[State]
) -> None:
    host, _ = two_hosts
    for entries in goals:
        wanted = {**state_of(BASE), **entries}
        assert host.kernel.apply_all(plan(host.kernel.read(), wanted)) == {}
        assert host.kernel.read() == wanted
        assert state_of(read_by_pyroute2(host.name)) == entries


def read_by_pyroute2(netns: str) -> Iterator[Object]:
    with IPRoute(netns=netns) as ip:
        names = {link["index"]: link.get("ifname") for link in ip.get_links()}
        index = next(index for index, name in names.items() if name == DEV)
        for family in (socket.AF_INET, socket.AF_INET6):
            for m in ip.get_neighbours(family=family, ifindex=index):
                if m["state"] & 0x80 and m.get("lladdr"):
                    yield Neighbour(DEV, ip_address(m.get("dst")), m.get("lladdr"))
            for m in ip.get_routes(family=family, proto=0x66, table=254):
                to, via, source = ip_network(f"{m.get('dst')}/{m['dst_len']}"), m.get("gateway"), m.get("prefsrc")
                hop, own = ip_address(via) if via else None, ip_address(source) if source else None
                onlink = bool(m["flags"] & 4)
                yield Unreachable(to) if m["type"] == 7 else Route(names[m.get("oif")], to, hop, own, onlink)
        for m in ip.get_neighbours(family=socket.AF_BRIDGE, ifindex=index):
            if m.get("dst") and m.get("lladdr"):
                yield Fdb(DEV, m.get("lladdr"), ip_address(m.get("dst")))


def test_each_refusal_is_told_of_its_own_operation_and_keeps_back_no_other(
    two_hosts: tuple[NamespaceHost, NamespaceHost],
) -> None:
    host, _ = two_hosts
    host.ip("route", "add", "10.9.7.0/24", "via", "192.0.2.77")
    to = [Route("eth0", ip_network(f"10.9.{number}.0/24"), ip_address("192.0.2.2")) for number in range(200)]
    to += [Route("eth0", ip_network(f"10.8.{number}.0/24"), ip_address("192.0.2.2")) for number in range(200)]
    odd = Route("eth0", ip_network("10.8.250.0/24"), ip_address("203.0.113.9"))
    lost = Route("fl.99", ip_network("10.8.251.0/24"), ip_address("203.0.113.9"), onlink=True)
    failed = host.kernel.apply_all([Put(o) for o in [*to[:300], odd, lost, *to[300:]]])
    assert {str(operation): error.rpartition(": ")[2] for operation, error in failed.items()} == {
        f"+ {to[7]}": "this host has another route to 10.9.7.0/24; remove it",
        f"+ {odd}": "the kernel says Network is unreachable (ENETUNREACH)",
        f"+ {lost}": "there is no interface fl.99",
    }
    assert list(host.kernel.read().values()) == [o for o in sorted(to, key=str_of_network) if o is not to[7]]
    assert "10.9.7.0/24 via 192.0.2.77" in host.ip("route")
    assert host.kernel.apply_all([Drop(o) for o in [*to, odd, lost]]) == {}
    assert host.kernel.apply_all([Drop(o) for o in to]) == {}
    assert host.kernel.read() == {}
    assert "10.9.7.0/24 via 192.0.2.77" in host.ip("route")


def str_of_network(o: Route) -> tuple[int, int]:
    return int(o.destination.network_address), o.destination.prefixlen


def test_a_link_with_the_number_of_another_is_not_taken_for_it(
    two_hosts: tuple[NamespaceHost, NamespaceHost],
) -> None:
    host, _ = two_hosts
    entries: list[Object] = [Neighbour(DEV, HOPS4[0], MACS[0]), Route(DEV, POOLS4[0], HOPS4[0], onlink=True)]
    host.kernel.apply_all(plan({}, state_of([*BASE, *entries])))
    assert host.kernel.read() == state_of([*BASE, *entries])
    host.ip("link", "set", DEV, "name", "fl.8")
    renamed = {str(o) for o in host.kernel.read().values()}
    assert {str(entry).replace(DEV, "fl.8") for entry in entries} <= renamed


def test_tables_that_did_not_change_are_not_read_anew(
    two_hosts: tuple[NamespaceHost, NamespaceHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _ = two_hosts
    entries: list[Object] = [Neighbour(DEV, HOPS4[0], MACS[0]), Neighbour(DEV, HOPS6[0], MACS[0])]
    entries += [Fdb(DEV, MACS[0], ip_address("192.0.2.2")), Route(DEV, POOLS4[0], HOPS4[0], onlink=True)]
    host.kernel.apply_all(plan({}, state_of([*BASE, *entries])))
    before = host.kernel.read()
    for name in ("read_route", "read_neighbour"):
        monkeypatch.setattr(wire, name, must_not_read(entries, getattr(wire, name)))
    time.sleep(1.1)  # the kernel tells the ages of neighbours, in hundredths of seconds
    again = host.kernel.read()
    assert again == before
    assert all(again[entry.key] is before[entry.key] for entry in entries)


def test_tables_of_many_parts_are_read_as_they_are_after_each_change(
    two_hosts: tuple[NamespaceHost, NamespaceHost],
) -> None:
    host, _ = two_hosts
    hops = [IPv4Address("10.250.0.0") + 64 * number for number in range(1500)]
    many = [
        o for hop in hops for o in (Neighbour(DEV, hop, MACS[0]), Route(DEV, IPv4Network((hop, 26)), hop, onlink=True))
    ]
    elsewhere = state_of(
        [Neighbour(DEV, hops[700], MACS[1]), Route(DEV, IPv4Network((hops[700], 26)), hops[1], onlink=True)]
    )
    whole = state_of([*BASE, *many])
    for wanted in (whole, {**whole, **elsewhere}, state_of([*BASE, *many[2:]]), state_of([*BASE, *many[:20]]), whole):
        assert host.kernel.apply_all(plan(host.kernel.read(), wanted)) == {}
        assert host.kernel.read() == wanted


def must_not_read(entries: list[Object], reader: Callable[..., Object]) -> Callable[..., Object]:
    """As `reader`, but for these; the kernel's own entries of a young link may come at any time."""

    def read(*raw: object) -> Object:
        entry = reader(*raw)
        assert entry not in entries, "read anew"
        return entry

    return read


def test_a_route_whose_link_is_not_known_yet_is_read_when_it_is(
    two_hosts: tuple[NamespaceHost, NamespaceHost],
) -> None:
    host, _ = two_hosts
    route = Route("eth0", POOLS4[0], ip_address("192.0.2.2"))
    host.kernel.apply(Put(route))
    tables = host.kernel._tables
    names = host.kernel._names()
    young = {index: name for index, name in names.items() if name != "eth0"}
    assert tables.routes(young) == {}
    assert tables.routes(names) == state_of([route])
    assert tables.routes(young) == {}
