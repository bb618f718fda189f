"""What runs goes on, and what was promised holds, whatever stops, dies or restarts: flannelpy, Consul, dockerd, hosts.

That nothing is left in kernels, records and Consul when all is removed is looked at by the fixture, after each test."""

import re
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from ipaddress import IPv4Address, IPv4Network

import pytest

from driver.backends import BACKENDS
from plugin.stand_in import SENTENCE
from tests.lab.cluster import (
    FLANNELPY,
    POOL,
    POOL6,
    Cluster,
    Container,
    Keeper,
    PingStream,
    records_of,
    side_by_side,
)
from tests.lab.commands import wait_until
from tests.lab.docker_host import DockerHost
from tests.lab.snapshot import Snapshot, differences
from tests.promises import best_of

DUAL = ("--ipv6", "--subnet", POOL, "--subnet", POOL6)
STEADY = {backend: f"10.242.{number}.0/24" for number, backend in enumerate(BACKENDS)}
RESTART = ("--restart", "always")


@pytest.fixture(scope="module")
def sturdy() -> Iterator[Keeper]:
    with Keeper(calm=False) as keeper:
        yield keeper


@pytest.fixture
def cluster(sturdy: Keeper) -> Iterator[Cluster]:
    with sturdy.lend() as cluster:
        cluster.create("web", *DUAL)
        yield cluster


def expect_unique(containers: list[Container]) -> None:
    addresses = [address for container in containers for address in container.addresses]
    assert len(addresses) == len(set(addresses)) == 2 * len(containers)


def start_again(host: DockerHost) -> None:
    host.start_flannelpy(host.flannelpy_env)


def stop_in_order(host: DockerHost) -> None:
    assert host.stop_flannelpy() == 0


def expect_reached(cluster: Cluster, containers: list[Container], within: float = 90) -> None:
    """Everybody by everybody, as soon as the hosts have heard of each other again."""
    failures: list[str] = []

    def none() -> bool:
        failures[:] = cluster.unreached(containers)
        return not failures

    wait_until("everybody to be reached", none, timeout=within, tail=lambda: "\n".join(failures))


# --- flannelpy


@pytest.mark.alone
@pytest.mark.parametrize("end", [DockerHost.kill_flannelpy, stop_in_order], ids=["killed", "stopped"])
def test_traffic_does_not_notice_that_flannelpy_restarts(cluster: Cluster, end: Callable[[DockerHost], None]) -> None:
    old = cluster.run_everywhere(1, "web")
    one, other = old
    with PingStream(one, other.address) as v4, PingStream(other, one.address6) as v6:
        side_by_side(end, cluster.hosts)
        v4.await_more(50)
        side_by_side(start_again, cluster.hosts)
        new = cluster.run_everywhere(3, "web", first=2)
    assert (v4.lost(), v6.lost()) == ([], [])
    before = [container.addresses for container in old]
    for container in old:
        container.look_again()
    assert [container.addresses for container in old] == before
    expect_unique([*old, *new])
    assert cluster.unreached([*old, *new]) == []


@pytest.mark.parametrize("end", [DockerHost.kill_flannelpy, stop_in_order], ids=["killed", "stopped"])
def test_a_container_started_without_flannelpy_waits_for_it(
    cluster: Cluster, end: Callable[[DockerHost], None]
) -> None:
    host = cluster.hosts[0]
    end(host)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(cluster.run, host, "patient", "web")
        wait_until("the container", lambda: "patient" in host.docker("ps", "-a", "--format", "{{.Names}}"), timeout=60)
        start_again(host)
        patient = coming.result()
    assert cluster.unreached([patient, cluster.run(cluster.hosts[1], "other", "web")]) == []


@pytest.mark.parametrize("step", ["addresses/", "endpoints/"])
def test_no_address_is_given_twice_when_flannelpy_is_killed_amid_starts(cluster: Cluster, step: str) -> None:
    """Killed as soon as the first of three containers has come as far as `step`, whatever dockerd heard of it."""
    host, other = cluster.hosts
    names = ["first", "second", "third"]

    def steps() -> int:
        return sum(key.startswith(step) for key in records_of(host))

    before = steps()
    with ThreadPoolExecutor(3) as pool:
        options = ("run", "-d", "--network", "web", "--name")
        coming = [pool.submit(host.docker_ok, *options, name, "lab/busybox", "sleep", "1000") for name in names]
        wait_until("a container to be half started", lambda: steps() > before, timeout=60, every=0.001)
        host.kill_flannelpy()
        start_again(host)
        worked = [future.result() for future in coming]
    for name, did in zip(names, worked, strict=True):
        if not did:
            wait_until(f"{name} to start", partial(host.docker_ok, "start", name), timeout=60, every=1)
    running = [Container(host, name, "web") for name in names]
    expect_unique(running)
    assert cluster.unreached([*running, cluster.run(other, "other", "web")]) == []


