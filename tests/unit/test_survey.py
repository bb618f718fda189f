"""What the records say about hosts, networks and addresses."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from operations import survey
from operations.survey import Here
from store import records
from store.codec import encode
from store.faulty import faulty
from store.ip import IPAddress, IPNetwork

POOL, POOL6, LAN = ip_network("10.240.0.0/18"), ip_network("fd77::/64"), ip_network("192.168.7.0/24")
BLOCK, THEIRS = ip_network("10.240.1.0/26"), ip_network("10.240.2.0/26")
MINE, OTHERS, BORROWED = ip_address("10.240.1.5"), ip_address("10.240.2.9"), ip_address("10.240.2.7")
GATEWAYS = (ip_address("10.240.0.1"), ip_address("fd77::1"))
SPEC = records.NetworkSpec((POOL, POOL6), GATEWAYS, "vxlan", 7, 8479, None, internal=False)
ENTRIES = {
    records.pool_key(POOL): encode(records.Pool(26, GATEWAYS[0], (ip_address("10.240.9.9"),))),
    records.pool_key(POOL6): encode(records.Pool(122, GATEWAYS[1])),
    records.network_key(POOL): encode(SPEC),
    records.peer_key(POOL, "h1"): encode(records.Peer("h1", (ip_address("192.0.2.1"),))),
    records.peer_key(POOL, "h2"): encode(records.Peer("h2", (ip_address("192.0.2.2"), ip_address("2001:db8::2")))),
    records.holder_key(POOL, "h1"): b"",
    records.block_key(POOL, BLOCK): encode(records.Block("h1")),
    records.block_key(POOL, THEIRS): encode(records.Block("h2")),
    records.borrowed_key(POOL, BORROWED): encode(records.Borrowed("h1")),
    records.leases_key(POOL, BLOCK): encode(records.BlockLeases("h1", (MINE,))),
    records.leases_key(POOL, THEIRS): encode(records.BlockLeases("h2", (OTHERS, BORROWED))),
    records.host_key("h1"): encode(records.Host("i1")),
    records.host_key("h2"): encode(records.Host("i2", reclaimed=True)),
    "pools/lan@192.168.7.0-24/pool": encode(records.Pool(28)),
    "pools/lan@192.168.7.0-24/holders/h2": b"",
    "pools/10.240.0.0-18/blocks/10.240.3.0-26": b"not a record",
}
HERE = Here(
    "h1",
    {"h2": 70.0},
    {("", POOL): "web"},
    {("", POOL): {MINE: "container", BORROWED: "container"}},
    {(("", POOL), MINE): "web-1"},
    {},
    {},
)


def test_hosts() -> None:
    one, other = survey.hosts(ENTRIES, HERE)
    assert (one.name, one.here, one.blocks, one.given, one.silent_for, one.given_up) == ("h1", True, 1, 1, None, False)
    assert (other.addresses, other.networks) == (("192.0.2.2", "2001:db8::2"), (str(POOL),))
    assert (other.silent_for, other.given_up) == (70.0, True)


def test_networks_with_their_second_pools_and_those_of_which_only_the_addresses_are_ours() -> None:
    web, lan = survey.networks(ENTRIES, HERE)
    assert (web.pool, web.more_pools, web.name, web.backend) == (str(POOL), (str(POOL6),), "web", "vxlan")
    assert (web.hosts, web.here, web.blocks, web.given, web.block_size) == (("h1", "h2"), True, 2, 3, 64)
    assert (lan.space, lan.pool, lan.backend, lan.hosts, lan.here) == ("lan", str(LAN), None, ("h2",), False)


def told(pool: IPNetwork, *, removed: bool = False) -> dict[str, bytes]:
    """The cluster's record of a network called web."""
    shape = ("web", "flannelpy", "flannelpy", (pool,), (), (), (), (), (), (), False, False, False)
    return {records.docker_network_key("web"): encode(records.DockerNetwork(*shape, "token", "h2", removed=removed))}


