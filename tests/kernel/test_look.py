"""Looking at other namespaces, and probing from there."""

from ipaddress import ip_address, ip_network

import pytest

from driver.errors import KernelError
from driver.host_network import LinkSeen
from driver.kernel.look import Look, inside
from driver.probe import Echo, ping
from tests.kernel.conftest import NamespaceHost

Hosts = tuple[NamespaceHost, NamespaceHost]
FAR = {4: ip_address("192.0.2.2"), 6: ip_address("fd00:1::2")}
NOBODY = ip_address("192.0.2.77")


def cable_of(host: NamespaceHost) -> LinkSeen:
    with Look(host.name) as look:
        return next(link for link in look.links() if link.name == "eth0")


def test_the_other_end_of_a_cable_is_found_and_no_other(two_hosts: Hosts) -> None:
    one, two = two_hosts
    look, found = inside(f"/run/netns/{two.name}", cable_of(one))
    with look:
        assert (found.name, found.up) == ("eth0", True)
        mine = [str(address.ip) for index, address in look.addresses() if index == found.index]
        assert {"192.0.2.2", "fd00:1::2"} <= set(mine)
    with pytest.raises(KernelError, match="cannot be entered"):
        inside("/run/netns/nowhere", cable_of(one))
    with pytest.raises(KernelError, match="is not in"):
        inside(f"/run/netns/{one.name}", cable_of(one))


@pytest.mark.parametrize("version", [4, 6])
def test_the_way_that_the_kernel_takes(two_hosts: Hosts, version: int) -> None:
    one, _ = two_hosts
    to, pool = {4: ("10.9.1.5", "10.9.0.0/16"), 6: ("fd99::5", "fd99::/64")}[version]
    with Look(one.name) as look:
        one.ip("route", "add", pool, "via", str(FAR[version]), "proto", "102")
        way = look.way(ip_address(to))
        assert not isinstance(way, str)
        assert (way.destination, way.dev, way.via, way.ours) == (ip_network(pool), "eth0", FAR[version], True)
        one.ip("route", "add", to, "via", str(FAR[version]))
        way = look.way(ip_address(to))
        assert not isinstance(way, str)
        assert (way.destination, way.ours) == (ip_network(to), False)
        assert {prefix for prefix, _ in look.foreign_routes()} >= {ip_network(to)}
        one.ip("route", "del", to)
        one.ip("route", "replace", "unreachable", pool, "proto", "102")
        assert look.way(ip_address(to)) == "No route to host (EHOSTUNREACH)"


def test_fixed_neighbours(two_hosts: Hosts) -> None:
    one, _ = two_hosts
    one.ip("neigh", "replace", "192.0.2.9", "lladdr", "02:00:00:00:00:09", "dev", "eth0", "nud", "permanent")
    with Look(one.name) as look:
        assert look.permanent_neighbours(cable_of(one).index) == {ip_address("192.0.2.9"): "02:00:00:00:00:09"}


def test_probes_from_a_namespace(two_hosts: Hosts) -> None:
    """A packet larger than the link is refused here; one that the other side has no route for is answered by it."""
    one, two = two_hosts
    two.ip("route", "add", "unreachable", "10.9.0.0/16")
    two.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    one.ip("route", "add", "10.9.0.0/16", "via", "192.0.2.2")
    beyond = ip_network("192.0.2.2/32")
    wanted = {
        "near": [Echo(FAR[4], size=1500)],
        "six": [Echo(FAR[6], size=1500)],
        "large": [Echo(FAR[4], size=1501)],
        "nobody": [Echo(NOBODY)],
        "second": [Echo(NOBODY), Echo(FAR[4])],
        "told": [Echo(ip_address("10.9.1.1"), within=(beyond,))],
        "distrusted": [Echo(ip_address("10.9.1.2"))],
    }
    found = ping(wanted, 2.0, one.name)
    assert {key for key, answer in found.items() if answer.reply} == {"near", "six", "second"}
    assert (found["told"].by, found["told"].reply) == (FAR[4], False)
    assert found["large"].refused == "Message too long"
    assert not found["nobody"]
    assert not found["distrusted"]
