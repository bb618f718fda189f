"""The filter's table as text."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

from driver.backends.interface import Remote
from driver.filter import Member, changes, members, sets, whole
from driver.model import Endpoint, Network, Published

WEB = Network(
    id="web",
    pools=(ip_network("10.240.0.0/18"), ip_network("10.250.0.0/24"), ip_network("fd77::/64")),
    gateways=(ip_address("10.240.0.1"), ip_address("10.250.0.1"), ip_address("fd77::1")),
    backend="vxlan",
    vni=7,
    port=8479,
    mtu=None,
    internal=False,
    host_addresses=(),
)
DB = replace(
    WEB, id="db", pools=(ip_network("10.241.0.0/18"),), gateways=(ip_address("10.241.0.1"),), backend="host-gw", port=0
)
OTHER = Remote("h2", (ip_address("192.0.2.2"), ip_address("fd00:1::2")), (ip_network("10.240.2.0/26"),))


def test_a_networks_pools_reach_each_other_and_no_others() -> None:
    found = sets([WEB, DB], [])
    assert found["within4"] == {
        "10.240.0.0/18 . 10.240.0.0/18",
        "10.240.0.0/18 . 10.250.0.0/24",
        "10.250.0.0/24 . 10.240.0.0/18",
        "10.250.0.0/24 . 10.250.0.0/24",
        "10.241.0.0/18 . 10.241.0.0/18",
    }
    assert found["within6"] == {"fd77::/64 . fd77::/64"}
    assert found["pools4"] == {"10.240.0.0/18", "10.241.0.0/18", "10.250.0.0/24"}
    assert found["tunnels"] == found["vxlans"] == {"8479"}
    assert found["vnis"] == {"8479 . 7"}


def test_a_tunnel_takes_packets_from_where_a_peer_is_reached_and_from_where_it_sends() -> None:
    behind = replace(OTHER, addresses=(ip_address("198.51.100.2"),), sources=(ip_address("192.0.2.2"),))
    assert {(m.port, m.vni, str(m.address)) for m in members(WEB, [behind])} == {
        (8479, 7, "198.51.100.2"),
        (8479, 7, "192.0.2.2"),
    }
    assert members(DB, [OTHER]) == set()


def test_a_peer_that_comes_is_an_element_and_the_one_that_goes_too() -> None:
    here, there = Member(8479, 7, ip_address("192.0.2.2")), Member(8479, 7, ip_address("192.0.2.3"))
    assert changes(sets([WEB], [here]), sets([WEB], [there])).splitlines() == [
        "delete element inet flannelpy peers4 { 8479 . 192.0.2.2 }",
        "add element inet flannelpy peers4 { 8479 . 192.0.2.3 }",
        "delete element inet flannelpy members4 { 8479 . 7 . 192.0.2.2 }",
        "add element inet flannelpy members4 { 8479 . 7 . 192.0.2.3 }",
    ]
    assert changes(sets([WEB], [here]), sets([WEB], [here])) == ""


def test_a_network_more_is_nothing_but_elements() -> None:
    text = changes(sets([WEB], []), sets([WEB, DB], []))
    assert text.splitlines() == [
        "add element inet flannelpy pools4 { 10.241.0.0/18 }",
        "add element inet flannelpy within4 { 10.241.0.0/18 . 10.241.0.0/18 }",
    ]


def test_without_networks_there_is_no_table() -> None:
    assert (
        whole(sets([], []))
        == changes(sets([WEB], []), sets([], []))
        == ("table inet flannelpy\ndelete table inet flannelpy\n")
    )
    assert changes(sets([], []), sets([WEB], [])) == whole(sets([WEB], []))


def test_published_ports_of_every_address_and_of_one() -> None:
    direct = replace(WEB, direct=True)
    published = (
        Published(6, ip_address("0.0.0.0"), 8080, 80),
        Published(6, ip_address("::"), 8080, 80),
        Published(17, ip_address("127.0.0.1"), 53, 5353),
    )
    endpoint = Endpoint("e", "web", (ip_address("10.240.1.5"), ip_address("fd77::105")), "02:00:00:00:00:05", published)
    found = sets([direct, DB], [], [endpoint], ["eth0"])
    assert found["everywhere4"] == {"6 . 8080 : 10.240.1.5 . 80"}
    assert found["everywhere6"] == {"6 . 8080 : fd77::105 . 80"}
    assert found["published4"] == {"17 . 127.0.0.1 . 53 : 10.240.1.5 . 5353"}
    assert found["outward4"] == {"10.240.0.0/18", "10.250.0.0/24"}
    assert found["uplinks"] == {'"eth0"'}


def test_a_port_that_two_containers_claim_leads_to_one() -> None:
    published = (Published(6, ip_address("0.0.0.0"), 8080, 80),)
    first, second = (
        Endpoint(name, "web", (ip_address(address),), "02:00:00:00:00:05", published)
        for name, address in (("e", "10.240.1.5"), ("f", "10.240.1.6"))
    )
    assert sets([replace(WEB, direct=True)], [], [first, second])["everywhere4"] == {"6 . 8080 : 10.240.1.5 . 80"}


def test_an_internal_network_leads_nowhere() -> None:
    inner = sets([replace(WEB, direct=True, internal=True)], [])
    assert inner["outward4"] == set()
    assert inner["inward4"] == {"10.240.0.0/18", "10.250.0.0/24"}
