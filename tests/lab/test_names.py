"""Containers find each other by name on all hosts of their networks, and in no others."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.lab.answers import answers
from tests.lab.asking import RESOLVER, ask, ask_all, until
from tests.lab.cluster import Cluster, Container, side_by_side
from tests.lab.commands import wait_until
from tests.lab.compose import shop
from tests.lab.consul import DNS_PORT
from tests.lab.docker_host import DockerHost
from tests.lab.lab import Lab
from tests.promises import best_of

CROWD = int(os.environ.get("CROWD", "30"))  # containers, over three hosts
KEPT = 3  # seconds after which a host has noted the names on its disk
HALF_A_SECOND, SECOND = 0.5, 1.0  # until a new name, and any other change, is told of
SHOP = "shop_shop"
BEYOND = "172.31.0.11"  # the first host's address: the next server that Docker asks
OUTSIDE = f"""
import socket, dns.message, dns.rrset
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("{BEYOND}", 53))
while True:
    message, source = server.recvfrom(4096)
    query = dns.message.from_wire(message)
    answer = dns.message.make_response(query)
    if query.question[0].name.to_text() == "example.org." and query.question[0].rdtype == 1:
        answer.answer.append(dns.rrset.from_text("example.org.", 60, "IN", "A", "192.0.2.80"))
    else:
        answer.set_rcode(3)
    server.sendto(answer.to_wire(), source)
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[Cluster]:
    with Lab(hosts=3, dockerd_config={"dns": [RESOLVER, BEYOND]}) as lab:
        upstream = lab.hosts[0].daemon("upstream", sys.executable, "-c", OUTSIDE, log="upstream.log")
        cluster = Cluster(lab)
        cluster.start(FLANNELPY_LOG="debug")
        yield cluster
        upstream.kill()


@pytest.fixture
def cluster(hosts: Cluster) -> Iterator[Cluster]:
    yield hosts
    hosts.clean()
    hosts.expect_nothing_left()


def heard_soon(
    asker: Container,
    name: str,
    act: Callable[[], str],
    undo: Callable[[], str],
    bound: float = SECOND,
    others: Sequence[Container] = (),
) -> None:
    """Both do something and say what the asker is to be told for the name from then on; it ends with `act` done. Once
    the asker is told so, all others are, too."""
    done = False

    def took() -> float:
        nonlocal done
        if done:
            until(asker, name, undo())
        done = True
        expected = act()
        seconds = until(asker, name, expected)
        told = side_by_side(lambda other: ask(other, f"{name}.flannelpy"), others)
        for other in others:
            until(other, f"{name}.flannelpy", expected)
        return seconds if set(told) <= {expected} else float("inf")

    best_of(took, bound)


def started(host: DockerHost, name: str, network: str, *options: str) -> Callable[[], str]:
    def start() -> str:
        host.run_container(name, "--network", network, *options)
        return f"NOERROR {host.address_of(name, network)}"

    return start


def done(host: DockerHost, *command: str, told: str = "NXDOMAIN") -> Callable[[], str]:
    """A docker command, and what its effect is."""

    def do() -> str:
        host.docker(*command)
        return told

    return do


