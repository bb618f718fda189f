"""Ports of this host, held by real sockets."""

import socket
from dataclasses import replace
from ipaddress import ip_address

import pytest

from driver.errors import BadRequest, NetworkConflict
from driver.model import Endpoint, PortRequest
from driver.ports import Ports

LOOPBACK = ip_address("127.0.0.1")
ONE = Endpoint("one", "net", (ip_address("10.240.1.5"),), "02:00:00:00:00:05")
OTHER = replace(ONE, id="other")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def at(port: int, last: int = 0, protocol: int = 6) -> PortRequest:
    return PortRequest(protocol, 80, LOOPBACK, port, last or port)


def test_a_port_is_held_against_processes_and_other_containers_until_released() -> None:
    ports, port = Ports(list), free_port()
    assert [str(published) for published in ports.take(ONE, [at(port)])] == [f"127.0.0.1:{port}/tcp"]
    with socket.socket() as process, pytest.raises(OSError, match="in use"):
        process.bind(("127.0.0.1", port))
    with pytest.raises(NetworkConflict, match=f"port {port}/tcp of 127.0.0.1 is taken"):
        ports.take(OTHER, [at(port)])
    ports.release(ONE.id)
    ports.take(OTHER, [at(port)])
    ports.release(OTHER.id)


def test_all_or_nothing() -> None:
    ports, free = Ports(list), free_port()
    with socket.socket() as process:
        process.bind(("127.0.0.1", 0))
        taken = process.getsockname()[1]
        with pytest.raises(NetworkConflict):
            ports.take(ONE, [at(free), at(taken)])
    ports.take(OTHER, [at(free)])
    ports.release(OTHER.id)


def test_of_a_range_the_first_free_one_and_without_a_number_any() -> None:
    ports = Ports(list)
    with socket.socket() as process:
        process.bind(("127.0.0.1", 0))
        taken = process.getsockname()[1]
        (published,) = ports.take(ONE, [at(taken, taken + 20)])
        assert taken < published.host_port <= taken + 20
    (published,) = ports.take(OTHER, [at(0, 0, 17)])
    assert published.host_port
    for endpoint in (ONE, OTHER):
        ports.release(endpoint.id)


def test_after_a_restart_they_are_held_again() -> None:
    before = Ports(list)
    published = before.take(ONE, [at(0)])
    before.release(ONE.id)
    after = Ports(lambda: [replace(ONE, published=published)])
    after.start()
    with pytest.raises(NetworkConflict):
        after.take(OTHER, [at(published[0].host_port)])
    after.release(ONE.id)


@pytest.mark.parametrize(("address", "why"), [("::1", "use 127.0.0.1"), ("203.0.113.1", "has no address 203.0.113.1")])
def test_where_no_port_can_be(address: str, why: str) -> None:
    with pytest.raises((BadRequest, NetworkConflict), match=why):
        Ports(list).take(ONE, [PortRequest(6, 80, ip_address(address), 8080, 8080)])
