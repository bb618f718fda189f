"""A network made on one host is on all of them, alike and at once, and so is its end; and what else may happen."""

import json
import shlex
import time
from collections.abc import Iterator, Sequence
from functools import partial
from ipaddress import ip_address
from itertools import count, cycle, product
from typing import Any

import pytest

from tests.lab.asking import RESOLVER, until
from tests.lab.cluster import DOCKERS_OWN, FLANNELPY, POOL, POOL6, Cluster, Container, side_by_side
from tests.lab.commands import CommandFailed, wait_until
from tests.lab.compose import shop
from tests.lab.docker_host import DockerHost
from tests.lab.lab import Lab
from tests.promises import best_of

SECOND = 1.0  # until a borrowed address is reached from everywhere
PROMISED = 3.0  # seconds; a second on a machine with nothing else to do, which `make bench` holds us to
OTHER, THIRD, FOURTH = "10.241.0.0/18", "10.243.0.0/18", "10.244.0.0/18"
SHOP = "shop_shop"


@pytest.fixture(scope="module")
def spreading() -> Iterator[Cluster]:
    with Lab(hosts=3, dockerd_config={"dns": [RESOLVER]}) as lab:
        side_by_side(lambda host: start(host, lab), lab.hosts)
        yield Cluster(lab)


def start(host: DockerHost, lab: Lab, propagate: str = "true") -> None:
    host.start_flannelpy({"FLANNELPY_STORE": lab.consul.url, "FLANNELPY_PROPAGATE": propagate})


@pytest.fixture
def cluster(spreading: Cluster) -> Iterator[Cluster]:
    """Left as it was found: one user removes all there is, on one host."""
    yield spreading
    side_by_side(DockerHost.remove_containers, spreading.hosts)
    for host in spreading.hosts:
        for name in sorted(set(names(host)) - DOCKERS_OWN):
            host.docker_ok("network", "rm", name)
    await_nowhere(spreading, *(name for host in spreading.hosts for name in set(names(host)) - DOCKERS_OWN))


@pytest.fixture
def bystander(cluster: Cluster) -> Iterator[DockerHost]:
    """The third host, taking no part."""
    third = cluster.hosts[2]
    third.stop_flannelpy()
    start(third, cluster.lab, "false")
    yield third
    third.stop_flannelpy()
    start(third, cluster.lab)


def names(host: DockerHost) -> list[str]:
    return host.docker("network", "ls", "--format", "{{.Name}}").split()


def shown(host: DockerHost, name: str) -> dict[str, Any]:
    """What `docker network inspect` shows, without what is a host's own; empty if there is no such network."""
    if name not in names(host):
        return {}
    seen: dict[str, Any] = host.docker_json("network", "inspect", name)[0]
    return {key: value for key, value in seen.items() if key not in ("Id", "Created", "Containers")}


def pools_of(host: DockerHost, name: str) -> list[str]:
    """Of all networks with that name, for Docker may make two."""
    found = host.docker("network", "ls", "--no-trunc", "--filter", f"name=^{name}$", "--format", "{{.ID}}").split()
    try:
        seen = host.docker_json("network", "inspect", *found) if found else []
    except CommandFailed:  # it was replaced in between
        return []
    return [config["Subnet"] for network in seen for config in network["IPAM"]["Config"]]


def await_everywhere(cluster: Cluster, name: str) -> float:
    """Seconds from now on."""
    began = time.monotonic()
    wait_until(
        f"{name} on all hosts",
        lambda: all(name in names(host) for host in cluster.hosts),
        timeout=60,
        every=0.02,
        tail=lambda: states(cluster),
    )
    return time.monotonic() - began


def await_nowhere(cluster: Cluster, *gone: str) -> float:
    """Seconds from now on."""
    began = time.monotonic()
    wait_until(
        f"{' and '.join(gone)} to go from all hosts",
        lambda: not any(name in names(host) for host in cluster.hosts for name in gone),
        timeout=60,
        every=0.02,
        tail=lambda: states(cluster),
    )
    return time.monotonic() - began


def states(cluster: Cluster) -> str:
    return json.dumps({host.name: names(host) for host in cluster.hosts}, indent=1)


@pytest.mark.alone
def test_made_on_one_host_a_network_is_on_all_alike_and_removed_on_another_it_is_gone(cluster: Cluster) -> None:
    one, other, third = cluster.hosts
    said = (
        *("--ipv6", "--subnet", POOL, "--subnet", POOL6, "--gateway", "10.240.0.9", "--ip-range", "10.240.16.0/20"),
        *(
            "--aux-address",
            "router=10.240.0.7",
            "-o",
            "mtu=1400",
            "-o",
            "backend=host-gw",
            "--label",
            "team=a b",
            "--internal",
        ),
    )

    def comes_and_goes() -> float:
        """Seconds of what takes longer."""
        one.docker("network", "create", *FLANNELPY, *said, "web")
        came = await_everywhere(cluster, "web")
        assert shown(other, "web") == shown(one, "web") == shown(third, "web")
        containers = [cluster.run(host, f"c{number}", "web") for number, host in enumerate(cluster.hosts)]
        assert cluster.unreached(containers) == []
        side_by_side(DockerHost.remove_containers, cluster.hosts)
        other.docker("network", "rm", "web")
        return max(came, await_nowhere(cluster, "web"))

    best_of(comes_and_goes, PROMISED)


