"""What is refused: in a sentence that helps, with nothing left behind, and the corrected command works.

That nothing is left is looked at by the fixture, after each test."""

import re
from ipaddress import ip_network

import pytest

from driver.membership import derived_vni
from tests.lab.cluster import FLANNELPY, POOL, POOL6, Cluster

SUBNET = ("--subnet", POOL)


def test_a_network_with_dockers_own_ipam_is_told_what_to_type(cluster: Cluster) -> None:
    one, other = cluster.hosts
    plain = ("network", "create", "-d", "flannelpy", "--subnet", "10.230.0.0/24", "web")
    one.docker(*plain)  # nobody else has the pool
    said = other.docker_refused(*plain)
    found = re.search(r"type: docker (network create .*) NAME", said)
    assert found, said
    one.docker("network", "rm", "web")
    for host in (one, other):
        host.docker(*found[1].split(), "web")
    assert cluster.unreached(cluster.run_everywhere(1, "web")) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            (*SUBNET, "-o", "colour=red"),
            r"unknown option colour; known: backend, checksum-offload, direct",
        ),
        ((*SUBNET, "-o", "backend=overlay"), r"-o backend=overlay: must be one of vxlan, host-gw"),
        ((*SUBNET, "-o", "mtu=1451"), r"-o mtu=1451: eth0 carries at most 1450 with backend vxlan"),
        ((*SUBNET, "-o", "mtu=large"), r"-o mtu=large: must be a number from 576 to"),
        ((*SUBNET, "-o", "vni=0"), r"-o vni=0: must be a number from 1 to 16777215"),
        ((*SUBNET, "-o", "backend=host-gw", "-o", "port=4789"), r"-o port=4789: host-gw has no tunnel"),
        ((*SUBNET, "--ipam-opt", "size=12"), r"unknown --ipam-opt size; known: block"),
        ((*SUBNET, "--ipam-opt", "block=40"), r"--ipam-opt block=40: must be a prefix length from 18 to 32"),
        (("--subnet", "10.240.0.0/31"), r"--subnet 10.240.0.0/31: a pool is a /8 to /30"),
        ((*SUBNET, "--gateway", "10.240.0.0"), r"10.240.0.0 cannot be used in pool 10.240.0.0/18"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_network_that_cannot_be_is_refused(cluster: Cluster, options: tuple[str, ...], reason: str) -> None:
    host = cluster.hosts[0]
    assert re.search(reason, host.docker_refused("network", "create", *FLANNELPY, *options, "web"))
    host.docker("network", "create", *FLANNELPY, *SUBNET, "web")


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ((), ("-o", "backend=host-gw"), r"with -o backend=vxlan .*not with -o backend=host-gw"),
        (("-o", "mtu=1400"), ("-o", "mtu=1300"), r"with -o mtu=1400 .*not with -o mtu=1300"),
        ((), ("-o", "mtu=1300"), r"without -o mtu .*not with -o mtu=1300"),
        (("-o", "vni=70"), ("-o", "vni=71"), r"with -o vni=70 .*not with -o vni=71"),
        (("-o", "port=4800"), ("-o", "port=4801"), r"with -o port=4800 .*not with -o port=4801"),
        (("--internal",), (), r"with --internal .*not without --internal"),
        ((), ("--internal",), r"without --internal .*not with --internal"),
        (("--gateway", "10.240.0.7"), ("--gateway", "10.240.0.8"), r"use --gateway 10.240.0.7"),
        ((), ("--ipv6", "--subnet", POOL6), r"with --subnet 10.240.0.0/18 .*not .*--subnet fd77::/64"),
        (
            ("--ipv6", "--subnet", POOL6),
            (),
            r"with --ipv6 --subnet 10.240.0.0/18 --subnet fd77::/64 .*not with --subnet",
        ),
    ],
    ids=lambda value: (" ".join(value) or "plain") if isinstance(value, tuple) else "",
)
def test_a_network_that_contradicts_the_other_host_is_refused(
    cluster: Cluster, first: tuple[str, ...], second: tuple[str, ...], reason: str
) -> None:
    one, other = cluster.hosts
    one.docker("network", "create", *FLANNELPY, *SUBNET, *first, "web")
    said = other.docker_refused("network", "create", *FLANNELPY, *SUBNET, *second, "web")
    assert re.search(reason, said), said
    other.docker("network", "create", *FLANNELPY, *SUBNET, *first, "web")


def test_host_gw_refuses_at_once_where_a_peer_is_not_on_the_link(cluster: Cluster) -> None:
    one, other = cluster.hosts
    create = ("network", "create", *FLANNELPY, *SUBNET, "-o", "backend=host-gw", "web")
    one.docker(*create)
    with cluster.peer(POOL, "10.99.0.9"):
        said = other.docker_refused(*create)
    assert "host third (10.99.0.9) is not on the link of eth0 for IPv4, so host-gw cannot reach it" in said
    assert "use -o backend=vxlan" in said
    assert "flannelpy leave --host third" in said
    other.docker(*create)


