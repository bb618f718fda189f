"""What of a host's own network concerns us, from what was read of it."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from driver.errors import NoUnderlay
from driver.host_network import AddressSeen, HostRoute, LinkSeen, underlay

ETH0, BR0, YOUNGER = 2, 3, 9
LINKS = [LinkSeen(index, name, True, 1500, None, "", "") for index, name in ((ETH0, "eth0"), (BR0, "br0"))]
ADDRESSES = [
    AddressSeen(index, ip_interface(text), 0, 0) for index, text in ((ETH0, "192.0.2.1/24"), (BR0, "203.0.113.1/24"))
]


def default(index: int | None, metric: int = 0, everywhere: str = "0.0.0.0/0") -> HostRoute:
    return HostRoute(ip_network(everywhere), index, False, metric)


def test_a_default_route_whose_link_is_younger_than_the_look_at_links_is_as_none() -> None:
    assert underlay(LINKS, ADDRESSES, [default(YOUNGER), default(ETH0, metric=100)], None, ()).dev == "eth0"
    with pytest.raises(NoUnderlay, match="no default route"):
        underlay(LINKS, ADDRESSES, [default(YOUNGER), default(None)], None, ())


@pytest.mark.parametrize(
    ("links", "why"), [([], "there is no interface eth0"), (LINKS, "interface eth0 has no address")]
)
def test_an_interface_that_is_not_ready_at_boot_may_come(links: list[LinkSeen], why: str) -> None:
    with pytest.raises(NoUnderlay, match=why):
        underlay(links, [], [], "eth0", ())


def test_every_default_route_leads_to_the_world_and_the_preferred_one_to_the_other_hosts() -> None:
    routes = [default(ETH0, metric=100), default(BR0), default(BR0, everywhere="::/0")]
    assert underlay(LINKS, ADDRESSES, routes, None, ()).dev == "br0"
    told = underlay(LINKS, ADDRESSES, routes[1:], "eth0", ())
    assert (told.dev, sorted(told.uplinks)) == ("eth0", ["br0", "eth0"])


def test_an_advertised_address_of_another_interface_is_the_tunnels_end() -> None:
    told = underlay(LINKS, ADDRESSES, [default(ETH0)], "eth0", (ip_address("203.0.113.1"),))
    assert (told.dev, str(told.local), told.sources) == ("eth0", "203.0.113.1", ())
    outside = underlay(LINKS, ADDRESSES, [default(ETH0)], "eth0", (ip_address("198.51.100.7"),))
    assert (str(outside.local), outside.sources) == ("192.0.2.1", (ip_address("192.0.2.1"),))
