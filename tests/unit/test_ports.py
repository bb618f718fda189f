"""Ports of this host, held by real sockets."""

import socket
import time
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address

import pytest

from driver.errors import BadRequest, NetworkConflict
from driver.model import Endpoint, PortRequest, Published
from driver.ports import DYNAMIC, EVERY, Claims, Ports, _bind

LOOPBACK, SCTP = ip_address("127.0.0.1"), 132
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


@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8::9"])
def test_after_a_restart_they_are_held_where_the_address_is_not_there_yet(address: str) -> None:
    """As that of a host whose DHCP server is slow, or has given it another one."""
    published = Published(6, ip_address(address), free_port(), 80)
    restarted = Ports(lambda: [replace(ONE, published=(published,))])
    restarted.start()
    assert not is_free(published)
    restarted.release(ONE.id)
    assert is_free(published)


def is_free(published: Published) -> bool:
    """For anybody who does not mind, either, that this host does not have the address."""
    with ExitStack() as sockets:
        return bool(_bind(sockets, 6, published.host_address, published.host_port, Claims(), anywhere=True))


def test_a_port_whose_server_has_just_ended_is_free_as_it_is_for_that_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0] as connection:
            connection.shutdown(socket.SHUT_RDWR)  # it is the end that keeps the connection in mind
    ports = Ports(list)
    ports.take(ONE, [at(port)])
    with socket.socket() as process:
        process.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            process.bind(("127.0.0.1", port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with pytest.raises(NetworkConflict):
        ports.take(OTHER, [at(port)])
    ports.release(ONE.id)


def sctp(port: int, address: str | None = None) -> PortRequest:
    return PortRequest(SCTP, 36412, ip_address(address) if address else None, port, port)


def test_two_containers_have_two_ports_of_sctp_whether_the_kernel_has_such_sockets_or_not() -> None:
    ports = Ports(list)
    assert [str(published) for published in ports.take(ONE, [sctp(9899)])] == ["0.0.0.0:9899/sctp"]
    for address in (None, "127.0.0.1"):
        with pytest.raises(NetworkConflict, match=r"port 9899/sctp of .* is taken by another container"):
            ports.take(OTHER, [sctp(9899, address)])
    with pytest.raises(NetworkConflict):
        ports.take(OTHER, [sctp(9898), sctp(9898)])
    ports.release(ONE.id)
    ports.take(OTHER, [sctp(9899, "127.0.0.1")])
    ports.release(OTHER.id)


def test_a_free_port_of_sctp_is_found_and_known_after_a_restart() -> None:
    ports = Ports(list)
    both = replace(ONE, addresses=(ip_address("10.240.1.5"), ip_address("fd77::105")))
    first, again = ports.take(both, [sctp(0), sctp(0)])[::2]
    assert 0 < first.host_port != again.host_port > 0
    ports.release(both.id)
    after = Ports(lambda: [replace(both, published=(first,))])
    after.start()
    with pytest.raises(NetworkConflict):
        after.take(OTHER, [sctp(first.host_port)])
    after.release(both.id)


def test_one_port_costs_the_same_however_many_there_are() -> None:
    """As with `-p 10000-20000:10000-20000/sctp` for several containers."""
    claims, began = Claims(), time.process_time()
    with ExitStack() as sockets:
        for port in DYNAMIC:
            assert claims.take(sockets, SCTP, LOOPBACK, port) == port
        assert claims.take(sockets, SCTP, EVERY[0], DYNAMIC[0]) == claims.take(sockets, SCTP, LOOPBACK, 0) == 0
    assert claims.take(sockets, SCTP, EVERY[0], 0) == DYNAMIC[0]
    assert time.process_time() - began < 5  # half a minute, if each were compared with all others


@pytest.mark.parametrize(("address", "why"), [("::1", "use 127.0.0.1"), ("203.0.113.1", "has no address 203.0.113.1")])
def test_where_no_port_can_be(address: str, why: str) -> None:
    with pytest.raises((BadRequest, NetworkConflict), match=why):
        Ports(list).take(ONE, [PortRequest(6, 80, ip_address(address), 8080, 8080)])