@pytest.mark.alone
def test_names_of_containers_on_all_hosts(cluster: Cluster) -> None:
    one, two, three = cluster.hosts
    cluster.create("web", "--ipv6", "--subnet", "10.240.0.0/18", "--subnet", "fd77::/64")
    cluster.create("db", "--subnet", "10.241.0.0/18")
    ann = cluster.run(one, "ann", "web")
    cyn = cluster.run(three, "cyn", "db", "--network-alias", "shop")
    eve, ian = (cluster.run(host, name, "web") for host, name in ((two, "eve"), (three, "ian")))
    start_bob = started(two, "bob", "web", "--network-alias", "shop")
    heard_soon(ann, "bob", start_bob, done(two, "rm", "-f", "bob"), HALF_A_SECOND, [eve, ian])
    bob = Container(two, "bob", "web")
    short_id = two.docker("inspect", "-f", "{{.Id}}", "bob")[:12]
    for name in ("BOB", "bob.web", "shop", "shop.web", short_id, "bob.flannelpy"):
        assert ask(ann, name) == f"NOERROR {bob.address}", name
        assert ask(cyn, name) == ("NXDOMAIN" if name != "shop" else f"NOERROR {cyn.address}"), name
    assert ask(ann, "bob", "AAAA") == f"NOERROR {bob.address6}"
    dot = cluster.run(one, "dot", "db")
    assert ask(dot, "cyn") == f"NOERROR {cyn.address}"
    assert ask(dot, "cyn", "AAAA") == "NOERROR"  # a name on another host, of which Docker here knows nothing
    assert ask(ann, "bob", transport="tcp") == f"NOERROR {bob.address}"
    assert ask(ann, reverse(bob.address), "PTR") == "NOERROR bob.web."
    assert ask(cyn, reverse(bob.address), "PTR") == "NXDOMAIN"
    assert bob.address in ann.run("nslookup", "bob")
    assert ann.unreached(["bob"]) == []
    # Not ours: the next server's.
    assert ask(ann, "example.org") == "NOERROR 192.0.2.80"
    assert ask(ann, "example.org", server=RESOLVER) == "REFUSED"
    # In two networks, then in the other one alone.
    connect = ("network", "connect", "--alias", "both", "web", "cyn")
    disconnect = ("network", "disconnect", "web", "cyn")

    def connect_cyn() -> str:
        three.docker(*connect)
        return f"NOERROR {three.address_of('cyn', 'web')}"

    heard_soon(ann, "both", connect_cyn, done(three, *disconnect))
    three.docker(*disconnect)
    until(cyn, "bob", "NXDOMAIN")
    heard_soon(cyn, "bob", done(three, *connect, told=f"NOERROR {bob.address}"), done(three, *disconnect))
    three.docker("network", "disconnect", "db", "cyn")
    assert ask(cyn, "bob") == f"NOERROR {bob.address}"

    # Several in turn.
    def start_bea() -> str:
        addresses = [bob.address, cluster.run(two, "bea", "web", "--network-alias", "shop").address]
        return f"NOERROR {' '.join(sorted(addresses))}"

    heard_soon(ann, "shop", start_bea, done(two, "rm", "-f", "bea", told=f"NOERROR {bob.address}"))
    bea = Container(two, "bea", "web")
    answers_take_turns_and_come_from_all_hosts(cluster, ann, [bob, bea])
    # A new name, then none.
    renamed = done(two, "rename", "bob", "rob", told=f"NOERROR {bob.address}")
    heard_soon(ann, "rob", renamed, done(two, "rename", "rob", "bob"))
    assert ask(ann, "bob") == "NXDOMAIN"

    def start_rob() -> str:
        two.docker("start", "rob")
        return f"NOERROR {two.address_of('rob', 'web')}"

    heard_soon(ann, "rob", done(two, "stop", "rob"), start_rob, SECOND, [eve, ian])
    assert ask(ann, "shop") == f"NOERROR {bea.address}"
    outlive_consul_and_a_restart_without_it(cluster, ann, bea)


def answers_take_turns_and_come_from_all_hosts(cluster: Cluster, ann: Container, shops: list[Container]) -> None:
    """With one of the name on the asker's own host, Docker itself answers with that one, and `.flannelpy` with all."""
    everybody = sorted(shop.address for shop in shops)
    turns = set(ask_all(ann, ["shop"] * 20))
    assert turns == {f"NOERROR {' '.join(turn)}" for turn in (everybody, reversed(everybody))}
    local = cluster.run(ann.host, "sue", "web", "--network-alias", "shop")
    everybody = sorted([local.address, *everybody])
    until(ann, "shop.flannelpy", f"NOERROR {' '.join(everybody)}")
    assert ask(ann, "shop") == f"NOERROR {local.address}"
    first = {told.split()[1] for told in ask_all(ann, ["shop.flannelpy"] * 30)}
    assert first == set(everybody)
    ann.host.docker("rm", "-f", "sue")
    until(ann, "shop", f"NOERROR {' '.join(sorted(shop.address for shop in shops))}")