def test_why_a_network_is_not_as_the_cluster_has_it_also_one_that_is_not_here() -> None:
    conflict, failed = "conflict: another network has this name", "failed: Docker refused"
    entries = {**ENTRIES, **told(POOL), "networks/bad": b"not a record"}
    here = replace(HERE, spread={"web": conflict})
    assert [network.spread for network in survey.networks(entries, here)] == [conflict, None]
    not_here = replace(here, names={}, spread={"web": failed})
    assert [network.spread for network in survey.networks(entries, not_here)] == [failed, None]
    assert [network.spread for network in survey.networks(ENTRIES, not_here)] == [None, None]
    assert [network.name for network in survey.networks(entries, not_here)] == ["web", None]


def test_a_network_that_this_host_takes_no_part_in_is_told_and_its_own_of_that_name_is_not() -> None:
    absent, another = "absent: made on host h2", ip_network("10.250.0.0/18")
    entries = {**ENTRIES, **told(another), records.pool_key(another): encode(records.Pool(26))}
    web, its, _ = survey.networks(entries, replace(HERE, absent={"web": absent}))
    assert (web.pool, web.name, web.spread) == (str(POOL), "web", None)
    assert (its.pool, its.name, its.spread) == (str(another), "web", absent)


@pytest.mark.parametrize(
    ("docker_host", "removed", "why"),
    [
        ("h2", False, "local: Docker's own IPAM on host h2 gives its addresses, so it is that host's alone"),
        (None, False, "--ipv6 --subnet 10.240.0.0/18 --subnet fd77::/64 NAME"),
        (None, True, "--ipv6 --subnet 10.240.0.0/18 --subnet fd77::/64 NAME"),
    ],
)
def test_why_a_network_that_nobody_told_of_is_not_here(docker_host: str | None, removed: bool, why: str) -> None:
    pool = {records.pool_key(POOL): encode(records.Pool(26, docker_host=docker_host))}
    entries = {**ENTRIES, **pool, **(told(POOL, removed=True) if removed else {})}
    entries.pop(records.peer_key(POOL, "h1"))
    web, lan = survey.networks(entries, replace(HERE, names={}))
    assert (web.name, (web.spread or "").endswith(why), lan.spread) == (None, True, None)
    last = {key: value for key, value in entries.items() if key.startswith(records.POOLS)}  # the store is away
    assert survey.networks(last, replace(HERE, names={}))[0].spread is None


def test_every_address_once_with_who_has_it() -> None:
    found = {entry.address: entry for entry in survey.addresses(ENTRIES, HERE)}
    assert {address: (entry.host, entry.use) for address, entry in found.items()} == {
        "10.240.0.1": ("every host", "gateway"),
        "10.240.1.5": ("h1", "container"),
        "10.240.2.7": ("h1", "container"),
        "10.240.2.9": ("h2", "in use"),
        "10.240.9.9": ("-", "reserved"),
        "fd77::1": ("every host", "gateway"),
    }
    assert found["10.240.1.5"].container == "web-1"
    assert [entry.address for entry in survey.addresses(ENTRIES, HERE, OTHERS)] == [str(OTHERS)]


def test_an_address_that_nobody_has_is_in_somebodys_block() -> None:
    assert survey.holder(ENTRIES, ip_address("10.240.2.33")) == [("", str(THEIRS), "h2")]


def test_with_the_store_away_nobody_is_taken_for_given_up() -> None:
    last = {key: value for key, value in ENTRIES.items() if key.startswith(records.POOLS)}
    assert [host.given_up for host in survey.hosts(last, HERE)] == [False, False]


def test_the_picture_has_each_pool_with_the_blocks_that_are_held() -> None:
    picture = survey.picture(ENTRIES, HERE, 3)
    web, lan = picture.networks
    first, second = web.pools
    assert (first.pool, first.count, first.block_size) == (str(POOL), 256, 64)
    assert [(held.block, held.host, held.given) for held in first.held] == [
        (str(BLOCK), "h1", 1),
        (str(THEIRS), "h2", 2),
    ]
    assert (second.count, second.held, web.encrypted) == (1 << 58, (), False)
    assert (lan.network.backend, lan.encrypted, len(lan.pools)) == (None, False, 1)
    assert picture.containers == 3


