"""What the kernel must hold, from records and the view: pure."""

from base64 import b64encode
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.backends import BACKENDS
from driver.backends.interface import Remote, Underlay
from driver.backends.vxlan import vtep_mac
from driver.entries import Entry, Neighbour, Route
from driver.goal import LocalNetwork, goal, too_narrow
from driver.model import Endpoint, Network
from driver.plan import plan
from driver.state import EndpointLink, LinkState, Object, state_of
from driver.view import View
from store import records
from store.codec import encode
from store.ip import IPNetwork

POOL, POOL6 = ip_network("10.240.0.0/18"), ip_network("fd77::/64")
UNDERLAY = Underlay(
    "eth0",
    1500,
    (ip_address("192.0.2.1"), ip_address("fd00:1::1")),
    (ip_address("192.0.2.1"), ip_address("fd00:1::1")),
    (ip_network("192.0.2.0/24"), ip_network("fd00:1::/64")),
)
NET = Network(
    id="n" * 64,
    pools=(POOL, POOL6),
    gateways=(ip_address("10.240.0.1"), ip_address("fd77::1")),
    backend="vxlan",
    vni=7,
    port=8479,
    mtu=None,
    internal=False,
    host_addresses=(ip_address("10.240.1.1"), ip_address("fd77::101")),
)
OTHER = Remote(
    "h2",
    (ip_address("192.0.2.2"), ip_address("fd00:1::2")),
    (ip_network("10.240.2.0/26"), ip_network("fd77::200/122")),
)
ENDPOINT = Endpoint("e" * 64, NET.id, (ip_address("10.240.1.5"), ip_address("fd77::105")), "02:00:00:00:00:05")
MAC = vtep_mac("h2", 7)