@pytest.mark.alone
def test_a_pool_that_nobody_named_is_the_same_everywhere(cluster: Cluster) -> None:
    one, other, third = cluster.hosts
    fresh = (f"auto{number}" for number in count())

    def comes() -> float:
        name = next(fresh)
        third.docker("network", "create", *FLANNELPY, name)
        took = await_everywhere(cluster, name)
        assert pools_of(one, name) == pools_of(other, name) == pools_of(third, name)
        assert len(pools_of(one, name)) == 1
        return took

    best_of(comes, PROMISED)


@pytest.mark.alone
def test_a_container_made_again_on_another_host_keeps_its_addresses(cluster: Cluster) -> None:
    """Lent by the host that has their blocks, then taken over by a third one, then at home again."""
    home, other, third = cluster.hosts
    home.docker("network", "create", *FLANNELPY, "--ipv6", "--subnet", POOL, "--subnet", POOL6, "web")
    await_everywhere(cluster, "web")
    watchers = side_by_side(lambda host: cluster.run(host, "watcher", "web"), cluster.hosts)
    addresses = cluster.run(home, "wanderer", "web").addresses
    options = ("--network", "web", "--ip", addresses[0], "--ip6", addresses[1])
    here = home

    def moves_to(host: DockerHost) -> float:
        """Seconds until everybody reaches it by both addresses."""
        nonlocal here
        here.docker("rm", "-f", "wanderer")
        host.run_container("wanderer", *options)
        here, began = host, time.monotonic()
        for watcher, address in product(watchers, addresses):
            reached = partial(watcher.answered, address, 0.2)
            wait_until(f"{watcher} to reach {address}", reached, timeout=30, every=0.01)
        return time.monotonic() - began

    moves = cycle((other, third))
    for _ in range(2):
        best_of(lambda: moves_to(next(moves)), SECOND)
    assert cluster.unreached([Container(here, "wanderer", "web"), *watchers]) == []
    assert hosts_with_routes(cluster, addresses) == [cluster.hosts] * 2
    for option, address in (("--ip", addresses[0]), ("--ip6", addresses[1])):
        said = home.docker_refused("run", "--rm", "--network", "web", option, address, "lab/busybox", "true")
        assert f"address {address} is already in use on host {here.name}" in said
    best_of(lambda: moves_to(home), SECOND)
    assert cluster.unreached([Container(home, "wanderer", "web"), *watchers]) == []
    wait_until("other hosts' routes to go", lambda: hosts_with_routes(cluster, addresses) == [[home]] * 2, timeout=10)
    home.docker("rm", "-f", "wanderer")
    wait_until("all routes to go", lambda: hosts_with_routes(cluster, addresses) == [[]] * 2, timeout=10)


def hosts_with_routes(cluster: Cluster, addresses: Sequence[str]) -> list[list[DockerHost]]:
    """For each address, who has a route to it alone."""
    shows = [("ip", f"-{ip_address(address).version}", "route", "show", address) for address in addresses]
    return [[host for host in cluster.hosts if host.run(*show)] for show in shows]


def test_used_elsewhere_a_removed_network_is_back_and_people_can_see_why(cluster: Cluster) -> None:
    one, other, third = cluster.hosts
    one.docker("network", "create", *FLANNELPY, "--subnet", POOL, "web")
    await_everywhere(cluster, "web")
    user = cluster.run(other, "shop", "web")
    one.docker("network", "rm", "web")
    told = f"container shop on host {other.name} uses it"
    wait_until("the reason", lambda: told in one.flannelpy_log() and told in third.flannelpy_log(), timeout=60)
    await_everywhere(cluster, "web")
    assert [why(host, POOL) for host in cluster.hosts] == [f"kept: {told}"] * 3
    assert cluster.unreached([user, cluster.run(one, "visitor", "web")]) == []
    other.docker("rm", "-f", "shop")
    wait_until("the reason to go", lambda: not any(why(host, POOL) for host in cluster.hosts), timeout=60)


