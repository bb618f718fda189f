"""Blocks stay a host's whatever happens to Consul, and a host that was silent for too long gives out nothing twice."""

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from store.records import peer_key
from tests.lab.asking import RESOLVER, ask, until
from tests.lab.cluster import FLANNELPY, Cluster, Container, PingStream, side_by_side
from tests.lab.commands import CommandFailed, wait_until
from tests.lab.docker_host import DockerHost
from tests.lab.lab import Lab

TTL = 12  # seconds
BRIEF = 36  # seconds: a beat every three, so that two are missed after nine
FORGIVING = 48  # seconds: a beat every four, and three of them until all is told again
FORGOT = "the store has lost what it knew, and is told again"
POOL = "10.240.0.0/28"  # four blocks
LONG = "10.241.0.0/18"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Three Consul servers; each host has one of its own, as a host has an agent."""
    with Lab(hosts=2, servers=3, dockerd_config={"dns": [RESOLVER]}) as lab:
        yield Cluster(lab)


def start(cluster: Cluster, ttl: int) -> None:
    for host, server in zip(cluster.hosts, cluster.consul.servers[1:], strict=False):
        host.start_flannelpy({"FLANNELPY_STORE": server.url, "FLANNELPY_LEASE_TTL": f"{ttl}s"})


def held(cluster: Cluster) -> dict[str, str]:
    """Every block and its holder, as Consul has them."""
    entries = cluster.consul.api("GET", "/v1/kv/flannelpy/pools?recurse")
    return {entry["Key"]: entry["Value"] for entry in entries if "/blocks/" in entry["Key"]}


@pytest.mark.timeout(300)
def test_no_loss_of_consul_servers_frees_anything(cluster: Cluster) -> None:
    start(cluster, ttl=60)  # more than a busy machine needs to elect a leader
    cluster.create("web", "--subnet", LONG)
    old = cluster.run_everywhere(2, "web")
    before = held(cluster)
    with PingStream(old[0], old[-1].address) as stream:
        leader = cluster.consul.leader()
        leader.kill()
        cluster.consul.wait_leader(other_than=leader.address)
        new = cluster.run_everywhere(1, "web", first=3)
        leader.start()
        cluster.consul.wait_leader()

        leader = cluster.consul.leader()
        follower = next(server for server in cluster.consul.servers[1:] if server is not leader)  # a host's own
        cluster.lab.partition([follower.number], [s.number for s in cluster.consul.servers if s is not follower])
        new += cluster.run_everywhere(1, "web", first=4)
        cluster.lab.heal()
        cluster.consul.wait_leader()

        cluster.consul.kill()
        new += cluster.run_everywhere(1, "web", first=5)
        cluster.consul.start()
        cluster.consul.wait_leader()
        stream.await_more(100)
    assert stream.lost() == []
    assert set(before.items()) <= set(held(cluster).items())
    addresses = [container.address for container in [*old, *new]]
    assert len(set(addresses)) == len(addresses) == 10
    assert "block lost" not in "".join(host.flannelpy_log() for host in cluster.hosts)
    expect_reached(cluster, [*old, *new])


def expect_reached(cluster: Cluster, containers: list[Container]) -> None:
    failures: list[str] = []

    def none() -> bool:
        failures[:] = cluster.unreached(containers)
        return not failures

    wait_until("everybody to be reached", none, timeout=90, tail=lambda: "\n".join(failures))


@pytest.mark.timeout(300)
def test_a_host_cut_off_for_longer_than_its_lease_gives_out_nothing_of_what_it_lost(cluster: Cluster) -> None:
    here, away = cluster.hosts
    peer = f"flannelpy/{peer_key(ip_network(POOL), away.name)}"
    start(cluster, TTL)
    cluster.create("web", "--subnet", POOL)
    lost = cluster.run(away, "lost", "web")
    away.cut()
    wait_until("the silent host to be given up", lambda: f"host={away.name}" in given_up(here), timeout=8 * TTL)
    said = away.docker_refused("run", "--rm", "--network", "web", "lab/busybox", "true")
    assert "has not reached the store for" in said
    taken = [cluster.run(here, f"c{number}", "web") for number in range(11)]  # blocks of the other's, too
    if lost.address not in {container.address for container in taken}:
        taken.insert(0, cluster.run(here, "c11", "web"))  # the last of the twelve that are free
    assert lost.address in {container.address for container in taken}

    away.mend()
    wait_until("the host to say what it lost", lambda: "block lost to another host" in away.flannelpy_log(), timeout=90)
    wait_until("the others to hear where it is", lambda: peer in cluster.consul.keys("flannelpy/pools/"), timeout=5)
    log = away.flannelpy_log()
    assert "the lease of this host was lost" in log
    assert f"address in use here may be in use elsewhere, too address={lost.address}" in log
    named = f"container lost on network web has address {lost.address}, which this host no longer holds"
    wait_until("the container to be named", lambda: named in away.flannelpy_log(), timeout=90)
    with pytest.raises(CommandFailed) as doctor:
        away.flannelpy_command("doctor")
    assert named in doctor.value.stdout
    here.docker("rm", "-f", *(container.name for container in taken[5:]))
    away.docker("rm", "-f", "lost")
    new = [cluster.run(away, f"n{number}", "web") for number in range(3)]
    mine = {container.address for container in taken[:5]}
    assert not mine & {container.address for container in new}
    expect_reached(cluster, [*taken[:5], *new])


@pytest.mark.alone
def test_a_name_leads_to_the_living_once_a_host_died_and_to_all_when_it_is_back(cluster: Cluster) -> None:
    here, dying = cluster.hosts
    start(cluster, BRIEF)
    cluster.create("web", "--subnet", LONG)
    asker = cluster.run(here, "asker", "web")
    living = cluster.run(here, "living", "web", "--network-alias", "shop")
    dead = cluster.run(dying, "dead", "web", "--network-alias", "shop", "--restart", "always")
    until(asker, "shop.flannelpy", both(living, dead))
    dying.die()
    assert until(asker, "shop.flannelpy", f"NOERROR {living.address}") < BRIEF / 3
    assert ask(asker, "dead") == f"NOERROR {dead.address}"  # there is no other of that name
    dying.reboot()
    wait_until("it to be back", lambda: dying.docker("ps", "-q") != "", timeout=30)
    dead.look_again()
    assert until(asker, "shop.flannelpy", both(living, dead)) < 1


def both(*containers: Container) -> str:
    return " ".join(["NOERROR", *sorted(container.address for container in containers)])


def given_up(host: DockerHost) -> str:
    return "\n".join(line for line in host.flannelpy_log().splitlines() if "host given up" in line)


@pytest.mark.timeout(300)
def test_a_consul_that_is_emptied_under_running_containers_gives_nothing_twice(cluster: Cluster) -> None:
    start(cluster, FORGIVING)
    cluster.create("web", "--subnet", LONG)
    old = cluster.run_everywhere(2, "web")
    before = set(cluster.consul.keys("flannelpy/pools/"))
    with PingStream(old[0], old[-1].address) as stream:
        cluster.consul.api("DELETE", "/v1/kv/flannelpy/?recurse")
        for host in cluster.hosts:
            wait_until("the host to notice", lambda host=host: FORGOT in host.flannelpy_log(), timeout=FORGIVING)  # type: ignore[misc]
        said = cluster.hosts[0].docker_refused("network", "create", *FLANNELPY, "--subnet", "10.9.0.0/24", "more")
        assert "the store has lost what it knew, and the hosts are telling it again" in said
        with pytest.raises(CommandFailed) as told:
            cluster.hosts[1].flannelpy_command("doctor")
        assert "the hosts are telling it again" in told.value.stdout
        new = cluster.run_everywhere(1, "web", first=3)
        create = ("network", "create", *FLANNELPY, "--subnet", "10.9.0.0/24", "more")
        wait_until("new pools", lambda: cluster.hosts[0].docker_ok(*create), timeout=2 * FORGIVING, every=1)
        new += cluster.run_everywhere(1, "web", first=4)
        assert set(cluster.consul.keys("flannelpy/pools/")) >= before
        wait_until("all addresses to be told again", lambda: told_of(cluster) >= addresses_of(*old, *new), timeout=20)
        stream.await_more(100)
    assert stream.lost() == []
    addresses = [container.address for container in [*old, *new]]
    assert len(set(addresses)) == len(addresses) == 8
    assert "block lost" not in "".join(host.flannelpy_log() for host in cluster.hosts)
    expect_reached(cluster, [*old, *new])


def told_of(cluster: Cluster) -> set[str]:
    """The addresses of which Consul says who has them."""
    keys = cluster.consul.keys("flannelpy/leases/")
    return {address for key in keys for address in cluster.consul.api("GET", f"/v1/kv/{key}?raw")["given"]}


def addresses_of(*containers: Container) -> set[str]:
    return {container.address for container in containers}


@pytest.mark.timeout(240)
def test_a_token_that_may_do_nothing_any_more_frees_nothing() -> None:
    with Lab(hosts=2, acl=True) as lab:
        cluster = Cluster(lab)
        rules = 'key_prefix "flannelpy/" { policy = "write" }'
        token = lab.consul.make_token(rules)
        env = {"FLANNELPY_STORE": lab.consul.url, "CONSUL_HTTP_TOKEN": token}
        side_by_side(lambda host: host.start_flannelpy(env), lab.hosts)
        cluster.create("web", "--subnet", LONG)
        old = cluster.run_everywhere(1, "web")
        before = held(cluster)
        policy = lab.consul.api("GET", "/v1/acl/token/self", token=token)["Policies"][0]
        with PingStream(*couple(old)) as stream:
            put_rules(lab, policy, "")
            new = cluster.run_everywhere(2, "web", first=2)
            said = lab.hosts[0].docker_refused("network", "create", *FLANNELPY, "--subnet", "10.9.0.0/24", "more")
            assert "policy" in said
            assert 'key_prefix "flannelpy/" { policy = "write" }' in said
            stream.await_more(200)
            put_rules(lab, policy, rules)
        assert stream.lost() == []
        assert set(before.items()) <= set(held(cluster).items())
        expect_reached(cluster, [*old, *new])


def couple(containers: list[Container]) -> tuple[Container, str]:
    return containers[0], containers[-1].address


def put_rules(lab: Lab, policy: dict[str, str], rules: str) -> None:
    lab.consul.api("PUT", f"/v1/acl/policy/{policy['ID']}", {"Name": policy["Name"], "Rules": rules})