def test_a_network_takes_no_vni_of_a_device_that_is_not_ours(cluster: Cluster) -> None:
    one = cluster.hosts[0]
    taken = derived_vni(ip_network(POOL), 0)
    one.run("ip", "link", "add", "theirs", "type", "vxlan", "id", str(taken), "dstport", "8479")
    cluster.create("web", *SUBNET)
    assert cluster.unreached(cluster.run_everywhere(1, "web")) == []
    one.run("ip", "link", "del", "theirs")


def test_an_ipv6_pool_belongs_to_one_network(cluster: Cluster) -> None:
    """Else its containers would not reach those of the other network in the same pool."""
    one, other = cluster.hosts
    one.docker("network", "create", *FLANNELPY, "--ipv6", *SUBNET, "--subnet", POOL6, "web")
    mixed = ("--ipv6", "--subnet", "10.242.0.0/18", "--subnet", POOL6)
    for options in (mixed, ("--ipv6", "--subnet", POOL6)):
        said = other.docker_refused("network", "create", *FLANNELPY, *options, "web")
        assert re.search(r"fd77::/64 .*--subnet 10.240.0.0/18 --subnet fd77::/64", said), said
    other.docker("network", "create", *FLANNELPY, "--ipv6", *SUBNET, "--subnet", POOL6, "web")
    assert cluster.unreached(cluster.run_everywhere(1, "web")) == []


def test_a_pool_is_used_by_one_network_of_a_host(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    host.docker("network", "create", *FLANNELPY, *SUBNET, "web")
    container = cluster.run(host, "one", "web")
    for driver in (FLANNELPY, FLANNELPY[:2]):  # Docker's own IPAM does not know that the pool is ours
        said = host.docker_refused("network", "create", *driver, *SUBNET, "again")
        assert "pool 10.240.0.0/18 is already used by network" in said
    assert container.unreached([container.address, "10.240.0.1"]) == []
    host.docker("network", "create", *FLANNELPY, "--subnet", "10.242.0.0/18", "again")


def test_a_pool_that_overlaps_another_hosts_is_refused(cluster: Cluster) -> None:
    one, other = cluster.hosts
    one.docker("network", "create", *FLANNELPY, *SUBNET, "web")
    for subnet in ("10.240.32.0/20", "10.240.0.0/16"):
        said = other.docker_refused("network", "create", *FLANNELPY, "--subnet", subnet, "mine")
        assert f"pool {subnet} overlaps 10.240.0.0/18, which the cluster already uses" in said
    other.docker("network", "create", *FLANNELPY, "--subnet", "10.242.0.0/20", "mine")


def test_a_vni_that_another_network_has_is_refused(cluster: Cluster) -> None:
    one, other = cluster.hosts
    one.docker("network", "create", *FLANNELPY, *SUBNET, "-o", "vni=70", "web")
    for host in (one, other):
        said = host.docker_refused("network", "create", *FLANNELPY, "--subnet", "10.242.0.0/18", "-o", "vni=70", "mine")
        assert "-o vni=70: network 10.240.0.0/18 has this number; choose another" in said
    other.docker("network", "create", *FLANNELPY, "--subnet", "10.242.0.0/18", "-o", "vni=71", "mine")


def test_an_address_that_a_container_has_is_refused_on_every_host(cluster: Cluster) -> None:
    one, other = cluster.hosts
    cluster.create("web", *SUBNET)
    taken = cluster.run(one, "first", "web").address
    for host in (one, other):
        said = host.docker_refused("run", "--network", "web", "--ip", taken, "lab/busybox", "true")
        assert taken in said
        assert re.search(r"in use|holds", said)
    said = other.docker_refused("run", "--network", "web", "--ip", "10.240.0.1", "lab/busybox", "true")
    assert "10.240.0.1" in said


def test_an_aux_address_that_a_container_has_is_refused(cluster: Cluster) -> None:
    one, other = cluster.hosts
    one.docker("network", "create", *FLANNELPY, *SUBNET, "web")
    taken = cluster.run(one, "first", "web").address
    said = other.docker_refused("network", "create", *FLANNELPY, *SUBNET, "--aux-address", f"a={taken}", "web")
    assert taken in said
    other.docker("network", "create", *FLANNELPY, *SUBNET, "web")
    assert cluster.unreached([cluster.run(other, "second", "web")]) == []


def test_an_option_of_an_endpoint_is_refused(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    host.docker("network", "create", *FLANNELPY, *SUBNET, "web")
    host.run_container("guest")
    said = host.docker_refused("network", "connect", "--driver-opt", "speed=fast", "web", "guest")
    assert "endpoints have no --driver-opt" in said
    host.docker("network", "connect", "web", "guest")


def test_a_network_in_use_stays(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    host.docker("network", "create", *FLANNELPY, *SUBNET, "web")
    container = cluster.run(host, "one", "web")
    assert "has active endpoints" in host.docker_refused("network", "rm", "web")
    assert container.unreached(["10.240.0.1"]) == []
