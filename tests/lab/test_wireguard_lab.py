"""An encrypted network between two Docker hosts: it is made, lasts, mends itself, and leaves nothing behind."""

import base64
import os
import re
import signal
from collections.abc import Iterator

import pytest

from tests.lab.cluster import FLANNELPY, POOL, POOL6, Cluster, Keeper, PingStream, side_by_side
from tests.lab.commands import wait_until
from tests.lab.docker_host import DockerHost
from tests.lab.processes import PROC
from tests.promises import best_of

SECURE = ("-o", "backend=wireguard")
DUAL = ("--ipv6", "--subnet", POOL, "--subnet", POOL6)
OTHER = "10.242.0.0/18"


@pytest.fixture(scope="module")
def secure(clusters: Keeper) -> Iterator[Cluster]:
    with clusters.lend() as cluster:
        cluster.create("secure", *SECURE, *DUAL)
        yield cluster
        cluster.clean()
        for host in cluster.hosts:
            wait_until("the tunnel to be gone", lambda host=host: not tunnels(host), timeout=30)  # type: ignore[misc]
            assert host.run("ls", "/run/wireguard") == ""


def tunnels(host: DockerHost) -> set[int]:
    """The processes that carry a tunnel, where the kernel does not."""
    return {pid for pid in host.namespace.pids() if name_of(pid) == "wireguard-go"}


def name_of(pid: int) -> str:
    """Empty for one that has ended since it was found."""
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def key_of(host: DockerHost) -> str:
    path = host.directory / "flannelpy/wireguard.key"
    assert path.stat().st_mode & 0o777 == 0o600
    return path.read_text().strip()


def records_of_cluster(cluster: Cluster) -> Iterator[str]:
    for entry in cluster.consul.api("GET", "/v1/kv/?recurse"):
        yield base64.b64decode(entry["Value"] or "").decode()


def test_containers_reach_each_other_and_the_key_stays_at_home(secure: Cluster) -> None:
    secure.create("second", *SECURE, "--subnet", OTHER)
    containers = secure.run_everywhere(1, "secure")
    strangers = secure.run_everywhere(1, "second", first=2)
    assert secure.unreached(containers) == secure.unreached(strangers) == []
    assert strangers[0].unreached([containers[1].address]) != []
    assert all(len(tunnels(host)) <= 1 for host in secure.hosts)
    records = "".join(records_of_cluster(secure))
    for host in secure.hosts:
        key = key_of(host)
        public = host.run("sh", "-c", f"wg pubkey <{host.directory}/flannelpy/wireguard.key").strip()
        assert public in records
        assert key not in records
        assert key not in host.flannelpy_log()
    side_by_side(lambda host: host.remove_containers(), secure.hosts)
    side_by_side(lambda host: host.docker("network", "rm", "second"), secure.hosts)


@pytest.mark.alone
def test_neither_a_killed_plugin_nor_a_killed_tunnel_is_the_end(secure: Cluster) -> None:
    here, there = secure.run_everywhere(1, "secure")
    assert secure.unreached([here, there]) == []
    keys, before = [key_of(host) for host in secure.hosts], [tunnels(host) for host in secure.hosts]
    with PingStream(here, there.address) as v4, PingStream(there, here.address6) as v6:
        side_by_side(DockerHost.kill_flannelpy, secure.hosts)
        v4.await_more(50)
        side_by_side(lambda host: host.start_flannelpy(host.flannelpy_env), secure.hosts)
        fresh = secure.run(secure.hosts[0], "fresh", "secure")
    assert (v4.lost(), v6.lost()) == ([], [])
    assert [key_of(host) for host in secure.hosts] == keys
    assert [tunnels(host) for host in secure.hosts] == before

    def silence_after_a_kill() -> float:
        with PingStream(there, here.address) as pings:
            end_tunnel(secure.hosts[0])
            pings.await_more(100)
        return pings.silence()

    best_of(silence_after_a_kill, 1.0)
    assert fresh.unreached(there.addresses) == []


def end_tunnel(host: DockerHost) -> None:
    carriers = tunnels(host)
    for pid in carriers:
        os.kill(pid, signal.SIGKILL)
    if not carriers:
        host.run("ip", "link", "del", "fl.wg8481")


def test_plaintext_is_refused_where_encryption_is_required(secure: Cluster) -> None:
    plain, host = secure.hosts
    env = host.flannelpy_env
    network = ("network", "create", *FLANNELPY)
    plain.docker(*network, "--subnet", OTHER, "plain")
    host.stop_flannelpy()
    host.start_flannelpy({**env, "FLANNELPY_ENCRYPTION": "required"})
    try:
        said = host.docker_refused(*network, "-o", "backend=vxlan", "--subnet", "10.244.0.0/18", "other")
        found = re.search(r"backend vxlan does not encrypt.*; type: docker (network create .*) NAME", said)
        assert found, said
        said = host.docker_refused(*network, "--subnet", OTHER, "plain")
        assert "network 10.242.0.0/18 is carried by vxlan, which does not encrypt" in said
        host.docker(*found[1].split(), "other")
    finally:
        host.stop_flannelpy()
        host.start_flannelpy(env)
