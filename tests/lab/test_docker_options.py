"""What Docker's own options mean on our networks."""

from ipaddress import ip_address, ip_network

import pytest

from tests.lab.cluster import FLANNELPY, POOL, POOL6, Cluster, Container, side_by_side
from tests.lab.docker_host import DockerHost

OTHER_POOL = "10.241.0.0/18"


def network(host: DockerHost, name: str) -> dict[str, object]:
    found: dict[str, object] = host.docker_json("network", "inspect", name)[0]
    return found


def test_the_gateway_is_the_one_asked_for_on_every_host(cluster: Cluster) -> None:
    cluster.create("web", "--subnet", POOL, "--gateway", "10.240.20.1")
    containers = cluster.run_everywhere(1, "web")
    for container in containers:
        assert f"{POOL} via 10.240.20.1 dev eth0" in container.run("ip", "route")
        assert container.unreached(["10.240.20.1"]) == []
    assert cluster.unreached(containers) == []


def test_a_container_has_the_addresses_and_the_mac_asked_for(cluster: Cluster) -> None:
    one, other = cluster.hosts
    cluster.create("web", "--ipv6", "--subnet", POOL, "--subnet", POOL6)
    options = ("--ip", "10.240.7.77", "--ip6", "fd77::7:77", "--mac-address", "02:00:00:07:07:07")
    fixed = cluster.run(one, "fixed", "web", *options)
    assert fixed.addresses == ["10.240.7.77", "fd77::7:77"]
    assert "02:00:00:07:07:07" in fixed.run("ip", "link", "show", "eth0")
    assert cluster.unreached([fixed, cluster.run(other, "asker", "web")]) == []
    one.docker("restart", "fixed")
    fixed.look_again()
    assert fixed.addresses == ["10.240.7.77", "fd77::7:77"]


def test_each_host_may_choose_from_an_ip_range_of_its_own(cluster: Cluster) -> None:
    ranges = ["10.240.1.0/24", "10.240.2.128/25"]
    for host, part in zip(cluster.hosts, ranges, strict=True):
        host.docker("network", "create", *FLANNELPY, "--subnet", POOL, "--ip-range", part, "web")
    containers = cluster.run_everywhere(2, "web")
    for container in containers:
        part = ranges[cluster.hosts.index(container.host)]
        assert ip_address(container.address) in ip_network(part)
    assert cluster.unreached(containers) == []