def test_containers_of_all_hosts_once_also_where_a_host_told_nothing_of_its_own() -> None:
    told = {
        records.endpoint_key(POOL, "h1", "a" * 64): encode(endpoint("web-1", MINE)),
        records.endpoint_key(POOL, "h2", "b" * 64): encode(endpoint("web-2", OTHERS)),
        records.endpoint_key(POOL, "h2", "c" * 64): b"not a record",
    }
    for entries, names in ((told, ["web-1", "web-2"]), ({}, ["web-1"])):
        found = survey.containers(entries, HERE)
        assert [(each.name, each.network) for each in found] == [(name, "web") for name in names]
    assert found[0].addresses == (str(MINE),)


MISTYPED = [
    "pools/",
    "pools/web",
    "pools/10.240.0.0-18",
    "pools/10.240.0.0-18/peers/",
    "pools/web/pool",
    "pools/web/network",
    "pools/web/peers/h1",
    "pools/10.240.0.0-18/blocks/ten",
    "pools/10.240.0.0-18/blocks/10.240.1.9-26",
    "pools/10.240.0.0-18/blocks/192.0.2.0-26",
    "pools/10.240.0.0-18/borrowed/10.240.2.777",
    "pools/10.240.0.0-18/wanted/fd77::1",
    "leases/10.240.0.0-18/ten",
    "leases/web/10.240.1.0-26",
    "leases/10.240.0.0-18",
]
RECORDS = [value for value in ENTRIES.values() if value]


@pytest.mark.parametrize("key", MISTYPED)
def test_a_mistyped_key_hides_nothing_and_is_told(key: str) -> None:
    for value in (b"", *RECORDS):
        entries = {key: value, **ENTRIES}
        assert survey.hosts(entries, HERE) == survey.hosts(ENTRIES, HERE)
        assert survey.networks(entries, HERE) == survey.networks(ENTRIES, HERE)
        assert survey.addresses(entries, HERE) == survey.addresses(ENTRIES, HERE)
        assert survey.holder(entries, OTHERS) == survey.holder(ENTRIES, OTHERS)
        assert survey.picture(entries, HERE, 0) == survey.picture(ENTRIES, HERE, 0)
        assert [*faulty(entries)] == [key, *faulty(ENTRIES)]


@pytest.mark.parametrize("key", ["endpoints/", "endpoints/web/h2/c0ffee", "endpoints/web"])
def test_a_mistyped_key_of_an_endpoint_is_no_container(key: str) -> None:
    assert survey.containers({key: encode(endpoint("x", OTHERS))}, replace(HERE, containers={})) == []


def test_what_is_no_record_is_told_and_what_a_later_version_adds_is_not() -> None:
    later = "pools/10.240.0.0-18/policies/x"
    below = {key: value for key, value in ENTRIES.items() if not key.startswith(records.HOSTS)}
    assert [*faulty({**below, later: b"{}"})] == ["pools/10.240.0.0-18/blocks/10.240.3.0-26"]


def test_hosts_that_publish_one_address_are_told() -> None:
    docker0 = ip_address("172.17.0.1")
    wrong = {
        records.peer_key(pool, host): encode(records.Peer(host, (docker0, ip_address(f"2001:db8::{host[1:]}"))))
        for pool, host in ((POOL, "h4"), (POOL, "h3"), (POOL6, "h3"))
    }
    assert survey.shared_addresses({**ENTRIES, **wrong}) == {"172.17.0.1": ("h3", "h4")}


def endpoint(name: str, address: IPAddress) -> records.Endpoint:
    return records.Endpoint("c0ffee", name, (name,), "web", (address,), "02:00:00:00:00:01", "nginx")