def test_hosts_that_make_one_name_at_the_same_moment_agree_on_one(cluster: Cluster) -> None:
    side_by_side(lambda host: host.docker_ok("network", "create", *FLANNELPY, "same"), cluster.hosts)
    wait_until(
        "one pool",
        lambda: len({tuple(pools_of(host, "same")) for host in cluster.hosts}) == 1,
        timeout=60,
        every=0.2,
        tail=lambda: str([pools_of(host, "same") for host in cluster.hosts]),
    )


def test_what_a_dead_host_missed_it_makes_up_for_and_brings_nothing_back(cluster: Cluster) -> None:
    one, other, third = cluster.hosts
    one.docker("network", "create", *FLANNELPY, "--subnet", POOL, "gone")
    await_everywhere(cluster, "gone")
    third.die()
    one.docker("network", "rm", "gone")
    other.docker("network", "create", *FLANNELPY, "--subnet", OTHER, "new")
    third.reboot("flannelpy", "dockerd")
    wait_until("what it missed", lambda: "new" in names(third) and "gone" not in names(third), timeout=60)
    assert "gone" not in names(one) + names(other)


def test_other_drivers_networks_and_docker_s_own_addresses_stay_where_they_are(cluster: Cluster) -> None:
    one, other, third = cluster.hosts
    other.docker("network", "create", "web")
    one.docker("network", "create", *FLANNELPY, "--subnet", POOL, "web")
    one.docker("network", "create", "-d", "flannelpy", "local")
    one.docker("network", "create", "-d", "bridge", "--ipam-driver", "flannelpy", "lan")
    wait_until("the reason", lambda: "network foreign" in other.flannelpy_log(), timeout=60)
    assert why(other, POOL).startswith("foreign: a network with driver bridge and IPAM driver default has this name")
    wait_until("web on the third host", lambda: "web" in names(third), timeout=60)
    assert shown(other, "web")["Driver"] == "bridge"
    assert not {"local", "lan"} & {*names(other), *names(third)}


def why(host: DockerHost, pool: str) -> str:
    """What `flannelpy networks` says of a network that this host has not as the cluster has it."""
    seen = json.loads(host.flannelpy_command("networks", "--json"))
    return next((network["spread"] or "" for network in seen if network["pool"] == pool), "")


def test_a_host_that_takes_no_part_says_what_it_lacks_and_how_to_have_it(
    cluster: Cluster, bystander: DockerHost
) -> None:
    one = cluster.hosts[0]
    options = ("--internal", "-o", "backend=host-gw", "--label", "team=a b")
    one.docker("network", "create", *FLANNELPY, "--subnet", POOL, *options, "web")
    wait_until("the network to be told of", lambda: why(bystander, POOL), timeout=60)
    assert why(bystander, POOL).startswith(f"absent: made on host {one.name}, and FLANNELPY_PROPAGATE is false on this")
    assert why(one, POOL) == ""
    assert "not as in the cluster, see `flannelpy networks`: web" in bystander.flannelpy_command("status")
    assert "nothing wrong was found" in bystander.flannelpy_command("doctor")
    page = json.loads(bystander.http("http://127.0.0.1:9470/api/overview")[1])["picture"]["networks"]
    assert [(each["network"]["name"], each["network"]["spread"][:6]) for each in page] == [("web", "absent")]
    assert "network of the cluster not made here" in bystander.flannelpy_log()
    _, _, command = why(bystander, POOL).partition("type: docker ")
    bystander.docker(*shlex.split(command))
    assert shown(bystander, "web") == shown(one, "web")
    assert why(bystander, POOL) == ""


def test_a_host_that_takes_no_part_neither_gives_nor_takes_and_yields_when_it_does(
    cluster: Cluster, bystander: DockerHost
) -> None:
    """What contradicts the cluster's network stays as long as a container needs it; what is merely typed otherwise
    stays."""
    one, other, third = cluster.hosts
    one.docker("network", "create", *FLANNELPY, "--subnet", POOL, "web")
    one.docker("network", "create", *FLANNELPY, "--subnet", FOURTH, "--label", "team=a", "like")
    third.docker("network", "create", *FLANNELPY, "--subnet", OTHER, "web")
    third.docker("network", "create", *FLANNELPY, "--subnet", THIRD, "own")
    third.docker("network", "create", *FLANNELPY, "--subnet", FOURTH, "--label", "team=b", "like")
    user = cluster.run(third, "shop", "web")
    await_everywhere(cluster, "web")
    assert [pools_of(host, "web") for host in cluster.hosts] == [[POOL], [POOL], [OTHER]]
    assert why(third, POOL).endswith(f"docker network create {' '.join(FLANNELPY)} --subnet {POOL} NAME")
    assert "own" not in names(one) + names(other)
    assert why(one, THIRD).startswith("untold: ")
    third.stop_flannelpy()
    start(third, cluster.lab)
    await_everywhere(cluster, "own")
    wait_until("the conflict", lambda: "network conflict" in third.flannelpy_log(), timeout=60)
    assert pools_of(third, "web") == [OTHER]
    assert why(third, OTHER) == (
        f"conflict: host {one.name} made another network of this name, with {POOL}; here container shop uses the one "
        f"with {OTHER}"
    )
    assert why(third, FOURTH) == f"differs: made here with other labels than on {one.name}, and left so"
    assert "network differs" in third.flannelpy_log()
    third.docker("rm", "-f", user.name)
    wait_until("the cluster's network", lambda: pools_of(third, "web") == [POOL], timeout=60)


