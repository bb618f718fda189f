"""Pools that are not one cluster-wide --subnet: Docker's own, several of them, tiny ones."""

import re
from ipaddress import ip_address, ip_network

from tests.lab.cluster import FLANNELPY, Cluster
from tests.lab.docker_host import DockerHost

COMMAND = "type: docker network create -d flannelpy --ipam-driver flannelpy --subnet 10.224.0.0/18 NAME"


def test_a_pool_that_docker_chose_is_accepted_where_it_is_unique(cluster: Cluster) -> None:
    a, b = cluster.hosts
    a.docker("network", "create", "-d", "flannelpy", "--subnet", "10.230.0.0/24", "plain")
    first, second = (cluster.run(a, name, "plain") for name in ("one", "two"))
    assert cluster.unreached([first, second]) == []
    assert "inet 10.230.0.2/24" in first.run("ip", "addr", "show", "eth0")
    assert a.pings(first.address)
    refusal = b.docker_refused("network", "create", "-d", "flannelpy", "--subnet", "10.230.0.0/24", "plain")
    assert (
        f"pool 10.230.0.0/24 is already used in the cluster, so Docker's own IPAM cannot have it here; {COMMAND}"
        in refusal
    )
    refusal = b.docker_refused("network", "create", *FLANNELPY, "--subnet", "10.230.0.0/24", "plain")
    assert f"pool 10.230.0.0/24 belongs to Docker's own IPAM on host {a.name}; choose another --subnet" in refusal
    a.stop_flannelpy()
    a.start_flannelpy(a.flannelpy_env)
    assert cluster.unreached([first, second, cluster.run(a, "three", "plain")]) == []


def test_the_refusal_holds_a_command_that_works(cluster: Cluster) -> None:
    a, b = cluster.hosts
    plain = ("network", "create", "-d", "flannelpy", "--subnet", "10.230.0.0/24", "plain")
    a.docker(*plain)
    refusal = b.docker_refused(*plain)
    assert COMMAND in refusal
    b.docker("network", "create", *FLANNELPY, "--subnet", "10.224.0.0/18", "plain")


def test_a_pool_that_flannelpy_chooses_is_clear_of_all_that_the_host_uses(cluster: Cluster) -> None:
    """Docker compares it with routes and name servers, and asks again for as long as it overlaps one."""
    host, _ = cluster.hosts
    asked_before = held(host)
    servers = host.directory / "resolv.conf"
    servers.write_text("nameserver 10.224.64.53\n")
    routes = ["10.224.0.0/20 dev eth0", "10.224.192.0/24 dev eth0 table 77"]
    for route in routes:
        host.run("ip", "route", "add", *route.split())
    host.run("mount", "--bind", str(servers), "/etc/resolv.conf")
    try:
        host.docker("network", "create", "-d", "macvlan", "-o", "parent=eth0", "--subnet", "10.224.130.0/24", "lan")
        chosen = [created(host, "one"), created(host, "two", "--ipam-opt", "network=other")]
    finally:
        host.run("umount", "/etc/resolv.conf")
        for route in routes:
            host.run("ip", "route", "del", *route.split())
    assert chosen == ["10.225.0.0/18", "10.225.64.0/18"]
    assert held(host)[len(asked_before) :] == chosen


def held(host: DockerHost) -> list[str]:
    """The pools that Docker has asked for, in order."""
    return re.findall(r"pool held .*pool=(?:\w+@)?(\S+)", host.flannelpy_log())


def created(host: DockerHost, name: str, *options: str) -> str:
    """The pool of a new network of Docker's bridge driver, chosen by flannelpy."""
    host.docker("network", "create", "-d", "bridge", "--ipam-driver", "flannelpy", *options, name, timeout=20)
    shape = host.docker_json("network", "inspect", name)[0]
    return str(shape["IPAM"]["Config"][0]["Subnet"])


def test_a_network_with_several_subnets_has_addresses_of_each(cluster: Cluster) -> None:
    subnets = ("--subnet", "10.231.0.0/29", "--subnet", "10.232.0.0/24")
    cluster.create("wide", *subnets)
    containers = cluster.run_everywhere(2, "wide")
    wanted = cluster.run(cluster.hosts[0], "other", "wide", "--ip", "10.232.0.77")
    pools = [ip_network("10.231.0.0/29"), ip_network("10.232.0.0/24")]  # Docker's CLI shuffles them
    assert all(any(ip_address(c.address) in pool for pool in pools) for c in containers)
    assert wanted.address == "10.232.0.77"
    assert cluster.unreached([*containers, wanted]) == []
