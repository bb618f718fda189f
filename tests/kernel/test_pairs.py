"""A container's pair of links, made with all that its host's end has."""

from ipaddress import ip_interface, ip_network

import pytest

from driver.entries import Route
from driver.errors import KernelError
from driver.kernel import door
from driver.kernel.rawsocket import RawSocket
from driver.state import Address, EndpointLink, LinkState, Object
from tests.kernel.conftest import NamespaceHost

LINK, PEER = "flv1", "flc1"


def objects(dev: str = LINK) -> list[Address | Route]:
    return [
        *(Address(dev, ip_interface(gateway)) for gateway in ("10.240.0.1", "fd77::1")),
        *(Route(dev, ip_network(address)) for address in ("10.240.1.5/32", "fd77::5/128")),
    ]


def there(host: NamespaceHost, dev: str = LINK) -> list[Object]:
    found = host.kernel.read().values()
    return [o for o in [EndpointLink(dev), LinkState(dev, 1450), *objects(dev)] if o in found]


@pytest.fixture
def host(two_hosts: tuple[NamespaceHost, NamespaceHost]) -> NamespaceHost:
    return two_hosts[0]


def test_a_pair_and_all_of_its_hosts_end_is_one_message(host: NamespaceHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would wait until the kernel is done with the links of all other containers."""
    sent: list[int] = []
    change = RawSocket.change

    def counted(self: RawSocket, requests: list[tuple[int, int, bytes]]) -> dict[int, int]:
        sent.append(len(requests))
        return change(self, requests)

    monkeypatch.setattr(RawSocket, "change", counted)
    host.kernel.add_veth(LINK, PEER, 1450, objects())
    assert sent == [1 + len(objects())]
    assert len(there(host)) == 2 + len(objects())
    assert "mtu 1450" in host.ip("link", "show", PEER)


@pytest.mark.parametrize("left", [("add", LINK, "type", "veth", "peer", "x"), ("add", PEER, "type", "bridge")])
def test_what_is_left_of_an_earlier_pair_goes_first(host: NamespaceHost, left: tuple[str, ...]) -> None:
    host.ip("link", *left)
    for _ in range(2):
        host.kernel.add_veth(LINK, PEER, 1450, objects())
        assert len(there(host)) == 2 + len(objects())


def test_a_number_that_is_taken_costs_another_try(host: NamespaceHost, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = 7_000_000, 7_000_001
    host.ip("link", "add", "others", "index", str(taken), "type", "bridge")
    monkeypatch.setattr(door, "NUMBERS", iter([taken, free]))
    host.kernel.add_veth(LINK, PEER, 1450, objects())
    assert len(there(host)) == 2 + len(objects())
    assert host.ip("link", "show", "others")


def test_the_address_of_a_container_whose_link_is_not_gone_yet_leads_to_the_new_one(host: NamespaceHost) -> None:
    host.kernel.add_veth("flv2", "flc2", 1450, objects("flv2"))
    host.kernel.add_veth(LINK, PEER, 1450, objects())
    assert len(there(host)) == 2 + len(objects())


def test_a_route_of_somebody_else_is_told_and_stays(host: NamespaceHost) -> None:
    host.ip("route", "add", "10.240.1.5/32", "dev", "eth0")
    with pytest.raises(KernelError, match=r"this host has another route to 10\.240\.1\.5/32; remove it"):
        host.kernel.add_veth(LINK, PEER, 1450, objects())
    assert "dev eth0" in host.ip("route", "show", "10.240.1.5")


def test_a_name_that_no_link_can_have_is_told_in_the_kernels_words(host: NamespaceHost) -> None:
    with pytest.raises(
        KernelError, match=r"^\+ link flv/1 type veth peer flc1 mtu 1450: the kernel says .*\(EINVAL\)$"
    ):
        host.kernel.add_veth("flv/1", PEER, 1450)