def outlive_consul_and_a_restart_without_it(cluster: Cluster, ann: Container, bea: Container) -> None:
    one = ann.host
    time.sleep(KEPT)
    cluster.consul.kill()
    try:
        assert ask(ann, "bea") == f"NOERROR {bea.address}"
        one.stop_flannelpy()

        def asked_the_next_server() -> float:
            began = time.monotonic()
            assert ask(ann, "bea") == "NXDOMAIN"
            return time.monotonic() - began

        def start() -> str:
            one.start_flannelpy(one.flannelpy_env)
            return f"NOERROR {bea.address}"

        def stop() -> str:
            one.stop_flannelpy()
            return "NXDOMAIN"

        best_of(asked_the_next_server, 2)
        heard_soon(ann, "bea", start, stop, 5)
    finally:
        cluster.consul.start()
    bea.host.docker("stop", "bea")
    until(ann, "bea", "NXDOMAIN")


def test_the_services_of_a_compose_file_find_each_other_from_host_to_host(cluster: Cluster) -> None:
    one, two, _ = cluster.hosts
    shop(one, "--profile", "front", "up", "-d")
    shop(two, "--profile", "back", "up", "-d")
    front, back = Container(one, "shop-web-1", SHOP), Container(two, "shop-api-1", SHOP)
    until(front, "api", f"NOERROR {back.address}")
    until(back, "web", f"NOERROR {front.address}")
    # Names and blocks are followed apart from each other, and Consul was away a moment ago.
    wait_until("api to answer", lambda: front.unreached(["api"]) == [], timeout=20)
    shop(two, "--profile", "back", "down")
    until(front, "api", "NXDOMAIN")
    shop(one, "--profile", "front", "down")


def test_a_container_that_asks_for_it_is_in_consuls_dns(cluster: Cluster) -> None:
    cluster.create("web", "--subnet", "10.240.0.0/18")
    asker = cluster.run(cluster.hosts[1], "asker", "web")
    till = cluster.run(cluster.hosts[0], "till", "web", "--label", "flannelpy.consul.service=till:80")

    def told() -> str:
        return ask(asker, "till.service.consul", server=f"{cluster.consul.servers[0].address}#{DNS_PORT}")

    wait_until("Consul to know the service", lambda: told() == f"NOERROR {till.address}", timeout=30, tail=told)
    till.host.docker("rm", "-f", "till")
    wait_until("Consul to forget it", lambda: told() == "NXDOMAIN", timeout=30, tail=told)


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_many_containers_at_once_have_their_names_and_leave_nothing(cluster: Cluster) -> None:
    """The kernel's links are changed by one program at a time, for all three hosts of this machine: how long dockerd
    waits for flannelpy says as much of the others in that queue, and the best of some rounds counts."""

    def slowest_answer() -> float:
        before = [len(host.flannelpy_log()) for host in cluster.hosts]
        start_and_end_many(cluster)
        logs = [host.flannelpy_log()[start:] for host, start in zip(cluster.hosts, before, strict=True)]
        slowest = answers("".join(logs))[:10]
        print(f"milliseconds that dockerd waited for flannelpy: {slowest}")
        return slowest[0][0] / 1000

    best_of(slowest_answer, SECOND)


def start_and_end_many(cluster: Cluster) -> None:
    cluster.create("web", "--subnet", "10.240.0.0/18")
    containers = cluster.run_everywhere(CROWD // len(cluster.hosts), "web")
    assert len({container.address for container in containers}) == len(containers)
    for asking in containers[:: len(containers) // 3]:
        missing = {container.name: f"NOERROR {container.address}" for container in containers}
        deadline = time.monotonic() + 30
        while missing and time.monotonic() < deadline:
            answers = dict(zip(missing, ask_all(asking, list(missing)), strict=True))
            missing = {name: right for name, right in missing.items() if answers[name] != right}
        assert not missing
    forget_all_but_one(cluster, containers)
    cluster.clean()
    cluster.expect_nothing_left()


def forget_all_but_one(cluster: Cluster, containers: list[Container]) -> None:
    left, *gone = containers

    def remove(host: DockerHost) -> None:
        host.docker("rm", "-f", *(container.name for container in gone if container.host is host))

    side_by_side(remove, cluster.hosts)
    names = [f"{container.name}.flannelpy" for container in gone]
    wait_until("no name to be left", lambda: set(ask_all(left, names)) == {"NXDOMAIN"}, timeout=10)


def reverse(address: str) -> str:
    return f"{'.'.join(reversed(address.split('.')))}.in-addr.arpa"