def untold(found: Snapshot) -> Snapshot:
    """Without what hosts tell of their addresses, which includes their own once they have started anew."""
    return found | {"Consul": {key for key in found["Consul"] if "/leases/" not in key}}


def test_a_network_that_flannelpy_was_killed_amid_can_be_created_again(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    options = ("network", "create", *FLANNELPY, "--subnet", "10.241.0.0/18", "more")
    before, known = untold(cluster.steady_traces()), records_of(host)
    for repeated in (False, True):
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(host.docker_ok, *options)
            wait_until(
                "half a network",
                lambda: any(key.startswith("networks/") for key in records_of(host) - known),
                timeout=60,
                every=0.001,
            )
            host.kill_flannelpy()
            start_again(host)
            worked = coming.result()
        if worked:
            host.docker("network", "rm", "more")
        elif repeated:
            host.docker(*options)
        else:
            wait_until(
                "the half network to go",
                lambda: untold(cluster.traces()) == before,
                timeout=60,
                tail=lambda: differences(before, untold(cluster.traces())),
                every=0.2,
            )


@pytest.mark.alone
def test_paths_that_nothing_happens_to_lose_no_packet(sturdy: Keeper) -> None:
    """Consul goes, flannelpy is killed and started meanwhile, Consul comes back, and a peer comes and goes; with all
    backends at once."""
    with sturdy.lend() as cluster:
        pairs = {backend: steady_pair(cluster, backend) for backend in STEADY}
        ways = [way for one, other in pairs.values() for way in ((one, other), (other, one))]
        with ExitStack() as running:
            streams = [running.enter_context(PingStream(source, target.address)) for source, target in ways]
            cluster.consul.kill()
            side_by_side(DockerHost.kill_flannelpy, cluster.hosts)
            side_by_side(start_again, cluster.hosts)
            cluster.consul.start()
            third = {STEADY[backend]: free_block(STEADY[backend], pair) for backend, pair in pairs.items()}
            with ExitStack() as there:
                for pool, block in third.items():
                    there.enter_context(cluster.peer(pool, "172.31.0.99", block))
                expect_routes(cluster, third.values(), present=True)
            expect_routes(cluster, third.values(), present=False)
        lost = {f"{way[0]} -> {way[1]}": stream.lost() for way, stream in zip(ways, streams, strict=True)}
        assert not any(lost.values()), lost


def steady_pair(cluster: Cluster, backend: str) -> list[Container]:
    """A container on each host, called like the backend of their network."""
    network = f"steady-{backend}"
    cluster.create(network, "-o", f"backend={backend}", "--subnet", STEADY[backend])
    return side_by_side(lambda host: cluster.run(host, backend, network), cluster.hosts)


def free_block(pool: str, containers: list[Container]) -> str:
    """One that neither host holds: which they do, their names decide."""
    blocks = list(IPv4Network(pool).subnets(new_prefix=28))[1:]
    return next(str(b) for b in blocks if not any(IPv4Address(c.address) in b for c in containers))


def expect_routes(cluster: Cluster, blocks: Collection[str], *, present: bool) -> None:
    def all_know() -> bool:
        return all((f"{block} " in our_routes(host)) == present for host in cluster.hosts for block in blocks)

    wait_until("all hosts to hear of the peers", all_know, timeout=90)


# --- Consul


@pytest.mark.alone
def test_without_consul_traffic_and_containers_go_on_and_networks_are_refused(cluster: Cluster) -> None:
    one, other = cluster.hosts
    old = cluster.run_everywhere(1, "web")
    with PingStream(old[0], old[1].address) as stream:
        cluster.consul.kill()
        new = cluster.run_everywhere(2, "web", first=2)
        assert cluster.unreached([*old, *new]) == []
        said = one.docker_refused("network", "create", *FLANNELPY, "--subnet", "10.241.0.0/18", "more", timeout=30)
        assert "Consul" in said
        assert "consul://" in said
        other.docker("rm", "-f", "h2-3")
        before = len(one.flannelpy_log())
        cluster.consul.start()
        wait_until("flannelpy to notice", lambda: "the store is back" in one.flannelpy_log()[before:], timeout=10)
        one.docker("network", "create", *FLANNELPY, "--subnet", "10.241.0.0/18", "more")
    assert stream.lost() == []
    expect_unique([*old, *new[:-1]])


def test_a_network_removed_without_consul_is_gone_for_all_when_it_is_back(cluster: Cluster) -> None:
    one, other = cluster.hosts
    server = cluster.run(other, "server", "web")
    cluster.consul.kill()
    assert " via " in our_routes(other)
    one.docker("network", "rm", "web", timeout=30)
    cluster.consul.start()
    wait_until("the other host to hear of it", lambda: " via " not in our_routes(other), timeout=90)
    one.docker("network", "create", *FLANNELPY, *DUAL, "web")
    expect_reached(cluster, [server, cluster.run(one, "new", "web")])


def our_routes(host: DockerHost) -> str:
    return host.run("ip", "route", "show", "proto", "102")


@pytest.mark.alone
def test_a_flannelpy_that_starts_without_consul_leaves_the_routes_to_others(cluster: Cluster) -> None:
    old = cluster.run_everywhere(1, "web")
    with PingStream(old[0], old[1].address) as stream:
        cluster.consul.kill()
        side_by_side(stop_in_order, cluster.hosts)
        side_by_side(start_again, cluster.hosts)
        new = cluster.run_everywhere(1, "web", first=2)
        assert cluster.unreached([*old, *new]) == []
        cluster.consul.start()
        stream.await_more(100)
    assert stream.lost() == []
    expect_unique([*old, *new])


def test_a_consul_that_hangs_stops_no_container_and_no_traffic(cluster: Cluster) -> None:
    old = cluster.run_everywhere(1, "web")
    cluster.consul.pause()
    try:
        new = cluster.run_everywhere(1, "web", first=2)
        assert cluster.unreached([*old, *new]) == []
        said = cluster.hosts[0].docker_refused(
            "network", "create", *FLANNELPY, "--subnet", "10.241.0.0/18", "more", timeout=60
        )
        assert "Consul" in said
    finally:
        cluster.consul.resume()


# --- dockerd


def comes_back(cluster: Cluster, host: DockerHost) -> list[Container]:
    """Two containers that Docker is to start again whenever it starts, and one on the other host."""
    other = next(other for other in cluster.hosts if other is not host)
    return [
        *(cluster.run(host, name, "web", *RESTART) for name in ("near", "nearer")),
        cluster.run(other, "far", "web"),
    ]


def expect_back(cluster: Cluster, containers: list[Container]) -> None:
    """Running, with an address each, and reached by all."""
    expect_running(containers)
    for container in containers:
        container.look_again()
    expect_unique(containers)
    expect_reached(cluster, containers)
    for host in cluster.hosts:
        wait_until(f"{host.name} to forget those that are gone", partial(remembers_what_runs, host), timeout=90)


def expect_running(containers: list[Container]) -> None:
    def running() -> bool:
        seen = [c.host.docker("inspect", "--format", "{{.State.Running}}", c.name) for c in containers]
        return set(seen) == {"true"}

    wait_until("the containers to be back", running, timeout=90)


def remembers_what_runs(host: DockerHost) -> bool:
    endpoints = [key for key in records_of(host) if key.startswith("endpoints/")]
    return len(endpoints) == len(host.docker("ps", "-q").split())


@pytest.mark.parametrize("end", [DockerHost.stop_dockerd, DockerHost.kill_dockerd], ids=["stopped", "killed"])
def test_containers_come_back_with_dockerd(cluster: Cluster, end: Callable[[DockerHost], None]) -> None:
    host = cluster.hosts[0]
    containers = comes_back(cluster, host)
    end(host)
    host.start_dockerd()
    expect_back(cluster, containers)


@pytest.mark.alone
def test_with_live_restore_traffic_does_not_notice_that_dockerd_dies_and_returns(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    host.stop_dockerd()
    host.dockerd_config["live-restore"] = True
    host.start_dockerd()
    containers = cluster.run_everywhere(1, "web")
    one, other = containers
    with PingStream(one, other.address) as v4, PingStream(other, one.address6) as v6:
        host.kill_dockerd()
        v4.await_more(50)
        host.start_dockerd()
        containers.append(cluster.run(host, "new", "web"))
    assert (v4.lost(), v6.lost()) == ([], [])
    expect_unique(containers)
    assert cluster.unreached(containers) == []
    del host.dockerd_config["live-restore"]


def test_containers_come_back_when_flannelpy_starts_a_moment_after_dockerd(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    containers = comes_back(cluster, host)
    host.stop_dockerd()
    host.kill_flannelpy()
    former = len(dockerd_log(host))
    host.start_dockerd(wait=False)
    wait_until("dockerd to begin", lambda: "Loading containers: start" in dockerd_log(host)[former:], timeout=60)
    start_again(host)
    host.wait_dockerd()
    expect_back(cluster, containers)


def dockerd_log(host: DockerHost) -> str:
    return (host.directory / "dockerd.log").read_text(errors="replace")


# --- hosts


def test_containers_come_back_with_their_host(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    containers = comes_back(cluster, host)
    host.reboot()
    expect_back(cluster, containers)


def test_a_host_that_comes_back_without_consul_serves_its_own_containers(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    containers = comes_back(cluster, host)
    cluster.consul.kill()
    host.reboot()
    expect_back(cluster, containers[:2])
    cluster.consul.start()
    expect_reached(cluster, containers, within=90)


def load_times(host: DockerHost) -> list[float]:
    """Seconds that each start of dockerd took to load its networks and containers."""
    marks = [datetime.fromisoformat(stamp[:26]) for stamp in re.findall(LOADING, dockerd_log(host))]
    return [(done - begun).total_seconds() for begun, done in zip(marks[::2], marks[1::2], strict=False)]


LOADING = r'time="(\S+)Z" level=info msg="Loading containers: (?:start|done)\.'


Deed = Callable[[DockerHost], None]


def be_refused_and_start_flannelpy(host: DockerHost) -> None:
    given_up = host.docker("inspect", "--format", "{{.State.Error}}", *host.docker("ps", "-aq").split())
    assert SENTENCE in given_up
    refused = host.docker_refused("network", "create", *FLANNELPY, "--subnet", "10.243.0.0/18", "refused", timeout=5)
    assert SENTENCE in refused
    start_again(host)
    host.await_handover()


@pytest.mark.alone
def test_nothing_that_is_away_or_hangs_delays_dockerd(cluster: Cluster) -> None:
    """All hosts come back at once, four times: with all there is, with a Consul that hangs, without one, and with the
    stand-in where flannelpy should be."""
    containers = cluster.run_everywhere(1, "web", *RESTART)
    for number in (1, 2):
        cluster.create(f"more{number}", "--subnet", f"10.24{number}.0.0/18")

    def all_come_back(answering: Deed = start_again, then: Deed = DockerHost.wait_flannelpy) -> float:
        """Seconds that the slowest dockerd took."""

        def come_back(host: DockerHost) -> None:
            host.power_on()
            answering(host)
            host.start_dockerd()

        side_by_side(DockerHost.die, cluster.hosts)
        side_by_side(come_back, cluster.hosts)
        took = max(load_times(host)[-1] for host in cluster.hosts)
        side_by_side(then, cluster.hosts)
        expect_running(containers)
        return took

    def with_one_that_hangs() -> float:
        cluster.consul.pause()
        try:
            return all_come_back()
        finally:
            cluster.consul.resume()

    def without() -> float:
        cluster.consul.kill()
        try:
            return all_come_back()
        finally:
            cluster.consul.start()

    def stood_in_for() -> float:
        return all_come_back(DockerHost.start_stand_in, be_refused_and_start_flannelpy)

    took: list[tuple[float, float, float, float]] = []

    def delay() -> float:
        """Of the quickest of each kind so far; waiting for a store would be 5 s or more, each time, and for a driver
        15 s for each network."""
        took.append((all_come_back(), with_one_that_hangs(), without(), stood_in_for()))
        healthy, hanging, away, stood_in = (min(each[kind] for each in took) for kind in range(4))
        return max(hanging, away, stood_in) - healthy

    best_of(delay, 1)
    expect_back(cluster, containers)


def a_moment(_: DockerHost) -> None:
    time.sleep(1)  # what is tested is the time itself


def dockerd_to_give_up(host: DockerHost) -> None:
    """It waits 15 s for a driver, and does so several times."""
    host.wait_dockerd(timeout=150)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("late", [a_moment, dockerd_to_give_up])
def test_containers_come_back_when_flannelpy_is_late_on_all_hosts(
    cluster: Cluster, late: Callable[[DockerHost], None]
) -> None:
    containers = cluster.run_everywhere(2, "web", *RESTART)
    side_by_side(DockerHost.die, cluster.hosts)

    def come_back(host: DockerHost) -> None:
        host.power_on()
        host.start_dockerd(wait=False)
        late(host)
        start_again(host)
        host.wait_dockerd()

    side_by_side(come_back, cluster.hosts)
    expect_running(containers)
    for container in containers:
        container.look_again()
    expect_unique(containers)
    expect_reached(cluster, containers)


def test_containers_come_back_when_everything_starts_at_the_same_moment(cluster: Cluster) -> None:
    containers = cluster.run_everywhere(2, "web", *RESTART)
    side_by_side(DockerHost.die, cluster.hosts)
    cluster.consul.kill()
    side_by_side(DockerHost.power_on, cluster.hosts)
    for host in cluster.hosts:
        host.start_flannelpy(host.flannelpy_env, wait=False)
        host.start_dockerd(wait=False)
    cluster.consul.start()
    for host in cluster.hosts:
        host.wait_dockerd()
        host.wait_flannelpy()
    expect_back(cluster, containers)
