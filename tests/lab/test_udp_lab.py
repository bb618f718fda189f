"""The udp backend between real Docker hosts: whoever dies, packets go on, and in the end nothing is left."""

import signal
from pathlib import Path

import pytest

from tests.lab.cluster import POOL, POOL6, Cluster, PingStream
from tests.lab.commands import wait_until
from tests.lab.docker_host import DockerHost
from tests.lab.processes import PROC, send
from tests.promises import best_of


def forwarders(host: DockerHost) -> list[int]:
    return sorted(pid for pid in host.namespace.pids() if b"driver.forwarder" in command_of(pid))


def command_of(pid: int) -> bytes:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def sockets(host: DockerHost) -> list[Path]:
    return list((host.directory / "flannelpy").glob("forwarder*"))


@pytest.mark.alone
def test_udp_goes_on_without_flannelpy_and_a_new_forwarder_takes_over_within_a_second(cluster: Cluster) -> None:
    cluster.create("web", "-o", "backend=udp", "--ipv6", "--subnet", POOL, "--subnet", POOL6)
    here, there = cluster.run_everywhere(1, "web")
    assert cluster.unreached([here, there]) == []
    [forwarder] = forwarders(here.host)
    with PingStream(here, there.address) as pings:
        here.host.kill_flannelpy()
        pings.await_more(20)
        here.host.start_flannelpy(here.host.flannelpy_env)
        pings.await_more(50)
    assert pings.lost() == []
    assert forwarders(here.host) == [forwarder]

    def silence_after_a_kill() -> float:
        [old] = forwarders(here.host)
        with PingStream(here, there.address) as pings:
            send(old, signal.SIGKILL)
            pings.await_more(100)
        assert forwarders(here.host) != [old]
        return pings.silence()

    best_of(silence_after_a_kill, 1.5)  # about a second, also where Python is slow to start

    cluster.clean()
    wait_until("the end of all forwarders", lambda: not any(map(forwarders, cluster.hosts)), timeout=30)
    assert not any(map(sockets, cluster.hosts))