def texts(network: Network, *remotes: Remote, actual: tuple[Object, ...] = ()) -> list[str]:
    local = LocalNetwork(network, (ENDPOINT,), remotes)
    return [str(o) for o in goal("h1", UNDERLAY, [local], state_of(actual)).values()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_leads_to_a_host_is_made_once_and_not_for_each_pass(backend: str) -> None:
    """So a change among thousands costs little more than one among few."""
    network, key = replace(NET, backend=backend), b64encode(bytes(32)).decode()

    def leading() -> list[Object]:
        others = (replace(OTHER, public_key=key),)
        return [o for o in BACKENDS[backend].objects(network, "h1", UNDERLAY, others) if isinstance(o, Entry)]

    first, again = leading(), leading()
    assert first
    assert list(map(id, first)) == list(map(id, again))


def test_vxlan_one_fdb_entry_per_host_one_neighbour_and_route_per_block() -> None:
    assert texts(NET, OTHER) == [
        f"link fl.7 address {vtep_mac('h1', 7)} type vxlan id 7 local 192.0.2.1 dstport 8479",
        f"fdb {MAC} dst 192.0.2.2 dev fl.7",
        f"neigh 10.240.2.0 lladdr {MAC} dev fl.7",
        "route 10.240.2.0/26 via 10.240.2.0 dev fl.7 src 10.240.1.1 onlink",
        f"neigh fd77::200 lladdr {MAC} dev fl.7",
        "route fd77::200/122 via fd77::200 dev fl.7 src fd77::101 onlink",
        "link fl.7 mtu 1450 up",
        "addr 10.240.1.1/32 dev fl.7",
        "addr fd77::101/128 dev fl.7",
        "route unreachable 10.240.0.0/18",
        "route unreachable fd77::/64",
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_for_a_block_does_not_go_to_the_host_that_borrowed_its_first_address(order: int) -> None:
    """That may die, and the block's holder go on."""
    first = (ip_network("10.240.2.0/32"), ip_network("10.240.2.1/32"), ip_network("fd77::200/128"))
    remotes = (OTHER, replace(OTHER, host="h3", blocks=first))[::order]
    found = goal("h1", UNDERLAY, [LocalNetwork(NET, (), remotes)], {}).values()
    macs = {o.address: o.mac for o in found if isinstance(o, Neighbour)}
    ways = {o.destination: macs[o.via] for o in found if isinstance(o, Route) and o.via}
    assert ways == {block: vtep_mac(remote.host, 7) for remote in remotes for block in remote.blocks}


LINK = (ip_network("192.0.2.0/24"), ip_network("fd00:1::/64"))
TUNNELLED = [f"fdb {MAC} dst 192.0.2.2 dev fl.7", f"neigh 10.240.2.0 lladdr {MAC} dev fl.7"]
PLAIN = [
    "route 10.240.2.0/26 via 192.0.2.2 dev eth0 src 10.240.1.1",
    "route fd77::200/122 via fd00:1::2 dev eth0 src fd77::101",
]


def test_direct_routing_has_plain_routes_where_both_hosts_have_the_other_on_their_link() -> None:
    network = replace(NET, direct_routing=True)
    assert texts(network, replace(OTHER, link=LINK))[1:3] == PLAIN
    far = replace(OTHER, addresses=(ip_address("198.51.100.2"),), link=LINK)
    narrow = replace(OTHER, link=(ip_network("192.0.2.2/32"),))
    for other in (OTHER, far, narrow):
        assert "link fl.7 mtu 1450 up" in texts(network, other)
        assert not any(" dev eth0" in text for text in texts(network, other))
    assert texts(NET, replace(OTHER, link=LINK)) == texts(NET, OTHER)


def test_direct_routing_decides_for_each_family() -> None:
    found = texts(replace(NET, direct_routing=True), replace(OTHER, link=LINK[1:]))
    assert found[1] == PLAIN[1]
    assert found[2:5] == [*TUNNELLED, "route 10.240.2.0/26 via 10.240.2.0 dev fl.7 src 10.240.1.1 onlink"]


def test_two_hosts_find_each_other_direct_or_neither_does() -> None:
    network = replace(NET, direct_routing=True, pools=NET.pools[:1])
    places = [("192.0.2.1", "192.0.2.0/24"), ("192.0.2.1", "192.0.2.0/30"), ("192.0.2.9", "192.0.2.0/24")]
    places += [("192.0.2.9", "192.0.2.9/32"), ("198.51.100.1", "198.51.100.0/24"), ("192.0.3.1", "192.0.0.0/16")]
    for here, there in product(places, repeat=2):
        assert direct(network, here, there) == direct(network, there, here)
    assert direct(network, places[0], places[2])
    assert not direct(network, places[1], places[2])


def direct(network: Network, here: tuple[str, str], there: tuple[str, str]) -> bool:
    own, others = (ip_address(here[0]),), (ip_address(there[0]),)
    underlay = Underlay("eth0", 1500, own, own, (ip_network(here[1]),))
    other = Remote("h2", others, OTHER.blocks[:1], link=(ip_network(there[1]),))
    return any(o.dev == "eth0" for o in BACKENDS["vxlan"].objects(network, "h1", underlay, [other]))


def test_an_address_behind_nat_is_on_no_link() -> None:
    behind = replace(UNDERLAY, advertised=(ip_address("192.0.2.200"),))
    assert behind.link == ()
    assert UNDERLAY.link == LINK


def test_a_tunnel_starts_from_the_family_that_peers_send_to() -> None:
    v6 = replace(UNDERLAY, advertised=UNDERLAY.advertised[1:])
    found = [str(o) for o in goal("h1", v6, [LocalNetwork(NET, (), (OTHER,))], {}).values()]
    assert " local fd00:1::1 " in found[0]
    assert f"fdb {MAC} dst fd00:1::2 dev fl.7" in found
    assert "link fl.7 mtu 1430 up" in found
    assert BACKENDS["vxlan"].refusal(v6, replace(OTHER, addresses=OTHER.addresses[1:])) is None
    assert "tunnels from fd00:1::1" in (
        BACKENDS["vxlan"].refusal(v6, replace(OTHER, addresses=OTHER.addresses[:1])) or ""
    )


@pytest.mark.parametrize(
    ("option", "broken", "off"),
    [("auto", False, False), ("auto", True, True), ("on", True, False), ("off", False, True)],
)
def test_checksum_offload_is_off_where_asked_for_or_known_to_be_broken(option: str, broken: bool, off: bool) -> None:
    underlay = replace(UNDERLAY, broken_offload=broken)
    found = goal("h1", underlay, [LocalNetwork(replace(NET, checksum_offload=option), (), ())], {})
    assert (("offload", "fl.7") in found) == off


def test_both_ends_of_a_pair_keep_the_mtu_they_were_made_with() -> None:
    link: list[Object] = [EndpointLink(ENDPOINT.host_link), LinkState(ENDPOINT.host_link, 1400)]
    for endpoint, mtu in ((ENDPOINT, 1400), (replace(ENDPOINT, mtu=1350), 1350)):
        found = goal("h1", UNDERLAY, [LocalNetwork(NET, (endpoint,), ())], state_of(link))
        assert found["state", ENDPOINT.host_link] == LinkState(ENDPOINT.host_link, mtu)


@pytest.mark.parametrize(
    ("backend", "pools", "least"),
    [("vxlan", (POOL, POOL6), 1330), ("wireguard", (POOL6,), 1360), ("vxlan", (POOL,), 118)],
)
def test_an_underlay_too_narrow_for_the_networks_addresses_is_told_with_the_figures(
    backend: str, pools: tuple[IPNetwork, ...], least: int
) -> None:
    network = replace(NET, backend=backend, pools=pools)
    assert too_narrow(network, replace(UNDERLAY, mtu=least)) is None
    leaves = {1330: "1279 to containers with backend vxlan, and IPv6 needs 1280"}
    leaves |= {1360: "1279 to containers with backend wireguard, and IPv6 needs 1280"}
    leaves |= {118: "67 to containers with backend vxlan, and IPv4 needs 68"}
    assert too_narrow(network, replace(UNDERLAY, mtu=least - 1)) == (
        f"the MTU of eth0 is {least - 1}, which leaves {leaves[least]}; give eth0 a larger MTU"
    )


def test_host_gw_one_route_per_block() -> None:
    assert texts(replace(NET, backend="host-gw", port=0), OTHER)[1:4] == [
        "route 10.240.2.0/26 via 192.0.2.2 dev eth0 src 10.240.1.1",
        "route fd77::200/122 via fd00:1::2 dev eth0 src fd77::101",
        "link fl.7 mtu 1500 up",
    ]


def test_udp_one_peer_per_host_one_route_per_block() -> None:
    borrowed = ip_network("10.240.1.60/32")
    other = replace(OTHER, blocks=(*OTHER.blocks, borrowed))
    assert texts(replace(NET, backend="udp", port=8478), other)[:8] == [
        "link fl.7 type tun",
        "forwarder fl.7 vni 7 local 192.0.2.1 port 8478",
        "peer h2 at 192.0.2.2 port 8478 dev fl.7 blocks 10.240.1.60/32 10.240.2.0/26 fd77::200/122",
        "route 10.240.1.60/32 dev fl.7 src 10.240.1.1",
        "route 10.240.2.0/26 dev fl.7 src 10.240.1.1",
        "route fd77::200/122 dev fl.7 src fd77::101",
        "link fl.7 mtu 1456 up",
        "addr 10.240.1.1/32 dev fl.7",
    ]


def test_a_change_of_one_peer_is_one_operation_at_the_forwarder() -> None:
    network = replace(NET, backend="udp", port=8478)
    many = [replace(OTHER, host=f"h{n}", blocks=(ip_network(f"10.240.{n}.0/26"),)) for n in range(2, 40)]
    before, after = (
        goal("h1", UNDERLAY, [LocalNetwork(network, (), tuple(some))], {})
        for some in (many, [replace(many[0], blocks=(*many[0].blocks, ip_network("fd77::300/122"))), *many[1:]])
    )
    assert [str(operation) for operation in plan(before, after)] == [
        "+ peer h2 at 192.0.2.2 port 8478 dev fl.7 blocks 10.240.2.0/26 fd77::300/122",
        "+ route fd77::300/122 dev fl.7 src fd77::101",
    ]


def test_host_gw_refuses_a_host_that_is_not_on_the_link() -> None:
    far = replace(OTHER, addresses=(ip_address("198.51.100.2"),))
    refusal = BACKENDS["host-gw"].refusal(UNDERLAY, far)
    assert refusal is not None
    assert "host h2 (198.51.100.2) is not on the link of eth0" in refusal
    assert BACKENDS["host-gw"].refusal(UNDERLAY, OTHER) is None


def test_an_endpoint_has_its_gateway_and_route_once_its_link_is_there() -> None:
    link = (EndpointLink(ENDPOINT.host_link), LinkState(ENDPOINT.host_link, 1450))
    assert texts(NET, actual=link)[-7:] == [
        f"link {ENDPOINT.host_link} type veth",
        f"link {ENDPOINT.host_link} mtu 1450 up",
        f"switches {ENDPOINT.host_link} guarded",
        f"addr 10.240.0.1/32 dev {ENDPOINT.host_link}",
        f"route 10.240.1.5/32 dev {ENDPOINT.host_link}",
        f"addr fd77::1/128 dev {ENDPOINT.host_link}",
        f"route fd77::105/128 dev {ENDPOINT.host_link}",
    ]
    assert not any(ENDPOINT.host_link in text for text in texts(NET))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("unknown", ["peers", "underlay"])
def test_what_is_not_known_stays_as_it_is(backend: str, unknown: str) -> None:
    network = replace(NET, backend=backend)
    before = goal("h1", UNDERLAY, [LocalNetwork(network, (ENDPOINT,), (OTHER,))], {})
    remotes = None if unknown == "peers" else ()
    after = goal("h1", None if unknown == "underlay" else UNDERLAY, [LocalNetwork(network, (), remotes)], before)
    assert after == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pool_that_is_one_block_leads_to_the_host_that_holds_it(backend: str) -> None:
    network = replace(NET, backend=backend, pools=OTHER.blocks, host_addresses=())
    other = replace(OTHER, public_key=b64encode(bytes(32)).decode())
    found = goal("h1", UNDERLAY, [LocalNetwork(network, (), (other,))], {})
    assert {o.destination for o in found.values() if isinstance(o, Route)} == set(network.pools)
    assert goal("h1", UNDERLAY, [LocalNetwork(network, (), None)], found) == found
    alone = goal("h1", UNDERLAY, [LocalNetwork(network, (), ())], found)
    assert [str(o) for o in alone.values() if o.rank == 4] == [f"route unreachable {pool}" for pool in network.pools]


def test_a_network_is_set_up_before_the_other_hosts_are_known() -> None:
    unknown, alone = (goal("h1", UNDERLAY, [LocalNetwork(NET, (), remotes)], {}) for remotes in (None, ()))
    assert unknown == alone
    assert str(unknown["link", "fl.7"]).startswith("link fl.7 ")


def test_peers_and_blocks_are_joined_by_host() -> None:
    spec = records.NetworkSpec((POOL, POOL6), NET.gateways, "vxlan", 7, 8479, None, False)
    entries = {
        records.network_key(POOL): encode(spec),
        records.peer_key(POOL, "h1"): encode(records.Peer("h1", UNDERLAY.advertised)),
        records.peer_key(POOL, "h2"): encode(records.Peer("h2", OTHER.addresses)),
        records.peer_key(POOL, "h3"): b"not a record",
        records.peer_key(POOL, "no-block"): encode(records.Peer("no-block", OTHER.addresses)),
        records.block_key(POOL, ip_network("10.240.1.0/26")): encode(records.Block("h1")),
        records.block_key(POOL, ip_network("10.240.2.0/26")): encode(records.Block("h2")),
        records.block_key(POOL6, ip_network("fd77::200/122")): encode(records.Block("h2")),
        records.block_key(POOL6, ip_network("fd77::300/122")): encode(records.Block("no-peer")),
        records.borrowed_key(POOL, ip_address("10.240.3.7")): encode(records.Borrowed("h2", idle=True)),
        # Mistyped keys, which hinder nobody; a host that has no other is not reached.
        "pools/10.240.0.0-18/blocks/ten": encode(records.Block("h2")),
        "pools/10.240.0.0-18/blocks/192.0.2.0-26": encode(records.Block("h2")),
        "pools/10.240.0.0-18/borrowed/10.240.2.777": encode(records.Borrowed("no-block")),
    }
    assert View(entries).remotes(NET, "h1") == (OTHER,)
    assert View(entries).remotes(replace(NET, adopted=True), "h1") == ()  # of one host alone; the rest is another's
    assert View(entries).peers() == {POOL: {"h1", "h2", "h3", "no-block"}}
    del entries[records.network_key(POOL)]
    assert View(entries).remotes(NET, "h1") is None
    assert View({}).remotes(NET, "h1") is None


BLOCKS = [ip_network(f"10.240.{number}.0/26") for number in range(2, 5)]
SPEC = encode(records.NetworkSpec((POOL,), NET.gateways[:1], "vxlan", 7, 8479, None, False))
changes = st.dictionaries(
    st.sampled_from(
        [
            records.network_key(POOL),
            *(records.peer_key(POOL, host) for host in ("h1", "h2", "h3")),
            *(records.block_key(POOL, block) for block in BLOCKS),
            records.borrowed_key(POOL, BLOCKS[0][9]),
            records.wanted_key(POOL, BLOCKS[0][9]),
            records.block_key(POOL6, ip_network("fd77::200/122")),
            "pools/x@10.240.0.0-18/blocks/10.240.2.0-26",
        ]
    ),
    st.none() | st.sampled_from(["h1", "h2", "h3", "not a record"]),
    max_size=4,
)


def record(key: str, host: str | None) -> bytes | None:
    if host is None:
        return None
    if host == "not a record":
        return host.encode()
    if key == records.network_key(POOL):
        return SPEC
    peer = key.startswith(records.peers_prefix(POOL))
    return encode(records.Peer(key.rpartition("/")[2], OTHER.addresses) if peer else records.Block(host))


@settings(deadline=None)
@given(st.lists(changes, max_size=6))
def test_a_view_after_changes_is_the_view_of_what_then_stands(history: list[dict[str, str | None]]) -> None:
    view, entries, network = View({}), dict[str, bytes](), replace(NET, pools=(POOL, POOL6))
    for step in history:
        told = {key: record(key, host) for key, host in step.items()}
        before, seen = view, view.entries
        view = view.after(told)
        entries = {key: value for key, value in {**entries, **told}.items() if value is not None}
        assert view == View(entries)
        assert view.entries == entries
        remotes, expected = view.remotes(network, "h1"), View(entries).remotes(network, "h1")
        assert remotes is expected is None or set(remotes or ()) == set(expected or ())
        assert before.entries == seen


def test_a_change_joins_anew_only_the_hosts_that_it_is_about() -> None:
    """With thousands of them, anything else is what a change costs."""
    hosts = {f"h{number}": ip_network(f"10.240.{number}.0/26") for number in range(2, 9)}
    told = {records.network_key(POOL): SPEC}
    for host, block in hosts.items():
        told |= {
            records.peer_key(POOL, host): encode(records.Peer(host, OTHER.addresses)),
            records.block_key(POOL, block): encode(records.Block(host)),
        }
    view = View(told)
    before = {remote.host: remote for remote in view.remotes(NET, "h1") or ()}
    moves = {records.block_key(POOL, hosts["h3"]): encode(records.Block("h4")), records.peer_key(POOL, "h5"): None}
    after = {remote.host: remote for remote in view.after(moves).remotes(NET, "h1") or ()}
    assert before.keys() - after.keys() == {"h3", "h5"}
    assert [host for host in after if after[host] is not before[host]] == ["h4"]
    assert after["h4"].blocks == (hosts["h3"], hosts["h4"])
