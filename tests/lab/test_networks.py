"""The everyday network: three containers on each of two hosts, and all that must hold between them."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import pytest

from tests.lab.cluster import FLANNELPY, POOL, POOL6, Cluster, Container, Keeper, PingStream, ask_from, fast_links
from tests.lab.docker_host import DockerHost

MTU = {"vxlan": 1450, "host-gw": 1500, "udp": 1456}


@dataclass(frozen=True)
class Web:
    """The network `web` with its six containers."""

    cluster: Cluster
    backend: str
    containers: list[Container]

    @property
    def hosts(self) -> list[DockerHost]:
        return self.cluster.hosts

    def on(self, host: DockerHost) -> list[Container]:
        return [container for container in self.containers if container.host is host]

    def couple(self) -> tuple[Container, Container]:
        """One on each host."""
        one, other = self.hosts
        return self.on(one)[0], self.on(other)[0]


@pytest.fixture(scope="module", params=MTU)
def web(clusters: Keeper, request: pytest.FixtureRequest) -> Iterator[Web]:
    with clusters.lend() as cluster:
        cluster.create("web", "-o", f"backend={request.param}", "--subnet", POOL)
        yield Web(cluster, request.param, cluster.run_everywhere(3, "web"))


def test_no_two_containers_have_the_same_address(web: Web) -> None:
    addresses = [container.address for container in web.containers]
    assert len(set(addresses)) == 6
    assert all(ip_address(address) in ip_network(POOL) for address in addresses)
    for container in web.containers:
        assert f"inet {container.address}/32 " in container.run("ip", "addr", "show", "eth0")


def test_everybody_reaches_everybody(web: Web) -> None:
    assert web.cluster.unreached(web.containers) == []


def test_containers_of_one_host_know_each_other_by_name(web: Web) -> None:
    for host in web.hosts:
        names = [container.name for container in web.on(host)]
        for container in web.on(host):
            assert container.unreached([*names, *(f"{name}.web" for name in names)]) == []


def test_nobody_translates_addresses_between_containers(web: Web) -> None:
    for server in web.containers:
        for client in web.on(web.hosts[0])[:1] + web.on(web.hosts[1])[:1]:
            assert client.ask(server.address) == client.address, f"{client} asks {server}"


def test_a_host_reaches_the_containers_of_all_hosts(web: Web) -> None:
    for host in web.hosts:
        for container in web.containers:
            assert host.pings(container.address, tries=1), f"{host.name} pings {container}"
            assert ask_from(host, container.address), f"{host.name} asks {container}"


def test_a_container_reaches_the_world_outside(web: Web) -> None:
    for container in web.couple():
        other = next(host for host in web.hosts if host is not container.host)
        assert container.unreached([other.address, web.cluster.consul.servers[0].address]) == []


def test_a_published_port_answers_on_both_hosts_and_docker_shows_it(web: Web) -> None:
    host, other = web.hosts
    web.cluster.run(host, "published", "web", "-p", "8080:80").await_server()
    assert "0.0.0.0:8080->80/tcp" in host.docker("ps", "--filter", "name=published", "--format", "{{.Ports}}")
    assert host.docker("port", "published", "80").startswith("0.0.0.0:8080")
    for asker in (host, other):
        assert ask_from(asker, host.address, 8080), f"{asker.name} asks the published port"
    assert ask_from(host, "127.0.0.1", 8080)


def test_containers_have_the_mtu_that_the_backend_leaves(web: Web) -> None:
    for container in web.containers:
        assert f" mtu {MTU[web.backend]} " in container.run("ip", "link", "show", "eth0")


def test_the_largest_packet_arrives_whole_and_one_byte_more_does_not(web: Web) -> None:
    one, other = web.couple()
    for source, target in ((one, other), (other, one), (one, web.on(one.host)[1])):
        assert source.passes_unfragmented(target.address, MTU[web.backend])
        assert not source.passes_unfragmented(target.address, MTU[web.backend] + 1)


def test_what_nobody_has_is_answered_at_once_and_goes_nowhere(web: Web) -> None:
    """Neither a wait for an answer that cannot come, nor a packet that leaves by the default route."""
    source, _ = web.couple()
    status, text = source.tool("ping", "-c", "1", "-W", "5", str(ip_network(POOL)[-2]))
    assert status == 1
    assert "Unreachable" in text


def test_a_container_cannot_send_from_an_address_that_is_not_its_own(web: Web) -> None:
    liar, victim = web.couple()
    honest = web.on(liar.host)[1]
    assert liar.tool("ip", "addr", "add", f"{honest.address}/32", "dev", "eth0")[0] == 0
    before = pings_received(victim)
    liar.tool("ping", "-c", "3", "-i", "0.01", "-W", "1", "-I", honest.address, victim.address)
    assert pings_received(victim) == before
    assert liar.tool("ip", "addr", "del", f"{honest.address}/32", "dev", "eth0")[0] == 0
    assert liar.unreached([victim.address]) == []
    assert pings_received(victim) == before + 1


def pings_received(container: Container) -> int:
    names, values = (line.split() for line in container.run("grep", "^Icmp:", "/proc/net/snmp").splitlines())
    return int(values[names.index("InEchos")])


def test_traffic_does_not_notice_that_others_come_and_go(web: Web) -> None:
    one, other = web.couple()
    with PingStream(one, other.address) as there, PingStream(other, one.address) as back:
        for host in web.hosts:
            host.docker("network", "create", *FLANNELPY, "--subnet", "10.241.0.0/18", "brief")
            host.docker("run", "--rm", "--network", "brief", "lab/busybox", "true")
            host.docker("run", "--rm", "--network", "web", "lab/busybox", "true")
            host.docker("network", "rm", "brief")
    assert (there.lost(), back.lost()) == ([], [])


def test_a_large_file_arrives_as_it_was_sent(web: Web) -> None:
    for server, client in (web.couple(), web.couple()[::-1]):
        sent = server.run("sh", "-c", "head -c 5000000 /dev/urandom >/www/large; md5sum </www/large")
        get = f"printf 'GET /large HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {server.address} 80"
        assert client.run("sh", "-c", f"{get} | tail -c 5000000 | md5sum") == sent


def test_hosts_on_one_link_need_no_tunnel_with_direct_routing(cluster: Cluster) -> None:
    cluster.create("direct", "-o", "direct-routing=true", "--ipv6", "--subnet", POOL, "--subnet", POOL6)
    one, other = cluster.run_everywhere(1, "direct")
    assert cluster.unreached([one, other]) == []
    for here, there in ((one, other), (other, one)):
        for address in there.addresses:
            assert " dev eth0 " in here.host.run("ip", "route", "get", address)
    assert " mtu 1450 " in one.run("ip", "link", "show", "eth0")


@pytest.mark.parametrize(("backend", "entrance"), [("vxlan", "fl."), ("host-gw", "eth")])
def test_with_a_fast_path_containers_reach_each_other_past_a_rule_of_their_hosts(
    cluster: Cluster, backend: str, entrance: str
) -> None:
    options = ("-o", f"backend={backend}", "-o", "fast-path=true", "--ipv6")
    cluster.create("fast", *options, "--subnet", POOL, "--subnet", POOL6)
    one, other = cluster.run_everywhere(1, "fast")
    assert cluster.unreached([one, other]) == []
    for host in cluster.hosts:
        assert sorted(link[:3] for link in fast_links(host)) == sorted([entrance, "flv"])
        rule = "type filter hook forward priority -10; tcp dport 80 drop;"
        host.run("nft", "-f", "-", stdin=f"table inet foreign {{\n chain c {{\n {rule}\n }}\n}}\n")
    try:
        for here, there in ((one, other), (other, one)):
            get = f"printf 'GET /cgi-bin/caller HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {there.address} 80"
            assert here.address in here.run("sh", "-c", get)
    finally:
        for host in cluster.hosts:
            host.run("nft", "delete", "table", "inet", "foreign")
