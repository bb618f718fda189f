"""What Docker does not have any more is freed, and nothing else is; no sooner than a call of Docker's can take."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.garbage import CONFIRMED, YOUNG
from tests.lab import unix_http
from tests.lab.cluster import POOL, Cluster, Keeper
from tests.lab.commands import wait_until
from tests.lab.docker_host import PLUGIN_SOCKET, DockerHost

LONGEST = YOUNG + CONFIRMED + 2 * 30 + 30  # seconds: two rounds, and some for a slow machine
SPARE = "10.250.0.0/24"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Keeper(calm=False) as keeper, keeper.lend() as cluster:
        yield cluster


def call(host: DockerHost, method: str, **body: object) -> dict[str, str]:
    """As dockerd does, which then dies and never comes back to it."""
    text = json.dumps(body).encode()
    status, answer = unix_http.request(host.path(PLUGIN_SOCKET), "POST", f"/{method}", body=text, timeout=20)
    assert status == 200, answer
    found: dict[str, str] = json.loads(answer)
    return found


@pytest.mark.timeout(600)
def test_garbage_is_shown_then_freed_and_what_is_in_use_is_kept(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    cluster.create("web", "--subnet", POOL)
    kept = cluster.run(host, "kept", "web")
    gone = cluster.run(host, "gone", "web")
    leaked = call(host, "IpamDriver.RequestAddress", PoolID=POOL, Address="")["Address"].partition("/")[0]
    call(host, "IpamDriver.RequestPool", AddressSpace="flannelpy", Pool=SPARE, SubPool="", Options={}, V6=False)

    host.stop_flannelpy()
    with ThreadPoolExecutor(1) as pool:
        removed = pool.submit(host.docker_ok, "rm", "-f", gone.name, timeout=300)
        wait_until("Docker to lose patience", removed.done, timeout=240, every=1)
    host.start_flannelpy(host.flannelpy_env)
    host.kill_dockerd()
    host.start_dockerd()
    if not host.docker_ok("start", kept.name):
        host.docker("restart", kept.name)
    kept.look_again()

    wanted = {leaked, gone.address, SPARE}
    await_garbage(host, lambda shown: all(any(what in line for line in shown) for what in wanted))
    shown = host.flannelpy_command("gc", "--dry-run")
    assert kept.address not in shown
    wait_until("the garbage to be freed", lambda: not found(host), timeout=LONGEST, every=2)
    assert int(json.loads(host.flannelpy_command("gc", "--dry-run", "--json"))["freed"]) >= len(wanted)
    assert all(f'freed what="address {address} ' in host.flannelpy_log() for address in (leaked, gone.address))
    assert SPARE.replace("/", "-") not in " ".join(cluster.consul.keys())
    for address in (leaked, gone.address):
        again = cluster.run(cluster.hosts[1], f"again-{address}", "web", "--ip", address)
        assert again.unreached([kept.address]) == []
    refused = host.docker_refused("run", "--rm", "--network", "web", "--ip", kept.address, "lab/busybox", "true")
    assert "already in use on this host" in refused


def found(host: DockerHost) -> list[str]:
    seen: list[str] = json.loads(host.flannelpy_command("gc", "--dry-run", "--json"))["found"]
    return seen


def await_garbage(host: DockerHost, enough: Callable[[list[str]], bool]) -> None:
    wait_until("all of the garbage to be shown", lambda: enough(found(host)), timeout=YOUNG + 30, every=2)