def test_a_small_ip_range_is_used_to_its_last_address_and_not_beyond(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    host.docker("network", "create", *FLANNELPY, "--subnet", POOL, "--ip-range", "10.240.1.8/30", "web")
    containers = side_by_side(lambda number: cluster.run(host, f"c{number}", "web"), range(4))
    assert {container.address for container in containers} == {f"10.240.1.{number}" for number in range(8, 12)}
    said = host.docker_refused("run", "--name", "fifth", "--network", "web", "lab/busybox", "true")
    assert "--ip-range 10.240.1.8/30" in said
    host.docker("rm", "fifth")


def test_an_aux_address_is_given_to_nobody_on_any_host(cluster: Cluster) -> None:
    small = "10.240.0.0/28"
    cluster.create(
        "web", "--subnet", small, "--aux-address", "router=10.240.0.5", "--aux-address", "printer=10.240.0.9"
    )
    for host in cluster.hosts:
        for reserved in ("10.240.0.5", "10.240.0.9"):
            said = host.docker_refused("run", "--rm", "--network", "web", "--ip", reserved, "lab/busybox", "true")
            assert reserved in said
        host.remove_containers()

    def fill(host: DockerHost) -> list[str]:
        names = [f"c{number}" for number in range(8)]
        options = ("run", "-d", "--network", "web", "--name")
        worked = [name for name in names if host.docker_ok(*options, name, "lab/busybox", "sleep", "1000")]
        return [host.address_of(name, "web") for name in worked]

    given = [address for addresses in side_by_side(fill, cluster.hosts) for address in addresses]
    assert len(given) >= 8
    assert set(given).isdisjoint({"10.240.0.1", "10.240.0.5", "10.240.0.9"})


def test_a_running_container_is_connected_and_disconnected(cluster: Cluster) -> None:
    one, other = cluster.hosts
    cluster.create("web", "--subnet", POOL)
    one.run_container("guest")
    server = cluster.run(other, "server", "web")
    for alias in ("visitor", "returned"):
        one.docker("network", "connect", "--alias", alias, "web", "guest")
        guest = Container(one, "guest", "web")
        assert guest.unreached([server.address, alias]) == []
        assert server.unreached([guest.address]) == []
        one.docker("network", "disconnect", "web", "guest")
        assert server.unreached([guest.address]) == [guest.address]
        assert POOL not in one.container_exec("guest", "ip", "route")


def test_a_container_lives_in_two_of_our_networks_and_on_a_bridge(cluster: Cluster) -> None:
    one, other = cluster.hosts
    cluster.create("web", "--subnet", POOL)
    cluster.create("db", "--subnet", OTHER_POOL)
    one.docker("network", "create", "local")
    far = [cluster.run(other, name, name) for name in ("web", "db")]
    one.run_container("near", "--network", "local")
    middle = cluster.run(one, "middle", "web")
    for name in ("db", "local"):
        one.docker("network", "connect", name, "middle")
    assert middle.unreached([*(container.address for container in far), "near"]) == []
    assert far[0].ask(middle.address) == far[0].address
    assert far[1].ask(one.address_of("middle", "db")) == far[1].address


def test_two_networks_do_not_talk_to_each_other_nor_to_a_bridge(cluster: Cluster) -> None:
    one, other = cluster.hosts
    cluster.create("web", "--subnet", POOL)
    cluster.create("db", "--subnet", OTHER_POOL)
    stranger = cluster.run(one, "stranger", "web")
    one.run_container("on-a-bridge")
    bridged = Container(one, "on-a-bridge", "bridge")
    databases = [cluster.run(host, "database", "db") for host in (one, other)]
    attempts = [(asker, database.address) for asker in (stranger, bridged) for database in databases]
    answers = side_by_side(lambda attempt: attempt[0].ask(attempt[1]), attempts)
    assert dict(zip(attempts, answers, strict=True)) == dict.fromkeys(attempts, "")
    assert databases[0].unreached([bridged.address]) == [bridged.address]


def test_a_pool_is_found_when_none_is_given(cluster: Cluster) -> None:
    one, other = cluster.hosts
    pools = []
    for name in ("first", "second"):
        one.docker("network", "create", *FLANNELPY, name)
        pools.append(one.docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", name))
    other.docker("network", "create", *FLANNELPY, "third")
    pools.append(other.docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", "third"))
    parts = [ip_network(pool) for pool in pools]
    assert len(set(parts)) == 3
    assert not any(part.overlaps(rest) for number, part in enumerate(parts) for rest in parts[number + 1 :])
    other.docker("network", "create", *FLANNELPY, "--subnet", pools[0], "first")
    assert cluster.unreached(cluster.run_everywhere(1, "first")) == []


def test_a_network_with_an_ipv6_subnet_alone_gets_an_ipv4_pool_beside_it(cluster: Cluster) -> None:
    """Engines up to 27 make no network without IPv4."""
    one, other = cluster.hosts
    one.docker("network", "create", *FLANNELPY, "--ipv6", "--subnet", POOL6, "six")
    subnets = [part["Subnet"] for part in one.docker_json("network", "inspect", "six")[0]["IPAM"]["Config"]]
    assert POOL6 in subnets
    assert len(subnets) == 2
    options = [word for subnet in subnets for word in ("--subnet", subnet)]
    other.docker("network", "create", *FLANNELPY, "--ipv6", *options, "six")
    containers = cluster.run_everywhere(1, "six")
    assert all(len(container.addresses) == 2 for container in containers)
    assert cluster.unreached(containers) == []


def test_labels_are_kept(cluster: Cluster) -> None:
    cluster.create("web", "--subnet", POOL, "--label", "team=web", "--label", "tier=front")
    for host in cluster.hosts:
        assert network(host, "web")["Labels"] == {"team": "web", "tier": "front"}


@pytest.mark.parametrize("option", ["mtu", "com.docker.network.driver.mtu"])
def test_the_mtu_is_the_one_asked_for(cluster: Cluster, option: str) -> None:
    cluster.create("web", "--subnet", POOL, "-o", f"{option}=1300")
    one, other = cluster.run_everywhere(1, "web")
    assert " mtu 1300 " in one.run("ip", "link", "show", "eth0")
    assert one.passes_unfragmented(other.address, 1300)
    assert not one.passes_unfragmented(other.address, 1301)


def test_the_vni_and_port_are_the_ones_asked_for(cluster: Cluster) -> None:
    cluster.create("web", "--subnet", POOL, "-o", "vni=77", "-o", "port=4799")
    assert cluster.unreached(cluster.run_everywhere(1, "web")) == []
    for host in cluster.hosts:
        assert " id 77 " in host.run("ip", "-d", "link", "show", "fl.77")
        assert " dstport 4799 " in host.run("ip", "-d", "link", "show", "fl.77")


def test_an_internal_network_has_no_way_out(cluster: Cluster) -> None:
    one, other = cluster.hosts
    cluster.create("web", "--subnet", POOL, "--internal")
    containers = cluster.run_everywhere(1, "web")
    assert cluster.unreached(containers) == []
    for container in containers:
        assert "default" not in container.run("ip", "route")
        assert container.run("ls", "/sys/class/net").split() == ["eth0", "lo"]
        outside = [one.address, other.address, cluster.consul.servers[0].address]
        assert container.unreached(outside) == outside


def test_another_driver_can_take_its_addresses_from_us(cluster: Cluster) -> None:
    """Docker's bridges on two hosts, with no address given twice in the cluster."""
    given = []
    for host in cluster.hosts:
        host.docker("network", "create", "-d", "bridge", "--ipam-driver", "flannelpy", "--subnet", POOL, "plain")
        for name in ("one", "two"):
            host.run_container(name, "--network", "plain")
            given.append(host.address_of(name, "plain"))
        assert host.container_pings("one", "two")
    assert len(set(given)) == 4


def test_a_restarted_container_is_reached_at_its_new_address(cluster: Cluster) -> None:
    one, other = cluster.hosts
    cluster.create("web", "--subnet", POOL)
    asker, server = cluster.run(one, "asker", "web"), cluster.run(other, "server", "web")
    other.docker("restart", "server")
    server.look_again()
    server.await_server()
    assert asker.ask(server.address) == asker.address