def test_a_compose_file_whose_services_run_on_different_hosts(cluster: Cluster) -> None:
    """Both `up` at the same moment; whoever goes `down` first leaves the network to the other."""
    hosts = dict(zip(("front", "back"), cluster.hosts, strict=False))

    def up(profile: str) -> str:
        return shop(hosts[profile], "--profile", profile, "up", "-d")

    def down(profile: str) -> str:
        return shop(hosts[profile], "--profile", profile, "down")

    up("front")
    await_everywhere(cluster, SHOP)
    up("back")
    front, back = (Container(hosts["front"], "shop-web-1", SHOP), Container(hosts["back"], "shop-api-1", SHOP))
    assert front.address == "10.242.0.10"
    assert cluster.unreached([front, back]) == []
    down("front")
    await_everywhere(cluster, SHOP)
    up("front")
    assert cluster.unreached([Container(hosts["front"], "shop-web-1", SHOP), back]) == []
    down("front")
    down("back")
    await_nowhere(cluster, SHOP)
    side_by_side(up, hosts)
    wait_until(
        "one network", lambda: [pools_of(h, SHOP) for h in hosts.values()] == [["10.242.0.0/18"]] * 2, timeout=60
    )
    side_by_side(down, hosts)
    await_nowhere(cluster, SHOP)


# --- all hosts off and on


LAPSES = 12  # seconds
RESTART = ("--restart", "always")


@pytest.mark.timeout(300)
def test_a_cluster_that_was_off_is_whole_again_when_hosts_follow_each_other_and_consul_comes_late(
    cluster: Cluster,
) -> None:
    """flannelpy comes after dockerd, and its lease has lapsed by then: it refuses every address until Consul is there.
    The host in whose block a borrowed address lies comes last."""
    one, other, third = cluster.hosts
    for name, pool in (("web", POOL), ("quiet", OTHER)):
        one.docker("network", "create", *FLANNELPY, "--subnet", pool, name)
        await_everywhere(cluster, name)
    near, far = (cluster.run(host, name, "web", *RESTART) for host, name in ((one, "near"), (third, "far")))
    lent = str(ip_address(near.address) + 5)
    fixed = cluster.run(other, "fixed", "web", "--ip", lent, *RESTART)
    before = networks_of(cluster)
    side_by_side(DockerHost.die, cluster.hosts)
    cluster.consul.kill()
    time.sleep(LAPSES)  # what is tested is the time itself
    for host in (other, third):
        come_back(host, FLANNELPY_LEASE_TTL=f"{LAPSES}s")
    wait_until("both to be refused", lambda: all("(for now)" in error_of(each) for each in (fixed, far)), timeout=60)
    cluster.consul.start()
    await_running([fixed, far])
    come_back(one)
    await_running([near])
    for container in (near, fixed, far):
        container.look_again()
    assert fixed.address == lent
    wait_until("all to be reached", lambda: cluster.unreached([near, fixed, far]) == [], timeout=60)
    for asker in (near, fixed, far):
        for known in (near, fixed, far):
            until(asker, known.name, f"NOERROR {known.address}")
    assert networks_of(cluster) == before
    assert [why(host, pool) for host in cluster.hosts for pool in (POOL, OTHER)] == [""] * 6
    for host in (other, third):
        host.stop_flannelpy()
        start(host, cluster.lab)


def networks_of(cluster: Cluster) -> list[set[str]]:
    """The ids of our networks on each host."""
    wanted = ("network", "ls", "--no-trunc", "--filter", "driver=flannelpy", "--format", "{{.ID}}")
    return [set(host.docker(*wanted).split()) for host in cluster.hosts]


def come_back(host: DockerHost, **settings: str) -> None:
    host.power_on()
    host.start_dockerd(wait=False)
    time.sleep(1)  # what is tested is the time itself
    host.start_flannelpy({**host.flannelpy_env, **settings})
    host.wait_dockerd()


def error_of(container: Container) -> str:
    return container.host.docker("inspect", "--format", "{{.State.Error}}", container.name)


def await_running(containers: Sequence[Container]) -> None:
    def running() -> bool:
        seen = [each.host.docker("inspect", "--format", "{{.State.Running}}", each.name) for each in containers]
        return set(seen) == {"true"}

    wait_until("the containers to be back", running, timeout=90, every=0.2)
