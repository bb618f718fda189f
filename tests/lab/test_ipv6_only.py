"""Networks with IPv6 addresses alone, which Docker makes since Engine 28: `make test-engines`."""

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from tests.lab.asking import RESOLVER, RESOLVER6, ask, until
from tests.lab.cluster import FLANNELPY, POOL6, Cluster, side_by_side
from tests.lab.commands import wait_until
from tests.lab.lab import Lab

IPV6_ONLY = ("--ipv4=false", "--ipv6")
REFUSED = "SERVFAIL"  # as Docker words it


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Lab(hosts=2, dockerd_config={"dns": [RESOLVER, RESOLVER6]}) as lab:
        version = lab.hosts[0].docker("version", "--format", "{{.Server.Version}}")
        if int(version.partition(".")[0]) < 28:
            pytest.skip(f"Docker Engine {version} makes no network without IPv4")
        env = {"FLANNELPY_STORE": lab.consul.url, "FLANNELPY_PROPAGATE": "true"}
        side_by_side(lambda host: host.start_flannelpy(env), lab.hosts)
        yield Cluster(lab)


def test_a_network_of_ipv6_alone_is_alike_on_all_hosts_and_reaches_them(cluster: Cluster) -> None:
    one, other = cluster.hosts
    one.docker("network", "create", *FLANNELPY, *IPV6_ONLY, "--subnet", POOL6, "six")
    wait_until("the network", lambda: other.docker_ok("network", "inspect", "six"), timeout=30, every=0.1)
    shapes = [host.docker_json("network", "inspect", "six")[0] for host in cluster.hosts]
    assert [(shape["EnableIPv4"], shape["EnableIPv6"]) for shape in shapes] == [(False, True)] * 2
    assert shapes[0]["IPAM"] == shapes[1]["IPAM"]
    containers = cluster.run_everywhere(2, "six")
    assert all(container.address == "" and container.address6 for container in containers)
    assert cluster.unreached(containers) == []
    near = containers[1]
    assert (ask(containers[0], near.name, "AAAA"), ask(containers[0], near.name)) == (
        f"NOERROR {near.address6}",
        "NOERROR",
    )
    assert "end to end" in one.flannelpy_command("trace", containers[0].name, containers[2].name)
    assert "nothing wrong was found" in one.flannelpy_command("doctor")
    side_by_side(lambda host: host.remove_containers(), cluster.hosts)
    other.docker("network", "rm", "six")
    wait_until("its end", lambda: not one.docker_ok("network", "inspect", "six"), timeout=30, every=0.1)


@pytest.mark.parametrize("gateway", ["gwbridge", "direct"])
def test_containers_without_ipv4_are_told_the_names_of_other_hosts(cluster: Cluster, gateway: str) -> None:
    """With `direct` they cannot even send to the first server, and with `gwbridge` it does not know them."""
    one, other = cluster.hosts
    name, subnet = f"six-{gateway}", {"gwbridge": "fd77:7::/64", "direct": "fd77:8::/64"}[gateway]
    one.docker("network", "create", *FLANNELPY, *IPV6_ONLY, "-o", f"gateway={gateway}", "--subnet", subnet, name)
    wait_until("the network", lambda: other.docker_ok("network", "inspect", name), timeout=30, every=0.1)
    here, there = cluster.run(one, "here", name), cluster.run(other, "there", name)
    until(here, "there", f"NOERROR {there.address6}", "AAAA")
    until(there, "here.flannelpy", f"NOERROR {here.address6}", "AAAA")
    assert ask(here, "there") == "NOERROR"
    assert ask(here, ip_address(there.address6).reverse_pointer, "PTR") == f"NOERROR there.{name}."
    assert ask(here, "there", "AAAA", transport="tcp") == f"NOERROR {there.address6}"
    assert ask(here, "nobody.flannelpy", "AAAA") == "NXDOMAIN"
    assert ask(here, "nobody", "AAAA") == REFUSED
    side_by_side(lambda host: host.remove_containers(), cluster.hosts)
    one.docker("network", "rm", name)
