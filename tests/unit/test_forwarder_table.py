"""The forwarder's table of prefixes."""

import time
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, ip_address
from itertools import permutations
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.forwarder import table
from driver.forwarder.control import Link, Peer
from driver.forwarder.pump import Tunnel, Way
from driver.forwarder.table import Table
from driver.forwarder.underlay import Address

T = TypeVar("T")


def table_of(entries: Iterable[tuple[str, T]]) -> Table[T]:
    made: Table[T] = Table()
    for prefix, target in entries:
        made.put(prefix, target)
    return made


def test_the_longest_prefix_wins_in_either_family() -> None:
    known = table_of([("10.0.0.0/26", "h2"), ("10.0.0.5/32", "h3"), ("fd77::/122", "h2"), ("fd77::5/128", "h3")])
    found = [
        known.find(ip_address(text).packed) for text in ("10.0.0.5", "10.0.0.6", "10.0.0.64", "fd77::5", "fd77::6")
    ]
    assert found == ["h3", "h2", None, "h3", "h2"]
    assert known.find(b"") is None


prefixes = st.builds(
    lambda number, length: IPv4Network((number >> (32 - length) << (32 - length), length)),
    st.integers(0, 255),
    st.integers(24, 32),
)


@given(st.dictionaries(prefixes, st.integers(1, 5)), st.lists(st.integers(0, 255)))
def test_it_finds_what_looking_at_every_prefix_finds(entries: dict[IPv4Network, int], numbers: list[int]) -> None:
    known = table_of((str(prefix), target) for prefix, target in entries.items())
    for address in map(IPv4Address, numbers * 2):
        holding = [prefix for prefix in entries if address in prefix]
        right = entries[max(holding, key=lambda prefix: prefix.prefixlen)] if holding else None
        assert known.find(address.packed) == right


def test_what_it_remembers_is_bounded() -> None:
    known = table_of([("10.0.0.0/8", "h2")])
    for number in range(table.REMEMBERED + 10):
        known.find(IPv4Address(f"10.0.{number >> 8}.{number & 255}").packed)
    assert len(known._remembered) <= table.REMEMBERED


BEFORE = (Peer("a", "192.0.2.1", ("10.0.0.0/26", "10.0.0.64/26")), Peer("b", "192.0.2.2", ("10.0.1.0/26",)))
AFTER = (Peer("a", "192.0.2.1", ("10.0.0.0/26",)), Peer("b", "192.0.2.2", ("10.0.1.0/26", "10.0.0.64/26")))


@pytest.mark.parametrize("order", list(permutations(AFTER)))
def test_a_block_that_moves_is_with_its_new_peer_whoever_is_told_of_first(order: tuple[Peer, ...]) -> None:
    tunnel = Tunnel(Link("fl.7", 7), 0, 8478)
    for peer in (*BEFORE, *order):
        tunnel.put(peer)
    assert reached(tunnel) == ["192.0.2.1", "192.0.2.2", "192.0.2.2"]
    tunnel.drop("a")
    assert reached(tunnel) == [None, "192.0.2.2", "192.0.2.2"]
    assert list(tunnel.senders) == [("192.0.2.2", 8478)]


def test_a_host_of_another_name_at_the_same_address_takes_over() -> None:
    tunnel = Tunnel(Link("fl.7", 7), 0, 8478)
    for peer in (*BEFORE, Peer("c", BEFORE[0].address, BEFORE[0].blocks)):
        tunnel.put(peer)
    tunnel.drop("a")
    assert reached(tunnel) == ["192.0.2.1", "192.0.2.1", "192.0.2.2"]
    assert set(tunnel.senders) == {("192.0.2.1", 8478), ("192.0.2.2", 8478)}


def test_a_peer_may_send_from_another_address_than_it_is_reached_at() -> None:
    """Two behind NAT may have the same one there: each is told by what its packets come from, inside."""
    tunnel, inside = Tunnel(Link("fl.7", 7), 0, 8478), ("172.20.0.5", 8478)
    tunnel.put(Peer("a", "192.0.2.1", ("10.0.0.0/26",), ("172.20.0.5",)))
    tunnel.put(Peer("b", "192.0.2.2", ("10.0.1.0/26",), ("172.20.0.5",)))
    tunnel.put(Peer("c", "192.0.2.3", ("10.0.0.64/26",)))
    assert senders(tunnel) == [{("192.0.2.1", 8478), inside}, {("192.0.2.3", 8478)}, {("192.0.2.2", 8478), inside}]
    tunnel.drop("a")
    assert inside in tunnel.senders
    tunnel.put(Peer("b", "192.0.2.2", ("10.0.1.0/26",)))
    assert set(tunnel.senders) == {("192.0.2.2", 8478), ("192.0.2.3", 8478)}


def test_one_more_peer_costs_no_more_with_thousands() -> None:
    """5,000 take 0.1 s; they took minutes when each made the table anew."""
    tunnel, began = Tunnel(Link("fl.7", 7), 0, 8478), time.monotonic()
    for number in range(5000):
        tunnel.put(Peer(f"h{number}", "192.0.2.1", (f"{IPv4Address((10 << 24) + (number << 6))}/26",)))
    assert time.monotonic() - began < 10


def senders(tunnel: Tunnel) -> list[set[Address]]:
    return [set(way.senders) for way in ways(tunnel) if way]


def ways(tunnel: Tunnel) -> list[Way | None]:
    return [tunnel.table.find(IPv4Address(text).packed) for text in ("10.0.0.5", "10.0.0.69", "10.0.1.5")]


def reached(tunnel: Tunnel) -> list[str | None]:
    return [way.target[0] if way else None for way in ways(tunnel)]
