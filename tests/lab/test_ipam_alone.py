"""`--ipam-driver flannelpy` for networks of other drivers: their addresses are unique over all hosts."""

import pytest

from plugin.stand_in import SENTENCE
from tests.lab.cluster import Cluster, side_by_side
from tests.lab.commands import wait_until
from tests.lab.docker_host import DockerHost

SUBNET = "10.77.0.0/24"
IPAM = ("--ipam-driver", "flannelpy", "--subnet", SUBNET)
DRIVERS = {"bridge": (), "macvlan": ("-o", "parent=eth0"), "ipvlan": ("-o", "parent=eth0")}
EACH = 4


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    name: str = request.param
    if name != "bridge" and not kernel_has(cluster.hosts[0], name):
        pytest.skip(f"this kernel has no {name}: `ip link add type {name}` is refused")
    return name


def kernel_has(host: DockerHost, kind: str) -> bool:
    made = host.attempt("ip", "link", "add", "probe", "link", "eth0", "type", kind)
    host.attempt("ip", "link", "del", "probe")
    return made.returncode == 0


def test_addresses_are_unique_over_all_hosts(cluster: Cluster, driver: str) -> None:
    for host in cluster.hosts:
        host.docker("network", "create", "-d", driver, *IPAM, *DRIVERS[driver], "lan")
    wanted = [(host, f"c{number}") for host in cluster.hosts for number in range(EACH)]
    side_by_side(lambda one: one[0].run_container(one[1], "--network", "lan"), wanted)
    addresses = [host.address_of(name, "lan") for host, name in wanted]
    assert len(set(addresses)) == 2 * EACH
    assert "10.77.0.1" not in addresses
    for host, name in wanted[:1] + wanted[-1:]:
        assert "/24 " in host.container_exec(name, "ip", "-4", "addr", "show", "eth0")
    if driver != "bridge":  # which joins nobody to the other host
        host, name = wanted[0]
        assert all(host.container_pings(name, address) for address in addresses)


def test_an_address_moves_between_hosts_in_a_network_of_another_driver(cluster: Cluster) -> None:
    one, other = cluster.hosts
    for host in cluster.hosts:
        host.docker("network", "create", "-d", "bridge", *IPAM, "lan")
    one.run_container("first", "--network", "lan")
    address = one.address_of("first", "lan")
    taken = other.docker_refused("run", "--rm", "--network", "lan", "--ip", address, "lab/busybox", "true")
    assert f"address {address} is already in use on host {one.name}" in taken
    one.docker("rm", "-f", "first")
    other.run_container("second", "--network", "lan", "--ip", address)
    assert other.address_of("second", "lan") == address


def test_networks_with_a_name_of_their_own_may_have_the_same_subnet_and_addresses(cluster: Cluster) -> None:
    for host, name in zip(cluster.hosts, ("left", "right"), strict=True):
        host.docker("network", "create", "-d", "bridge", *IPAM, "--ipam-opt", f"network={name}", "lan")
        host.run_container("first", "--network", "lan", "--ip", "10.77.0.7")
        assert host.address_of("first", "lan") == "10.77.0.7"
        said = host.docker_refused("run", "--rm", "--network", "lan", "--ip", "10.77.0.7", "lab/busybox", "true")
        assert "already in use on this host" in said


def test_the_same_aux_address_serves_every_host_and_no_container(cluster: Cluster) -> None:
    one, other = cluster.hosts
    router = "10.77.0.5"
    lan = ("network", "create", "-d", "bridge", *IPAM, "--aux-address", f"router={router}", "lan")
    one.docker(*lan)
    wait_until("the cluster to hear of it", lambda: router in reserved(cluster), timeout=10)
    other.docker(*lan)
    for host in cluster.hosts:
        said = host.docker_refused("run", "--rm", "--network", "lan", "--ip", router, "lab/busybox", "true")
        assert f"address {router} is reserved in pool {SUBNET}; choose another" in said
        host.remove_containers()
    one.run_container("first", "--network", "lan")
    taken = one.address_of("first", "lan")
    other.docker("network", "rm", "lan")
    said = other.docker_refused(*lan[:-1], "--aux-address", f"printer={taken}", "lan")
    assert f"address {taken} is already in use on host {one.name}" in said
    one.docker("rm", "-f", "first")
    one.docker("network", "rm", "lan")
    assert reserved(cluster) == []
    one.docker("network", "create", "-d", "bridge", *IPAM, "lan")
    one.run_container("second", "--network", "lan", "--ip", router)


def test_a_network_of_another_driver_that_fails_reserves_nothing(cluster: Cluster) -> None:
    """Docker has asked for all addresses before it asks the driver."""
    one, other = cluster.hosts
    other.docker("network", "create", "-d", "bridge", *IPAM, "lan")
    aux = ("--aux-address", "router=10.77.0.5")
    one.docker_refused("network", "create", "-d", "macvlan", "-o", "parent=nowhere/0", *IPAM, *aux, "lan")
    other.run_container("first", "--network", "lan", "--ip", "10.77.0.5")


def test_a_container_that_docker_gave_up_because_flannelpy_was_late_is_started(cluster: Cluster) -> None:
    """On a host that has no network of our driver, and knows of this one by its pool alone."""
    host = cluster.hosts[0]
    host.docker("network", "create", "-d", "bridge", *IPAM, "lan")
    host.run_container("kept", "--network", "lan", "--restart", "always")

    def state(what: str) -> str:
        return host.docker("inspect", "--format", f"{{{{.State.{what}}}}}", "kept").strip()

    host.stop_dockerd()
    host.stop_flannelpy()
    host.start_stand_in()
    host.start_dockerd()
    assert SENTENCE in state("Error")
    host.start_flannelpy(host.flannelpy_env)
    host.await_handover()
    wait_until("it to be started", lambda: state("Running") == "true", timeout=30)
    assert "/24 " in host.container_exec("kept", "ip", "-4", "addr", "show", "eth0")


def reserved(cluster: Cluster) -> list[str]:
    key = "flannelpy/pools/10.77.0.0-24/pool"
    if key not in cluster.consul.keys("flannelpy/pools/"):
        return []
    found: list[str] = cluster.consul.api("GET", f"/v1/kv/{key}?raw")["reserved"]
    return found
